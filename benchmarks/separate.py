"""What is measured in processes of its own: the huge result, growth, the start of a process; and the stages of a cold
call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.cases import by_name
from benchmarks.claims import Verdict, seconds_text
from benchmarks.growth import SERIES, SHORT_SIZES, SIZES
from benchmarks.timing import Bench
from benchmarks.worker import WORKING_TIERS, Failed

ROOT = Path(__file__).parents[1]
HUGE_POINTS, SHORT_POINTS = 2483, 300
RSS_LIMIT, ONES_LIMIT, START_LIMIT_S, PLAN_LIMIT_S = 0.8e9, 3.0, 1.0, 20e-3
COLD_CASES = ("rosenbrock-10", "rosenbrock-csr", "sine", "logsumexp", "cross-entropy", "pairs-gather", "lennard-jones",
              "logistic", "network", "chain")
SHORT_COLD_CASES = ("rosenbrock-10", "chain")
COLD_LIMITS_S = ((100, 5e-3), (220, 10e-3))  # below so many nodes, at most so many seconds; `chain` has about 200
NAMES = ("huge", "start", "growth", "cold")
# what the titles of these cases begin with
HUGE, START, COLD = "pairwise energy", "process start to first Hessian, warm disk cache", "cold: "
FIRST = ": first call beyond a later one"


@dataclass(slots=True)
class Findings:
    """Of everything that is no plain case."""

    verdicts: list[Verdict] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict)  # by name: what was measured, as JSON
    failures: list[str] = field(default_factory=list)


def run(*arguments: str, limit_s: float = 300.0) -> dict[str, Any]:
    """The JSON that `python -m ARGUMENTS` prints last."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
                          timeout=limit_s)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise Failed(last.split(":")[0].rsplit(".", 1)[-1], last[:300])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def huge(found: Findings, threads: int, is_short: bool) -> None:
    """The result is 444 MB, its points take 60 kB; JAX asks for 551 GB."""
    points = SHORT_POINTS if is_short else HUGE_POINTS
    title = f"{HUGE}, {points} points, {3 * points} x {3 * points} dense"
    try:
        report = found.tables["huge"] = run("benchmarks.huge", str(points), str(threads))
    except Failed as error:
        found.verdicts.append(Verdict(title, "peak RSS < 0.8 GB", f"failed: {error.code}", "", None, "miss"))
        found.failures.append(f"huge: {error}")
        return
    if report["tier"] not in WORKING_TIERS:
        found.failures.append(f"huge: ran in the tier {report['tier']!r}")
    hot, ones, peak = median(report["hot_s"]), median(report["ones_s"]), report["peak_bytes"]
    found.verdicts += [
        Verdict(title, f"≤ {ONES_LIMIT:g} × np.ones of the result", seconds_text(hot),
                f"{seconds_text(ones)} (np.ones)", ones / hot, "pass" if hot <= ONES_LIMIT * ones else "miss"),
        Verdict(title, f"peak RSS < {RSS_LIMIT / 1e9:g} GB", f"{peak / 1e9:.3g} GB", "", None,
                "pass" if peak < RSS_LIMIT else "miss"),
    ]


def start(found: Findings, is_short: bool) -> None:
    """From starting a process to having a Hessian, import included; the kernels on disk already."""
    turns = 1 if is_short else 7
    for label, arguments in (("", []), (", by the VM", ["vm"])):
        seconds = []
        for turn in range(turns + (not is_short)):
            started = perf_counter()
            done = subprocess.run([sys.executable, "-m", "benchmarks.start", *arguments], cwd=ROOT, check=False)
            if done.returncode:
                found.failures.append("start: the process failed")
                return
            if turn or is_short:  # the first fills the disk cache
                seconds.append(perf_counter() - started)
        found.tables[f"start{label}"] = seconds
        outcome = "pass" if median(seconds) <= START_LIMIT_S else "miss"
        found.verdicts.append(Verdict(f"{START}{label}",
                                      f"≤ {seconds_text(START_LIMIT_S)}", seconds_text(median(seconds)), "", None,
                                      outcome))  # type: ignore[arg-type]


def growth(found: Findings, threads: int, is_short: bool) -> None:
    """Time and memory by n, each size in a new process."""
    points: list[dict[str, Any]] = []
    for series in SERIES:
        for n in SHORT_SIZES if is_short else SIZES:
            try:
                points.append(run("benchmarks.growth", series, str(n), str(threads)))
            except Failed as error:
                found.failures.append(f"growth: {series}, n={n}: {error}")
                break
    found.tables["growth"] = points


def cold(found: Findings, bench: Bench, colds: dict[str, dict[str, float]]) -> None:
    """First calls of functions never seen, by stage; `colds` are the medians that the cases measured, by contender."""
    worker, table = bench.workers.get("embedded"), []
    if worker is None:
        return
    for name in SHORT_COLD_CASES if bench.is_short else COLD_CASES:
        case = by_name(bench.is_short)[name]
        try:
            worker.ask("first", name, "Hesse")
            parts = [worker.ask("stages", name, next(bench.scales)) for _ in range(1 if bench.is_short else 9)]
        except Failed as error:
            found.failures.append(f"cold: {name}: {error}")
            continue
        middle = sorted(parts, key=lambda p: p["seconds"])[len(parts) // 2]
        table.append({"case": name, **middle})
        limit = next((s for nodes, s in COLD_LIMITS_S if middle["nodes"] < nodes), None)
        if limit is not None:
            outcome = "pass" if middle["seconds"] <= limit else "miss"
            found.verdicts.append(Verdict(f"{COLD}{case.title} ({middle['nodes']} nodes)", f"≤ {seconds_text(limit)}",
                                          seconds_text(middle["seconds"]), "", None, outcome))  # type: ignore[arg-type]
        peer = colds.get(name, {}).get("JAX jit")
        if peer is not None:
            ratio = peer / middle["seconds"]
            found.verdicts.append(Verdict(f"{COLD}{case.title} ({middle['nodes']} nodes)", "≥ 20 × JAX",
                                          seconds_text(middle["seconds"]), f"{seconds_text(peer)} (JAX jit)", ratio,
                                          "pass" if ratio >= 20 else "miss"))
    found.tables["cold"] = table


def plan_of_million(found: Findings, bench: Bench, hot: float) -> None:
    """All that a first call does beyond a later one: trace, structure, pattern, lowering."""
    name = "rosenbrock-million"
    worker = bench.workers["embedded"]  # which has timed this case
    try:
        worker.ask("first", name, "Hesse")
        parts = [worker.ask("stages", name, next(bench.scales))["seconds"] for _ in range(1 if bench.is_short else 5)]
    except Failed as error:
        found.failures.append(f"{name}: {error}")
        return
    seconds = max(0.0, median(parts) - hot)
    found.verdicts.append(Verdict(f"{by_name(bench.is_short)[name].title}{FIRST}", "≤ 20 ms",
                                  seconds_text(seconds), "", None, "pass" if seconds <= PLAN_LIMIT_S else "miss"))


def environment(threads: int) -> None:
    """The same cores for all, here and in every process started from here; before any library that counts them."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
