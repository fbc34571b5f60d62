"""Legalisation: what the configured machine executes passes, the rest is named to the user."""

from dataclasses import replace

from formats.config import KPUConfig
from formats.errors import LimitError, UnsupportedOpError
from formats.program import EpilogueStage
from kpuc.graph import Graph, Node
from kpurun.compatibility import is_batched


def legalise(graph: Graph, config: KPUConfig) -> Graph:
    """Activations that are no ops of the machine as the one stage of an Identity.

    UnsupportedOpError names every op and activation that the machine lacks, with its source line;
    LimitError a tensor of too many dimensions or a batch that is too large.
    """
    _check_limits(graph, config)
    nodes = tuple(_as_stage(node, config) for node in graph.nodes)
    unsupported = [(op_type, node) for node in nodes for op_type in _missing(node, config)]
    if unsupported:
        names = list(dict.fromkeys(op_type for op_type, _ in unsupported))
        details = dict.fromkeys(_detail(op_type, node, config) for op_type, node in unsupported)
        raise UnsupportedOpError(names, list(details))
    return replace(graph, nodes=nodes)


def _as_stage(node: Node, config: KPUConfig) -> Node:
    is_stage = node.op_type in config.native_activations and "Identity" in config.native_ops
    if node.op_type in config.native_ops or not is_stage:
        return node
    stage = EpilogueStage(node.op_type, dict(node.attributes))
    return replace(
        node,
        op_type="Identity",
        attributes={},
        epilogue=(stage, *node.epilogue),
        operand_count=len(node.operands),
    )


def _missing(node: Node, config: KPUConfig) -> list[str]:
    """Op types of the node, itself and its stages, that the machine lacks."""
    missing = [] if node.op_type in config.native_ops else [node.op_type]
    for stage in node.epilogue:
        is_activation = stage.operand is None
        native = config.native_activations if is_activation else config.native_ops
        if stage.op_type not in native:
            missing.append(stage.op_type)
    return missing


def _detail(op_type: str, node: Node, config: KPUConfig) -> str:
    where = [part for part in (node.name or node.id, node.source) if part]
    return " · ".join([f"{op_type}: {config.name} does not execute it", *where])


def _check_limits(graph: Graph, config: KPUConfig) -> None:
    for value, type_ in graph.types.items():
        if type_.rank > config.max_tensor_dims:
            raise LimitError(
                f"{_where(graph, value)} has {type_.rank} dimensions {list(type_.shape)}; "
                f"{config.name} takes at most {config.max_tensor_dims}"
            )
    for value in graph.inputs:
        type_ = graph.types[value]
        if type_.shape and type_.shape[0] > config.max_batch_size and _has_batch(graph, value):
            raise LimitError(
                f"input {graph.names.get(value, value)!r} {list(type_.shape)} is a batch of "
                f"{type_.shape[0]}; {config.name} takes at most {config.max_batch_size}"
            )


def _has_batch(graph: Graph, value: str) -> bool:
    readers = [node for node in graph.nodes if value in node.inputs]
    uses = [(node.op_type, graph.types[node.outputs[0]].shape) for node in readers]
    return is_batched(graph.types[value].shape, uses)


def _where(graph: Graph, value: str) -> str:
    for node in graph.nodes:
        if value in node.outputs:
            source = f" ({node.source})" if node.source else ""
            return f"the result of {node.name or node.id}{source}"
    kind = "input" if value in graph.inputs else "constant"
    return f"{kind} {graph.names.get(value, value)!r}"
