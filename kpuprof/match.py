"""Which ops of two programs do the same work, whatever was fused into what.

Names of modules are trusted first: they outlive edits of a model. Names that a tracer has numbered
(`add_3`) shift with every op that is inserted, so they count only where the graph agrees: an op
joins the ops that it reads from or feeds when these contain it under its source name, or do what it
does in an epilogue. `docs/adr/0017-diff-and-budgets.md` has the reasons.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable

from formats.program import KPUOp, KPUProgram
from kpuprof.match_absorb import absorb
from kpuprof.match_groups import BASE, NEW, Groups, Match
from kpuprof.match_side import Side

Key = Callable[[KPUOp, Side], Hashable | None]


def match(base: KPUProgram, new: KPUProgram) -> list[Match]:
    """Every op of both programs exactly once: as `base` is scheduled, then what only `new` has."""
    groups = Groups(Side(base), Side(new))
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


def pair_by(groups: Groups, by: str, key: Key, only_single: bool = False) -> None:
    """Pair open ops of equal keys; only_single: keys that one open op of each side has."""
    tables = tuple(_table(side, side.open(), key) for side in groups.sides)
    for value, candidates in tables[BASE].items():
        others = tables[NEW].get(value, [])
        if only_single and (len(candidates) > 1 or len(others) > 1):
            continue
        _pair_alike(groups, by, candidates, others)


def pair_by_structure(groups: Groups) -> None:
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
                side.open_of([near for op in grown[k] for near in following(side, op)])
                for k, side in enumerate(groups.sides)
            ]


def join_by_source(groups: Groups) -> None:
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


def _table(side: Side, ops: list[KPUOp], key: Key) -> dict[Hashable, list[KPUOp]]:
    table: dict[Hashable, list[KPUOp]] = defaultdict(list)
    for op in ops:
        value = key(op, side)
        if value is not None:
            table[value].append(op)
    return table


def _pair_alike(groups: Groups, by: str, base: list[KPUOp], new: list[KPUOp]) -> None:
    """Pair ops of one key: those most alike first, each kind in order."""
    for kind in (_id_and_shape, _shape, _anything):
        waiting = _table(groups.sides[NEW], groups.sides[NEW].open_of(new), kind)
        for op in groups.sides[BASE].open_of(base):
            others = waiting.get(kind(op, groups.sides[BASE]))
            if others:
                groups.pair(by, op, others.pop(0))


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
