"""The machine: what an op means and costs, the engines that execute it, and the runtime."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpurun.runtime import KPURuntime
    from kpurun.sim.simulator import KPUSimulator

__all__ = ["KPURuntime", "KPUSimulator"]


def __getattr__(name: str) -> Any:
    """Lazy, so that importing the package for one part of it stays quick."""
    if name == "KPURuntime":
        from kpurun.runtime import KPURuntime

        return KPURuntime
    if name == "KPUSimulator":
        from kpurun.sim.simulator import KPUSimulator

        return KPUSimulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
