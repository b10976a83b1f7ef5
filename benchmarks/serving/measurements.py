"""What is measured: the rate beside an empty route, the latency of open arrivals, large binary answers, and /livez."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import httpx2

from benchmarks.serving import generator
from benchmarks.serving.generator import Next, Run
from benchmarks.serving.requests import (
    EXPRESSION,
    FRAME,
    LARGE_EXPRESSION,
    calls,
    probe,
    registered,
)
from benchmarks.serving.servers import OURS, REFERENCE, Machine, Server, serving

LARGE = 2_000
INLINE_SIZE = 4
LARGE_S = 3.0  # of a window of large answers, of which there must be some
LOAD = 0.7  # of the highest rate, for the open loop


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often is measured.

    Attributes:
        windows: of each side, in turns.
        seconds: of one window.
        open_seconds: of the open loop of each side, all windows together.
        connections: held by the closed loop.
    """

    windows: int = 9
    seconds: float = 2.0
    open_seconds: float = 45.0
    connections: int = 16


SHORT = Effort(windows=3, seconds=0.5, open_seconds=3.0)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside its target: `>=` where more is better, `<` where less is."""

    name: str
    value: float | None
    unit: str
    target: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    server: Server
    request: Next


async def measured(machine: Machine, effort: Effort) -> list[Figure]:
    """Everything, in order."""
    figures = []
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serving(OURS, machine.servers))
        reference = stack.enter_context(serving(REFERENCE, machine.servers))
        name = registered(ours, EXPRESSION, INLINE_SIZE)
        small = Side(ours, calls(ours, "/v1/hessian", name, INLINE_SIZE))
        empty = Side(reference, calls(reference, "/empty", name, INLINE_SIZE))
        rates, found = await _rates(small, empty, effort)
        figures += found + await _open(small, empty, rates, effort) + await _large(ours, reference, effort)
    with serving(OURS, set(machine.cores)) as busy:
        figures += await _live(busy, effort)
    return figures


# ---- rates -----------------------------------------------------------------------------------------------------------
async def _window(side: Side, effort: Effort, connections: int) -> tuple[Run, float]:
    """A closed loop, and the server's processor time per answer [s]."""
    before = side.server.cpu()
    run = await generator.closed_loop(side.server.host, side.server.port, side.request, effort.seconds, connections)
    if run.failures:
        raise SystemExit(f"{run.failures} failures, {run.count} answers from {side.server.url}")
    return run, (side.server.cpu() - before) / max(run.count, 1)


async def _turns(ours: Side, theirs: Side, effort: Effort, connections: int) -> list[list[tuple[Run, float]]]:
    """Windows of both sides in turns, so that what disturbs the machine disturbs both."""
    runs: list[list[tuple[Run, float]]] = [[], []]
    for side in (ours, theirs, ours, theirs):  # warm: a call by id moves to the event loop after its first answer
        await _window(side, effort, connections)
    for _ in range(effort.windows):
        for k, side in enumerate((ours, theirs)):
            runs[k].append(await _window(side, effort, connections))
    return runs


async def _rates(ours: Side, theirs: Side, effort: Effort) -> tuple[tuple[float, float], list[Figure]]:
    mine, other = await _turns(ours, theirs, effort, effort.connections)
    rates = [statistics.median([run.rate for run, _ in runs]) for runs in (mine, other)]
    ratio = statistics.median([a.rate / b.rate for (a, _), (b, _) in zip(mine, other, strict=True)])
    cpus = [1e6 * statistics.median([cpu for _, cpu in runs]) for runs in (mine, other)]
    share = max(run.own_cpu for run, _ in mine + other)
    return (rates[0], rates[1]), [
        Figure("small Hessian by id", rates[0], "per s"),
        Figure("empty FastAPI route", rates[1], "per s"),
        Figure("rate beside the empty route", ratio, "", ">= 0.70", "median over pairs of windows"),
        Figure("processor time of a small Hessian", cpus[0], "us", "", "of the server process"),
        Figure("processor time of the empty route", cpus[1], "us"),
        Figure("processor time beside", cpus[1] / cpus[0], "", ">= 0.70"),
        Figure("generator's own share of its core", share, "", "< 0.70", "the largest of all windows"),
    ]


async def _open(ours: Side, theirs: Side, rates: tuple[float, float], effort: Effort) -> list[Figure]:
    """Open arrivals at both sides in turns: at a part of the highest rate of each, then with as much of a core busy.

    The two differ: requests that come one by one cost more than those of a closed loop, of which the server finds
    several at each turn.
    """
    sides, figures = (ours, theirs), []
    shares, found = await _arrivals(sides, [LOAD * rate for rate in rates], effort)
    name = f"{100 * LOAD:.0f} % of the highest rate"
    figures += _latencies(name, found, shares)
    busy = [LOAD * LOAD * rate / share for rate, share in zip(rates, shares, strict=True)]
    shares, again = await _arrivals(sides, busy, effort)
    figures += _latencies(f"{100 * LOAD:.0f} % of the server's core", again, shares)
    failures = sum([run.failures for run in found[0] + again[0]])
    return [*figures, Figure("failures of open arrivals", float(failures), "", "<= 0")]


async def _arrivals(
    sides: tuple[Side, Side], rates: list[float], effort: Effort
) -> tuple[list[float], tuple[list[Run], list[Run]]]:
    """Windows of open arrivals in turns: the share of a core that each server used (median), and the runs."""
    runs: tuple[list[Run], list[Run]] = ([], [])
    shares: tuple[list[float], list[float]] = ([], [])
    for k in range(effort.windows):
        for side, rate, seen, used in zip(sides, rates, runs, shares, strict=True):
            before = side.server.cpu()
            run = await generator.open_loop(side.server.host, side.server.port, side.request, rate,
                                            effort.open_seconds / effort.windows, 4 * effort.connections, seed=k)
            used.append((side.server.cpu() - before) / run.seconds)
            seen.append(run)
    return [statistics.median(used) for used in shares], runs


def _latencies(load: str, runs: tuple[list[Run], list[Run]], shares: list[float]) -> list[Figure]:
    (p50, p99, ratio), (_, _, other) = [_spread(side) for side in runs]
    return [
        Figure(f"p50 of open arrivals at {load}", 1e3 * p50, "ms", "", "from when it was due"),
        Figure(f"p99 of open arrivals at {load}", 1e3 * p99, "ms"),
        Figure(f"p99 / p50 at {load}", ratio, "", "<= 6", "median of windows"),
        Figure(f"p99 / p50 of the empty route at {load}", other, "", "", "of its own"),
        Figure("share of its core that the server used", shares[0], "", "", f"the empty route {shares[1]:.2f}"),
    ]


def _spread(runs: list[Run]) -> tuple[float, float, float]:
    """Medians over windows of p50, p99 and p99 / p50."""
    pairs = [(run.quantile(0.50), run.quantile(0.99)) for run in runs]
    return (statistics.median([a for a, _ in pairs]), statistics.median([b for _, b in pairs]),
            statistics.median([b / a for a, b in pairs]))


# ---- large binary answers --------------------------------------------------------------------------------------------
async def _large(ours: Server, reference: Server, effort: Effort) -> list[Figure]:
    paths = httpx2.get(f"{ours.url}/openapi.json", timeout=60).json()["paths"]
    if FRAME.decode() not in paths["/v1/hessian"]["post"]["responses"]["200"]["content"]:
        return [Figure("2000 x 2000 in binary beside ready bytes", None, "", ">= 0.60", "not offered")]
    name = registered(ours, LARGE_EXPRESSION, LARGE)
    call = calls(ours, "/v1/hessian", name, LARGE, FRAME)
    size = len(httpx2.post(f"{ours.url}/v1/hessian", content=call().split(b"\r\n\r\n", 1)[1], timeout=60,
                           headers={"Content-Type": "application/json", "Accept": FRAME.decode()}).content)
    ready = calls(reference, f"/bytes/{size}", name, LARGE, FRAME)
    longer = replace(effort, seconds=max(effort.seconds, LARGE_S))
    mine, other = await _turns(Side(ours, call), Side(reference, ready), longer, 2)
    rates = [statistics.median([run.rate for run, _ in runs]) for runs in (mine, other)]
    ratio = statistics.median([a.rate / b.rate for (a, _), (b, _) in zip(mine, other, strict=True)])
    return [
        Figure("2000 x 2000 Hessian in binary", rates[0], "per s", "", f"{size / 2**20:.1f} MiB"),
        Figure("the same bytes ready-made", rates[1], "per s"),
        Figure("2000 x 2000 in binary beside ready bytes", ratio, "", ">= 0.60"),
    ]


# ---- /livez while everything computes --------------------------------------------------------------------------------
def _long_call(size: int, rounds: int) -> dict[str, object]:
    """Products of matrices for a few seconds, in one compute process."""
    nodes: list[dict[str, object]] = [
        {"id": "row", "op": "reshape", "args": ["x"], "attrs": {"shape": [1, size]}},
        {"id": "column", "op": "reshape", "args": ["x"], "attrs": {"shape": [size, 1]}},
        {"id": "outer", "op": "multiply", "args": ["row", "column"]},
        {"id": "m0", "op": "sin", "args": ["outer"]},
    ]
    for k in range(rounds):
        nodes += [{"id": f"p{k}", "op": "matmul", "args": [f"m{k}", f"m{k}"]},
                  {"id": f"m{k + 1}", "op": "tanh", "args": [f"p{k}"]}]
    nodes.append({"id": "y", "op": "sum", "args": [f"m{rounds}"]})
    graph = {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [size], "dtype": "float64"}],
             "nodes": nodes, "outputs": ["y"]}
    return {"function": {"graph": graph}, "inputs": [[0.001] * size], "options": {"threads": 1}}


async def _live(server: Server, effort: Effort) -> list[Figure]:
    idle = await _probed(server, effort)
    async with httpx2.AsyncClient(base_url=server.url, timeout=120) as client:
        busy = await _while_busy(server, effort, lambda: _call(client, {}))
        paths = (await client.get("/openapi.json")).json()["paths"]
        figures = [Figure("p99 of /livez, idle", 1e3 * idle.quantile(0.99), "ms"),
                   Figure("p99 of /livez, every compute process busy", 1e3 * busy.quantile(0.99), "ms", "< 20")]
        jobs = None
        if "/v1/jobs/{id}" in paths:
            jobs = await _while_busy(server, effort, lambda: _call(client, {"Prefer": "respond-async"}))
        value, note = (1e3 * jobs.quantile(0.99), "") if jobs else (None, "not offered")
        return [*figures, Figure("p99 of /livez, long jobs", value, "ms", "< 20", note)]


async def _call(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/v1/value", json=_long_call(1000, 100), headers=headers)
    if response.status_code not in (200, 202, 429, 503, 504):  # refused for lack of room is as good: all are busy
        raise RuntimeError(f"a long computation was answered {response.status_code}: {response.text}")


async def _while_busy(server: Server, effort: Effort, call: Callable[[], Awaitable[None]]) -> Run:
    """Probe while more computations run than there are processes."""
    is_over = False

    async def again() -> None:
        while not is_over:
            await call()
            await asyncio.sleep(0.5)

    callers = [asyncio.create_task(again()) for _ in range(4)]
    await asyncio.sleep(1.0)
    run = await _probed(server, effort)
    is_over = True
    for caller in callers:
        caller.cancel()
    ended = await asyncio.gather(*callers, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
    return run


async def _probed(server: Server, effort: Effort) -> Run:
    return await generator.open_loop(server.host, server.port, probe(server), 50.0, effort.open_seconds, 8)
