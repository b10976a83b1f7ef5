"""`python -m benchmarks.serving`: the HTTP layer beside the least that its framework can do.

Prints a table and writes serving.json and serving.md; it asserts nothing. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving import report
from benchmarks.serving.measurements import SHORT, Effort, measured
from benchmarks.serving.servers import machine

RESULTS = Path(__file__).parents[1] / "results"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--short", action="store_true", help="short windows: it runs, no more")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown, for docs/load.md")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for serving.json and serving.md")
    options = parser.parse_args(given)
    here = machine()
    os.sched_setaffinity(0, here.own)
    figures = asyncio.run(measured(here, SHORT if options.short else Effort()))
    print((report.markdown if options.markdown else report.text)(figures, here))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "serving.json").write_text(report.document(figures, here), "utf-8")
    (options.out / "serving.md").write_text(report.markdown(figures, here), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
