"""`make soak`: a service under mixed requests and random kills. Every answer is checked; memory has to stay flat.

Ends with an error when an answer is wrong, when a refusal is not one of those declared, when a process or a segment of
shared memory is left over, or when memory grows: that of the server by a line through the second half of the samples,
that of processes, which are killed, by the most that any had in either half.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil

RETRYABLE = {"busy", "worker-died", "deadline-exceeded", "shared-memory-full", "store-unavailable"}
MIB = 1 << 20
SAMPLE_S = 1.0
THREADS = 4
KEPT_BYTES = 8 * MIB  # shared memory that the server may keep for further answers
SERVE = "from hesse_service.server import serve; serve(port={port})"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how often a process is killed, and how much memory may grow."""

    minutes: float
    kill_s: float  # 0: never
    growth_mib: float  # of the server and of its largest process, over the second half
    compute_processes: int = 2


@dataclass(slots=True)
class Findings:
    """What happened. `server` and `largest` are memory at each sample [bytes]."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    server: list[int] = field(default_factory=list)
    largest: list[int] = field(default_factory=list)
    kills: int = 0

    def growth_mib(self, sizes: list[int]) -> float:
        """What a line through the second half of the samples gains over that half [MiB]."""
        times, values = np.array(self.at_s), np.array(sizes, dtype=float)
        half = times >= times[-1] / 2
        if half.sum() < 3:
            return 0.0
        slope = np.polyfit(times[half], values[half], 1)[0]
        return float(slope * (times[half][-1] - times[half][0]) / MIB)

    def peak_growth_mib(self, sizes: list[int]) -> float:
        """How much more the most of the second half is than that of the first [MiB]: kills leave no line to fit."""
        middle = self.at_s[-1] / 2
        first = [size for at, size in zip(self.at_s, sizes, strict=True) if at < middle]
        return (max(sizes) - max(first, default=0)) / MIB


# ---- requests and what they must answer ----------------------------------------------------------------------------
def _matrix(value: dict[str, Any]) -> Any:
    return np.array(value["data"]).reshape(value["shape"])


def _cubes(client: httpx2.Client, choice: random.Random, names: dict[str, str]) -> httpx2.Response:
    """A formula never seen before: sum((x + c)^3)."""
    c, x = choice.randrange(1 << 30) / 256, [choice.uniform(-2, 2) for _ in range(3)]
    response = client.post("/v1/hessian", json={"function": {"expression": f"sum((x + {c})**3)"}, "inputs": [x]})
    if response.status_code == 200:
        np.testing.assert_allclose(_matrix(response.json()["result"]), np.diag(6 * (np.array(x) + c)), rtol=1e-12)
    return response


def _by_id(client: httpx2.Client, choice: random.Random, names: dict[str, str]) -> httpx2.Response:
    x = [choice.uniform(-2, 2) for _ in range(4)]
    response = client.post("/v1/hessian", json={"function": {"id": names["squares"]}, "inputs": [x]})
    if response.status_code == 200:
        point = np.array(x)
        want = 8 * np.outer(point, point) + 4 * (point @ point) * np.eye(4)
        np.testing.assert_allclose(_matrix(response.json()["result"]), want, rtol=1e-12, atol=1e-12)
    return response


def _large(client: httpx2.Client, choice: random.Random, names: dict[str, str]) -> httpx2.Response:
    """A dense matrix that crosses in shared memory: sum(sin x)^2."""
    x = np.linspace(0.1, choice.uniform(1, 2), 250)
    body = {"function": {"expression": "sum(sin(x))**2"}, "inputs": [x.tolist()]}
    response = client.post("/v1/hessian", json=body)
    if response.status_code == 200:
        want = 2 * np.outer(np.cos(x), np.cos(x)) - 2 * np.sin(x).sum() * np.diag(np.sin(x))
        np.testing.assert_allclose(_matrix(response.json()["result"]), want, rtol=1e-10, atol=1e-10)
    return response


def _register(client: httpx2.Client, choice: random.Random, names: dict[str, str]) -> httpx2.Response:
    """Registered, called and forgotten."""
    body = {"function": {"expression": f"sum(x**2) * {choice.randrange(1 << 30)}"}, "inputs": [{"name": "x",
                                                                                              "shape": [2]}]}
    response = client.put("/v1/functions", json=body)
    if response.status_code == 200:
        return client.delete(f"/v1/functions/{response.json()['id']}")
    return response


def _malformed(client: httpx2.Client, choice: random.Random, names: dict[str, str]) -> httpx2.Response:
    response = client.post("/v1/hessian", json={"function": {"expression": "sum(x**"}, "inputs": [[1.0]]})
    assert response.status_code in (422, 503, 504), response.text
    return response


KINDS: list[tuple[int, Callable[[httpx2.Client, random.Random, dict[str, str]], httpx2.Response]]] = [
    (6, _cubes), (6, _by_id), (2, _large), (2, _register), (1, _malformed)
]


# ---- the run --------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def service(log: Path, **settings: Any) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p]),
           **{f"HESSE_{k.upper()}": str(v) for k, v in settings.items()}}
    with log.open("wb") as sink:
        command = [sys.executable, "-c", SERVE.format(port=port)]
        process = subprocess.Popen(command, env=env, stdout=sink, stderr=sink)  # noqa: S603  (our own arguments)
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the service did not become ready")


def _ask(url: str, seed: int, names: dict[str, str], over: threading.Event, found: Findings) -> None:
    choice = random.Random(seed)
    weights = [weight for weight, _ in KINDS]
    with httpx2.Client(base_url=url, timeout=90) as client:
        while not over.is_set():
            (_, kind), = choice.choices(KINDS, weights)
            try:
                response = kind(client, choice, names)
            except (AssertionError, httpx2.TransportError, ValueError, KeyError) as error:
                found.faults.append(f"{kind.__name__}: {type(error).__name__} {str(error)[:300]}")
                continue
            code = "ok" if response.is_success else response.json().get("code", "?")
            found.answers[code] += 1
            if not response.is_success and code not in RETRYABLE and code != "expression-syntax":
                found.faults.append(f"{kind.__name__}: {response.status_code} {code}")


def _processes(server: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in server.children():
        with contextlib.suppress(psutil.Error):
            if any(["spawn_main" in word for word in child.cmdline()]):
                found.append(child)
    return found


def _sample(server: psutil.Process, started: float, found: Findings) -> None:
    sizes = [0]
    for process in _processes(server):
        with contextlib.suppress(psutil.Error):
            sizes.append(process.memory_info().rss)
    found.at_s.append(time.monotonic() - started)
    found.server.append(server.memory_info().rss)
    found.largest.append(max(sizes))


def soak(plan: Plan, log: Path) -> Findings:
    """Run it."""
    found, over = Findings(), threading.Event()
    with service(log, compute_processes=plan.compute_processes, segment_bytes=32_768, kept_segment_bytes=KEPT_BYTES,
                 store_functions=500, prepared_functions=128) as (url, server):
        _ready(url, 180)
        with httpx2.Client(base_url=url, timeout=90) as client:
            body = {"function": {"expression": "sum(x**2)**2"}, "inputs": [{"name": "x", "shape": [4]}]}
            names = {"squares": client.put("/v1/functions", json=body).json()["id"]}
        asking = [threading.Thread(target=_ask, args=(url, k, names, over, found)) for k in range(THREADS)]
        for thread in asking:
            thread.start()
        try:
            _watch(plan, server, found)
        finally:
            over.set()
            for thread in asking:
                thread.join()
        time.sleep(2.0)
        left = [p.stat().st_size for p in Path("/dev/shm").glob(f"hesse_{server.pid}_*")]  # noqa: S108
        if sum(left) > KEPT_BYTES:
            found.faults.append(f"{len(left)} segments left, of {sum(left)} bytes")
        count = len(_processes(server))
        if count != plan.compute_processes:
            found.faults.append(f"{count} processes at the end")
    text = log.read_text("utf-8", "replace")
    found.faults += [f"the log has {word!r}" for word in ("Traceback", "leaked") if word in text]
    return found


def _watch(plan: Plan, server: psutil.Process, found: Findings) -> None:
    """Sample memory and kill processes until the time is over."""
    choice, started = random.Random(7), time.monotonic()
    next_kill = plan.kill_s
    while (now := time.monotonic() - started) < 60 * plan.minutes:
        time.sleep(SAMPLE_S)
        _sample(server, started, found)
        if plan.kill_s and now >= next_kill:
            next_kill += plan.kill_s
            alive = _processes(server)
            with contextlib.suppress(psutil.Error):
                choice.choice(alive).kill()
                found.kills += 1


def report(plan: Plan, found: Findings) -> list[str]:
    """What the run did not keep to; prints the figures."""
    answers = ", ".join([f"{code} {count}" for code, count in found.answers.most_common()])
    print(f"{plan.minutes:g} minutes, {sum(found.answers.values())} requests, {found.kills} kills: {answers}")
    faults = list(found.faults)
    for name, sizes in (("server", found.server), ("largest compute process", found.largest)):
        is_killed = bool(plan.kill_s) and name != "server"
        growth = found.peak_growth_mib(sizes) if is_killed else found.growth_mib(sizes)
        print(f"{name}: {sizes[0] // MIB} MiB at the start, {max(sizes) // MIB} at most, {sizes[-1] // MIB} at the "
              f"end; {growth:+.1f} MiB over the second half")
        if growth > plan.growth_mib:
            faults.append(f"memory of the {name} grew by {growth:.1f} MiB, at most {plan.growth_mib:g}")
    if not found.answers["ok"]:
        faults.append("nothing was answered")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests/soak.py", description="A bounded soak with kills.")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the run (default 10)")
    parser.add_argument("--kill-seconds", type=float, default=20.0, help="a process is killed so often; 0: never")
    parser.add_argument("--growth", type=float, default=16.0, help="MiB that memory may gain over the second half")
    options = parser.parse_args()
    plan = Plan(options.minutes, options.kill_seconds, options.growth)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        faults = report(plan, soak(plan, log))
        if faults:
            print(log.read_text("utf-8", "replace")[-4000:])
    print("\n".join(faults[:20]) or "Nothing wrong: every answer right, every refusal declared, memory flat.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
