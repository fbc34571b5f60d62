"""What cannot be lowered, collected so that it is told all at once."""

from formats.errors import UnsupportedOpError
from kpuc.lowering.site import LoweringError


class Refusals:
    """Refused ops in order of appearance; the same reason on the same line of code is told once."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], list[str]] = {}

    def add(self, error: LoweringError, place: str, source: str) -> None:
        """place: the module's path; source: "file:line: code"; either may be empty."""
        places = self._places.setdefault((error.op_name, str(error), source), [])
        if place and place not in places:
            places.append(place)

    def raise_if_any(self) -> None:
        """UnsupportedOpError with all of them."""
        if not self._places:
            return
        details = []
        for (_, reason, source), places in self._places.items():
            more = f" and {len(places) - 1} more" if len(places) > 1 else ""
            parts = [reason, *(f"{place}{more}" for place in places[:1]), source]
            details.append(" · ".join(part for part in parts if part))
        names = dict.fromkeys(name for name, _, _ in self._places)
        raise UnsupportedOpError(list(names), details)
