"""How an image becomes what a network takes: the names; kpurun.images has the recipes."""

from formats.errors import UsageError

PREPROCESSES = ("imagenet", "yolo", "none")


def require_known(preprocess: object) -> None:
    """UsageError for a name that is no recipe's."""
    if preprocess not in PREPROCESSES:
        raise UsageError(f"preprocess {preprocess!r} is not one of {', '.join(PREPROCESSES)}")
