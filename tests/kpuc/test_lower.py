"""Every module case, captured and lowered, means what eager PyTorch computes."""

import inspect
from functools import cache

import numpy as np
import pytest
import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from formats.errors import UnsupportedOpError
from kpuc.aten import ATEN
from kpuc.capture import capture
from kpuc.captured import Captured
from kpuc.check import check
from kpuc.graph import Graph
from kpuc.lower import lower
from kpurun.ops import evaluate
from tests.kpuc.module_case import ModuleCase, RefusedCase
from tests.kpuc.module_cases import CASES, REFUSED

BY_NAME = {case.name: case for case in CASES}


@cache
def captured(name: str) -> Captured:
    case = BY_NAME[name]
    return capture(case.module(), case.tensors())


def interpret(graph: Graph, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The graph's outputs in fp32, op by op."""
    values = {**graph.constants, **inputs}
    for node in graph.nodes:
        outputs = evaluate(node.op_type, node.attributes, tuple(values[i] for i in node.inputs))
        values.update(zip(node.outputs, outputs, strict=True))
    return [values[output] for output in graph.outputs]


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32 if tensor.is_floating_point() else tensor.dtype).numpy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lowered_graph_equals_eager(case: ModuleCase):
    module, tensors = case.module(), case.tensors()
    with torch.no_grad():
        expected = pytree.tree_leaves(module(*(tensor.clone() for tensor in tensors)))

    graph = lower(captured(case.name))
    check(graph)

    inputs = dict(zip(graph.inputs, map(as_array, tensors), strict=True))
    got = interpret(graph, inputs)
    assert len(got) == len(expected)
    for output, array, tensor in zip(graph.outputs, got, expected, strict=True):
        assert array.shape == tuple(tensor.shape)
        assert array.dtype == as_array(tensor).dtype
        assert graph.types[output].shape == array.shape
        wanted_dtype = "float32" if tensor.dtype == torch.bfloat16 else str(tensor.dtype)[6:]
        assert graph.host_dtypes[output] == wanted_dtype
        np.testing.assert_allclose(array, as_array(tensor), case.tolerance, case.tolerance)


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.case.name)
def test_what_the_machine_cannot_do_is_refused_by_name(refused: RefusedCase):
    case = refused.case

    with pytest.raises(UnsupportedOpError) as error:
        lower(capture(case.module(), case.tensors()))

    assert error.value.ops[0].endswith(refused.ops[0])
    assert refused.words in str(error.value)
    assert "tests/kpuc/" in str(error.value)


@pytest.mark.parametrize("target", ATEN, ids=str)
def test_a_lowering_takes_every_argument_of_its_schema(target: OpOverload):
    parameters = list(inspect.signature(ATEN[target]).parameters.values())[1:]
    takes_the_rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    count = len(target._schema.arguments)

    assert takes_the_rest or len([p for p in parameters if p.default is p.empty]) <= count
    assert takes_the_rest or count <= len(parameters)


def test_every_row_of_the_table_has_a_module_case():
    exercised = {node.target for case in CASES for node in captured(case.name).graph.nodes}

    assert {str(target) for target in ATEN} <= {str(target) for target in exercised}
