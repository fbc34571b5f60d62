"""Padding with a constant goes into the window of the op behind it, where that means the same.

A convolution pads with zero, an average with zero that it counts, a maximum with what never wins.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kpuc.graph import Graph, Node
from kpuc.passes.dead_code import eliminate_dead_code
from kpurun.ops import op_named
from kpurun.ops.opdef import complete, infer_types
from kpurun.ops.types import OpError

WINDOW_OPS = frozenset({"Conv", "AveragePool", "MaxPool"})


def fuse_pads(graph: Graph) -> Graph:
    """Windows read what is padded instead of the padded copy, whoever else reads that."""
    makers: dict[str, Node] = {}
    nodes = []
    for node in graph.nodes:
        pad = makers.get(node.inputs[0]) if node.op_type in WINDOW_OPS else None
        if pad is not None and pad.op_type == "Pad" and obstacle(graph, pad, node, makers) is None:
            node = _padded(graph, pad, node)
        nodes.append(node)
        makers.update(dict.fromkeys(node.outputs, node))
    return eliminate_dead_code(replace(graph, nodes=tuple(nodes)))


def obstacle(graph: Graph, pad: Node, window: Node, makers: Mapping[str, Node]) -> str | None:
    """Why `window` cannot pad for itself, or None."""
    widths = pad.attributes["pads"]
    rank = graph.types[pad.inputs[0]].rank
    if pad.epilogue or window.op_type not in WINDOW_OPS or window.inputs[0] != pad.outputs[0]:
        return f"{window.op_type} has no padding of its own"
    if pad.attributes.get("mode", "constant") != "constant":
        return f"it pads with mode {pad.attributes['mode']}"
    if any((*widths[:2], *widths[rank : rank + 2])):
        return "it pads the batch or the channels"
    if min(widths) < 0:
        return "it crops"
    value = float(pad.attributes.get("value", 0.0))
    differs = _other_meaning(pad, window, value, makers)
    if differs is not None:
        return differs
    return _other_result(graph, pad, window)


def _other_meaning(pad: Node, window: Node, value: float, makers: Mapping[str, Node]) -> str | None:
    attributes = complete(op_named(window.op_type), window.attributes)
    if window.op_type == "MaxPool":
        dilated = any(step != 1 for step in attributes["dilations"] or ())
        if value == -math.inf or (not dilated and value <= least_value(makers.get(pad.inputs[0]))):
            return None
        return f"its value {value:g} may be the largest of a window"
    if value != 0:
        return f"its value is {value:g}"
    if any(attributes["pads"] or ()) and not attributes.get("count_include_pad", True):
        return "the average counts this padding and not its own"
    return None


def least_value(maker: Node | None) -> float:
    """What the results of a node never fall below, as far as its last function tells."""
    if maker is None:
        return -math.inf
    last, attributes = maker.op_type, maker.attributes
    if maker.epilogue:
        last, attributes = maker.epilogue[-1].op_type, maker.epilogue[-1].attributes
    if last in ("Relu", "Sigmoid", "HardSigmoid", "Softmax"):
        return 0.0
    low, high = attributes.get("min"), attributes.get("max")
    if last == "Clip" and low is not None and (high is None or low <= high):
        return float(low)
    return -math.inf


def _padded(graph: Graph, pad: Node, window: Node) -> Node:
    attributes: dict[str, Any] = dict(window.attributes)
    widths = pad.attributes["pads"]
    rank = graph.types[pad.inputs[0]].rank
    outer = (*widths[2:rank], *widths[rank + 2 :])
    own = attributes.get("pads") or (0,) * len(outer)
    attributes["pads"] = tuple(a + b for a, b in zip(own, outer, strict=True))
    if window.op_type == "AveragePool":
        attributes["count_include_pad"] = True
    return replace(
        window,
        inputs=(pad.inputs[0], *window.inputs[1:]),
        attributes=attributes,
        fused=(*window.fused, pad.id, *pad.fused),
    )


def _other_result(graph: Graph, pad: Node, window: Node) -> str | None:
    """ceil_mode counts windows from the unpadded size, and a pool's window must meet its input."""
    padded = _padded(graph, pad, window)
    types = tuple(graph.types[value] for value in padded.operands)
    try:
        results = infer_types(op_named(padded.op_type), padded.attributes, types)
    except OpError as error:
        return str(error)
    if results[0] != graph.types[window.outputs[0]]:
        return "rounding up counts other windows"
    return None
