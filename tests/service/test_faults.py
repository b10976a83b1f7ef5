"""What goes wrong around a server: processes killed and stopped, disks and memory full, files damaged, signals."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from hesse_service.segments import Kept, remove, sweep, write
from serving import COMMAND, Server, call, free_port, register, running, slow_graph, tensor, wait_for

DECLARED = {"busy", "draining", "worker-died", "deadline-exceeded", "shared-memory-full", "store-unavailable"}
CUBE = {"expression": "sum(x**3)"}
LARGE = np.linspace(0.0, 1.0, 200)  # its Hessian crosses in shared memory


def hessian(client: httpx2.Client, function: dict[str, str], x: list[float]) -> str:
    """The code of a declared, retryable refusal, or 'ok'; fails on anything else."""
    response = client.post("/v1/hessian", json={"function": function, "inputs": [x]})
    if response.status_code == 200:
        np.testing.assert_allclose(tensor(response.json()["result"]), np.diag(6.0 * np.array(x)), rtol=1e-13)
        return "ok"
    problem = response.json()
    assert problem["code"] in DECLARED, response.text
    assert problem["retryable"] is True
    return str(problem["code"])


def segments(server: Server) -> list[str]:
    return [p.name for p in Path("/dev/shm").glob(f"hesse_{server.pid}_*")]


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small file system of its own; skips the test where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as sink, contextlib.suppress(OSError):
        while True:
            sink.write(b"x" * 512)
    return path


@contextlib.contextmanager
def serving(tmp_path: Path, **settings: Any) -> Iterator[tuple[Server, httpx2.Client]]:
    """A server, and a client of it."""
    log = tmp_path / "server.log"
    with running(log, **{"kept_segment_bytes": 0, **settings}) as server, client_of(server) as client:
        yield server, client


def client_of(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=120, headers={"Accept-Encoding": "identity"})


# ---- processes ------------------------------------------------------------------------------------------------------
def test_processes_killed_under_load_cost_only_what_they_computed(tmp_path: Path) -> None:
    settings = {"compute_processes": 2, "segment_bytes": 32_768}
    with serving(tmp_path, **settings) as (server, client), ThreadPoolExecutor(8) as threads:
        name = register(client, function=CUBE, inputs=[{"name": "x", "shape": [2]}])
        kinds: list[tuple[dict[str, str], list[float]]] = [
            ({"id": name}, [1.0, 2.0]), (CUBE, [3.0, 4.0]), (CUBE, LARGE.tolist())
        ]
        choice, found = random.Random(5), []
        for _ in range(8):  # each time one process is killed among the requests of eight threads
            answers = [threads.submit(hessian, client, *kinds[k % 3]) for k in range(30)]
            wait_for(lambda: sum([a.done() for a in answers]) >= 8, 60)  # noqa: B023  (called at once)
            os.kill(choice.choice(server.children()), signal.SIGKILL)
            found += [a.result() for a in answers]
        assert len(found) == 240
        assert found.count("ok") >= 200
        assert set(found) <= {"ok", "worker-died"}
        wait_for(lambda: {hessian(client, *kind) for kind in kinds * 4} == {"ok"}, 60)
        wait_for(lambda: len(server.children()) == 2, 30)
        wait_for(lambda: not segments(server), 10)


def test_a_stopped_process_does_not_hold_its_request(tmp_path: Path) -> None:
    """A stopped process hears no alarm: the server gives up on it a second after the deadline."""
    with serving(tmp_path, compute_processes=1) as (server, client):
        assert hessian(client, CUBE, [1.0]) == "ok"
        (stopped,) = server.children()
        os.kill(stopped, signal.SIGSTOP)
        response = client.post("/v1/hessian", json={"function": CUBE, "inputs": [[1.0]],
                                                    "options": {"deadline_s": 1.0}})
        assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
        assert hessian(client, CUBE, [2.0]) == "ok"
        wait_for(lambda: stopped not in server.children() and len(server.children()) == 1, 20)


def test_sigterm_under_load_answers_what_runs_and_refuses_the_rest(tmp_path: Path) -> None:
    port = free_port()
    path = os.pathsep.join([p for p in sys.path if p])
    log = (tmp_path / "server.log").open("wb")
    process = subprocess.Popen([sys.executable, "-c", COMMAND.format(port=port, workers=1)], stdout=log, stderr=log,
                               env={**os.environ, "PYTHONPATH": path, "HESSE_COMPUTE_PROCESSES": "2"})
    server = Server(f"http://127.0.0.1:{port}", process.pid, tmp_path / "server.log")
    try:
        with httpx2.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(8) as threads:
            wait_for(lambda: _is_up(client), 60)
            sent = threading.Semaphore(0)

            def one(k: int) -> str:
                sent.release()
                try:
                    return hessian(client, CUBE, (LARGE + k).tolist())
                except httpx2.TransportError:
                    return "refused"

            answers = [threads.submit(one, k) for k in range(300)]
            for _ in range(60):
                assert sent.acquire(timeout=60)
            process.send_signal(signal.SIGTERM)
            found = [a.result() for a in answers]
            assert process.wait(40) == 0, server.log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        log.close()
    assert set(found) <= {"ok", "refused", *DECLARED}
    assert found.count("ok") >= 50
    text = server.log.read_text()
    assert "Traceback" not in text
    assert "leaked" not in text
    assert not segments(server)


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx2.TransportError:
        return False


def test_a_killed_server_leaves_no_process_and_no_segment(tmp_path: Path) -> None:
    port = free_port()
    path = os.pathsep.join([p for p in sys.path if p])
    log = (tmp_path / "server.log").open("wb")
    process = subprocess.Popen([sys.executable, "-c", COMMAND.format(port=port, workers=1)], stdout=log, stderr=log,
                               env={**os.environ, "PYTHONPATH": path, "HESSE_COMPUTE_PROCESSES": "2",
                                    "HESSE_SEGMENT_BYTES": "32768"})
    server = Server(f"http://127.0.0.1:{port}", process.pid, tmp_path / "server.log")
    over = threading.Event()

    def ask(client: httpx2.Client) -> None:
        body = {"function": {"expression": "sum(sin(x))**2"}, "inputs": [np.linspace(0.0, 1.0, 1500).tolist()]}
        with contextlib.suppress(httpx2.TransportError):
            while not over.is_set():
                client.post("/v1/hessian", json=body)

    try:
        with httpx2.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(4) as threads:
            wait_for(lambda: _is_up(client), 60)
            asking = [threads.submit(ask, client) for _ in range(4)]
            wait_for(lambda: segments(server), 60)
            children = server.children()
            process.kill()
            process.wait()
            over.set()
            for future in asking:
                future.result()
    finally:
        over.set()
        if process.poll() is None:
            process.kill()
        process.wait()
        log.close()
    assert len(children) == 2
    wait_for(lambda: not any([Path(f"/proc/{p}").exists() for p in children]), 20)
    wait_for(lambda: not segments(server), 20)


# ---- memory ---------------------------------------------------------------------------------------------------------
def test_a_process_over_its_memory_is_ended_and_no_other(tmp_path: Path) -> None:
    limit = 700 << 20
    settings = {"compute_processes": 2, "process_memory_bytes": limit}
    with serving(tmp_path, **settings) as (server, client), ThreadPoolExecutor(1) as threads:
        wait_for(lambda: client.get("/readyz").status_code == 200, 120)
        size = 9000  # 648 MB, and more as text
        large = threads.submit(client.post, "/v1/hessian",
                               json={"function": {"expression": "sum(sin(x))**2"}, "inputs": [[0.1] * size]})
        count = 0
        while not large.done():
            assert hessian(client, CUBE, [1.0, 2.0]) == "ok"
            count += 1
        response = large.result()
        assert (response.status_code, response.json()["code"]) == (413, "memory-exceeded"), response.text[:500]
        assert str(limit) in response.json()["detail"]
        assert "chunk_size" in response.json()["hint"]
        assert response.json()["retryable"] is False
        assert count > 0
        wait_for(lambda: len(server.children()) == 2 and not segments(server), 20)
        assert hessian(client, CUBE, [1.0, 2.0]) == "ok"


def test_old_processes_are_replaced_by_warm_ones(tmp_path: Path) -> None:
    with serving(tmp_path, compute_processes=1, recycle_requests=20) as (server, client):
        wait_for(lambda: client.get("/readyz").status_code == 200, 120)
        (before,) = server.children()

        def replaced() -> bool:
            assert hessian(client, CUBE, [1.0, 2.0]) == "ok"
            return before not in server.children()

        wait_for(replaced, 60)
        wait_for(lambda: len(server.children()) >= 1, 10)
        text = server.log.read_text()
    assert f"compute process {before} is replaced (requests)" in text
    assert "ended" not in text


def test_full_shared_memory_is_a_declared_refusal(tmp_path: Path) -> None:
    """The server sees a /dev/shm of its own of 1 MiB; a result of 3 MB as text does not fit, the next does."""
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    with serving(tmp_path, prefix=mount, compute_processes=1, segment_bytes=32_768,
                 kept_segment_bytes=1 << 19) as (server, client):
        client.headers["accept-encoding"] = "identity"
        for k in range(3):
            body = {"function": {"expression": "sum(x)"}, "inputs": [[0.123456789] * 150_000]}
            response = client.post("/v1/value", json=body)  # of the body
            assert (response.status_code, response.json()["code"]) == (503, "shared-memory-full")
            assert int(response.headers["retry-after"]) >= 1
            assert hessian(client, CUBE, LARGE.tolist()) == "ok"
            assert hessian(client, CUBE, [1.0] * 1200) == "shared-memory-full"  # of the answer
            # as long as the answer before, in the segment that was removed as it could not grow, and another one
            assert hessian(client, CUBE, np.roll(LARGE, k + 1).tolist()) == "ok"
        (survivor,) = server.children()
        assert hessian(client, CUBE, [1.0]) == "ok"
        assert server.children() == [survivor]


def test_a_segment_that_was_removed_and_written_anew_shows_the_new_answer() -> None:
    """A process removes a segment that cannot grow; the next answer comes in another one of the same name."""
    kept, name = Kept(), f"hesse_{os.getpid()}_anew"
    kept.max_bytes = 1 << 20
    try:
        write(name, [b"old" * 1000], 3000)
        assert bytes(kept.view(name, 3000)) == b"old" * 1000
        remove(name)
        kept.give(name)
        assert kept.take("none was kept") == "none was kept"
        write(name, [b"new" * 900], 2700)
        assert bytes(kept.view(name, 2700)) == b"new" * 900
    finally:
        remove(name)


KILLED = """
import os
from multiprocessing import resource_tracker
from pathlib import Path
from hesse_service import segments
for told_late in (False, True):
    name = f"hesse_{os.getpid()}_{told_late}"
    (Path("/dev/shm") / name).touch()  # killed before the segment had a size
    if told_late:
        segments.remove(name)
        resource_tracker.register(f"/{name}", "shared_memory")
    segments.remove_leftover(name)
    assert not (Path("/dev/shm") / name).exists()
"""


def test_a_process_killed_while_it_makes_a_segment_leaves_nothing() -> None:
    path = os.pathsep.join([p for p in sys.path if p])
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": path})
    assert done.stderr == ""  # the resource tracker would tell of what is left


def test_segments_of_servers_that_are_gone_are_swept() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = {"old": f"hesse_{gone.pid}_1o", "new": f"hesse_{gone.pid}_2o", "alive": f"hesse_{os.getpid()}_1o"}
    paths = {which: Path("/dev/shm") / name for which, name in names.items()}
    try:
        for which, path in paths.items():
            path.write_bytes(b"x")
            if which != "new":
                os.utime(path, (1.0, 1.0))
        assert names["old"] in sweep(3600.0)
        assert [which for which, path in paths.items() if path.exists()] == ["new", "alive"]
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)


# ---- the store ------------------------------------------------------------------------------------------------------
def test_a_full_disk_refuses_new_functions_and_nothing_else(tmp_path: Path) -> None:
    disk_of = mounted(tmp_path / "disk", "512k")
    with disk_of as disk, serving(tmp_path, compute_processes=1, data_dir=disk, inline_s=0) as (_, client):
        name = register(client, function=CUBE, inputs=[{"name": "x", "shape": [2]}])
        filler = fill(disk)
        constants = "+".join([f"{k}.5*x[0]" for k in range(400)])
        body = {"function": {"expression": constants}, "inputs": [{"name": "x", "shape": [2]}]}
        response = client.put("/v1/functions", json=body)
        assert (response.status_code, response.json()["code"]) == (503, "store-unavailable"), response.text
        assert int(response.headers["retry-after"]) >= 1
        for _ in range(3):
            assert hessian(client, CUBE, [1.0, 2.0]) == "ok"
            assert hessian(client, {"id": name}, [1.0, 2.0]) == "ok"
        filler.unlink()
        response = client.put("/v1/functions", json=body)
        assert response.status_code == 200, response.text
        assert call(client, "value", function={"id": response.json()["id"]}, inputs=[[2.0, 0.0]])


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def _foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE functions (something TEXT)")


@pytest.mark.parametrize(
    "harm", [_truncate, _scribble, _foreign, lambda path: path.write_bytes(b"no database" * 1000)],
    ids=["truncated", "scribbled", "foreign", "no database"],
)
def test_a_damaged_store_is_set_aside(tmp_path: Path, harm: Callable[[Path], Any]) -> None:
    data, settings = tmp_path / "data", {"compute_processes": 1, "data_dir": tmp_path / "data"}
    with running(tmp_path / "first.log", **settings) as server, client_of(server) as client:
        name = register(client, function=CUBE, inputs=[{"name": "x", "shape": [2]}])
    for suffix in ("-wal", "-shm"):
        assert not (data / f"functions.sqlite{suffix}").exists()
    harm(data / "functions.sqlite")
    with running(tmp_path / "second.log", **settings) as server, client_of(server) as client:
        response = client.post("/v1/hessian", json={"function": {"id": name}, "inputs": [[1.0, 2.0]]})
        assert (response.status_code, response.json()["code"]) == (404, "unknown-function")
        assert register(client, function=CUBE, inputs=[{"name": "x", "shape": [2]}]) == name
        assert hessian(client, {"id": name}, [1.0, 2.0]) == "ok"
    assert "is set aside as functions.sqlite.corrupt" in (tmp_path / "second.log").read_text()
    assert (data / "functions.sqlite.corrupt").exists()


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folders = [tmp_path / "file" / "data"]
    with contextlib.ExitStack() as stack:
        if shutil.which("mount") and os.geteuid() == 0:
            disk = stack.enter_context(mounted(tmp_path / "disk", "512k"))
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            folders.append(disk)
        for folder in folders:
            path = os.pathsep.join([p for p in sys.path if p])
            done = subprocess.run([sys.executable, "-c", COMMAND.format(port=free_port(), workers=1)], timeout=60,
                                  env={**os.environ, "PYTHONPATH": path, "HESSE_DATA_DIR": str(folder)},
                                  capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert f"hesse serve: {folder} cannot be written" in done.stderr
            assert "Traceback" not in done.stderr


# ---- several servers ------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_servers_that_start_at_once_share_one_folder_of_compiled_code(tmp_path: Path) -> None:
    """Three servers with stores of their own on an empty cache: each becomes ready and computes, compiled once."""
    settings = {"compute_processes": 1, "cache_dir": tmp_path / "cache"}
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(3) as threads:
            servers = list(threads.map(
                lambda k: stack.enter_context(running(tmp_path / f"{k}.log", **settings)), range(3)
            ))
        for server in servers:
            with httpx2.Client(base_url=server.url, timeout=60) as client:
                wait_for(lambda: client.get("/readyz").status_code == 200, 280)
                assert hessian(client, CUBE, LARGE.tolist()) == "ok"
    compiled = [p for p in (tmp_path / "cache").rglob("*") if p.suffix in (".nbi", ".nbc")]
    assert compiled
    newest = max([p.stat().st_mtime for p in compiled])
    assert newest - min([p.stat().st_mtime for p in compiled]) < 200


def test_threads_of_one_request_are_not_those_of_the_next(tmp_path: Path) -> None:
    """Which threads of the process used the processor: two where two were asked for, one before and after."""
    body = {"function": {"graph": slow_graph(40)}, "inputs": [[0.001] * 1000]}  # 0.16 Tflop
    with serving(tmp_path, compute_processes=1, max_threads=2) as (server, client):
        wait_for(lambda: client.get("/readyz").status_code == 200, 120)
        for options, least, most in (({"threads": 1}, 1, 1), ({"threads": 2}, 2, 3), ({}, 1, 1)):
            before = _thread_ticks(server)
            assert client.post("/v1/value", json={**body, "options": options}).status_code == 200
            after = _thread_ticks(server)
            at_work = [t for t in after if after[t] - before.get(t, 0) >= 20]
            assert least <= len(at_work) <= most, (options, before, after)


def _thread_ticks(server: Server) -> dict[str, int]:
    (pid,) = server.children()
    tasks = Path(f"/proc/{pid}/task")
    return {t.name: int((t / "stat").read_text().rpartition(")")[2].split()[11]) for t in tasks.iterdir()}
