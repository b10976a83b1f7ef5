"""Who waits for a compute process. Owners take turns; within one owner, first come first served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

S = TypeVar("S")


class Queue(Generic[S]):
    """Free slots, and the requests that wait for one. Used on the event loop alone."""

    def __init__(self) -> None:
        self._free: list[S] = []
        self._lines: OrderedDict[str, deque[asyncio.Future[S]]] = OrderedDict()  # no line is empty
        self._count = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return self._count

    @property
    def is_free(self) -> bool:
        return bool(self._free)

    def has(self, slot: S) -> bool:
        """Whether `slot` is free."""
        return slot in self._free

    def held_by(self, owner: str) -> int:
        """Requests of `owner` that wait."""
        return len(self._lines.get(owner, ()))

    async def take(self, owner: str) -> S:
        """A free slot, the one used last first (it has what was prepared last); else the next that `owner` is given."""
        if self._free:
            return self._free.pop()
        waiter: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(owner, deque()).append(waiter)
        self._count += 1
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # given in the same moment
                self.give(waiter.result())
            else:
                self._leave(owner, waiter)
            raise

    def give(self, slot: S) -> None:
        """Hand a slot to the owner whose turn it is; nobody waits: it is free."""
        if not self._lines:
            self._free.append(slot)
            return
        owner, line = next(iter(self._lines.items()))
        waiter = line.popleft()
        self._count -= 1
        del self._lines[owner]
        if line:
            self._lines[owner] = line  # behind the others
        if waiter.cancelled():
            self.give(slot)
        else:
            waiter.set_result(slot)

    def _leave(self, owner: str, waiter: asyncio.Future[S]) -> None:
        line = self._lines.get(owner)
        if line is None or waiter not in line:
            return
        line.remove(waiter)
        self._count -= 1
        if not line:
            del self._lines[owner]
