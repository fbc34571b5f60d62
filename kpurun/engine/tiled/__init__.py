"""Tiled execution: a program's tile commands on byte arrays, held against the reference engine."""

from kpurun.engine.tiled.check import TileReport, check_tiles

__all__ = ["TileReport", "check_tiles"]
