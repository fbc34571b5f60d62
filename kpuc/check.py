"""What every graph between two passes must be: a pass that breaks it is our bug, found at once."""

from collections.abc import Iterator

from formats.program import EpilogueStage
from kpuc.graph import Graph, Node
from kpurun.ops import op_named
from kpurun.ops.checks import type_of
from kpurun.ops.opdef import infer_types
from kpurun.ops.types import OpError, TensorType

BINARY_STAGES = frozenset({"Add", "Sub", "Mul", "Div"})


def check(graph: Graph) -> None:
    """AssertionError that lists everything wrong with the graph."""
    wrong = list(problems(graph))
    if wrong:
        raise AssertionError(f"graph {graph.name} is not well formed:\n  " + "\n  ".join(wrong))


def problems(graph: Graph) -> Iterator[str]:
    """What is wrong, one sentence each: definitions, order, types, epilogues, interface."""
    yield from _interface_problems(graph)
    yield from _constant_problems(graph)
    defined = {*graph.inputs, *graph.constants}
    ids: set[str] = set()
    for node in graph.nodes:
        where = f"node {node.id} ({node.op_type})"
        if node.id in ids:
            yield f"{where}: another node has this id"
        ids.add(node.id)
        for value in node.inputs:
            if value not in defined:
                yield f"{where}: operand {value} is not computed before"
        for value in node.outputs:
            if value in defined:
                yield f"{where}: {value} is already defined"
            defined.add(value)
        untyped = [value for value in (*node.inputs, *node.outputs) if value not in graph.types]
        if untyped:
            yield f"{where}: {', '.join(untyped)} has no type"
            continue
        yield from (f"{where}: {problem}" for problem in _node_problems(graph, node))
    yield from (f"output {v} is not computed" for v in graph.outputs if v not in defined)


def _interface_problems(graph: Graph) -> Iterator[str]:
    for what, values in (("input", graph.inputs), ("output", graph.outputs)):
        if len(set(values)) != len(values):
            yield f"an {what} is listed twice"
        for value in values:
            if value not in graph.types:
                yield f"{what} {value} has no type"
            if value not in graph.host_dtypes:
                yield f"{what} {value} has no host dtype"
    for value in graph.outputs:
        if value in graph.inputs or value in graph.constants:
            yield f"output {value} is not the result of a node"


def _constant_problems(graph: Graph) -> Iterator[str]:
    for value, array in graph.constants.items():
        if value in graph.inputs:
            yield f"constant {value} is an input too"
        if graph.types.get(value) != type_of(array):
            yield f"constant {value} is {type_of(array)}, typed {graph.types.get(value)}"


def _node_problems(graph: Graph, node: Node) -> Iterator[str]:
    if not -1 <= node.operand_count <= len(node.inputs):
        yield f"operand_count is {node.operand_count} of {len(node.inputs)} inputs"
        return
    types = tuple(graph.types[value] for value in node.operands)
    try:
        results = infer_types(op_named(node.op_type), node.attributes, types)
        accumulator = results[0]
        for stage in node.epilogue:
            accumulator = _after_stage(graph, node, stage, accumulator)
    except OpError as error:
        yield str(error)
        return
    declared = tuple(graph.types[value] for value in node.outputs)
    if declared != results:
        yield f"results are {results}, typed {declared}"
    yield from _epilogue_problems(node, accumulator)


def _after_stage(
    graph: Graph, node: Node, stage: EpilogueStage, accumulator: TensorType
) -> TensorType:
    """Type of the accumulator after one stage; OpError where it must not change and does."""
    operands = [accumulator]
    if stage.operand is not None:
        if not 0 <= stage.operand < len(node.inputs):
            raise OpError(f"stage {stage.op_type} reads operand {stage.operand}, which is none")
        operands.append(graph.types[node.inputs[stage.operand]])
    if stage.accumulator_side == 1:
        operands.reverse()
    (result,) = infer_types(op_named(stage.op_type), stage.attributes, tuple(operands))
    if result != accumulator:
        raise OpError(f"stage {stage.op_type} turns {accumulator} into {result}")
    return result


def _epilogue_problems(node: Node, accumulator: TensorType) -> Iterator[str]:
    read = [stage.operand for stage in node.epilogue if stage.operand is not None]
    own = len(node.operands)
    if sorted(read) != list(range(own, len(node.inputs))):
        yield f"stages read operands {read}, the epilogue has {list(range(own, len(node.inputs)))}"
    if not node.epilogue:
        return
    if len(node.outputs) != 1:
        yield f"it has an epilogue and {len(node.outputs)} results"
    if not accumulator.is_float:
        yield f"its epilogue works on {accumulator.dtype.value}"
    for stage in node.epilogue:
        if not op_named(stage.op_type).stage:
            yield f"{stage.op_type} cannot be a stage"
        if (stage.op_type in BINARY_STAGES) != (stage.operand is not None):
            yield f"stage {stage.op_type} has operand {stage.operand}"
        if stage.accumulator_side not in (0, 1):
            yield f"stage {stage.op_type} has the accumulator on side {stage.accumulator_side}"
