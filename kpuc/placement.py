"""Which activations live in L2 and which in DRAM, for the least added DRAM traffic.

L2 must hold, while an op runs, the activations that are live then and the buffers through which the
op stages what lives in DRAM. Where that is too much, activations move out: the one that costs least
traffic per byte of relief first. Then whatever fits after all comes back.
"""

from collections.abc import Sequence
from itertools import accumulate

from kpuc.allocate import aligned
from kpuc.scheduled import Scheduled


def live_in_dram(
    scheduled: Scheduled,
    capacity_bytes: int,
    staging_bytes: int,
    least_staging_bytes: Sequence[int],
    alignment: int,
) -> frozenset[str]:
    """Roots of the activations that live in DRAM; outputs always do.

    capacity_bytes: of L2. staging_bytes: what an op gets for staging, unless all that it stages is
    less; least_staging_bytes: per position, what it cannot do without.
    """
    balance = _Balance(scheduled, capacity_bytes, staging_bytes, least_staging_bytes, alignment)
    spilled = _make_room(balance)
    if balance.is_overfull():  # moving out what an op touches only made it stage more: give it less
        balance.most_staging = 0
        spilled += _make_room(balance)
    for root in sorted(spilled, key=lambda root: (-balance.traffic[root], root)):
        if balance.has_room_for(root):
            balance.move_in(root)
    return frozenset(root for root in scheduled.ranges if root not in balance.in_l2)


def _make_room(balance: "_Balance") -> list[str]:
    """Activations moved out, at the fullest position first, until none is overfull or nothing
    relieves it."""
    moved = []
    while balance.is_overfull():
        relief = {root: balance.relief(root) for root in balance.live_at_fullest()}
        relieving = [root for root in relief if relief[root] > 0]
        if not relieving:
            break
        cheapest = min(relieving, key=lambda root: (balance.traffic[root] / relief[root], root))
        balance.move_out(cheapest)
        moved.append(cheapest)
    return moved


class _Balance:
    """Bytes that each position needs of L2, while activations move in and out.

    traffic: DRAM bytes that living there adds: one write, and a read by each op that reads it.
    """

    def __init__(
        self,
        scheduled: Scheduled,
        capacity_bytes: int,
        staging_bytes: int,
        least_staging_bytes: Sequence[int],
        alignment: int,
    ) -> None:
        outputs = frozenset(scheduled.graph.outputs)
        self.in_l2 = {root: None for root in scheduled.ranges if root not in outputs}
        self._ranges = scheduled.ranges
        self._touched = scheduled.touched
        self._capacity = capacity_bytes
        self.most_staging = staging_bytes
        self._least_staging = least_staging_bytes
        self._size = {
            root: aligned(scheduled.size_bytes(root), alignment)
            for root in {*scheduled.roots.values()}
        }
        self._live = self._live_bytes()
        self.traffic = {
            root: self._size[root] * sum(root in self._touched[at] for at in self._positions(root))
            for root in self.in_l2
        }
        self._staged = [
            sum(self._size[root] for root in touched if root not in self.in_l2)
            for touched in self._touched
        ]

    def _live_bytes(self) -> list[int]:
        changes = [0] * (len(self._touched) + 2)
        for root in self.in_l2:
            first, last = self._ranges[root]
            changes[first] += self._size[root]
            changes[last + 1] -= self._size[root]
        return list(accumulate(changes[: len(self._touched)]))

    def _staging(self, position: int, staged_bytes: int) -> int:
        wanted = min(staged_bytes, self.most_staging)
        return max(wanted, self._least_staging[position])

    def _excess(self, position: int) -> int:
        needed = self._live[position] + self._staging(position, self._staged[position])
        return needed - self._capacity

    def _fullest(self) -> int:
        return max(range(len(self._live)), key=self._excess)

    def is_overfull(self) -> bool:
        """Whether some position needs more than there is."""
        return bool(self._live) and self._excess(self._fullest()) > 0

    def live_at_fullest(self) -> list[str]:
        """What lives in L2 at the position that needs most."""
        fullest = self._fullest()
        return [root for root in self.in_l2 if fullest in self._positions(root)]

    def _positions(self, root: str) -> range:
        first, last = self._ranges[root]
        return range(first, min(last + 1, len(self._live)))

    def relief(self, root: str) -> int:
        """Bytes of excess, summed over positions, that go away when the activation moves out."""
        gained = 0
        for position in self._positions(root):
            excess = self._excess(position)
            if excess > 0:
                gained += min(excess, self._size[root] - self._more_staging(position, root))
        return gained

    def _more_staging(self, position: int, root: str) -> int:
        if root not in self._touched[position]:
            return 0
        staged = self._staged[position]
        grown = self._staging(position, staged + self._size[root])
        return grown - self._staging(position, staged)

    def has_room_for(self, root: str) -> bool:
        """Whether the activation could move back in without a position needing too much."""
        for position in self._positions(root):
            staged = self._staged[position]
            if root in self._touched[position]:
                staged -= self._size[root]
            live = self._live[position] + self._size[root]
            if live + self._staging(position, staged) > self._capacity:
                return False
        return True

    def move_out(self, root: str) -> None:
        """The activation lives in DRAM from now on."""
        del self.in_l2[root]
        self._shift(root, 1)

    def move_in(self, root: str) -> None:
        """The activation lives in L2 again."""
        self.in_l2[root] = None
        self._shift(root, -1)

    def _shift(self, root: str, towards_dram: int) -> None:
        for position in self._positions(root):
            self._live[position] -= towards_dram * self._size[root]
            if root in self._touched[position]:
                self._staged[position] += towards_dram * self._size[root]
