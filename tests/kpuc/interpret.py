"""A graph's meaning in plain fp32, op by op with epilogues: what every pass must preserve."""

from collections.abc import Mapping, Sequence

import numpy as np

from kpuc.graph import Graph, Node
from kpurun.ops import evaluate


def interpret(
    graph: Graph, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The graph's outputs in order. `inputs` by value, or in the graph's order."""
    given = inputs if isinstance(inputs, Mapping) else dict(zip(graph.inputs, inputs, strict=True))
    values = {**graph.constants, **given}
    for node in graph.nodes:
        outputs = run_node(node, tuple(values[value] for value in node.inputs))
        values.update(zip(node.outputs, outputs, strict=True))
    return [values[output] for output in graph.outputs]


def run_node(node: Node, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """One node on arrays: its own operands, then its epilogue's."""
    results = evaluate(node.op_type, node.attributes, arrays[: len(node.operands)])
    for stage in node.epilogue:
        pair = (*results, *(() if stage.operand is None else (arrays[stage.operand],)))
        ordered = pair if stage.accumulator_side == 0 else pair[::-1]
        results = evaluate(stage.op_type, stage.attributes, ordered)
    return results
