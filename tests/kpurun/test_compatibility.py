"""Which programs a machine takes, and the message for each that it does not."""

from dataclasses import replace
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest

from formats.config import ComputeConfig, KPUConfig, MemoryConfig
from formats.errors import (
    ConfigurationError,
    FileError,
    LimitError,
    MemoryError,
    UnsupportedOpError,
    UsageError,
)
from formats.precision import KPUPrecision
from tests.kpurun.programs import IMAGE, ProgramBuilder, classifier, loaded


def host_config(**changes):
    """The host's configuration: other classes with the document's attributes, lists and enums."""
    precisions = Enum("KPUPrecision", {"INT8": "int8", "FP16": "fp16"})
    ours = KPUConfig()
    return SimpleNamespace(
        **{
            "name": "swkpu-v1",
            "memory": SimpleNamespace(sram_l1_bytes=256 * 1024, sram_l2_bytes=2 * 1024 * 1024),
            "compute": SimpleNamespace(systolic_rows=16, systolic_cols=16, tops_int8=4.0),
            "supported_precisions": list(precisions),
            "native_ops": list(ours.native_ops),
            **changes,
        }
    )


def test_the_hosts_own_configuration_is_read_by_attribute():
    assert loaded(classifier(), host_config()).execute({"image": IMAGE}).success


def test_a_preset_is_a_configuration_and_anything_else_is_not():
    assert loaded(classifier(), "swkpu-v1").execute({"image": IMAGE}).success
    with pytest.raises(UsageError, match="int has not"):
        loaded(classifier(), 16)


MISFITS = {
    "precision": (
        KPUConfig(supported_precisions=(KPUPrecision.INT8,)),
        ConfigurationError,
        "compiled for fp16, but supported_precisions of swkpu-v1 are int8",
    ),
    "rows": (
        KPUConfig(compute=ComputeConfig(systolic_rows=8, compute_tiles=16)),
        ConfigurationError,
        "compute.systolic_rows 16, swkpu-v1 has 8",
    ),
    "tiles": (
        KPUConfig(compute=ComputeConfig(compute_tiles=4)),
        ConfigurationError,
        "compute.tiles 16, swkpu-v1 has 4",
    ),
    "dram": (
        KPUConfig(memory=MemoryConfig(dram_bytes=1024)),
        MemoryError,
        "DRAM memory exceeded: 2KB required, 1KB available",
    ),
    "ops": (
        KPUConfig(native_ops=("Conv",)),
        UnsupportedOpError,
        "Unsupported operators: GlobalAveragePool",
    ),
    "dimensions": (KPUConfig(max_tensor_dims=3), LimitError, "max_tensor_dims of swkpu-v1 is 3"),
    "host": (
        host_config(compute=SimpleNamespace(systolic_rows=16, systolic_cols=32)),
        ConfigurationError,
        "compute.systolic_cols 16, swkpu-v1 has 32",
    ),
    "unsound": (
        KPUConfig(memory=MemoryConfig(sram_l1_bytes=0)),
        ConfigurationError,
        "L1 SRAM must be positive",
    ),
}


@pytest.mark.parametrize(("config", "error", "message"), MISFITS.values(), ids=MISFITS)
def test_a_program_that_does_not_fit_the_machine_names_the_field(config, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        loaded(classifier(), config)


def test_the_precision_of_a_single_op_must_be_there_too():
    program = classifier()
    conv, pool = program.ops
    mixed = replace(program, ops=(conv, replace(pool, precision=KPUPrecision.INT8)))
    floats = KPUConfig(supported_precisions=(KPUPrecision.FP16,))
    with pytest.raises(ConfigurationError, match=r"op scores of .* compiled for int8, but .* fp16"):
        loaded(mixed, floats)
    assert loaded(mixed, KPUConfig()).execute({"image": IMAGE}).success


def test_a_batch_beyond_the_machine_is_refused():
    builder = ProgramBuilder()
    program = builder.program(builder.op("Relu", builder.input("x", (17, 4))))
    with pytest.raises(LimitError, match=r"input x has a batch of 17.*is 16"):
        loaded(program)


def test_an_image_that_the_model_puts_a_batch_of_one_in_front_of_is_no_batch():
    builder = ProgramBuilder()
    batched = builder.op("Unsqueeze", builder.input("image", (32, 2, 2)), axes=(0,))
    program = builder.program(builder.op("Relu", batched))
    assert loaded(program).execute({"image": np.ones((32, 2, 2), np.float32)}).success


def malformed(**changes):
    program = classifier()
    conv, pool = program.ops
    return replace(program, ops=(replace(conv, **changes), pool))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (malformed(op_type="Convolve"), "there is no op 'Convolve'"),
        (malformed(attributes={"dilation": 2}), "Conv has no attribute dilation"),
        (malformed(attributes={"strides": [2, 2]}), r"gives fp32 \[1, 4, 3, 3\], but its outputs"),
        (malformed(input_ids=("image",), operand_count=1), "takes 2 to 3 operands, got 1"),
    ],
    ids=["op", "attribute", "shape", "operands"],
)
def test_a_malformed_op_is_named_at_load(program, message):
    with pytest.raises(FileError, match=f"classifier: op features .*{message}"):
        loaded(program)
