"""How it is measured.

All contenders take turns in one process, so that a drift of the machine meets them alike. Every timed call has an input
that differs from the one before. Short calls are timed in batches. Hot and cold figures are medians over the turns.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.peers import Contender

INPUTS = 8  # different points that the timed calls go round


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: turns of each kind, seconds in one hot batch, seconds after which cold turns stop."""

    hot_turns: int
    cold_turns: int
    batch_s: float
    cold_s: float


SHORT = Effort(hot_turns=3, cold_turns=2, batch_s=2e-3, cold_s=2.0)
FULL = Effort(hot_turns=15, cold_turns=7, batch_s=2e-2, cold_s=10.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of one call: median, lowest and highest of the turns."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        return cls(statistics.median(seconds), min(seconds), max(seconds))


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender took for one case."""

    case: str
    contender: str
    cold: Spread
    hot: Spread


@dataclass(frozen=True, slots=True)
class Start:
    """A contender's Hessian function of a case, and how long it took to make and call once."""

    call: Callable[[Any], Any]
    seconds: float


def fresh_scales() -> Iterator[float]:
    """1 + k/1024: exact, and never the same again."""
    return (1.0 + k / 1024.0 for k in count(1))


def check(case: Case, contenders: Sequence[Contender]) -> dict[str, Start]:
    """Refuse to time what is not equal: all Hessians agree, and ours is that of f by differences along directions.

    (f(x + hv) - 2 f(x) + f(x - hv)) / h^2 = v'Hv + O(h^2)
    """
    x = case.inputs(1, seed=1)[0]
    starts: dict[str, Start] = {}
    found = []
    for c in contenders:
        started = perf_counter()
        call = c.make(case, 1.0)
        result = call(c.array(x))
        starts[c.name] = Start(call, perf_counter() - started)
        found.append(c.dense(result, case).reshape(case.n, case.n))
    for contender, hessian in zip(contenders, found, strict=True):
        np.testing.assert_allclose(hessian, found[0], rtol=1e-7, atol=1e-9 * np.abs(found[0]).max(),
                                   err_msg=f"{case.name}: {contender.name} and {contenders[0].name} differ")
    h = 1e-4
    for v in np.random.default_rng(0).standard_normal((3, case.n)):
        v /= np.linalg.norm(v)
        up, middle, down = [case.f(np, x + step * v, case.data) for step in (h, 0.0, -h)]
        np.testing.assert_allclose(v @ found[0] @ v, (up - 2.0 * middle + down) / h**2, rtol=1e-3,
                                   atol=1e-3 * np.abs(found[0]).max(), err_msg=case.name)
    return starts


def measure(case: Case, contenders: Sequence[Contender], effort: Effort, scales: Iterator[float]) -> list[Row]:
    """Check, then time cold and hot. The check's first calls warm the libraries; only very long ones are counted."""
    starts = check(case, contenders)
    points = {c.name: [c.array(x) for x in case.inputs(INPUTS)] for c in contenders}
    colds: dict[str, list[float]] = {name: [s.seconds] * (s.seconds > effort.cold_s) for name, s in starts.items()}
    for _ in range(effort.cold_turns):
        for c in contenders:
            if sum(colds[c.name]) < effort.cold_s:
                colds[c.name].append(_cold(c, case, next(scales), points[c.name]))
    batches = {c.name: _batch(starts[c.name].call, points[c.name], effort.batch_s) for c in contenders}
    hots: dict[str, list[float]] = {c.name: [] for c in contenders}
    for _ in range(effort.hot_turns):
        for c in contenders:
            hots[c.name].append(_hot(starts[c.name].call, batches[c.name]))
    return [Row(case.name, c.name, Spread.of(colds[c.name]), Spread.of(hots[c.name])) for c in contenders]


def _cold(contender: Contender, case: Case, scale: float, points: Sequence[Any]) -> float:
    gc.collect()
    started = perf_counter()
    contender.make(case, scale)(points[0])
    return perf_counter() - started


def _batch(call: Callable[[Any], Any], points: Sequence[Any], batch_s: float) -> list[Any]:
    """As many inputs as take about `batch_s`, after the calls that a library needs to settle."""
    for x in points:
        call(x)
    started = perf_counter()
    for x in points:
        call(x)
    each = (perf_counter() - started) / len(points)
    return list(islice(cycle(points), max(1, int(batch_s / each))))


def _hot(call: Callable[[Any], Any], batch: Sequence[Any]) -> float:
    started = perf_counter()
    for x in batch:
        call(x)
    return (perf_counter() - started) / len(batch)
