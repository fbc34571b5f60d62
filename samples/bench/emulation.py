"""Ideal FP16 arithmetic, emulated in PyTorch: the yardstick for what half precision can reach.

Every operation of the exported graph runs alone: operands and results are rounded to half, the
inside is fp32. `fused=True` is the stricter yardstick: one rounding per convolution with the
BatchNorm, activation and addition that follow it, their parameters in fp32.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

Run = Callable[[np.ndarray], list[np.ndarray]]

aten = torch.ops.aten
PRODUCTS = {aten.conv2d.default, aten.linear.default}
# what runs on a convolution's unrounded accumulator
DRAIN_EDGE = {
    aten._native_batch_norm_legit_no_training.default,
    aten.relu.default,
    aten.hardtanh.default,
    aten.silu.default,
    aten.add.Tensor,
}


def to_half(value: Any) -> Any:
    """A float tensor rounded to the nearest half (ties to even), kept as float32."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.half().float()
    return value


class RoundEveryValue(fx.Interpreter):
    """Interprets a graph with every value rounded: inputs, parameters and each op's results."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        return pytree.tree_map(to_half, result) if self.is_rounded(n) else result

    def is_rounded(self, node: fx.Node) -> bool:
        return node.op != "output"


class RoundFusedOps(RoundEveryValue):
    """Interprets a graph with a value rounded only where it leaves a fused op."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.order = {node: index for index, node in enumerate(module.graph.nodes)}

    def is_rounded(self, node: fx.Node) -> bool:
        readers = list(node.users)
        if node.op == "get_attr":
            return all(user.target in PRODUCTS and user.args[1] is node for user in readers)
        if node.op != "call_function":
            return node.op == "placeholder"
        return len(readers) != 1 or not self.stays_on_the_accumulator(node, readers[0])

    def stays_on_the_accumulator(self, node: fx.Node, reader: fx.Node) -> bool:
        """Of the two operands of an addition the later one does; the earlier was stored."""
        if reader.op == "output" or reader.target is operator.getitem:
            return True
        latest = max(reader.all_input_nodes, key=self.order.__getitem__)
        return reader.target in DRAIN_EDGE and latest is node


def ideal_fp16(model: nn.Module, example: np.ndarray, *, fused: bool = False) -> Run:
    """A function from one input array to the outputs in ideal FP16, as float32 arrays."""
    with torch.no_grad():
        exported = torch.export.export(model, (torch.from_numpy(example),))
    graph_module = exported.run_decompositions({}).module(check_guards=False)
    interpreter = (RoundFusedOps if fused else RoundEveryValue)(graph_module)
    return lambda array: flat_arrays(_without_gradients(interpreter.run, array))


def eager(model: Callable[[Tensor], Any]) -> Run:
    """A function from one input array to the outputs of `model` as it is."""
    return lambda array: flat_arrays(_without_gradients(model, array))


def _without_gradients(function: Callable[[Tensor], Any], array: np.ndarray) -> Any:
    with torch.no_grad():
        return function(torch.from_numpy(array))


def flat_arrays(outputs: Any) -> list[np.ndarray]:
    """A model's outputs, however nested, as float32 arrays in order."""
    return [leaf.detach().float().numpy() for leaf in pytree.tree_leaves(outputs)]
