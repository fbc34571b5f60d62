"""Activations, residuals and scales move into the epilogue of the op that makes their operand.

The vector unit on the drain edge applies them to the unrounded accumulator, so a chain is rounded
once and its intermediate values are never stored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from formats.config import KPUConfig
from formats.program import EpilogueStage
from kpuc.graph import Graph, Node
from kpuc.passes.affine import batch_norm_of
from kpuc.passes.dead_code import eliminate_dead_code
from kpuc.passes.edit import Additions, read_counts

# Steps of the drain edge's little program. The longest chain of a common model, GELU in its tanh
# form after the first product, has six; Conv + SiLU + residual has two.
MOST_STAGES = 6

BINARY_OPS = frozenset({"Add", "Sub", "Mul", "Div"})
# Ops whose results leave through the vector unit, best first: behind an array the stages are hidden
# under the next block, on the vector unit they add lane operations, and data that only moves has to
# visit the lanes for them. Views move nothing, and Split has several results.
SYSTOLIC_CARRIERS = ("Conv", "MatMul", "Gemm")
VECTOR_CARRIERS = tuple(
    "Add Sub Mul Div MaxPool AveragePool GlobalAveragePool BatchNormalization Softmax ReduceMean "
    "ReduceSum Cast Identity Relu Clip Sigmoid Tanh Swish HardSwish HardSigmoid LeakyRelu".split()
)
MOVE_CARRIERS = ("Concat", "Transpose", "Gather", "Slice", "Pad")
CARRIER_RANKS: Mapping[str, int] = {
    **dict.fromkeys(SYSTOLIC_CARRIERS, 0),
    **dict.fromkeys(VECTOR_CARRIERS, 1),
    **dict.fromkeys(MOVE_CARRIERS, 2),
}


@dataclass(frozen=True)
class Step:
    """One stage to be, and the value that it reads besides the accumulator."""

    stage: EpilogueStage
    operand: str | None = None


def fuse_epilogues(graph: Graph, config: KPUConfig) -> Graph:
    """Each activation, binary op and leftover batch normalisation in the epilogue of a producer.

    The fused op takes the place of the last of its parts: there every operand is available, and
    nothing in between reads what it makes, so the order stays topological. Of two producers the one
    that hides the work better carries it, of equals the later.
    """
    counts = read_counts(graph)
    additions = Additions(graph)
    kept: dict[str, Node] = {}  # first result -> node, in order
    for node in graph.nodes:
        carrier, accumulator = _best_carrier(node, kept, graph, counts, config)
        if carrier is None:
            kept[node.outputs[0]] = node
            continue
        del kept[accumulator]
        kept[node.outputs[0]] = _extended(carrier, node, _steps(node, accumulator, additions))
    return eliminate_dead_code(additions.applied(kept.values()))


def accumulators(node: Node, graph: Graph, config: KPUConfig) -> tuple[str, ...]:
    """The operands on whose producer the node could be a stage; none if it can be no stage."""
    if node.epilogue or not graph.types[node.outputs[0]].is_float:
        return ()
    if node.op_type in config.native_activations:
        return node.inputs
    if node.op_type in BINARY_OPS and node.op_type in config.native_ops:
        a, b = node.inputs
        return () if a == b else tuple(v for v in (a, b) if v not in graph.constants)
    if node.op_type == "BatchNormalization" and {"Mul", "Add"} <= set(config.native_ops):
        fixed = all(value in graph.constants for value in node.inputs[1:])
        return node.inputs[:1] if fixed else ()
    return ()


def obstacle(
    node: Node,
    accumulator: str,
    makers: Mapping[str, Node],
    graph: Graph,
    counts: Mapping[str, int],
    config: KPUConfig,
) -> str | None:
    """Why the node cannot be a stage of the op that makes `accumulator`, or None."""
    carrier = makers.get(accumulator)
    if carrier is None:
        return f"{accumulator} is an input of the program"
    if carrier.op_type not in CARRIER_RANKS or len(carrier.outputs) != 1:
        return f"{carrier.op_type} does not pass through the vector unit"
    if accumulator in graph.outputs:
        return f"{accumulator} is an output of the program"
    if counts[accumulator] != 1:
        return f"{accumulator} is read {counts[accumulator]} times"
    if graph.types[accumulator] != graph.types[node.outputs[0]]:
        return f"the result is larger than {accumulator}"
    alone = 0 if carrier.op_type in config.native_ops else 1  # an activation on its own is a stage
    added = 2 if node.op_type == "BatchNormalization" else 1
    if alone + len(carrier.epilogue) + added > MOST_STAGES:
        return f"{carrier.id} already has {len(carrier.epilogue)} stages"
    return None


def _best_carrier(
    node: Node,
    makers: Mapping[str, Node],
    graph: Graph,
    counts: Mapping[str, int],
    config: KPUConfig,
) -> tuple[Node | None, str]:
    candidates = [
        value
        for value in accumulators(node, graph, config)
        if obstacle(node, value, makers, graph, counts, config) is None
    ]
    if not candidates:
        return None, ""
    if len(candidates) == 2:
        places = list(makers)  # in the order of the graph
        candidates.sort(key=lambda v: (CARRIER_RANKS[makers[v].op_type], -places.index(v)))
    return makers[candidates[0]], candidates[0]


def _steps(node: Node, accumulator: str, additions: Additions) -> Iterator[Step]:
    if node.op_type == "BatchNormalization":
        yield from _batch_norm_steps(node, additions)
    elif node.op_type in BINARY_OPS:
        side = node.inputs.index(accumulator)
        stage = EpilogueStage(node.op_type, accumulator_side=side)
        yield Step(stage, node.inputs[1 - side])
    else:
        yield Step(EpilogueStage(node.op_type, dict(node.attributes)))


def _batch_norm_steps(node: Node, additions: Additions) -> Iterator[Step]:
    affine = batch_norm_of(node, additions)
    assert affine is not None, f"{node.id} has parameters that are not constant"
    assert affine.factor is not None
    assert affine.shift is not None
    shape = (-1, *(1,) * (additions.type(affine.x).rank - 2))
    for op_type, channels, what in (
        ("Mul", affine.factor, "factor"),
        ("Add", affine.shift, "shift"),
    ):
        array = channels.reshape(shape).astype(np.float32)
        yield Step(EpilogueStage(op_type), additions.constant(f"{node.id}.{what}", array))


def _extended(carrier: Node, node: Node, steps: Iterator[Step]) -> Node:
    """The carrier with more stages, writing what the node wrote."""
    inputs = list(carrier.inputs)
    epilogue = list(carrier.epilogue)
    for step in steps:
        if step.operand is None:
            epilogue.append(step.stage)
            continue
        epilogue.append(replace(step.stage, operand=len(inputs)))
        inputs.append(step.operand)
    return replace(
        carrier,
        inputs=tuple(inputs),
        outputs=node.outputs,
        epilogue=tuple(epilogue),
        operand_count=len(carrier.operands),
        fused=(*carrier.fused, node.id, *node.fused),
    )
