"""The terminal that a report is shown on."""

from rich.console import Console


def console() -> Console:
    """stdout; text from a file is shown as it is, square brackets and colons included."""
    return Console(highlight=False, markup=False, emoji=False)
