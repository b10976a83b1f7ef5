"""How it is measured: results are checked first, then all contenders take turns.

Every timed call has an input that differs from the one before. Short calls are timed in batches. Cold and hot figures
are medians over the turns, with the quartiles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import PLAIN, Case
from benchmarks.claims import OURS
from benchmarks.worker import WORKING_TIERS, DidNotFinish, Failed, Worker


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: turns of each kind, seconds in one hot batch, seconds after which a contender's cold turns
    stop."""

    hot_turns: int
    cold_turns: int
    batch_s: float
    cold_s: float


SHORT = Effort(hot_turns=3, cold_turns=1, batch_s=1e-3, cold_s=0.2)
FULL = Effort(hot_turns=15, cold_turns=7, batch_s=2e-2, cold_s=10.0)
LIMIT_S = 120.0  # a peer that takes longer for one answer did not finish


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of one call: the median and the quartiles of the turns."""

    median: float
    first: float
    third: float
    turns: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        first, median, third = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
        return cls(median, first, third, len(seconds))


@dataclass(slots=True)
class Row:
    """What one contender took for one case; `status` says why where there is nothing."""

    case: str
    contender: str
    cold: Spread | None = None
    hot: Spread | None = None
    status: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)


class Differs(Exception):
    """A contender's result is not the others'."""


class Bench:
    """The workers and what they have measured so far."""

    def __init__(self, files: Sequence[str], is_short: bool, *, verbose: bool = False) -> None:
        self.is_short, self.effort = is_short, SHORT if is_short else FULL
        self.workers = {f: Worker(f, is_short, LIMIT_S, verbose=verbose) for f in files}
        self.scales: Iterator[float] = (1.0 + k / 1024.0 for k in count(1))  # exact, and never the same again
        self.failures: list[str] = []
        self.started = perf_counter()

    def close(self) -> None:
        for worker in self.workers.values():
            worker.stop()

    def versions(self) -> dict[str, str]:
        """By library; one that cannot be started is a failure, and takes no part."""
        found: dict[str, str] = {}
        for name, worker in list(self.workers.items()):
            try:
                found[name] = worker.ask("version")
            except (Failed, DidNotFinish) as error:
                self.failures.append(f"{name} cannot be used: {error}")
                del self.workers[name]
        return found

    def measure(self, case: Case) -> list[Row]:
        """One row a contender, ours first."""
        parties = [(name, w) for w in self.workers.values() for name in w.ask("names", case.name)]
        names = ", ".join([name for name, _ in parties])
        print(f"{perf_counter() - self.started:5.0f} s  {case.name}: {names}", file=sys.stderr, flush=True)
        rows = {name: Row(case.name, name) for name, _ in parties}
        firsts = self._check(case, parties, rows)
        live = [(name, w) for name, w in parties if name in firsts]
        colds = {name: [s] if s > self.effort.cold_s else [] for name, s in firsts.items()}
        if case.is_cold:
            self._time_cold(case, live, rows, colds)
        self._time_hot(case, [(name, w) for name, w in live if not rows[name].status], rows)
        for name, seconds in colds.items():
            if seconds:
                rows[name].cold = Spread.of(seconds)
        return list(rows.values())

    def _check(self, case: Case, parties: Sequence[tuple[str, Worker]], rows: Mapping[str, Row]) -> dict[str, float]:
        """Seconds of every contender's very first call; their results agree, and ours with differences of f."""
        firsts: dict[str, float] = {}
        wanted: NDArray[Any] | None = None
        for name, worker in parties:
            try:
                seconds, found = worker.ask("first", case.name, name)
            except DidNotFinish:
                rows[name].status = f"did not finish in {LIMIT_S:.0f} s"
                continue
            except Failed as error:
                self._note(case, rows[name], error)
                continue
            if wanted is None:
                wanted = found
                _check_differences(case, found, name)
            size = float(np.abs(wanted).max(initial=0.0))
            if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=1e-7, atol=1e-9 * size):
                rows[name].status = "the result differs"
                self.failures.append(f"{case.name}: the result of {name} differs")
                continue
            firsts[name] = seconds
        return firsts

    def _note(self, case: Case, row: Row, error: Failed) -> None:
        is_ours = row.contender.startswith(OURS)
        row.status = f"not supported yet: {error.code}" if is_ours else f"failed: {error.code}"
        if is_ours and not case.is_guarded:
            self.failures.append(f"{case.name}: {row.contender}: {error}")

    def _time_cold(
        self, case: Case, live: Sequence[tuple[str, Worker]], rows: Mapping[str, Row], colds: dict[str, list[float]]
    ) -> None:
        for _ in range(self.effort.cold_turns):
            for name, worker in live:
                if self.is_short and not name.startswith(OURS):
                    continue
                if sum(colds[name]) < self.effort.cold_s and not rows[name].status:
                    self._try(case, rows[name], colds[name], worker, "cold", case.name, name, next(self.scales))

    def _time_hot(self, case: Case, live: Sequence[tuple[str, Worker]], rows: Mapping[str, Row]) -> None:
        for name, worker in live:
            self._try(case, rows[name], [], worker, "settle", case.name, name, self.effort.batch_s)
        hots: dict[str, list[float]] = {name: [] for name, _ in live}
        for turn in range(self.effort.hot_turns):
            first = turn % max(1, len(live))
            for name, worker in [*live[first:], *live[:first]]:
                if not rows[name].status:
                    self._try(case, rows[name], hots[name], worker, "hot", name)
        for name, worker in live:
            if hots[name]:
                rows[name].hot = Spread.of(hots[name])
            if name.startswith(OURS) and not rows[name].status:
                self._check_tier(case, rows[name], worker)

    def _try(self, case: Case, row: Row, times: list[float], worker: Worker, *question: Any) -> None:
        try:
            times.append(worker.ask(*question))
        except DidNotFinish:
            row.status = f"did not finish in {LIMIT_S:.0f} s"
        except Failed as error:
            self._note(case, row, error)

    def _check_tier(self, case: Case, row: Row, worker: Worker) -> None:
        """What was timed as the compiled engine must have been it."""
        row.stats = worker.ask("stats", row.contender)
        tier = row.stats.get("tier")
        if tier not in WORKING_TIERS:
            self.failures.append(f"{case.name}: {row.contender} ran in the tier {tier!r}, not in vm or jit")


def _check_differences(case: Case, found: NDArray[Any], name: str) -> None:
    """(f(x + hv) - 2 f(x) + f(x - hv)) / h^2 = v'Hv + O(h^2), along three directions, where NumPy can evaluate f."""
    if case.task != "hessian" or case.n > PLAIN or case.is_guarded:
        return
    x, h = case.points(1, seed=1)[0], 1e-4
    for v in case.directions(3, seed=2):
        v /= np.linalg.norm(v)
        up, middle, down = [case.f(np, x + step * v, case.values()) for step in (h, 0.0, -h)]
        curvature, scale = (up - 2.0 * middle + down) / h**2, np.abs(found).max() + abs(middle) * 1e-4
        if not np.allclose(v @ found @ v, curvature, rtol=1e-3, atol=1e-3 * scale):
            raise Differs(f"{case.name}: {name} gives {v @ found @ v:g} for v'Hv, differences of f {curvature:g}")
