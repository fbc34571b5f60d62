"""How far outputs are from the baseline, never by one figure alone (docs/numerics.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kpuc.quant.difference import softmax

SHARE_OF_RANGE_BAR = 0.001  # the document's figure for FP16, read on max |d| / max |baseline|
SQNR_SLACK_DB = 0.5  # allowed below ideal FP16 arithmetic where that misses the bar too


@dataclass(frozen=True)
class Difference:
    """One output over all images. `share_of_range` is the worst image's max |d| / max |baseline|;
    the SQNR is 10·log10(sum baseline² / sum d²) over all images together."""

    max_abs: float
    share_of_range: float
    median_share: float
    sqnr_db: float
    top1_agreement: float
    max_abs_softmax: float


def difference(baseline: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Difference:
    """Compare arrays image by image, each (1, …); the classifier figures read axis 1."""
    pairs = [
        (base.astype(np.float64), out.astype(np.float64))
        for base, out in zip(baseline, outputs, strict=True)
    ]
    largest = [np.abs(out - base).max() for base, out in pairs]
    shares = [d / np.abs(base).max() for d, (base, _) in zip(largest, pairs, strict=True)]
    signal = sum(np.square(base).sum() for base, _ in pairs)
    noise = sum(np.square(out - base).sum() for base, out in pairs)
    return Difference(
        max_abs=float(max(largest)),
        share_of_range=float(max(shares)),
        median_share=float(np.median(shares)),
        sqnr_db=float(10 * np.log10(signal / noise)) if noise else float("inf"),
        top1_agreement=float(np.mean([base.argmax(1) == out.argmax(1) for base, out in pairs])),
        max_abs_softmax=float(max(np.abs(softmax(b) - softmax(o)).max() for b, o in pairs)),
    )


def by_output(runs: Iterable[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Outputs of each image -> images of each output."""
    return [list(images) for images in zip(*runs, strict=True)]


def holds_bar(ours: Difference, ideal: Difference) -> bool:
    """Within 0.001 of the range, or as good as ideal FP16 arithmetic allows."""
    if ours.share_of_range < SHARE_OF_RANGE_BAR:
        return True
    return ours.sqnr_db >= ideal.sqnr_db - SQNR_SLACK_DB
