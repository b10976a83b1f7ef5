"""Matrices streamed into files: embedded, over HTTP, awaited, over connections that break."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as hnp
from hesse.errors import HesseError, TransportError
from hesse_engine.ir.graph import Array
from scripted import Answer, scripted
from serving import Server, running, wait_for

N = 400
BLOCK = 40 * N * 8  # 40 rows
C, X = np.linspace(-1.0, 1.0, N), np.cos(np.arange(N)) / N


def f(x: Any) -> Any:
    """exp(c' x): H = f c c'."""
    return hnp.exp(hnp.sum(C * x))


def wanted() -> Array:
    return np.asarray(np.exp(C @ X) * np.outer(C, C))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("streaming") / "server.log"
    with running(log, compute_processes=1, stream_block_bytes=BLOCK, segment_bytes=32_768,
                 kept_segment_bytes=0) as started:
        yield started


class Breaking:
    """A proxy that passes requests on, and of each answer at most `limits[k]` bytes; then it resets the connection."""

    def __init__(self, target: str, limits: list[int]) -> None:
        self.target, self.limits = int(target.rpartition(":")[2]), limits
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listening.accept()
            with client:
                request = self._request(client)
                if not request:
                    return
                self.requests.append(request)
                with socket.create_connection(("127.0.0.1", self.target)) as server:
                    server.sendall(request)
                    self._answer(server, client, self.limits.pop(0) if self.limits else 1 << 40)

    @staticmethod
    def _request(client: socket.socket) -> bytes:
        held = b""
        while b"\r\n\r\n" not in held:
            piece = client.recv(65_536)
            if not piece:
                return b""
            held += piece
        head, _, body = held.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        length = int(next(line.split(b":")[1] for line in lines if line.lower().startswith(b"content-length:")))
        while len(body) < length:
            body += client.recv(65_536)
        return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body

    @staticmethod
    def _answer(server: socket.socket, client: socket.socket, limit: int) -> None:
        while limit > 0:
            piece = server.recv(min(limit, 65_536))
            if not piece:
                return
            client.sendall(piece)
            limit -= len(piece)

    def close(self) -> None:
        with socket.create_connection(self._listening.getsockname()):
            pass
        self._thread.join(20)
        self._listening.close()


@pytest.fixture(params=["embedded", "http"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[hesse.Client]:
    with hesse.Client(":local:" if request.param == "embedded" else server.url) as opened:
        yield opened


def test_into_a_new_file(client: hesse.Client, tmp_path: Path) -> None:
    path = tmp_path / "h.npy"
    told: list[tuple[int, int]] = []
    found = client.stream_hessian(f, X, out=path, progress=lambda done, total: told.append((done, total)))
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, wanted(), rtol=1e-12)
    np.testing.assert_array_equal(np.load(path), found)
    assert told[0] == (0, N)
    assert told[-1] == (N, N)
    assert told == sorted(set(told))


def test_into_an_array_or_nowhere(client: hesse.Client, tmp_path: Path) -> None:
    out = np.memmap(tmp_path / "h.bin", np.float64, "w+", shape=(N, N))
    assert client.stream_hessian(f, X, out=out) is out
    np.testing.assert_allclose(out, wanted(), rtol=1e-12)
    found = client.stream_hessian(f, X)
    gc.collect()
    np.testing.assert_array_equal(found, out)


def test_chosen_rows_and_columns(client: hesse.Client, tmp_path: Path) -> None:
    rows = np.array([5, -1, 5])
    found = client.stream_hessian(f, X, rows=rows, columns=range(10, 0, -1))
    np.testing.assert_allclose(found, wanted()[rows][:, list(range(10, 0, -1))], rtol=1e-12)
    assert client.stream_hessian(f, X, rows=[]).shape == (0, N)
    assert client.stream_hessian(f, X, rows=[], out=tmp_path / "h.npy").shape == (0, N)


def test_a_jacobian_of_two_inputs(client: hesse.Client) -> None:
    a, b = np.linspace(0.1, 1.0, 60), np.linspace(1.0, 2.0, 60)
    found = client.stream_jacobian(lambda x, y: hnp.sin(x) * y, a, b)
    assert found.shape == (60, 120)
    np.testing.assert_allclose(found, np.hstack([np.diag(np.cos(a) * b), np.diag(np.sin(a))]), rtol=1e-13)
    only = client.stream_jacobian(lambda x, y: hnp.sin(x) * y, a, b, argnums=1)
    np.testing.assert_allclose(only, np.diag(np.sin(a)), rtol=1e-13)


def test_faults_are_those_of_the_engine(client: hesse.Client) -> None:
    for options, code in ({"layout": "csr"}, "bad-option"), ({"rows": [N]}, "bad-rows"), ({"depth": 3}, "bad-option"), \
            ({"out": np.zeros((N, N), np.float32)}, "bad-out"), ({"out": np.zeros((N, 1))}, "bad-out"), \
            ({"out": 3}, "bad-out"), ({"progress": 1}, "bad-option"), ({"max_memory_bytes": 10}, "over-memory-budget"):
        with pytest.raises(HesseError) as caught:
            client.stream_hessian(f, X, **options)
        assert caught.value.code == code, options


def test_a_bar_is_drawn(client: hesse.Client, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    client.stream_hessian(f, X, progress=True)
    shown = capsys.readouterr().err
    assert "hessian" in shown and f"{N}/{N}" in shown
    client.stream_hessian(f, X)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", ["embedded", "http"])
def test_awaited(where: str, server: Server, tmp_path: Path) -> None:
    async def session() -> Array:
        async with hesse.AsyncClient(":local:" if where == "embedded" else server.url) as opened:
            found: Array = await opened.stream_hessian(f, X, out=tmp_path / "h.npy")
            column = await opened.stream_jacobian(lambda x: hnp.sin(x) * 2.0, X, columns=[0])
            assert column.shape == (N, 1)
            return found

    np.testing.assert_allclose(asyncio.run(session()), wanted(), rtol=1e-12)


def test_a_broken_connection_is_taken_up_at_the_first_missing_row(server: Server, tmp_path: Path) -> None:
    limits = [1000 + 100 * N * 8 + 17, 700, 0, 1000 + 150 * N * 8]
    proxy = Breaking(server.url, list(limits))
    told: list[int] = []
    try:
        with hesse.Client(proxy.url) as client:
            found = client.stream_hessian(f, X, out=tmp_path / "h.npy", progress=lambda done, total: told.append(done))
    finally:
        proxy.close()
    np.testing.assert_allclose(found, wanted(), rtol=1e-12)
    assert len(proxy.requests) == len(limits) + 1
    asked = [request.count(b'"rows"') for request in proxy.requests]
    assert asked == [0, 1, 1, 1, 1]  # the first asks for all, each further one for the rest
    lengths = [len(request) for request in proxy.requests[1:]]
    assert lengths == sorted(lengths, reverse=True)
    assert told == sorted(set(told))


def test_a_connection_that_breaks_again_and_again_is_given_up(server: Server) -> None:
    proxy = Breaking(server.url, [1000 + 100 * N * 8] * 9)
    try:
        with hesse.Client(proxy.url) as client, pytest.raises(TransportError):
            client.stream_hessian(f, X, resumes=2)
    finally:
        proxy.close()
    assert len(proxy.requests) == 3


@pytest.mark.parametrize("retries", [0, 1])
def test_before_the_first_row_the_retries_of_the_client_count(server: Server, retries: int) -> None:
    proxy = Breaking(server.url, [2000] * 9)
    try:
        with hesse.Client(proxy.url, max_retries=retries) as client, pytest.raises(TransportError):
            client.stream_hessian(f, X)
    finally:
        proxy.close()
    assert len(proxy.requests) == 1 + retries


def test_a_failed_stream_leaves_a_part_and_says_how_many_rows_it_has(server: Server, tmp_path: Path) -> None:
    path, part = tmp_path / "h.npy", tmp_path / "h.npy.part"
    np.save(path, np.zeros(1))
    proxy = Breaking(server.url, [1000 + 100 * N * 8])
    try:
        with hesse.Client(proxy.url) as client:
            with pytest.raises(TransportError) as caught:
                client.stream_hessian(f, X, out=path, resumes=0)
            np.testing.assert_array_equal(np.load(path), np.zeros(1))
            done = int(str(caught.value).partition(f" of {N} rows are in {part}.")[0].rpartition(" ")[2])
            assert 0 < done < N
            np.testing.assert_allclose(np.load(part)[:done], wanted()[:done], rtol=1e-12)
            found = client.stream_hessian(f, X, out=str(path))
    finally:
        proxy.close()
    assert not part.exists()
    assert isinstance(found, np.memmap)
    assert str(found.filename) == str(path)
    np.testing.assert_array_equal(np.load(path), found)


def test_an_array_that_lacks_rows_is_said_to(server: Server) -> None:
    proxy = Breaking(server.url, [1000 + 100 * N * 8])
    try:
        with hesse.Client(proxy.url) as client, pytest.raises(TransportError, match=rf"\d+ of {N} rows are in out\."):
            client.stream_hessian(f, X, out=np.zeros((N, N)), resumes=0)
    finally:
        proxy.close()


def test_a_bar_that_cannot_be_drawn_is_said_to(client: hesse.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.warns(UserWarning, match=r"hesse\[progress\]") as warned:
        found = client.stream_hessian(f, X, progress=True)
    assert [w.filename for w in warned] == [__file__]
    np.testing.assert_allclose(found, wanted(), rtol=1e-12)


def test_no_count_of_rows_is_told_twice(server: Server) -> None:
    proxy = Breaking(server.url, [1000, 2000, 3000])
    told: list[int] = []
    try:
        with hesse.Client(proxy.url, max_retries=3) as client:
            client.stream_hessian(f, X, progress=lambda done, total: told.append(done))
    finally:
        proxy.close()
    assert told == sorted(set(told))


def test_what_no_repetition_mends_is_not_repeated() -> None:
    with scripted(Answer(501, b"<html>")) as (url, seen):
        with hesse.Client(url, binary=False) as client, pytest.raises(TransportError) as caught:
            client.stream_hessian(f, X)

        async def session() -> None:
            async with hesse.AsyncClient(url, binary=False) as opened:
                await opened.stream_hessian(f, X)

        with pytest.raises(TransportError):
            asyncio.run(session())
    assert caught.value.code == "bad-answer"
    assert len(seen) == 2


def test_a_callback_that_raises_ends_the_stream(client: hesse.Client, server: Server) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 40:
            raise Enough

    with pytest.raises(Enough):
        client.stream_hessian(f, X, progress=stop)
    np.testing.assert_allclose(client.stream_hessian(f, X, rows=[1]), wanted()[1:2], rtol=1e-12)
    wait_for(lambda: not list(Path("/dev/shm").glob(f"hesse_{server.pid}_*")), 10)


def anonymous_bytes() -> int:
    """Memory of this process that is not a file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_the_client_never_holds_the_matrix(server: Server, tmp_path: Path) -> None:
    n = 3000
    c = np.linspace(-1.0, 1.0, n)
    peak = base = 0

    def watch(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous_bytes())

    with hesse.Client(server.url) as client:
        client.stream_hessian(f, X)
        base = anonymous_bytes()
        found = client.stream_hessian(lambda x: hnp.exp(hnp.sum(c * x)), np.zeros(n), out=tmp_path / "h.npy",
                                      progress=watch)
    assert peak - base < found.nbytes / 4
    for row in (0, 1234, n - 1):
        np.testing.assert_allclose(found[row], c[row] * c, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("options", "headers", "most"), [
    ({}, b"Content-Type: application/octet-stream", 12_000),
    ({"binary": False}, b"Content-Type: application/json", 40_000),
    ({"compression": "gzip"}, b"Content-Encoding: gzip", 9_000),
])
def test_a_stream_is_asked_for_as_the_client_writes(
    server: Server, options: dict[str, Any], headers: bytes, most: int
) -> None:
    proxy = Breaking(server.url, [])
    try:
        with hesse.Client(proxy.url, **options) as client:
            np.testing.assert_allclose(client.stream_hessian(f, X), wanted(), rtol=1e-12)
    finally:
        proxy.close()
    (request,) = proxy.requests
    assert headers.lower() in request.partition(b"\r\n\r\n")[0].lower()
    assert len(request) < most
