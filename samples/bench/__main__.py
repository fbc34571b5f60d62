"""All figures: `python -m samples.bench [NETWORK…] [--only SECTION…]`; 1 if a bar fails."""

import argparse
import sys
import warnings

from rich.console import Console

from samples.bench.accuracy import compare_with_pytorch
from samples.bench.bars import Bar, print_bars
from samples.bench.processes import measure_processes
from samples.bench.program import check_programs
from samples.bench.speed import ROUNDS, compare_speed
from samples.bench.subjects import Subject
from samples.models import FACTORIES

FILE_WIDTH = 130  # columns, when the output is not a terminal
SECTIONS = ("accuracy", "programs", "speed", "processes")


def main() -> int:
    """Run the chosen sections on the chosen networks."""
    parser = argparse.ArgumentParser(prog="python -m samples.bench", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(FACTORIES))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of timed runs")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.networks) - set(FACTORIES))
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; known: {', '.join(FACTORIES)}")
    warnings.simplefilter("ignore", FutureWarning)  # within torch, of its own deprecations
    console = Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
    subjects = [Subject(name) for name in arguments.networks or FACTORIES]
    bars = measured_bars(console, subjects, arguments.only, arguments.rounds)
    print_bars(console, bars)
    return 0 if all(bar.holds for bar in bars) else 1


def measured_bars(
    console: Console, subjects: list[Subject], sections: list[str], rounds: int
) -> list[Bar]:
    """Run the sections in order, each printing its table."""
    bars: list[Bar] = []
    if "accuracy" in sections:
        for subject in subjects:
            bars += compare_with_pytorch(console, subject)
    if "programs" in sections:
        bars += check_programs(console, subjects)
    if "speed" in sections:
        bars += compare_speed(console, subjects, rounds)
    if "processes" in sections:
        bars += measure_processes(console, subjects)
    return bars


if __name__ == "__main__":
    sys.exit(main())
