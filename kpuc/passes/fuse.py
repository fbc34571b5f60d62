"""Fusion: chains of ops that a compute tile executes in one go become one op, rounded once."""

from formats.config import KPUConfig
from kpuc.graph import Graph
from kpuc.passes.fuse_activation import fuse_activations
from kpuc.passes.fuse_affine import fuse_affine
from kpuc.passes.fuse_epilogue import fuse_epilogues
from kpuc.passes.fuse_pad import fuse_pads


def fuse(graph: Graph, config: KPUConfig) -> Graph:
    """Every fusion, in the order in which one makes room for the next.

    Activations that are spelled out become one op, pads go into the windows behind them, constant
    scales and shifts (batch normalisation) into weights and bias, and what is left of activations,
    residuals and scales into the epilogue of the op before. A value that is a program output, or
    that something else reads too, is never fused away.
    """
    graph = fuse_activations(graph, config)
    graph = fuse_pads(graph)
    graph = fuse_affine(graph)
    return fuse_epilogues(graph, config)
