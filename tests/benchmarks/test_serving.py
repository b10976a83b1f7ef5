"""The load generator counts what a scripted server did, to the request; the report judges figures by their targets."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from benchmarks.serving import generator, report, requests
from benchmarks.serving.measurements import Figure
from benchmarks.serving.servers import Machine, Server

Answer = Callable[[int], bytes]
OK = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 1\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def against(answers: Answer, load: Callable[[int], Awaitable[Any]], pause_s: float = 0.0) -> tuple[Any, int]:
    """What `load` saw of a server that answers request number k with `answers(k)`, and how many it got."""
    async def main() -> tuple[Any, int]:
        count = itertools.count()
        seen = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            while await reader.readline():
                await reader.readline()
                seen += 1
                await asyncio.sleep(pause_s)
                answer = answers(next(count))
                for at in range(0, len(answer), 7):  # in small pieces
                    writer.write(answer[at : at + 7])
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await load(port), seen

    return asyncio.run(main())


def test_a_closed_loop_counts_every_answer() -> None:
    run, seen = against(lambda k: BUSY if k % 5 == 0 else OK,
                        lambda port: generator.closed_loop("127.0.0.1", port, lambda: REQUEST, 0.5, 3))
    answered = run.count + run.failures
    assert seen - 3 <= answered <= seen  # those on their way at the end are not waited for
    assert run.failures == pytest.approx(answered / 5, abs=1)
    assert run.bytes == pytest.approx(2 * run.count + 4 * run.failures, abs=12)
    assert len(run.latencies) == pytest.approx(answered, abs=3)
    assert run.rate == run.count / run.seconds


def test_an_open_loop_counts_the_wait_for_a_slow_server() -> None:
    """10 a second are due and 5 a second are served: the queue grows, and the latencies say so."""
    run, _ = against(lambda k: OK,
                     lambda port: generator.open_loop("127.0.0.1", port, lambda: REQUEST, 10.0, 2.0, 1, seed=3),
                     pause_s=0.2)
    assert run.count == len(list(generator.arrivals(10.0, 2.0, 3)))
    assert run.failures == 0
    assert run.quantile(0.0) >= 0.2
    assert run.quantile(0.99) > 0.8, "a closed loop would have seen 0.2 s"


def test_arrivals_are_a_poisson_process() -> None:
    times = list(generator.arrivals(1000.0, 10.0, 1))
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum([(g - mean) ** 2 for g in gaps]) / len(gaps)
    assert mean == pytest.approx(1e-3, rel=0.05)
    assert variance == pytest.approx(1e-6, rel=0.1)  # of the exponential distribution: its mean squared
    assert times == sorted(times)


def test_every_request_differs_and_is_whole() -> None:
    following = requests.calls(Server("h", 1, 1), "/v1/hessian", "0" * 64, 3)
    seen = set()
    for _ in range(2000):
        head, body = following().split(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        value = json.loads(body)
        assert len(value["inputs"][0]["data"]) == 3
        seen.add(body)
    assert len(seen) == 2000


@pytest.mark.parametrize(("value", "target", "said"), [
    (0.71, ">= 0.70", "kept"), (0.69, ">= 0.70", "missed"), (6.0, "<= 6", "kept"), (20.0, "< 20", "missed"),
    (None, "< 20", ""), (3.0, "", ""),
])
def test_verdicts(value: float | None, target: str, said: str) -> None:
    figure = Figure("a figure", value, "ms", target)
    assert report.verdict(figure) == said
    machine = Machine((0, 1), 24.0)
    assert json.loads(report.document([figure], machine))["figures"][0]["verdict"] == said
    for written in (report.text([figure], machine), report.markdown([figure], machine)):
        assert "2 cores, 24 GiB" in written
        assert "a figure" in written
