"""Who wrote which bytes, so that whoever finds foreign ones can say whose they are."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from formats.program import MemoryType

Addresses = Callable[[], np.ndarray]  # of the first byte of every element that was written
Author = Callable[[], str]  # a command in words; most are never asked for


@dataclass
class Log:
    """Every write so far, in order. author: of those to come."""

    author: Author = lambda: "what is loaded at the start"
    _writes: list[tuple[MemoryType, int, Addresses, Author]] = field(default_factory=list)

    def add(self, memory: MemoryType, bits: int, addresses: Addresses) -> None:
        """Elements of so many bits were written."""
        self._writes.append((memory, bits, addresses, self.author))

    def last_author(self, memory: MemoryType, start: int, end: int) -> str:
        """Who last wrote one of these bytes; empty if nobody did."""
        for written, bits, addresses, author in reversed(self._writes):
            if written is not memory:
                continue
            first = addresses()
            if ((first < end) & (first + max(1, bits // 8) > start)).any():
                return author()
        return ""
