"""The program that is emitted: complete, plain, in storage types, and the same every time."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

import formats
from formats.config import KPUConfig
from formats.precision import DType, KPUPrecision
from formats.program import KPUProgram, MemoryType
from formats.schema import load_config
from kpuc.compiler import compile_graph
from kpuc.emit import Source
from kpuc.graph import Graph
from kpurun.metrics import bound_cycles
from tests.kpuc.passes.draft import Draft

SOURCE = Source(name="net", model="net.pt2", sha256="0" * 64, preprocess="imagenet")


def classifier() -> Graph:
    """A convolution with batch norm, a residual, a view and a linear layer."""
    draft = Draft()
    image = draft.input("image", 2, 3, 8, 8)
    stem = draft.op("stem.relu", "Relu", draft.batch_norm("norm", draft.conv("stem", image, 8)))
    body = draft.op("body.add", "Add", draft.conv("body", stem, 8), stem)
    flat = draft.op("flat", "Flatten", body, axis=1)
    return draft.graph(draft.op("scores", "Gemm", flat, draft.weights("w", 512, 10)))


def emitted(graph: Graph | None = None, precision: KPUPrecision = KPUPrecision.FP16) -> KPUProgram:
    config = load_config("swkpu-v2") if precision is KPUPrecision.BF16 else KPUConfig()
    return compile_graph(graph or classifier(), config, precision, SOURCE)


def test_the_source_is_in_the_header():
    program = emitted()
    assert (program.name, program.source_model, program.preprocess) == (
        "net",
        "net.pt2",
        "imagenet",
    )
    assert program.source_hash == "0" * 64


def test_everything_is_plain_data_that_json_and_the_hosts_serializer_take():
    program = replace(emitted(), weights_blob=None)
    assert json.loads(json.dumps(asdict(program)))["name"] == "net"


def test_weights_are_stored_in_the_precision_and_biases_in_fp32():
    program = emitted()
    stored = formats.weights(program)
    by_dtype = {name: array.dtype for name, array in stored.items()}
    assert by_dtype["w"] == np.float16
    biases = [t.id for t in program.tensors.values() if t.is_weight and len(t.shape) == 1]
    assert biases
    assert all(by_dtype[bias] == np.float32 for bias in biases)


def test_bf16_weights_are_stored_as_their_bits():
    program = emitted(precision=KPUPrecision.BF16)
    stored = formats.weights(program)["w"]
    assert program.tensors["w"].dtype is DType.BF16
    assert stored.dtype == np.uint16
    exact = classifier().constants["w"]
    as_float = (stored.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(as_float, exact, rtol=2**-8)  # eight bits of precision


def test_unused_constants_are_left_out():
    draft = Draft()
    draft.weights("unused", 64, 64)
    graph = draft.graph(draft.op("y", "Relu", draft.input("x", 1, 8)))
    assert emitted(graph).weight_bytes == 0


def test_a_view_is_an_alias_of_its_root():
    program = emitted()
    (view,) = (tensor for tensor in program.tensors.values() if tensor.alias_of)
    root = program.tensors[view.alias_of]
    assert (view.id, view.layout.base_address) == ("flat", root.layout.base_address)


def test_outputs_are_fp32_in_dram_and_inputs_rounded():
    program = emitted()
    (output,) = program.get_output_tensors()
    (image,) = program.get_input_tensors()
    assert (output.dtype, output.layout.memory_type) == (DType.FP32, MemoryType.DRAM)
    assert (image.dtype, image.host_dtype) == (DType.FP16, "float32")


def test_bytes_are_summed_over_what_has_bytes_of_its_own():
    program = emitted()
    weights = sum(t.size_bytes for t in program.tensors.values() if t.is_weight)
    others = sum(
        t.size_bytes for t in program.tensors.values() if not t.is_weight and not t.alias_of
    )
    assert (program.weight_bytes, program.activation_bytes) == (weights, others)


def test_estimates_of_the_ops_add_up_to_the_programs():
    program = emitted()
    assert program.estimated_total_cycles == sum(op.estimated_cycles for op in program.ops) > 0
    op_energy_uj = sum(op.estimated_energy_pj for op in program.ops) / 1e6
    assert math.isclose(program.estimated_total_energy_uj, op_energy_uj, rel_tol=1e-9)


def test_no_program_is_estimated_faster_than_its_bound():
    program = emitted()
    assert program.estimated_total_cycles >= bound_cycles(program)


def test_a_fused_op_keeps_its_type_and_names_what_it_took_in():
    program = emitted()
    assert [op.op_type for op in program.ops] == ["Conv", "Conv", "Flatten", "Gemm"]
    assert "stem.relu" in program.ops[0].fused_with
    assert "body.add" in program.ops[1].fused_with


@pytest.mark.parametrize("precision", [KPUPrecision.FP16, KPUPrecision.BF16])
def test_compiling_twice_gives_the_same_bytes(precision):
    first, second = (formats.to_bytes(emitted(precision=precision)) for _ in range(2))
    assert first == second


def clipped() -> Graph:
    draft = Draft()
    return draft.graph(draft.op("y", "Clip", draft.input("x", 1, 8), min=None, max=6.0))


def padded() -> Graph:
    draft = Draft()
    x = draft.input("x", 1, 1, 4, 4)
    return draft.graph(draft.op("y", "Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=-math.inf))


@pytest.mark.parametrize("graph", [classifier, clipped, padded])
def test_the_program_that_is_read_back_is_the_one_that_was_emitted(graph):
    program = emitted(graph())
    assert formats.load_program(formats.to_bytes(program)) == program
