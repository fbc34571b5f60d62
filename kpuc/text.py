"""A graph as text, for people, for `--save-passes` and for golden tests.

The same graph always gives the same text; it names no file of the machine it was made on.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from formats.program import EpilogueStage
from kpuc.graph import Graph, Node

MOST_ELEMENTS_SHOWN = 4


def dump(graph: Graph, formats: Mapping[str, str] | None = None) -> str:
    """Inputs, constants, one paragraph per node with its epilogue, outputs.

    formats: value -> "NCHW" or "NHWC", where layouts have been chosen; only NHWC is printed.
    """
    lines = [f"graph {graph.name}"]
    lines += [f"  input {_typed(graph, v, formats)}{_interface(graph, v)}" for v in graph.inputs]
    for value, array in graph.constants.items():
        lines.append(f"  const {_typed(graph, value, formats)} {_values(array)}")
    for node in graph.nodes:
        lines += _node(graph, node, formats)
    lines += [f"  output %{value}{_interface(graph, value)}" for value in graph.outputs]
    return "\n".join(lines) + "\n"


def _node(graph: Graph, node: Node, formats: Mapping[str, str] | None) -> Iterator[str]:
    results = ", ".join(_typed(graph, value, formats) for value in node.outputs)
    operands = ", ".join(f"%{value}" for value in node.operands)
    yield f"  {results} = {node.op_type}({operands}){_attributes(node.attributes)}"
    yield from (f"      | {_stage(node, stage)}" for stage in node.epilogue)
    if node.name:
        yield f"      name {node.name}"
    if node.fused:
        yield f"      fused {', '.join(node.fused)}"


def _stage(node: Node, stage: EpilogueStage) -> str:
    if stage.operand is None:
        return f"{stage.op_type}{_attributes(stage.attributes)}"
    sides = ["acc", f"%{node.inputs[stage.operand]}"]
    ordered = sides if stage.accumulator_side == 0 else sides[::-1]
    return f"{stage.op_type}({', '.join(ordered)}){_attributes(stage.attributes)}"


def _typed(graph: Graph, value: str, formats: Mapping[str, str] | None) -> str:
    type_ = graph.types[value]
    order = " NHWC" if formats is not None and formats.get(value) == "NHWC" else ""
    return f"%{value}: {type_.dtype.value}[{', '.join(map(str, type_.shape))}]{order}"


def _interface(graph: Graph, value: str) -> str:
    """What the user calls it and feeds or gets."""
    return f" {graph.names.get(value, value)!r} {graph.host_dtypes.get(value, '-')}"


def _values(array: np.ndarray) -> str:
    """Every element of a small constant, the range of a large one."""
    if array.size <= MOST_ELEMENTS_SHOWN:
        return "{" + ", ".join(_number(element) for element in array.reshape(-1)) + "}"
    return f"{{{_number(array.min())} .. {_number(array.max())}}}"


def _number(element: Any) -> str:
    return f"{float(element):.5g}" if isinstance(element, np.floating) else str(element)


def _attributes(attributes: Mapping[str, Any]) -> str:
    if not attributes:
        return ""
    return " {" + ", ".join(f"{key}={_value(attributes[key])}" for key in sorted(attributes)) + "}"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
