"""The groups that matching finds: ops of both programs that do the same work."""

from dataclasses import dataclass

from formats.program import KPUOp
from kpuprof.match_side import Side

BASE, NEW = 0, 1


@dataclass(frozen=True)
class Match:
    """Ops of each program that do the same work: the one that was matched, then its parts in
    scheduled order; one of the two sides may be empty. by: what told so first ("name", "structure"
    or "source"), empty without a partner."""

    base: tuple[KPUOp, ...]
    new: tuple[KPUOp, ...]
    by: str


class Groups:
    """The groups found so far: what told so, and their ops on each side."""

    def __init__(self, base: Side, new: Side) -> None:
        self.sides = (base, new)
        self.by: list[str] = []
        self.members: list[tuple[list[KPUOp], list[KPUOp]]] = []

    def start(self, by: str) -> int:
        """A new group without ops; its number."""
        self.by.append(by)
        self.members.append(([], []))
        return len(self.by) - 1

    def add(self, group: int, side: int, op: KPUOp) -> None:
        """Put an open op of a side (BASE or NEW) into a group; the first is the one that is
        compared, those that follow are its parts."""
        self.members[group][side].append(op)
        self.sides[side].group[op.id] = group

    def pair(self, by: str, base: KPUOp, new: KPUOp) -> None:
        """A new group of one op of each side."""
        group = self.start(by)
        self.add(group, BASE, base)
        self.add(group, NEW, new)

    def matches(self) -> list[Match]:
        """All ops of both sides: as the base is scheduled, then what only the other has."""
        base, new = self.sides
        listed = dict.fromkeys(base.group.get(op.id, op.id) for op in base.ops)
        alone = {op.id: op for op in base.open()}
        found = [
            self._match(key) if isinstance(key, int) else Match((alone[key],), (), "")
            for key in listed
        ]
        return [*found, *(Match((), (op,), "") for op in new.open())]

    def _match(self, group: int) -> Match:
        sides = [
            [first, *sorted(parts, key=lambda op: op.schedule_order)]
            for first, *parts in self.members[group]
        ]
        return Match(tuple(sides[BASE]), tuple(sides[NEW]), self.by[group])
