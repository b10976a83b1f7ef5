"""`python -m benchmarks`: check, time, print, and write to benchmarks/results/."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few turns: shows that it runs, not who is faster")
    parser.add_argument("--threads", type=int, default=1, help="cores for every contender (default 1)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for benchmarks.md and benchmarks.json")
    return parser.parse_args()


def confine(threads: int) -> None:
    """The same cores for all; to be called before any library that counts them is imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> int:
    options = arguments()
    confine(options.threads)
    from benchmarks.cases import cases
    from benchmarks.peers import installed
    from benchmarks.peers.embedded import nodes, warm_up
    from benchmarks.report import Report
    from benchmarks.timing import FULL, SHORT, fresh_scales, measure

    warm_up()
    contenders, absent = installed()
    chosen = [c for c in cases() if options.only in c.name]
    scales, rows = fresh_scales(), []
    for case in chosen:
        taking_part = [c for c in contenders if c.handles(case, options.short)]
        print(f"{case.name}: {', '.join(c.name for c in taking_part)}", file=sys.stderr, flush=True)
        rows += measure(case, taking_part, SHORT if options.short else FULL, scales)
    report = Report(rows, {c.name: c.version for c in contenders}, {c.name: nodes(c) for c in chosen}, absent,
                    options.threads, options.short)
    print(report.text())
    report.write(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
