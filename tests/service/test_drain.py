"""SIGTERM to a server with work: nothing that was accepted is lost, nothing outlives the server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from serving import COMMAND, Server, free_port, slow_graph, wait_for

GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}


@contextmanager
def started(log: Path, workers: int = 1, **settings: Any) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """A server that the test ends itself."""
    port = free_port()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p]), "HESSE_COMPUTE_PROCESSES": "1",
           **{f"HESSE_{k.upper()}": str(v) for k, v in settings.items()}}
    with log.open("wb") as sink:  # in a group of its own, as a service manager starts it
        process = subprocess.Popen([sys.executable, "-c", COMMAND.format(port=port, workers=workers)],
                                   env=env, stdout=sink, stderr=sink, start_new_session=True)
    server = Server(f"http://127.0.0.1:{port}", process.pid, log)
    try:
        wait_for(lambda: answers(server, "/readyz") or process.poll() is not None, 120)
        assert process.poll() is None, log.read_text()
        yield server, process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def answers(server: Server, path: str) -> bool:
    try:
        return httpx2.get(f"{server.url}{path}").status_code == 200
    except httpx2.TransportError:
        return False


def slow(rounds: int) -> dict[str, Any]:
    return {"function": {"graph": slow_graph(rounds)}, "inputs": [[0.001] * 1000], "options": {"deadline_s": 50}}


def post(server: Server, body: Any) -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/value", json=body, timeout=60)


def descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found |= {int(child), *descendants(int(child))}
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that run; a dead one that nobody asked after counts as gone."""
    return {p for p in pids if Path(f"/proc/{p}/stat").exists() and state(p) not in "ZX"}


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def in_flight(server: Server) -> float:
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return sum([float(line.split()[1]) for line in lines if line.startswith("hesse_requests_in_flight ")])


def left_clean(server: Server) -> None:
    text = server.log.read_text()
    assert "Traceback" not in text, text
    assert "leaked" not in text, text


@pytest.mark.parametrize(("workers", "whole_group"), [(1, False), (1, True), (2, True)])
def test_running_work_is_finished_and_new_work_refused(tmp_path: Path, workers: int, whole_group: bool) -> None:
    with started(tmp_path / "log", workers, drain_notice_s=0) as (server, process), ThreadPoolExecutor(2) as pool:
        below = descendants(server.pid)
        host, _, port = server.url.removeprefix("http://").partition(":")
        running = pool.submit(post, server, slow(20))
        wait_for(lambda: in_flight(server) == 2, 10)
        assert not running.done()
        if whole_group:  # as systemd does, to compute processes as well
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGTERM)
        wait_for(lambda: not connects(host, int(port)), 10)
        assert running.result().status_code == 200
        assert running.result().headers["connection"] == "close"
        assert process.wait(30) == 0
        wait_for(lambda: not alive(below), 10)
        left_clean(server)


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


def test_readiness_turns_before_the_socket_closes(tmp_path: Path) -> None:
    with started(tmp_path / "log", drain_notice_s=4) as (server, process), httpx2.Client(base_url=server.url) as client:
        assert client.get("/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        response = wait_for(lambda: refused(client.get("/readyz")), 3)
        assert response.json()["code"] == "draining"
        assert response.json()["retryable"] is True
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["connection"] == "close"
        assert client.head("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        served = client.post("/v1/hessian", json=GOOD, timeout=30)
        assert served.status_code == 200, "requests are taken until load balancers have heard of it"
        assert served.headers["connection"] == "close"
        assert process.wait(30) == 0
        left_clean(server)


def refused(response: httpx2.Response) -> httpx2.Response | None:
    return response if response.status_code == 503 else None


def test_work_that_takes_too_long_is_cut_with_a_code(tmp_path: Path) -> None:
    with started(tmp_path / "log", drain_s=1) as (server, process), ThreadPoolExecutor(2) as pool:
        below = descendants(server.pid)
        running = pool.submit(post, server, slow(4000))
        wait_for(lambda: in_flight(server) == 2, 10)
        process.send_signal(signal.SIGTERM)
        assert running.result().status_code == 503
        assert running.result().json()["code"] == "draining"
        assert process.wait(30) == 0
        wait_for(lambda: not alive(below), 10)
        left_clean(server)


def test_an_upload_that_never_ends_is_cut_with_a_code(tmp_path: Path) -> None:
    with started(tmp_path / "log", drain_s=0) as (server, process):
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 20) as raw:
            raw.sendall(b"POST /v1/hessian HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 1000\r\n\r\n{")
            wait_for(lambda: in_flight(server) == 2, 10)
            process.send_signal(signal.SIGTERM)
            answer = b""
            while chunk := raw.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'"draining"' in answer
        assert process.wait(30) == 0
        left_clean(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path / "log") as (server, process), ThreadPoolExecutor(2) as pool:
        below = descendants(server.pid)
        running = pool.submit(post, server, slow(4000))
        wait_for(lambda: in_flight(server) == 2, 10)
        process.send_signal(number)
        wait_for(lambda: "draining" in server.log.read_text(), 10)
        asked = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert time.monotonic() - asked < 10
        with pytest.raises(httpx2.TransportError):
            running.result()
        wait_for(lambda: not alive(below), 10)
        assert "a second signal" in server.log.read_text()


def test_a_killed_server_leaves_no_process(tmp_path: Path) -> None:
    """Also not one that is in the middle of a product of matrices."""
    with started(tmp_path / "log") as (server, process), ThreadPoolExecutor(2) as pool:
        below = descendants(server.pid)
        assert below
        running = pool.submit(post, server, slow(4000))
        wait_for(lambda: in_flight(server) == 2, 10)
        process.kill()
        with pytest.raises(httpx2.TransportError):
            running.result()
        wait_for(lambda: not alive(below), 10)


def test_a_supervised_server_drains_too(tmp_path: Path) -> None:
    with started(tmp_path / "log", workers=2) as (server, process), ThreadPoolExecutor(2) as pool:
        below = descendants(server.pid)
        metrics = {p for p in Path("/tmp").glob("hesse-metrics-*") if p.stat().st_uid == os.getuid()}
        running = pool.submit(post, server, slow(20))
        wait_for(lambda: in_flight(server) >= 2, 20)
        process.send_signal(signal.SIGTERM)
        assert running.result().status_code == 200
        assert process.wait(40) == 0
        wait_for(lambda: not alive(below), 10)
        assert any([not p.exists() for p in metrics]), "the folder of the metrics goes with the server"
        left_clean(server)


def test_a_second_signal_to_a_supervisor_ends_its_servers(tmp_path: Path) -> None:
    with started(tmp_path / "log", workers=2) as (server, process), ThreadPoolExecutor(2) as pool:
        below = descendants(server.pid)
        running = pool.submit(post, server, slow(4000))
        wait_for(lambda: in_flight(server) >= 2, 20)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.log.read_text().count("draining: ready no more") == 2, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        with pytest.raises(httpx2.TransportError):
            running.result()
        wait_for(lambda: not alive(below), 10)
