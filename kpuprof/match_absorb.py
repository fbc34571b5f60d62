"""Fusion that differs: ops that join the group whose other side has their work in one op.

An op that reads from a group belongs to it when the other side has fused in an op called like it,
numbers aside, or does its work in an epilogue. One that feeds a group (a pad) belongs to it when
the other side has fused it in under its very name, and the numbers of both agree.
"""

import re
from collections import Counter, deque

from formats.program import KPUOp
from kpuprof.match_groups import Groups
from kpuprof.match_side import Side

NUMBER = re.compile(r"_[0-9]+$")


def absorb(groups: Groups, grown: list[list[KPUOp]] | None = None) -> list[list[KPUOp]]:
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
    return side.open_of([near for op in ops for near in (*side.makers(op), *side.readers(op))])


def _host(groups: Groups, k: int, op: KPUOp) -> int | None:
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


def _fused_names(groups: Groups, group: int, k: int) -> Counter[str]:
    """Source names beside that of the first op, without the numbers that a tracer gave them."""
    first, *others = groups.members[group][k]
    names = [*first.fused_with, *(name for op in others for name in (op.id, *op.fused_with))]
    return Counter(map(_unnumbered, names))


def _unnumbered(name: str) -> str:
    return NUMBER.sub("", name)


def _epilogues(groups: Groups, group: int, k: int) -> Counter[str]:
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
