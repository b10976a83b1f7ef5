"""Every row of the hostile table against a real server: refused with its code, nothing echoed, nothing left behind."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from exchange_raw import connect, converse
from hostile import ROWS
from hostile_row import CANARY, GOOD, Piece, Row, head, written

from hesse_engine.errors import CODES, STATUS
from serving import Server, running, wait_for

LATE_S = 5.0  # of processor time; the promise is a second, on processors that are not shared
GROWTH_BYTES = 256 << 20  # of all processes together, over the whole table
HEADERS = {"content-type", "content-length", "x-request-id", "x-content-type-options", "cache-control", "date",
           "cross-origin-resource-policy"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("hostile") / "server.log"
    with running(log, compute_processes=2, body_timeout_s=4, head_timeout_s=1, stall_timeout_s=1, deadline_s=50,
                 kept_segment_bytes=0, max_memory_bytes=1 << 28, max_nodes=50_000) as started:
        wait_for(lambda: _status(started, "/readyz") == 200, 120)
        yield started


@pytest.fixture(scope="module")
def slowest() -> dict[str, float]:
    return {}


@pytest.fixture(scope="module")
def base(target: Server) -> tuple[int, list[int], set[str]]:
    """Memory, compute processes and shared segments before."""
    for _ in range(20):
        _good(target)
    return _memory(target), target.children(), _segments(target)


@functools.cache
def _document(url: str) -> str:
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        text: str = answer.read().decode()
    return text


def _assert_declared(server: Server, pieces: list[Piece], status: int, code: str) -> None:
    """The document of the API lists the status, and the code under it, for the operation that was asked."""
    first = pieces[0]
    assert isinstance(first, bytes)
    words = first.split(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) < 3 or code in ("malformed-http", "method-not-allowed"):
        return  # refused before an operation was found
    paths = json.loads(_document(server.url))["paths"]
    path = re.sub(r"^/v1/functions/[^/?]+", "/v1/functions/{id}", words[1].partition("?")[0])
    path = re.sub(r"^/v1/jobs/[^/?]+", "/v1/jobs/{id}", path)
    operation = paths.get(path, {}).get(words[0].lower())
    if operation is not None:
        assert code in operation["responses"][str(status)]["description"]


def _status(server: Server, path: str) -> int:
    return converse(server.url, [head("GET", path, ["Connection: close"], None)]).status


def _good(server: Server) -> None:
    body = written(GOOD)
    answer = converse(server.url, [head("POST", "/v1/hessian", ["Content-Type: application/json"], len(body)) + body])
    assert answer.status == 200, answer
    assert json.loads(answer.body)["result"]["data"] == [2.0, 0.0, 0.0, 2.0]


def _memory(server: Server) -> int:
    """Resident bytes of the server and its compute processes."""
    total: int = sum([psutil.Process(p).memory_info().rss for p in [server.pid, *server.children()]])
    return total


def _busy(server: Server) -> float:
    """Processor time of the server and its compute processes [s]."""
    spent = 0.0
    for process in [server.pid, *server.children()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(process).cpu_times()
            spent += times.user + times.system
    return spent


def _segments(server: Server) -> set[str]:
    return {p.name for p in Path("/dev/shm").glob(f"hesse_{server.pid}_*")}


@pytest.mark.parametrize("row", ROWS, ids=[r.label for r in ROWS])
def test_row(target: Server, base: Any, slowest: dict[str, float], row: Row) -> None:
    absent = [n for n in row.needs if n not in _document(target.url)]
    if absent:
        pytest.skip(f"the server does not offer {absent[0]}")
    pieces = list(row.pieces())
    before = _busy(target)
    answer = converse(target.url, pieces, row.stops)
    assert answer.kind in row.answers, (answer.kind, answer.body[:600])
    slowest[row.label] = spent = _busy(target) - before
    assert answer.status == 200 or spent < LATE_S  # what is answered may take the time that it takes
    for text in (answer.body, str(answer.headers).encode()):
        assert CANARY.encode() not in text
    if answer.status >= 400 and answer.body:
        members = answer.problem
        assert STATUS[members["code"]] == members["status"] == answer.status
        assert members["code"] in CODES
        assert len(answer.body) < 2_500
        _assert_declared(target, pieces, answer.status, members["code"])
    _good(target)


def test_what_the_table_leaves_behind(target: Server, base: tuple[int, list[int], set[str]],
                                      slowest: dict[str, float],
                                      record_property: Callable[[str, Any], None]) -> None:
    memory, processes, segments = base
    for _ in range(20):
        _good(target)
    record_property("slowest", sorted(slowest.items(), key=lambda r: -r[1])[:8])
    lost = set(processes) - set(target.children())
    gone = [r.label for r in ROWS if r.stops and r.name == "behind the body"]
    assert len(lost) <= len(gone)  # leaving in the middle of a computation ends its process; nothing else may
    assert "a compute process ended" not in target.log.read_text()
    wait_for(lambda: _segments(target) <= segments, 10)
    wait_for(lambda: _memory(target) < memory + GROWTH_BYTES, 10)


def test_a_client_that_reads_nothing_is_given_up(target: Server) -> None:
    """An answer of 40 MB, of which the client takes no byte: the segment must not stay."""
    body = written({"function": {"expression": "sum(x**3)"}, "inputs": [[1.5] * 1500]})
    before = _segments(target)
    with connect(target.url) as peer:
        peer.sendall(head("POST", "/v1/hessian", ["Content-Type: application/json"], len(body)) + body)
        wait_for(lambda: _segments(target) - before, 30)
        wait_for(lambda: not _segments(target) - before, 30)
    _good(target)
