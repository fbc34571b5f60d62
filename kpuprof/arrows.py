"""Which command hands its data to which: a tile's way from DRAM through L2 and L1 and back.

Read from the order of the commands, as the machine plays them: what is loaded stays until the same
operand is loaded again, a tile works on all that L1 holds, a store takes all that was computed
since the last one of its result.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from formats.profile import COMMAND_KINDS

FROM_DRAM, TO_DRAM, INTO_L1, FROM_L1, COMPUTE = range(len(COMMAND_KINDS))

Arrow = tuple[int, int]  # rows of the table "command"


def arrows(ops: Sequence[int], kinds: Sequence[int], operands: Sequence[int]) -> Iterator[Arrow]:
    """(from, to) of the rows of the table, which are in program order, op by op."""
    held, op = _Held(), -1
    for row, (own, kind, operand) in enumerate(zip(ops, kinds, operands, strict=True)):
        if own != op:
            held, op = _Held(), own
        for source in held.take(row, kind, operand):
            yield source, row


class _Held:
    """What the memories hold of one op: the commands that brought it, by operand."""

    def __init__(self) -> None:
        self._l2: dict[int, int] = {}
        self._l1: dict[int, int] = {}
        self._computed: list[int] = []
        self._stored: dict[int, int] = defaultdict(int)  # of a result, how many of the computed
        self._results: dict[int, list[int]] = defaultdict(list)  # in L2, on the way to DRAM

    def take(self, row: int, kind: int, operand: int) -> list[int]:
        """Note a command; those whose data it takes."""
        if kind == FROM_DRAM:
            self._l2[operand] = row
            return []
        if kind == INTO_L1:
            self._l1[operand] = row
            return [self._l2[operand]] if operand in self._l2 else []
        if kind == COMPUTE:
            self._computed.append(row)
            return [*self._l1.values()]
        if kind == TO_DRAM:
            return self._results.pop(operand, [])
        self._results[operand].append(row)
        if not self._computed:  # a move
            return [*self._l1.values()]
        first, self._stored[operand] = self._stored[operand], len(self._computed)
        return self._computed[first:]
