"""`python -m tests.fuzz.keep KIND SEED [NAME]`: keep the mutant of a seed as a regression."""

import sys

from tests.fuzz.test_mutants import REGRESSIONS, SUFFIXES, made

ENDS = {kind: suffix for suffix, kind in SUFFIXES.items()}


def main(kind: str, seed: str, name: str = "") -> None:
    path = REGRESSIONS / f"{kind}-{name or seed}{ENDS.get(kind, '.toml')}"
    path.write_bytes(made(kind, int(seed)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
