"""No accepted job is lost: compute processes, servers and machines' disks fail, and every job is answered."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from serving import COMMAND, Server, free_port, running, slow_graph, wait_for

ASYNC = {"Prefer": "respond-async"}
GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
SLOW = {"function": {"graph": slow_graph(12)}, "inputs": [[0.001] * 1000]}  # seconds


@contextlib.contextmanager
def started(log: Path, workers: int = 1, **settings: Any) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """A server that the test may kill."""
    port = free_port()
    path = os.pathsep.join([p for p in sys.path if p])
    env = {**os.environ, "PYTHONPATH": path, **{f"HESSE_{k.upper()}": str(v) for k, v in settings.items()}}
    with log.open("ab") as sink:
        process = subprocess.Popen([sys.executable, "-c", COMMAND.format(port=port, workers=workers)],
                                   env=env, stdout=sink, stderr=sink)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(url), 60)
        yield Server(url, process.pid, log), process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
    if process.returncode != -signal.SIGKILL:  # of that one the operating system's tracker cleans up, and says so
        assert "leaked" not in log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez").status_code == 200
    except httpx2.TransportError:
        return False


def submit(server: Server, body: Any = SLOW, operation: str = "value") -> str:
    response = httpx2.post(f"{server.url}/v1/{operation}", json=body, headers=ASYNC, timeout=30)
    assert response.status_code == 202, response.text
    path: str = response.headers["location"]
    return path


def job(server: Server, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(server.url + path, timeout=30).json()
    return found


def is_running(server: Server, path: str) -> bool:
    return bool(job(server, path)["state"] == "running")


def ends_well(server: Server, path: str) -> dict[str, Any]:
    wait_for(lambda: job(server, path)["state"] not in ("queued", "running"), 120)
    found = job(server, path)
    assert found["state"] == "succeeded", found
    return found


def is_busy(pid: int) -> bool:
    before = _cpu_ticks(pid)
    time.sleep(0.1)
    return _cpu_ticks(pid) - before >= 3


def _cpu_ticks(pid: int) -> int:
    """0 of a process that has ended meanwhile."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    except OSError:
        return 0


def kill_the_one_at_work(server: Server) -> None:
    """Not before it has started: a process that dies while it starts has not taken the job."""
    wait_for(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, 60)
    os.kill(wait_for(lambda: next((p for p in server.children() if is_busy(p)), None), 30), signal.SIGKILL)


def reference(tmp_path: Path) -> float:
    """The same value, asked for directly of another server."""
    with running(tmp_path / "reference.log", compute_processes=1) as server:
        response = httpx2.post(f"{server.url}/v1/value", json=SLOW, timeout=120)
    value: float = response.json()["result"]["data"][0]
    return value


def test_a_killed_compute_process_loses_no_job(tmp_path: Path) -> None:
    expected = reference(tmp_path)
    with running(tmp_path / "server.log", compute_processes=1, data_dir=tmp_path / "data") as server:
        wait_for(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, 120)
        path = submit(server)
        wait_for(lambda: is_running(server, path), 20)
        kill_the_one_at_work(server)
        found = ends_well(server, path)
        assert found["attempts"] == 2
        result = httpx2.get(f"{server.url}{path}/result").json()["result"]
        assert result["data"] == [expected]


def test_a_job_that_kills_its_process_each_time_fails(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", compute_processes=1, job_attempts=2, data_dir=tmp_path / "data") as server:
        wait_for(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, 120)
        path = submit(server, {**SLOW, "function": {"graph": slow_graph(400)}})
        wait_for(lambda: is_running(server, path), 20)
        for _ in range(8):  # one that dies while it starts has not taken the job, so that two may not be enough
            if job(server, path)["state"] == "failed":
                break
            kill_the_one_at_work(server)
            wait_for(lambda: is_running(server, path) or job(server, path)["state"] == "failed", 20)
        assert job(server, path)["state"] == "failed"
        assert job(server, path)["attempts"] == 2
        answer = httpx2.get(f"{server.url}{path}/result")
        assert (answer.status_code, answer.json()["code"]) == (503, "worker-died")
        assert httpx2.post(f"{server.url}/v1/hessian", json=GOOD, timeout=60).status_code == 200


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_outlive_their_server(tmp_path: Path, kind: signal.Signals) -> None:
    settings: dict[str, Any] = {"compute_processes": 2, "jobs_at_once": 1, "data_dir": tmp_path / "data", "drain_s": 5}
    with started(tmp_path / "first.log", **settings) as (server, process):
        done = submit(server, GOOD, "hessian")
        ends_well(server, done)
        paths = [submit(server) for _ in range(2)]
        paths.append(submit(server, GOOD, "hessian"))
        wait_for(lambda: is_running(server, paths[0]), 20)
        children = server.children()
        process.send_signal(kind)
        process.wait(30)
        wait_for(lambda: not any([Path(f"/proc/{p}").exists() for p in children]), 20)
    with started(tmp_path / "second.log", **settings) as (server, process):
        found = [ends_well(server, path) for path in paths]
        # what a graceful stop interrupted was no attempt
        assert found[0]["attempts"] == (2 if kind == signal.SIGKILL else 1)
        assert [f["attempts"] for f in found[1:]] == [1, 1]
        for path in (done, paths[2]):
            answer = httpx2.get(f"{server.url}{path}/result")
            assert answer.json()["result"]["data"] == [2.0, 0.0, 0.0, 2.0]
        values = [httpx2.get(f"{server.url}{p}/result").json()["result"]["data"] for p in paths[:2]]
        assert values[0] == values[1]


def test_server_processes_share_the_queue(tmp_path: Path) -> None:
    """Both run jobs, and either answers about any, cancels any and tells the events of any."""
    with started(tmp_path / "server.log", workers=2, compute_processes=1, data_dir=tmp_path / "data") as (server, _):
        paths = [submit(server, {**SLOW, "function": {"graph": slow_graph(400)}}) for _ in range(2)]
        wait_for(lambda: all([is_running(server, p) for p in paths]), 30)  # one in each: a process runs one at a time
        for path in paths:
            for _ in range(6):  # a connection each, so that both processes get some
                assert job(server, path)["state"] == "running"
            assert httpx2.delete(server.url + path).json()["state"] == "canceled"
            assert "event: end" in httpx2.get(f"{server.url}{path}/events", timeout=30).text
        more = [submit(server, GOOD, "hessian") for _ in range(10)]
        for path in more:
            assert ends_well(server, path)["attempts"] == 1
            for _ in range(2):
                result = httpx2.get(f"{server.url}{path}/result").json()["result"]
                assert result["data"] == [2.0, 0.0, 0.0, 2.0]


def test_a_killed_server_process_leaves_its_job_to_the_other(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"compute_processes": 1, "data_dir": tmp_path / "data"}
    with (started(tmp_path / "first.log", **settings) as (first, process),
          started(tmp_path / "second.log", **settings) as (second, _)):
        busy = [submit(first) for _ in range(2)]
        wait_for(lambda: all([is_running(first, p) for p in busy]), 30)
        process.kill()
        process.wait(30)
        found = [ends_well(second, path) for path in busy]
        assert sorted([f["attempts"] for f in found]) == [1, 2]


def test_a_full_disk_accepts_nothing_and_direct_requests_go_on(tmp_path: Path) -> None:
    """Files of the server cannot grow for a while."""
    large = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0] * 20_000]}
    with running(tmp_path / "server.log", compute_processes=1, data_dir=tmp_path / "data") as server:
        path = submit(server, GOOD, "hessian")
        ends_well(server, path)
        _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (16_384, most))
        response = httpx2.post(f"{server.url}/v1/grad", json=large, headers=ASYNC, timeout=30)
        assert (response.status_code, response.json()["code"]) == (503, "store-unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert httpx2.post(f"{server.url}/v1/grad", json=large, timeout=60).status_code == 200
        assert httpx2.get(f"{server.url}{path}/result", timeout=30).status_code == 200
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))
        assert len(httpx2.get(f"{server.url}/v1/jobs").json()["jobs"]) == 1  # nothing half accepted
        ends_well(server, submit(server, large, "grad"))


def test_a_locked_store_is_said_to_be_unavailable(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", compute_processes=1, data_dir=tmp_path / "data") as server:
        path = submit(server, GOOD, "hessian")
        ends_well(server, path)
        holder = sqlite3.connect(tmp_path / "data" / "jobs.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")  # and now nobody else can write
        response = httpx2.post(f"{server.url}/v1/hessian", json=GOOD, headers=ASYNC, timeout=30)
        assert (response.status_code, response.json()["code"]) == (503, "store-unavailable")
        assert httpx2.get(f"{server.url}{path}/result", timeout=30).status_code == 200
        holder.execute("ROLLBACK")
        holder.close()
        assert len(httpx2.get(f"{server.url}/v1/jobs").json()["jobs"]) == 1
        ends_well(server, submit(server, GOOD, "hessian"))
