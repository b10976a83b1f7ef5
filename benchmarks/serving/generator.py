"""A load generator on bare asyncio transports: requests are bytes made beforehand, answers are counted, not parsed.

It speaks just enough HTTP/1.1 for answers with a Content-Length. One request costs it a fraction of what it costs the
server; that fraction is measured and printed with every figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Next = Callable[[], bytes]
END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"  # not the end of Inference-Header-Content-Length


@dataclass(slots=True)
class Run:
    """What one window of load saw.

    Attributes:
        seconds: length of the window.
        count: answers with status 200.
        failures: all other answers, and connections lost.
        bytes: of the bodies.
        latencies: of each answer [s]; in an open loop from the moment the request was due.
        own_cpu: share of one core that the generator used.
    """

    seconds: float = 0.0
    count: int = 0
    failures: int = 0
    bytes: int = 0
    latencies: list[float] = field(default_factory=list)
    own_cpu: float = 0.0

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    def quantile(self, share: float) -> float:
        """Of the latencies [s]."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request on its way at most."""

    def __init__(self, run: Run, on_free: Callable[[Connection], None]) -> None:
        self.run, self.on_free = run, on_free
        self.lost = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._left = -1  # bytes of the body still to come; -1: the head is not complete
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, request: bytes, since: float) -> None:
        assert self._transport is not None
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            at = self._head.find(END)
            if at < 0:
                return
            head, self._left = self._head[:at], self._content_length(at) - (len(self._head) - at - len(END))
            self._count(head)
        else:
            self._left -= len(data)
        if self._left == 0:
            self._head, self._left = b"", -1
            self.run.latencies.append(time.perf_counter() - self._since)
            self.on_free(self)

    def _content_length(self, at: int) -> int:
        low = self._head[:at].lower()
        start = low.index(LENGTH) + len(LENGTH)
        end = low.find(b"\r", start)
        length = int(low[start : end if end >= 0 else at])
        self.run.bytes += length
        return length

    def _count(self, head: bytes) -> None:
        if head.startswith(b"HTTP/1.1 200"):
            self.run.count += 1
        else:
            self.run.failures += 1

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _opened(host: str, port: int, count: int, run: Run,
                  on_free: Callable[[Connection], None]) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: Connection(run, on_free), host, port))[1] for _ in range(count)]


async def _closed(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
    await asyncio.gather(*[c.lost for c in connections])


async def closed_loop(host: str, port: int, request: Next, seconds: float, connections: int) -> Run:
    """Every connection sends its next request as soon as the last is answered: the highest rate there is."""
    run, is_over = Run(), False

    def on_free(connection: Connection) -> None:
        if not is_over:
            connection.send(request(), time.perf_counter())

    opened = await _opened(host, port, connections, run, on_free)
    started, cpu = time.perf_counter(), time.process_time()
    for connection in opened:
        on_free(connection)
    await asyncio.sleep(seconds)
    is_over, run.seconds = True, time.perf_counter() - started
    run.own_cpu = (time.process_time() - cpu) / run.seconds
    await _closed(opened)
    return run


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times of a Poisson process with `rate` a second, over `seconds`."""
    drawn, at = random.Random(seed), 0.0
    while (at := at + drawn.expovariate(rate)) < seconds:
        yield at


async def open_loop(host: str, port: int, request: Next, rate: float, seconds: float, connections: int,
                    seed: int = 1) -> Run:
    """Requests become due by a Poisson process, whatever the server does; latency counts from when one was due.

    A request that finds no free connection waits here, and its waiting counts: nothing is left out because the server
    was slow (no coordinated omission).
    """
    run = Run()
    free: deque[Connection] = deque()
    due: deque[float] = deque()
    times = list(arrivals(rate, seconds, seed))
    finished = asyncio.Event()

    def on_free(connection: Connection) -> None:
        if len(run.latencies) == len(times):
            finished.set()
        if due:
            connection.send(request(), due.popleft())
        else:
            free.append(connection)

    opened = await _opened(host, port, connections, run, on_free)
    free.extend(opened)
    started, cpu = time.perf_counter(), time.process_time()
    for at in times:
        wait = started + at - time.perf_counter()
        if wait > 0.0:
            await asyncio.sleep(wait)
        if free:
            free.popleft().send(request(), started + at)
        else:
            due.append(started + at)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10.0 + seconds):
            await finished.wait()
    run.seconds = time.perf_counter() - started
    run.own_cpu = (time.process_time() - cpu) / run.seconds
    run.failures += len(times) - len(run.latencies)
    await _closed(opened)
    return run
