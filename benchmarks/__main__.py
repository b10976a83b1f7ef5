"""`python -m benchmarks`: check, time, judge, print, and write to benchmarks/results/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import chart, separate
from benchmarks.cases import Case, cases
from benchmarks.claims import OURS
from benchmarks.peers import BUFFER, installed
from benchmarks.report import Report, case_verdicts
from benchmarks.timing import Bench, Differs, Row

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small sizes, few turns: it runs, no more")
    parser.add_argument("--case", action="append", default=[], metavar="NAME",
                        help="this case (again for more), or all whose names begin with NAME-; also "
                             f"{', '.join(separate.NAMES)}")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--threads", type=int, default=2, help="cores for every contender (default 2)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for benchmarks.md, .json and charts")
    parser.add_argument("--page", action="store_true", help="also write docs/benchmarks.md and its charts")
    parser.add_argument("--verbose", action="store_true", help="print the trace of what a contender raised")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    table = cases(options.short)
    names = [c.name for c in table] + list(separate.NAMES)
    if options.list:
        print(*names, sep="\n")
        return 0
    chosen = [n for n in names if not options.case or any(n == o or n.startswith(f"{o}-") for o in options.case)]
    unknown = [o for o in options.case if not any(n == o or n.startswith(f"{o}-") for n in names)]
    if unknown:
        print(f"There is no case {', '.join(unknown)}; the cases are {', '.join(names)}.", file=sys.stderr)
        return 2
    separate.environment(options.threads)
    report = measured([c for c in table if c.name in chosen], chosen, options)
    print(report.text())
    for folder in [options.out, *([DOCS] if options.page else [])]:
        report.write(folder)
        draw(report, folder)
    return 1 if report.failures else 0


def measured(table: Sequence[Case], chosen: Sequence[str], options: argparse.Namespace) -> Report:
    files, absent = installed()
    bench, found = Bench(files, options.short, verbose=options.verbose), separate.Findings()
    rows: list[Row] = []
    try:
        versions = bench.versions()
        for case in table:
            try:
                rows_of_case = bench.measure(case)
            except Differs as error:
                bench.failures.append(str(error))
                continue
            rows += rows_of_case
            found.verdicts += case_verdicts(case, rows_of_case)
        _measure_the_rest(bench, found, rows, chosen, options)
    finally:
        bench.close()
    return Report(table, rows, found.verdicts, found.tables, versions, absent, [*bench.failures, *found.failures],
                  options.threads, options.short)


def _measure_the_rest(
    bench: Bench, found: separate.Findings, rows: Sequence[Row], chosen: Sequence[str], options: argparse.Namespace
) -> None:
    hots = {r.case: r.hot.median for r in rows if r.hot is not None and r.contender == OURS}
    if "rosenbrock-million" in hots:
        separate.plan_of_million(found, bench, hots["rosenbrock-million"])
    if "cold" in chosen:
        colds: dict[str, dict[str, float]] = {}
        for r in rows:
            if r.cold is not None:
                colds.setdefault(r.case, {})[r.contender] = r.cold.median
        separate.cold(found, bench, colds)
    bench.close()  # nothing beside what comes in processes of its own
    if "huge" in chosen:
        separate.huge(found, options.threads, options.short)
    if "start" in chosen:
        separate.start(found, options.short)
    if "growth" in chosen:
        separate.growth(found, options.threads, options.short)


def draw(report: Report, folder: Path) -> None:
    shown: list[tuple[str, dict[str, float]]] = []
    for case in report.cases:
        hots = {r.contender: r.hot.median for r in report.rows if r.case == case.name and r.hot is not None}
        if OURS not in hots:
            continue
        ratios: dict[str, float] = {}
        for name, seconds in hots.items():
            kind = next((k for k in chart.COLORS if name.startswith(k)), None)
            if kind is not None and not name.endswith(BUFFER):
                ratio = seconds / hots[OURS]
                ratios[kind] = min(ratio, ratios.get(kind, ratio))
        shown.append((case.title, ratios))
    (folder / "benchmarks.svg").write_text(chart.ratios(shown), "utf-8")
    panels = []
    for title, key in (("seconds of a hot call, by n", "hot_s"), ("bytes, by n", "bytes")):
        series: dict[str, list[tuple[float, float]]] = {}
        for p in report.tables.get("growth", []):
            series.setdefault(p["series"], []).append((float(p["n"]), float(p[key])))
        panels.append((title, series))
    (folder / "growth.svg").write_text(chart.lines(panels), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
