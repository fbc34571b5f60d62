"""The profiler: reads programs and profiles, and shows where time and energy go."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from formats.files import Source
    from formats.profile import Profile
    from formats.program import KPUProgram
    from kpuprof.comparison import Comparison
    from kpuprof.measured import Measured

__all__ = ["compare", "measure"]


def measure(source: "Source | Profile | KPUProgram") -> "Measured":
    """The figures of a run or, as its compiler estimates them, of a program, and of every op.

    FileError for a file that is unreadable, damaged, of another version or not well formed.
    """
    from kpuprof.measured import measure as measured

    return measured(source)


def compare(
    base: "Source | Profile | KPUProgram", new: "Source | Profile | KPUProgram"
) -> "Comparison":
    """What changed from `base` to `new`, in whole and op by op, whatever was fused into what.

    Errors are those of `measure`.
    """
    from kpuprof.comparison import compare as compared

    return compared(measure(base), measure(new))
