"""From SIGTERM to the end of a server process.

First signal: readiness turns 503 `draining`, and requests are still answered for `drain_notice_s` while load balancers
hear of it. Then the listening socket closes, new requests on open connections get 503 `draining`, and running ones have
`drain_s` to finish. A second signal ends everything at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from hesse_engine.errors import StateError

logger = logging.getLogger("hesse.service")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
CUT_S = 5  # for the answers to requests that were cut short, before the server closes their connections


class Lifecycle:
    """How far a server process is on its way out.

    Attributes:
        is_draining: readiness says no.
        is_refusing: new requests are refused as well.
    """

    def __init__(self) -> None:
        self.is_draining = self.is_refusing = False
        self._first = 0
        self._before: dict[signal.Signals, Any] = {}
        self._drained: asyncio.Future[None] | None = None

    @contextlib.contextmanager
    def listening(
        self, notice_s: float, drain: Callable[[], Awaitable[None]], abandon: Callable[[], None]
    ) -> Iterator[None]:
        """Take the signals over from the server that runs the application; only a main thread can.

        Args:
            drain: lets running work finish.
            abandon: ends what would outlive this process; called in a signal handler.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        loop = asyncio.get_running_loop()

        def on_signal(number: int, frame: FrameType | None) -> None:
            if not self._first:
                self._first = number
                # A signal may come in the midst of a request, whose context is none of draining's.
                loop.call_soon_threadsafe(self._begin, loop, notice_s, drain, context=contextvars.Context())
            elif multiprocessing.parent_process() is None:
                # What is sent to all processes reaches a supervised server twice, the second time from its supervisor,
                # which ends it by SIGKILL where it hears a second signal itself.
                _end_now(number, abandon)

        for number in SIGNALS:
            signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _begin(self, loop: asyncio.AbstractEventLoop, notice_s: float, drain: Callable[[], Awaitable[None]]) -> None:
        self.is_draining = True
        logger.info("draining: ready no more; new requests are refused in %g s", notice_s)
        loop.call_later(notice_s, self._stop, drain)

    def _stop(self, drain: Callable[[], Awaitable[None]]) -> None:
        self.is_refusing = True
        self._drained = asyncio.ensure_future(drain())
        handler = self._before[signal.Signals(self._first)]
        server = getattr(handler, "__self__", None)
        if isinstance(server, uvicorn.Server):
            server.should_exit = True  # as its own handler does, which would raise the signal again at the end
        elif callable(handler):
            handler(self._first, None)

    async def drained(self) -> None:
        """Returns when the running work is over."""
        self.is_draining = self.is_refusing = True
        if self._drained is not None:
            await self._drained


def _end_now(number: int, abandon: Callable[[], None]) -> None:
    logger.warning("a second signal: running requests are cut off")
    abandon()
    logging.shutdown()
    os._exit(128 + number)


def end_children() -> None:
    """Kill the processes that this one started."""
    for child in multiprocessing.active_children():
        child.kill()


def draining() -> StateError:
    return StateError(
        "draining",
        "The server is ending and takes no more requests.",
        hint="Try again: another server, or its successor, will answer.",
    )


def ignored(*_: Any) -> None:
    """A signal handler for what a server has answered already."""
