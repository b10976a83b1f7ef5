"""Matrices larger than the server's memory, row block by row block, from real servers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from serving import Server, call, register, running, slow_graph, wait_for

Array = NDArray[Any]
BINARY = {"Accept": "application/octet-stream"}
BLOCK = 1 << 20
BUDGET = 24 << 20
# f = exp(c' x) has the dense Hessian f c c'
DENSE = {"expression": "exp(sum(c * x))", "inputs": ["c", "x"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("streaming") / "server.log"
    with running(log, compute_processes=2, max_memory_bytes=BUDGET, stream_block_bytes=BLOCK, deadline_s=30,
                 segment_bytes=65_536, kept_segment_bytes=0) as started:
        wait_for(lambda: httpx2.get(f"{started.url}/readyz").status_code == 200, 120)
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def dense_request(n: int, **options: Any) -> dict[str, Any]:
    c, x = np.linspace(-1.0, 1.0, n), np.cos(np.arange(n)) / n
    return {"function": DENSE, "inputs": [c.tolist(), x.tolist()],
            "options": {"argnums": 1, "stream": True, **options}}


def dense_rows(n: int, rows: slice) -> Array:
    c, x = np.linspace(-1.0, 1.0, n), np.cos(np.arange(n)) / n
    return np.asarray(np.exp(c @ x) * np.outer(c[rows], c))


def parsed(response: httpx2.Response) -> tuple[dict[str, Any], Array]:
    """A frame, read by hand."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    assert int(response.headers["content-length"]) == len(response.content)
    split = int(response.headers["inference-header-content-length"])
    head = json.loads(response.content[:split])
    result = head["result"]
    assert result["parameters"]["binary_data_size"] == len(response.content) - split
    dtype = np.dtype(result["dtype"]).newbyteorder("<")
    return head, np.frombuffer(response.content[split:], dtype).reshape(result["shape"])


def stream(client: httpx2.Client, operation: str, body: dict[str, Any]) -> tuple[dict[str, Any], Array]:
    return parsed(client.post(f"/v1/{operation}", json=body, headers=BINARY))


def resident(pid: int) -> int:
    """Bytes that the process holds now, shared memory included."""
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in fields if line.startswith("VmRSS"))


def segments(server: Server) -> set[str]:
    return {p.name for p in Path("/dev/shm").glob(f"hesse_{server.pid}_*")}


def test_a_matrix_many_times_the_budget(server: Server, client: httpx2.Client) -> None:
    n = 4000
    size = n * n * 8
    assert size > 5 * BUDGET
    pids = [server.pid, *server.children()]
    stream(client, "hessian", dense_request(500))  # what is loaded once is loaded now
    base = {pid: resident(pid) for pid in pids}
    peak = dict(base)
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for pid in pids:
                peak[pid] = max(peak[pid], resident(pid))
            time.sleep(0.005)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with client.stream("POST", "/v1/hessian", json=dense_request(n), headers=BINARY) as response:
            assert response.status_code == 200, response.read()
            split = int(response.headers["inference-header-content-length"])
            assert int(response.headers["content-length"]) == split + size
            held, row, head = bytearray(), 0, None
            for piece in response.iter_bytes():
                held += piece
                if head is None and len(held) >= split:
                    head = json.loads(held[:split])
                    del held[:split]
                count = 0 if head is None else len(held) // (8 * n)
                if count:
                    found = np.frombuffer(bytes(held[:8 * n * count]), "<f8").reshape(count, n)
                    np.testing.assert_allclose(found, dense_rows(n, slice(row, row + count)), rtol=1e-12)
                    del held[:8 * n * count]
                    row += count
    finally:
        done.set()
        watching.join()
    assert row == n and not held
    assert head is not None
    assert head["result"]["shape"] == [n, n]
    assert head["stats"]["block_rows"] * 8 * n <= BLOCK
    assert head["stats"]["predicted_peak_bytes"] <= BUDGET
    for pid in pids:
        assert peak[pid] - base[pid] < BUDGET + 4 * BLOCK < size / 4, (base, peak)
    wait_for(lambda: not segments(server), 5)


def test_one_program_serves_all_blocks(client: httpx2.Client) -> None:
    """Planning happens once a process, however many blocks there are."""
    body = dense_request(700)
    head, found = stream(client, "hessian", body)
    assert head["stats"]["blocks"] == -(-700 // head["stats"]["block_rows"]) > 2
    np.testing.assert_allclose(found, dense_rows(700, slice(None)), rtol=1e-12)


def test_rows_columns_and_a_registered_function(client: httpx2.Client) -> None:
    name = register(client, function={"expression": "exp(sum(c * x))", "inputs": ["c", "x"]},
                    inputs=[{"name": k, "shape": [50], "dtype": "float64"} for k in ("c", "x")])
    body = {**dense_request(50, rows=[7, -1, 7], columns=[3, 0]), "function": {"id": name}}
    for _ in range(4):  # prepared or not
        head, found = stream(client, "hessian", body)
        assert head["result"]["shape"] == [3, 2]
        np.testing.assert_allclose(found, dense_rows(50, slice(None))[[7, -1, 7]][:, [3, 0]], rtol=1e-12)


def test_a_jacobian_in_single_precision(client: httpx2.Client) -> None:
    body = {"function": {"expression": "sin(x) * sum(x)"},
            "inputs": [{"shape": [300], "dtype": "float32", "data": [0.01 * k for k in range(300)]}],
            "options": {"stream": True}}
    head, found = stream(client, "jacobian", body)
    x = 0.01 * np.arange(300)
    wanted = np.diag(np.cos(x) * x.sum()) + np.sin(x)[:, None]
    assert head["result"]["dtype"] == "float32"
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_no_rows(client: httpx2.Client) -> None:
    _, found = stream(client, "hessian", dense_request(20, rows=[]))
    assert found.shape == (0, 20)


@pytest.mark.parametrize(("operation", "options", "accept", "code", "pointer"), [
    ("hessian", {}, "application/json", "bad-option", "/options/stream"),
    ("hessian", {}, "text/html, application/json;q=0.9", "bad-option", "/options/stream"),
    ("hessian", {}, "application/json, application/octet-stream;q=0", "bad-option", "/options/stream"),
    ("hvp", {}, None, "bad-option", "/options/stream"),
    ("hessian", {"layout": "csr"}, None, "bad-option", "/options/layout"),
    ("hessian", {"batched": True}, None, "bad-option", "/options/batched"),
    ("hessian", {"rows": [20]}, None, "bad-rows", "/options/rows"),
    ("hessian", {"max_memory_bytes": 100}, None, "over-memory-budget", "/options/max_memory_bytes"),
])
def test_what_is_wrong_is_said_before_the_first_byte(
    client: httpx2.Client, operation: str, options: dict[str, Any], accept: str | None, code: str, pointer: str
) -> None:
    headers = BINARY if accept is None else {"Accept": accept}
    response = client.post(f"/v1/{operation}", json=dense_request(20, **options), headers=headers)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["pointer"]) == (code, pointer)
    assert 400 <= response.status_code < 500


def test_a_stream_is_not_compressed(client: httpx2.Client) -> None:
    headers = {**BINARY, "Accept-Encoding": "gzip, identity;q=0"}
    response = client.post("/v1/hessian", json=dense_request(20), headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "bad-option")
    found = client.post("/v1/hessian", json=dense_request(20), headers={**BINARY, "Accept-Encoding": "gzip"})
    assert "content-encoding" not in found.headers
    assert found.headers["vary"] == "Accept, Accept-Encoding"


def test_a_fault_of_the_inputs_is_said_before_the_first_byte(client: httpx2.Client) -> None:
    body = {"function": {"expression": "sum(x**1.5)"}, "inputs": [[0.0, 1.0]],
            "options": {"stream": True, "nonfinite": "error"}}
    response = client.post("/v1/hessian", json=body, headers=BINARY)
    assert (response.status_code, response.json()["code"]) == (422, "nonfinite-result")
    body = dense_request(20)
    body["inputs"][0].append(1.0)
    response = client.post("/v1/hessian", json=body, headers=BINARY)
    assert response.status_code == 422


def test_a_plan_says_how_it_would_be_streamed(client: httpx2.Client) -> None:
    request = {"operation": "hessian", "function": DENSE, "options": {"stream": True, "argnums": 1},
               "inputs": [{"name": name, "shape": [100_000], "dtype": "float64"} for name in ("c", "x")]}
    response = client.post("/v1/plan", json=request)
    assert response.status_code == 200, response.text
    plan = response.json()["plan"]
    assert plan["block_rows"] * 100_000 * 8 <= BLOCK
    assert plan["blocks"] == -(-100_000 // plan["block_rows"])
    assert plan["predicted_peak_bytes"] <= BUDGET


def slow_stream() -> dict[str, Any]:
    """A Hessian of 1000 rows, of which a block of 2 takes about a second."""
    return {"function": {"graph": slow_graph(1)}, "inputs": [[0.001] * 1000], "options": {"stream": True}}


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with memory for the slow function, and one process."""
    log = tmp_path_factory.mktemp("roomy") / "server.log"
    with running(log, compute_processes=1, stream_block_bytes=2 * 8000, segment_bytes=8_192, kept_segment_bytes=0,
                 deadline_s=100, max_flops=10**16) as started:
        yield started


def cpu_ticks(pid: int) -> int:
    return sum([int(t) for t in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]])


def is_idle(server: Server) -> bool:
    before = {p: cpu_ticks(p) for p in server.children()}
    time.sleep(0.3)
    return all([cpu_ticks(p) - before[p] < 5 for p in server.children() if p in before])


@contextlib.contextmanager
def reading_slowly(server: Server, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A client that has taken the headers and the first few bytes."""
    content = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.sendall(b"POST /v1/hessian HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Accept: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        connection.settimeout(110)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        yield connection


def test_blocks_wait_for_a_client_that_does_not_read(server: Server, client: httpx2.Client) -> None:
    """At most one block is computed ahead: then the processes are idle, and free for others."""
    with reading_slowly(server, dense_request(4000)) as connection:
        wait_for(lambda: is_idle(server), 20)
        assert len(segments(server)) <= 2, segments(server)
        assert call(client, "hessian", function={"expression": "sum(x**2)"}, inputs=[[1.0]])["result"]["data"] == [2.0]
        received = 0
        connection.settimeout(20)
        while received < 4 * BLOCK:  # and they go on when it does
            received += len(connection.recv(1 << 20))
    wait_for(lambda: not segments(server), 10)


def test_a_client_that_leaves_ends_the_block_in_work(roomy: Server) -> None:
    (before,) = roomy.children()
    with reading_slowly(roomy, slow_stream()):
        wait_for(lambda: not is_idle(roomy), 20)
    wait_for(lambda: roomy.children() != [before], 20)  # the process was in the middle of a block
    wait_for(lambda: is_idle(roomy), 20)
    wait_for(lambda: not segments(roomy), 10)
    with httpx2.Client(base_url=roomy.url, timeout=60) as client:
        np.testing.assert_allclose(stream(client, "hessian", dense_request(30))[1], dense_rows(30, slice(None)),
                                   rtol=1e-12)


def test_a_client_that_leaves_before_the_first_row(roomy: Server) -> None:
    body = slow_stream()
    body["function"]["graph"] = slow_graph(8)
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{roomy.url}/v1/hessian", json=body, headers=BINARY, timeout=2.0)
    wait_for(lambda: is_idle(roomy), 20)
    wait_for(lambda: not segments(roomy), 10)


def test_others_are_served_between_blocks(roomy: Server) -> None:
    """One process: a call that comes while a stream runs waits for a block, not for the matrix."""
    with reading_slowly(roomy, slow_stream()) as connection, httpx2.Client(base_url=roomy.url, timeout=60) as client:
        for _ in range(3):
            found = call(client, "hessian", function={"expression": "sum(x**2)"}, inputs=[[1.0]])
            assert found["result"]["data"] == [2.0]
        assert connection.recv(1 << 16)


def test_a_block_keeps_its_deadline(roomy: Server) -> None:
    body = slow_stream()
    body["function"]["graph"] = slow_graph(8)
    body["options"]["deadline_s"] = 0.5
    response = httpx2.post(f"{roomy.url}/v1/hessian", json=body, headers=BINARY, timeout=60)
    assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")


def test_a_stream_keeps_its_deadline(tmp_path: Path) -> None:
    """The status is sent by then, so the body ends short of its Content-Length; the log has the reason."""
    log = tmp_path / "server.log"
    with running(log, compute_processes=1, stream_block_bytes=8 * 4000, stream_deadline_s=2.0,
                 max_memory_bytes=BUDGET) as server:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                client.post("/v1/hessian", json=dense_request(4000), headers=BINARY)
            assert call(client, "value", function={"expression": "sum(x)"}, inputs=[[1.0]])["result"]["data"] == [1.0]
        assert "of 4000: deadline-exceeded" in log.read_text()
