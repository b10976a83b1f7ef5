"""The tables: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.claims import Verdict, judge, seconds_text
from benchmarks.peers import BUFFER
from benchmarks.reasons import reason_for
from benchmarks.timing import Row, Spread

NAMES = {"embedded": "Hesse", "jax_jit": "JAX", "torch_func": "torch", "casadi_functions": "CasADi",
         "asdex_sparse": "asdex"}
TEMPLATE = Path(__file__).with_name("page.md")
Line = Sequence[str]


def case_verdicts(case: Case, rows: Sequence[Row]) -> list[Verdict]:
    """What became of every claim of `case`."""
    unjudged = [r.contender for r in rows if r.contender.endswith(BUFFER)]
    others = {r.contender: r.status for r in rows if r.status}
    found = []
    for claim in case.claims:
        figures = {r.contender: r.cold if claim.figure == "cold" else r.hot for r in rows}
        medians = {name: spread.median for name, spread in figures.items() if spread is not None}
        found.append(judge(case.title, claim, medians, others, unjudged))
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    cases: Sequence[Case]
    rows: Sequence[Row]
    verdicts: Sequence[Verdict]
    tables: Mapping[str, Any]
    versions: Mapping[str, str]
    absent: Sequence[str]
    failures: Sequence[str]
    threads: int
    is_short: bool

    def setting(self) -> str:
        """The machine by cores and memory alone."""
        versions = ", ".join([f"{NAMES.get(name, name)} {version}" for name, version in self.versions.items()])
        absent = f"; not installed: {', '.join(self.absent)}" if self.absent else ""
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory" \
            if hasattr(os, "sysconf") else ""
        cores = f"{self.threads} threads on {os.cpu_count()} cores{memory}"
        return (f"{versions}{absent}; NumPy {np.__version__}, Python {platform.python_version()}; {cores}; "
                f"float64{'; short form' if self.is_short else ''}.")

    def targets(self) -> list[Line]:
        lines: list[Line] = [("case", "target", "Hesse", "peer", "ratio", "")]
        for v in self.verdicts:
            ratio = "" if v.ratio is None else f"{v.ratio:.3g}"
            lines.append((v.case, v.target, v.ours, v.peer, ratio, v.outcome))
        return lines

    def figures(self) -> list[Line]:
        lines: list[Line] = [("case", "contender", "hot (quartiles)", "cold (quartiles)", "")]
        titles, sizes = {c.name: c.title for c in self.cases}, {c.name: c.n for c in self.cases}
        last = ""
        for r in self.rows:
            label = titles[r.case] if r.case != last else ""
            last = r.case
            remark = r.status or ", ".join([str(r.stats[k]) for k in ("strategy", "tier") if k in r.stats])
            if r.hot is not None and r.case.startswith("hvp"):
                remark += f"; {_traffic(sizes[r.case], r.hot.median):.3g} GB/s"
            lines.append((label, r.contender, _spread(r.hot), _spread(r.cold), remark))
        return lines

    def cold(self) -> list[Line]:
        parts = self.tables.get("cold", [])
        stages = list(parts[0]["stages"]) if parts else []
        lines: list[Line] = [("case", "nodes", "derived", "total", *[f"{s}, µs" for s in stages])]
        for p in parts:
            figures = [f"{1e6 * s:.0f}" for s in p["stages"].values()]
            lines.append((p["case"], str(p["nodes"]), str(p["derived_nodes"]), seconds_text(p["seconds"]), *figures))
        return lines

    def growth(self) -> list[Line]:
        lines: list[Line] = [("series", "n", "nonzeros", "first call", "hot", "hot, ns a nonzero", "memory")]
        for p in self.tables.get("growth", []):
            each = f"{1e9 * p['hot_s'] / max(1, p['nonzeros']):.3g}"
            lines.append((p["series"], f"{p['n']:,}", f"{p['nonzeros']:,}", seconds_text(p["cold_s"]),
                          seconds_text(p["hot_s"]), each, f"{p['bytes'] / 1e6:.3g} MB"))
        return lines

    def misses(self) -> str:
        found = [v for v in self.verdicts if v.outcome in ("miss", "not supported yet")]
        if not found:
            return "None."
        return "\n".join([f"- **{v.case}** ({v.target}): {_by_how_much(v)} {reason_for(v.case)}" for v in found])

    def text(self) -> str:
        parts = [self.setting(), aligned(self.targets()), aligned(self.figures()), aligned(self.cold()),
                 aligned(self.growth()), *[f"FAILED: {f}" for f in self.failures]]
        return "\n\n".join(parts)

    def markdown(self) -> str:
        parts = {"setting": self.setting(), "targets": table(self.targets()), "misses": self.misses(),
                 "cold": table(self.cold()), "growth": table(self.growth()), "figures": table(self.figures())}
        return re.sub(r"<!-- (\w+) -->", lambda m: parts[m[1]], TEMPLATE.read_text("utf-8"))

    def as_dict(self) -> dict[str, Any]:
        return {
            "setting": self.setting(), "versions": dict(self.versions), "absent": list(self.absent),
            "threads": self.threads, "is_short": self.is_short, "failures": list(self.failures),
            "verdicts": [asdict(v) for v in self.verdicts], "rows": [asdict(r) for r in self.rows],
            "tables": dict(self.tables),
        }

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks.md").write_text(self.markdown(), "utf-8")
        (folder / "benchmarks.json").write_text(json.dumps(self.as_dict(), indent=1, default=str) + "\n", "utf-8")


def table(lines: Sequence[Line]) -> str:
    head, *rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *rows])


def aligned(lines: Sequence[Line]) -> str:
    widths = [max([len(line[k]) for line in lines]) for k in range(len(lines[0]))]
    padded = [[cell.ljust(w) for cell, w in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(["  ".join(line).rstrip() for line in padded])


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{seconds_text(spread.median)} ({seconds_text(spread.first)} to {seconds_text(spread.third)})"


def _traffic(n: int, seconds: float) -> float:
    """GB/s of a product H v: x and v are read once and the product is written."""
    return 3 * 8 * n / seconds / 1e9


def _by_how_much(verdict: Verdict) -> str:
    if verdict.outcome == "not supported yet":
        return f"not supported yet ({verdict.note})."
    if verdict.ratio is None:
        return f"{verdict.ours}."
    return f"{verdict.ours} against {verdict.peer}, ratio {verdict.ratio:.3g}."
