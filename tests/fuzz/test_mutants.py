"""20,000 mutants of every kind of file: each is read rightly or refused by an error of ours.

`python -m tests.fuzz.keep KIND SEED` writes the mutant that a failure names to `regressions`.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
import torch

from tests.fuzz import seeds, targets
from tests.fuzz.judge import outcome
from tests.fuzz.mutants import mutant
from tests.fuzz.texts import mutated_text

REGRESSIONS = Path(__file__).parent / "regressions"
CHUNK = 1000
BUDGET = {
    "program": 13_000,
    "profile": 4_000,
    "config": 1_000,
    "budget_file": 1_000,
    "space": 1_000,
}
CHUNKS = [(kind, start) for kind, count in BUDGET.items() for start in range(0, count, CHUNK)]
FIRST_SEED = int(os.environ.get("KPU_FUZZ_SEED", "0"))
SUFFIXES = {".kpu": "program", ".kprof": "profile"}  # of a .toml its name says it

Mutate = Callable[[bytes, Random], bytes]


def sources(kind: str) -> tuple[Sequence[bytes], Mutate]:
    """Sound files of a kind, and what makes mutants of them."""
    if kind == "program":
        return seeds.programs(), mutant
    if kind == "profile":
        return seeds.profiles(), mutant
    texts = {"config": seeds.CONFIGS, "budget_file": seeds.BUDGETS, "space": seeds.SPACES}
    return texts[kind], mutated_text


def made(kind: str, seed: int) -> bytes:
    """The mutant of a seed, the same on every computer."""
    random = Random(seed)
    sound, mutate = sources(kind)
    return mutate(random.choice(sound), random)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Processor time is counted of all threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", BUDGET)
def test_what_mutants_are_made_of_is_sound(kind):
    sound, _ = sources(kind)
    assert {outcome(getattr(targets, kind), data) for data in sound} == {"read"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "start"), CHUNKS)
def test_a_mutant_is_read_rightly_or_refused(kind, start):
    read = getattr(targets, kind)
    counts: Counter[str] = Counter()
    for seed in range(FIRST_SEED + start, FIRST_SEED + start + CHUNK):
        try:
            counts[outcome(read, made(kind, seed))] += 1
        except BaseException as error:
            error.add_note(f"python -m tests.fuzz.keep {kind} {seed}")
            raise
    assert counts["read"] < CHUNK  # some are refused: it is the mutants that were read
    assert counts.total() == CHUNK


@pytest.mark.parametrize("path", sorted(REGRESSIONS.iterdir()), ids=lambda path: path.name)
def test_what_once_broke_a_reader_is_read_rightly_or_refused(path):
    kind = SUFFIXES.get(path.suffix) or path.name.split("-")[0]
    outcome(getattr(targets, kind), path.read_bytes())
