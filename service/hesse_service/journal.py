"""What happened in each exchange, noted on the way and told in batches to metrics, logs and traces.

A request pays for one record appended to a list; the counting is done for `BATCH` of them together, or after `FLUSH_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from hesse_engine.backend.plan import Plan
from hesse_service.tracing import STAGES, Trace

BATCH = 64
FLUSH_S = 0.25
KEY = "hesse.exchange"  # of the ASGI scope

Sink = Callable[[list["Exchange"]], None]


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        operation: the route's name; `other` where there is none. Never what a client chose.
        status: of the answer; 0 until there is one, 499 where the client left before.
        code: of the error; `ok` without one.
        place: where it was computed, `inline` or `process`; empty where nothing was.
        owner: whose request it is; only its hash leaves the process.
        seconds: time in each of `STAGES` [s]; None where nothing was measured.
        total: from the first byte of the head to the last of the answer [s].
        ended_at: seconds since 1970 [s].
        outline: how it was computed.
    """

    request_id: str
    trace: Trace
    started: float = field(default_factory=time.perf_counter)
    operation: str = "other"
    status: int = 0
    code: str = "ok"
    place: str = ""
    owner: str = ""
    seconds: dict[str, float] | None = None
    body_bytes: int = 0
    answer_bytes: int = 0
    is_complete: bool = False
    total: float = 0.0
    ended_at: float = 0.0
    outline: Plan | None = None
    span: Any = None

    def elapsed(self) -> float:
        return time.perf_counter() - self.started


CURRENT: ContextVar[Exchange | None] = ContextVar("hesse_exchange", default=None)


def exchange_of(scope: Scope) -> Exchange:
    """The record of the exchange that `scope` belongs to."""
    found: Exchange = scope[KEY]
    return found


def server_timing(seconds: dict[str, float]) -> str:
    """`queue;dur=0.1, decode;dur=0.0, ...` [ms]: all stages, then `total` where it is known."""
    parts = [f"{name};dur={1e3 * seconds.get(name, 0.0):.3f}" for name in STAGES]
    if "total" in seconds:
        parts.append(f"total;dur={1e3 * seconds['total']:.3f}")
    return ", ".join(parts)


class Journal:
    """Collects finished exchanges; belongs to one event loop."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.samplers: list[Callable[[], None]] = []
        self.in_flight = 0
        self._pending: list[Exchange] = []

    def begin(self) -> None:
        self.in_flight += 1

    def end(self, exchange: Exchange) -> None:
        self.in_flight -= 1
        exchange.total, exchange.ended_at = exchange.elapsed(), time.time()
        self._pending.append(exchange)
        if len(self._pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Tell the sinks what has not been told yet."""
        if self._pending:
            batch, self._pending = self._pending, []
            for sink in self.sinks:
                sink(batch)

    def sample(self) -> None:
        """Have what is measured now and then measured now."""
        for sampler in self.samplers:
            sampler()

    async def keep(self) -> None:
        """Flush and sample until cancelled, and once more then."""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self.flush()
                self.sample()
                await asyncio.sleep(FLUSH_S)
        self.flush()
