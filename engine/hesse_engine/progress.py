"""How far a computation is, told between its chunks to whoever listens in the same thread; without a listener, nothing.

    with listening(lambda done, total: ...):
        prepared(inputs)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

Listener = Callable[[int, int], None]


class _Local(threading.local):
    listener: Listener | None = None


_local = _Local()


@contextlib.contextmanager
def listening(callback: Listener) -> Iterator[None]:
    """Call `callback(done, total)` [chunks] for computations of this thread; what it raises ends the computation.

    It is called by the thread that computed the chunk, one call at a time.
    """
    before, _local.listener = _local.listener, callback
    try:
        yield
    finally:
        _local.listener = before


def report(done: int, total: int) -> None:
    """Tell the listener, if there is one, that `done` of `total` chunks are computed."""
    listener = _local.listener
    if listener is not None:
        listener(done, total)


def counter(total: int) -> Callable[[], None]:
    """A function that reports one more chunk of `total` each time; threads of this computation may call it, too."""
    listener = _local.listener
    if listener is None:
        return _nothing
    lock, done = threading.Lock(), 0

    def count() -> None:
        nonlocal done
        with lock:
            done += 1
            listener(done, total)

    return count


@contextlib.contextmanager
def part(first: int, total: int) -> Iterator[None]:
    """What is reported inside are chunks `first`, `first` + 1, ... of a computation of `total`."""
    listener = _local.listener
    if listener is None:
        yield
        return
    with listening(lambda done, _: listener(first + done, total)):
        yield


def _nothing() -> None:
    """Nobody listens."""
