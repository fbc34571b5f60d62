"""Name what a classifier saw: `python -m samples.classes out.npz` prints the five best classes."""

import sys
from pathlib import Path

import numpy as np

NAMES = Path(__file__).parent / "inputs" / "imagenet_classes.txt"


def best_classes(logits: np.ndarray, count: int = 5) -> list[tuple[str, float]]:
    """(name, probability) of the largest of 1000 logits, largest first."""
    names = NAMES.read_text(encoding="utf-8").splitlines()
    powers = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = powers / powers.sum()
    return [(names[index], float(probabilities[index])) for index in np.argsort(-logits)[:count]]


def main(arguments: list[str]) -> int:
    """Print the classes of the first output in an .npz file that holds 1000 logits."""
    if len(arguments) != 1:
        print("usage: python -m samples.classes OUT.npz", file=sys.stderr)
        return 2
    with np.load(arguments[0]) as outputs:
        logits = next((array for array in outputs.values() if array.shape == (1, 1000)), None)
    if logits is None:
        print(f"{arguments[0]}: no output of 1000 class scores", file=sys.stderr)
        return 1
    for name, probability in best_classes(logits[0]):
        print(f"{probability:6.1%}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
