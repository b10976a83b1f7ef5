"""Servers under measurement: started, bound to cores, watched by the processor time they use, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

OURS = "hesse_service.app:create_app"
REFERENCE = "benchmarks.serving.reference:create_app"
COMMAND = "from hesse_service.server import serve; serve('127.0.0.1', {port}, {workers}, 'WARNING', {app!r})"
STARTUP_S = 120.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Who runs where: with two cores or more, the generator has one for itself."""

    cores: tuple[int, ...]
    memory_gib: float

    @property
    def own(self) -> set[int]:
        """Of the generator."""
        return {self.cores[-1]}

    @property
    def servers(self) -> set[int]:
        return set(self.cores[:-1]) or set(self.cores)

    def __str__(self) -> str:
        return f"{len(self.cores)} cores, {self.memory_gib:.0f} GiB of memory"


def machine() -> Machine:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(tuple(sorted(os.sched_getaffinity(0))), pages * size / 2**30)


@dataclass(frozen=True, slots=True)
class Server:
    host: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def cpu(self) -> float:
        """Processor time of the server process so far [s], all its threads, without its children."""
        tasks = Path(f"/proc/{self.pid}/task")
        return sum([int((t / "schedstat").read_text().split()[0]) for t in tasks.iterdir()]) * 1e-9


@contextlib.contextmanager
def serving(app: str, cores: set[int], workers: int = 1, **settings: object) -> Iterator[Server]:
    """A server with `app`, under the settings that `hesse serve` gives uvicorn, on `cores`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *[p for p in sys.path if p]])
    env = {**os.environ, "PYTHONPATH": path, **{f"HESSE_{k.upper()}": str(v) for k, v in settings.items()}}
    process = subprocess.Popen([sys.executable, "-c", COMMAND.format(port=port, workers=workers, app=app)], env=env)
    os.sched_setaffinity(process.pid, cores)  # before it has threads and children
    try:
        server = Server("127.0.0.1", port, process.pid)
        _wait(server, "/readyz" if app == OURS else "/", process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, path: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTUP_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(server.url + path).status_code in (200, 404):
                return
        time.sleep(0.05)
    raise SystemExit(f"The server with {server.url}{path} did not start.")
