"""Deadlines, cancels, crashes and full queues: each ends one computation and nothing else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from serving import Server, call, register, running, slow_request, tensor, wait_for

GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, with two processes that tests may kill."""
    log = tmp_path_factory.mktemp("processes") / "server.log"
    with running(log, compute_processes=2, queue_length=2, deadline_s=20, segment_bytes=32_768) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as opened:
        yield opened
        wait_for(lambda: opened.post("/v1/hessian", json=GOOD).status_code == 200, 20)
        wait_for(lambda: len(server.children()) == 2, 20)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def post(server: Server, body: Any, operation: str = "value") -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/{operation}", json=body, timeout=60)


def is_busy(server: Server, count: int) -> bool:
    """Whether `count` of the compute processes use the processor."""
    before = [_cpu_ticks(p) for p in server.children()]
    time.sleep(0.2)
    after = [_cpu_ticks(p) for p in server.children()]
    return sum([b - a >= 5 for a, b in zip(before, after, strict=False)]) >= count


def _cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def segments() -> set[str]:
    return {p.name for p in Path("/dev/shm").glob("hesse_*")}


def test_a_deadline_ends_one_computation(server: Server, client: httpx2.Client, threads: ThreadPoolExecutor) -> None:
    slow = threads.submit(post, server, slow_request(deadline_s=1.0))
    while not slow.done():
        assert call(client, "hessian", **GOOD)["result"]["data"] == [2.0, 0.0, 0.0, 2.0]
    response = slow.result()
    assert response.status_code == 504
    assert response.json()["code"] == "deadline-exceeded"
    assert response.json()["retryable"] is True
    assert "x" * 10 not in response.text


def test_a_deadline_in_a_large_body(server: Server, client: httpx2.Client) -> None:
    """The server does not parse large bodies itself: the process finds the deadline and keeps it."""
    body = slow_request(deadline_s=1.0)
    body["function"]["graph"]["constants"] = [[0.5] * 20_000]
    assert post(server, body).json()["code"] == "deadline-exceeded"


def test_health_answers_while_all_processes_are_busy(
    server: Server, client: httpx2.Client, threads: ThreadPoolExecutor
) -> None:
    slow = [threads.submit(post, server, slow_request(deadline_s=4.0)) for _ in range(2)]
    wait_for(lambda: is_busy(server, 2), 10)
    answers = [client.get("/livez").status_code for _ in range(100)]
    assert answers == [200] * 100
    assert not any([s.done() for s in slow])
    assert [s.result().status_code for s in slow] == [504, 504]


def test_a_full_queue_is_said_to_be_full(server: Server, client: httpx2.Client, threads: ThreadPoolExecutor) -> None:
    slow = [threads.submit(post, server, slow_request(deadline_s=3.0)) for _ in range(4)]  # two run, two wait
    wait_for(lambda: is_busy(server, 2), 10)
    response = wait_for(lambda: _refused(post(server, slow_request(deadline_s=3.0))), 10)
    assert response.json()["code"] == "busy"
    assert response.json()["retryable"] is True
    assert int(response.headers["retry-after"]) >= 1
    for done in slow:
        assert done.result().json()["code"] in ("deadline-exceeded", "busy")


def _refused(response: httpx2.Response) -> httpx2.Response | None:
    return response if response.status_code == 503 else None


def test_a_client_that_leaves_frees_its_process(server: Server, client: httpx2.Client) -> None:
    pids = set(server.children())
    for _ in range(2):
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{server.url}/v1/value", json=slow_request(), timeout=1.0)
    assert call(client, "hessian", **GOOD)["result"]["data"] == [2.0, 0.0, 0.0, 2.0]
    wait_for(lambda: len(set(server.children()) - pids) >= 1 and not is_busy(server, 1), 10)


def test_a_killed_process_is_replaced(server: Server, client: httpx2.Client, threads: ThreadPoolExecutor) -> None:
    slow = threads.submit(post, server, slow_request(deadline_s=15.0))
    wait_for(lambda: is_busy(server, 1), 10)
    before = {p: _cpu_ticks(p) for p in server.children()}
    time.sleep(0.3)
    victim = max(before, key=lambda p: _cpu_ticks(p) - before[p])
    os.kill(victim, signal.SIGKILL)
    response = slow.result()
    assert response.status_code == 503
    assert response.json()["code"] == "worker-died"
    assert response.json()["retryable"] is True


def test_processes_killed_while_idle_are_replaced(server: Server, client: httpx2.Client) -> None:
    call(client, "hessian", **GOOD)
    for pid in server.children():
        os.kill(pid, signal.SIGKILL)
    for _ in range(4):
        assert call(client, "hessian", **GOOD)["result"]["data"] == [2.0, 0.0, 0.0, 2.0]


def test_answers_do_not_mix(server: Server, client: httpx2.Client, threads: ThreadPoolExecutor) -> None:
    name = register(client, function={"expression": "sum(x**3)", "inputs": ["x"]}, inputs=[{"name": "x", "shape": [2]}])

    def one(k: int) -> bool:
        function = {"id": name} if k % 2 else {"expression": "sum(x**3)"}
        body = {"function": function, "inputs": [[float(k), 1.0]]}
        response = client.post("/v1/hessian", json=body)
        while response.status_code == 503:  # the queue is short on purpose
            response = client.post("/v1/hessian", json=body)
        return bool(response.json()["result"]["data"] == [6.0 * k, 0.0, 0.0, 6.0])

    assert all(threads.map(one, range(200)))


def test_large_answers_keep_little_shared_memory(server: Server, client: httpx2.Client) -> None:
    x = np.linspace(0.0, 1.0, 300)
    for _ in range(3):
        result = call(client, "hessian", function={"expression": "sum(x**3)"}, inputs=[x.tolist()])["result"]
        np.testing.assert_allclose(tensor(result), np.diag(6 * x), rtol=1e-14)
    big = np.linspace(0.0, 1.0, 50_000).tolist()
    with httpx2.stream("POST", f"{server.url}/v1/grad", json={"function": {"expression": "sum(x**2)"}, "inputs": [big]},
                       timeout=60) as response:
        assert response.status_code == 200  # and leave without reading
    wait_for(lambda: not {n for n in segments() if n.startswith(f"hesse_{server.pid}_") and n.endswith("i")}, 10)
    kept = [p.stat().st_size for p in Path("/dev/shm").glob(f"hesse_{server.pid}_*o")]
    assert sum(kept) <= 64 << 20  # kept_segment_bytes; requests' segments are not kept


def test_server_processes_share_functions(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", workers=2, compute_processes=1) as server:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            name = register(client, function={"expression": "sum(x**2)"}, inputs=[{"name": "x", "shape": [1]}])
        for _ in range(8):  # a connection each, so that both processes get some
            body = {"function": {"id": name}, "inputs": [[1.0]]}
            assert post(server, body, "hessian").json()["result"]["data"] == [2.0]


def test_functions_outlive_the_server_where_a_folder_is_set(tmp_path: Path) -> None:
    settings = {"compute_processes": 1, "data_dir": tmp_path / "data"}
    with running(tmp_path / "first.log", **settings) as server, httpx2.Client(base_url=server.url) as client:
        name = register(client, function={"expression": "sum(x**2)"}, inputs=[{"name": "x", "shape": [1]}])
    with running(tmp_path / "second.log", **settings) as server, httpx2.Client(base_url=server.url) as client:
        assert call(client, "hessian", function={"id": name}, inputs=[[1.0]])["result"]["data"] == [2.0]
