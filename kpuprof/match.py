"""Which ops of two programs do the same work, whatever was fused into what.

Names of modules are trusted first: they outlive edits of a model. Names that a tracer has numbered
(`add_3`) shift with every op that is inserted, so they count only where the graph agrees: an op
joins the ops that it reads from or feeds when these contain it under its source name, or do what it
does in an epilogue. `docs/adr/0015-diff-and-budgets.md` has the reasons.
"""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from formats.program import KPUOp, KPUProgram
from kpuprof.match_side import Side

BASE, NEW = 0, 1
NUMBER = re.compile(r"_[0-9]+$")
Key = Callable[[KPUOp, Side], Hashable | None]


@dataclass(frozen=True)
class Match:
    """Ops of each program that do the same work, in scheduled order; one of the two may be empty.
    by: what told so first ("name", "structure" or "source"), empty without a partner."""

    base: tuple[KPUOp, ...]
    new: tuple[KPUOp, ...]
    by: str


def match(base: KPUProgram, new: KPUProgram) -> list[Match]:
    """Every op of both programs exactly once: as `base` is scheduled, then what only `new` has."""
    groups = _Groups(Side(base), Side(new))
    pair_by(groups, "name", _module_and_type, only_single=True)
    absorb(groups)
    pair_by_structure(groups)
    pair_by(groups, "name", _module_and_type)
    pair_by(groups, "source", _number_and_type)
    absorb(groups)
    pair_by_structure(groups)
    absorb(groups)
    pair_by(groups, "name", _module, only_single=True)
    join_by_source(groups)
    return groups.matches()


class _Groups:
    """The groups found so far: what told so, and their ops on each side."""

    def __init__(self, base: Side, new: Side) -> None:
        self.sides = (base, new)
        self.by: list[str] = []
        self.members: list[tuple[list[KPUOp], list[KPUOp]]] = []

    def start(self, by: str) -> int:
        self.by.append(by)
        self.members.append(([], []))
        return len(self.by) - 1

    def add(self, group: int, side: int, op: KPUOp) -> None:
        self.members[group][side].append(op)
        self.sides[side].group[op.id] = group

    def pair(self, by: str, base: KPUOp, new: KPUOp) -> None:
        group = self.start(by)
        self.add(group, BASE, base)
        self.add(group, NEW, new)

    def matches(self) -> list[Match]:
        base, new = self.sides
        listed = dict.fromkeys(base.group.get(op.id, op.id) for op in base.ops)
        alone = {op.id: op for op in base.open()}
        found = [
            self._match(key) if isinstance(key, int) else Match((alone[key],), (), "")
            for key in listed
        ]
        return [*found, *(Match((), (op,), "") for op in new.open())]

    def _match(self, group: int) -> Match:
        sides = [sorted(ops, key=lambda op: op.schedule_order) for ops in self.members[group]]
        return Match(tuple(sides[BASE]), tuple(sides[NEW]), self.by[group])


def pair_by(groups: _Groups, by: str, key: Key, only_single: bool = False) -> None:
    """Pair open ops of equal keys; only_single: keys that one open op of each side has."""
    tables = tuple(_table(side, side.open(), key) for side in groups.sides)
    for value, candidates in tables[BASE].items():
        others = tables[NEW].get(value, [])
        if only_single and (len(candidates) > 1 or len(others) > 1):
            continue
        _pair_alike(groups, by, candidates, others)


def pair_by_structure(groups: _Groups) -> None:
    """Pair open ops of one type that read from the same groups, from the inputs on; then those
    that feed the same groups, from the outputs back. Parts of fused ops are taken up on the way."""
    for key, following in ((_place_before, Side.readers), (_place_after, Side.makers)):
        frontiers = [side.open() for side in groups.sides]
        while frontiers[BASE] and frontiers[NEW]:
            tables = [
                _table(side, frontier, key)
                for side, frontier in zip(groups.sides, frontiers, strict=True)
            ]
            before = len(groups.by)
            for value, candidates in tables[BASE].items():
                _pair_alike(groups, "structure", candidates, tables[NEW].get(value, []))
            grown = [[ops[k][0] for ops in groups.members[before:]] for k in (BASE, NEW)]
            for k, found in enumerate(absorb(groups, grown)):
                grown[k] += found
            frontiers = [
                _open_once(side, [near for op in grown[k] for near in following(side, op)])
                for k, side in enumerate(groups.sides)
            ]


def absorb(groups: _Groups, grown: list[list[KPUOp]] | None = None) -> list[list[KPUOp]]:
    """Let open ops join a group next to them that does their work in one op on the other side.

    grown: on each side, the ops beside which to look; None looks beside all. Returns who joined.
    """
    joined: list[list[KPUOp]] = [[], []]
    for k, side in enumerate(groups.sides):
        beside = side.open() if grown is None else _open_beside(side, grown[k])
        waiting = deque(beside)
        while waiting:
            op = waiting.popleft()
            group = None if op.id in side.group else _host(groups, k, op)
            if group is not None:
                groups.add(group, k, op)
                joined[k].append(op)
                waiting.extend(_open_beside(side, [op]))
    return joined


def _open_beside(side: Side, ops: list[KPUOp]) -> list[KPUOp]:
    return _open_once(side, [near for op in ops for near in (*side.makers(op), *side.readers(op))])


def join_by_source(groups: _Groups) -> None:
    """Group what is still open and has source names in common, when one of the two is fused."""
    for k, side in enumerate(groups.sides):
        other = groups.sides[1 - k]
        whole = {name: op for op in other.open() if op.fused_with for name in other.sources[op.id]}
        for op in side.open():
            found = next((whole[n] for n in sorted(side.sources[op.id]) if n in whole), None)
            if found is None or _are_other_modules(op, found):
                continue
            group = other.group.get(found.id)
            if group is None:
                group = groups.start("source")
                groups.add(group, 1 - k, found)
            groups.add(group, k, op)


def _host(groups: _Groups, k: int, op: KPUOp) -> int | None:
    """The group beside an open op of side k whose other side does its work too."""
    side = groups.sides[k]
    for group in _groups_of(side, side.makers(op)):
        missing_names = _fused_names(groups, group, 1 - k) - _fused_names(groups, group, k)
        missing_work = _epilogues(groups, group, 1 - k) - _epilogues(groups, group, k)
        if _unnumbered(op.id) in missing_names or _work(op) <= missing_work:
            return group
    for group in _groups_of(side, side.readers(op)):
        ours, theirs = groups.members[group][k][0], groups.members[group][1 - k][0]
        if ours.id == theirs.id and op.id in theirs.fused_with:  # in front: numbers must agree
            return group
    return None


def _groups_of(side: Side, ops: list[KPUOp]) -> list[int]:
    return list(dict.fromkeys(side.group[op.id] for op in ops if op.id in side.group))


def _fused_names(groups: _Groups, group: int, k: int) -> Counter[str]:
    """Source names beside that of the first op, without the numbers that a tracer gave them."""
    first, *others = groups.members[group][k]
    names = [*first.fused_with, *(name for op in others for name in (op.id, *op.fused_with))]
    return Counter(map(_unnumbered, names))


def _unnumbered(name: str) -> str:
    return NUMBER.sub("", name)


def _epilogues(groups: _Groups, group: int, k: int) -> Counter[str]:
    """What the ops of a group do after the first one's own work, by type."""
    first, *others = groups.members[group][k]
    stages = Counter(stage.op_type for stage in first.epilogue)
    for op in others:
        stages += _work(op)
    return stages


def _work(op: KPUOp) -> Counter[str]:
    """What an op does, by type; an activation that stands alone is the epilogue of an Identity."""
    own = [] if op.op_type == "Identity" and op.epilogue else [op.op_type]
    return Counter([*own, *(stage.op_type for stage in op.epilogue)])


def _table(side: Side, ops: list[KPUOp], key: Key) -> dict[Hashable, list[KPUOp]]:
    table: dict[Hashable, list[KPUOp]] = defaultdict(list)
    for op in ops:
        value = key(op, side)
        if value is not None:
            table[value].append(op)
    return table


def _pair_alike(groups: _Groups, by: str, base: list[KPUOp], new: list[KPUOp]) -> None:
    """Pair ops of one key: those most alike first, each kind in order."""
    for kind in (_id_and_shape, _shape, _anything):
        waiting = _table(groups.sides[NEW], _open_once(groups.sides[NEW], new), kind)
        for op in _open_once(groups.sides[BASE], base):
            others = waiting.get(kind(op, groups.sides[BASE]))
            if others:
                groups.pair(by, op, others.pop(0))


def _open_once(side: Side, ops: list[KPUOp]) -> list[KPUOp]:
    return list({op.id: op for op in ops if op.id not in side.group}.values())


def _module_and_type(op: KPUOp, side: Side) -> Hashable | None:
    """None without a module: the name is then one that the tracer has numbered."""
    return None if op.name in ("", op.id) else (op.name, op.op_type)


def _are_other_modules(one: KPUOp, other: KPUOp) -> bool:
    return one.name != other.name and all(op.name not in ("", op.id) for op in (one, other))


def _number_and_type(op: KPUOp, side: Side) -> Hashable | None:
    return (op.id, op.op_type) if op.name in ("", op.id) else None


def _module(op: KPUOp, side: Side) -> Hashable | None:
    return None if op.name in ("", op.id) else op.name


def _id_and_shape(op: KPUOp, side: Side) -> Hashable | None:
    return op.id, op.op_type, side.shapes[op.id]


def _shape(op: KPUOp, side: Side) -> Hashable | None:
    return side.shapes[op.id]


def _anything(op: KPUOp, side: Side) -> Hashable | None:
    return True


def _place_before(op: KPUOp, side: Side) -> Hashable | None:
    marks = side.marks_before(op)
    return None if marks is None else (op.op_type, marks)


def _place_after(op: KPUOp, side: Side) -> Hashable | None:
    marks = side.marks_after(op)
    return None if marks is None else (op.op_type, marks)
