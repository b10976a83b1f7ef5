"""Real servers on free ports of the loopback interface, and what tests say to them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from numpy.typing import NDArray

Array = NDArray[Any]
COMMAND = "from hesse_service.server import serve; serve(port={port}, workers={workers})"


@dataclass(frozen=True)
class Server:
    url: str
    pid: int
    log: Path

    def children(self) -> list[int]:
        """Its compute processes: the spawned children, without the resource tracker."""
        found = []
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.Error):  # ended in the meantime
                if any(["spawn_main" in word for word in child.cmdline()]):
                    found.append(child.pid)
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def running(
    log: Path, workers: int = 1, prefix: Sequence[str] = (), *, may_leak: bool = False,
    environment: dict[str, str] | None = None, at: int | None = None, **settings: Any,
) -> Iterator[Server]:
    """Start a server with these settings; end it by SIGTERM and see that it left cleanly.

    `prefix` stands before the command, to run it in surroundings of its own. `may_leak` is for tests that kill a
    server: what clears up after it says so. `at` is the port of a server that starts again.
    """
    port = at or free_port()
    path = os.pathsep.join([p for p in sys.path if p])  # the server imports what the tests import
    env = {**os.environ, "PYTHONPATH": path, **{f"HESSE_{k.upper()}": str(v) for k, v in settings.items()},
           **(environment or {})}
    with log.open("wb") as sink:
        process = subprocess.Popen([*prefix, sys.executable, "-c", COMMAND.format(port=port, workers=workers)],
                                   env=env, stdout=sink, stderr=sink)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(url) or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        yield Server(url, process.pid, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    text = log.read_text()
    assert process.returncode in (0, -signal.SIGTERM), text
    assert may_leak or "leaked" not in text
    assert "Traceback" not in text, text


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez").status_code == 200
    except httpx2.TransportError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def tensor(value: Any) -> Array:
    """The array of a tensor on the wire, read independently of the codec."""
    names = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
    data = [names[d] if isinstance(d, str) else d for d in value["data"]]
    return np.array(data, dtype=value["dtype"]).reshape(value["shape"])


def call(client: httpx2.Client, operation: str, **body: Any) -> Any:
    response = client.post(f"/v1/{operation}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def register(client: httpx2.Client, **body: Any) -> str:
    response = client.put("/v1/functions", json=body)
    assert response.status_code == 200, response.text
    name: str = response.json()["id"]
    return name


def slow_graph(rounds: int = 400) -> dict[str, Any]:
    """x of 1000 elements -> a scalar, through `rounds` products of 1000 x 1000 matrices: tens of seconds."""
    size = 1000
    nodes: list[dict[str, Any]] = [
        {"id": "row", "op": "reshape", "args": ["x"], "attrs": {"shape": [1, size]}},
        {"id": "column", "op": "reshape", "args": ["x"], "attrs": {"shape": [size, 1]}},
        {"id": "outer", "op": "multiply", "args": ["row", "column"]},
        {"id": "m0", "op": "sin", "args": ["outer"]},
    ]
    for k in range(rounds):
        nodes += [{"id": f"p{k}", "op": "matmul", "args": [f"m{k}", f"m{k}"]},
                  {"id": f"m{k + 1}", "op": "tanh", "args": [f"p{k}"]}]
    nodes.append({"id": "y", "op": "sum", "args": [f"m{rounds}"]})
    return {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [size], "dtype": "float64"}], "nodes": nodes,
            "outputs": ["y"]}


def slow_request(**options: Any) -> dict[str, Any]:
    return {"function": {"graph": slow_graph()}, "inputs": [[0.001] * 1000], "options": options}
