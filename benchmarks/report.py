"""The table: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.timing import Row, Spread

COLD_LIMIT_MS = 10.0  # first call of a new function of under COLD_NODES nodes, in a warm process
COLD_NODES = 100


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    rows: Sequence[Row]
    versions: Mapping[str, str]
    nodes: Mapping[str, int]  # of each case's function, in Hesse's graph
    absent: Sequence[str]
    threads: int
    is_short: bool

    def colds_ms(self) -> dict[str, tuple[float, float]]:
        """Of ours and the cases whose graph is small: the first call, and what it took beyond a later one."""
        ours = next(iter(self.versions))
        return {r.case: (1e3 * r.cold.median, 1e3 * (r.cold.median - r.hot.median))
                for r in self.rows if r.contender == ours and self.nodes[r.case] < COLD_NODES}

    def lines(self) -> list[tuple[str, ...]]:
        head = ("case", "contender", "cold", "cold low-high", "hot", "hot low-high", "hot, ours = 1")
        found: list[tuple[str, ...]] = [head]
        for case in dict.fromkeys(r.case for r in self.rows):
            rows = [r for r in self.rows if r.case == case]
            label = f"{case} ({self.nodes[case]} nodes)"
            for k, r in enumerate(rows):
                ratio = f"{r.hot.median / rows[0].hot.median:.3g}"
                figures = (_time(r.cold.median), _range(r.cold), _time(r.hot.median), _range(r.hot), ratio)
                found.append(("" if k else label, r.contender, *figures))
        return found

    def setting(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        absent = f"; not installed: {', '.join(self.absent)}" if self.absent else ""
        return (f"{versions}{absent}; NumPy {np.__version__}, Python {platform.python_version()}, {_processor()}, "
                f"{self.threads} of {os.cpu_count()} cores, float64{', short form' if self.is_short else ''}.")

    def verdict(self) -> str:
        """How the first calls stand to the limit, longest first."""
        ranked = sorted(self.colds_ms().items(), key=lambda item: -item[1][0])
        figures = [f"{case}: {total:.2f} ms, {added:.2f} ms of it beyond a hot call" for case, (total, added) in ranked]
        worst = ranked[0][1][0]
        return (f"First call of a new function of under {COLD_NODES} nodes, embedded: at most {worst:.2f} ms "
                f"(limit {COLD_LIMIT_MS:g} ms).\n" + "; ".join(figures) + ".")

    def text(self) -> str:
        lines = self.lines()
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        rows = ["  ".join([cell.ljust(w) for cell, w in zip(line, widths, strict=True)]).rstrip() for line in lines]
        return "\n".join([self.setting(), "", *rows, "", self.verdict()])

    def markdown(self) -> str:
        lines = self.lines()
        head, *rows = ["| " + " | ".join(line) + " |" for line in lines]
        table = [head, "|" + " --- |" * len(lines[0]), *rows]
        return "\n".join(["# Benchmarks", "", INTRODUCTION, "", self.setting(), "", *table, "", self.verdict(), ""])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks.md").write_text(self.markdown(), "utf-8")
        record = asdict(self) | {"setting": self.setting(), "colds_ms": self.colds_ms()}
        (folder / "benchmarks.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


INTRODUCTION = """\
One run of `make bench PEERS=1`. Every contender computes the full Hessian of the same function; the results were
checked to be equal before anything was timed. They take turns in one process, on the same cores, and each timed call
has an input that differs from the one before.

- **cold**: the first call of a function never seen, in a process that has computed others: tracing, deriving, planning
  and, where the library compiles, compiling.
- **hot**: a later call. Medians over the turns, with the lowest and highest.
- CasADi returns the structural nonzeros in a buffer it owns, the others a new dense matrix.
- Figures of one machine compare contenders with each other, not with figures from elsewhere."""


def _time(seconds: float) -> str:
    unit, factor = ("s", 1.0) if seconds >= 1.0 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{seconds * factor:.3g} {unit}"


def _range(spread: Spread) -> str:
    return f"{_time(spread.low)} - {_time(spread.high)}"


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
