"""`make load`: a service on a free port, Locust against it for a bounded time, a table, and the thresholds.

Exit code 0: all thresholds kept. 1: not. 2: no load was made.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
sys.path.insert(0, str(ROOT))

from examples.demo import service  # noqa: E402  (the repository's root is not installed)

QUANTILES = (("median", "50%"), ("p99", "99%"))
FULL_S = 20  # length of a run for which `least_requests` is meant
Row = Mapping[str, str]


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtests/run.py", description=__doc__)
    parser.add_argument("--users", type=int, default=14, help="users at once (default 14)")
    parser.add_argument("--seconds", type=int, default=20, help="length of the run (default 20)")
    parser.add_argument("--url", help="a running service; default: one is started")
    parser.add_argument("--thresholds", type=Path, default=FOLDER / "thresholds.toml", help="what must be kept to")
    parser.add_argument("--slack", type=float, default=1.0, metavar="FACTOR",
                        help="allow times this much longer, on a machine that does other work (default 1)")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder for the report and the figures")
    return parser.parse_args(given)


def locust(url: str, options: argparse.Namespace) -> int:
    """Run the users; the code is Locust's own (1: there were failures)."""
    command = [sys.executable, "-m", "locust", "-f", FOLDER / "locustfile.py", "--headless", "--host", url,
               "--users", options.users, "--spawn-rate", options.users, "--run-time", f"{options.seconds}s",
               "--stop-timeout", "20s", "--only-summary", "--csv", options.out / "load",
               "--html", options.out / "report.html"]
    env = {**os.environ, "LOAD_RESULTS": str(options.out),
           "PYTHONPATH": os.pathsep.join([str(ROOT), *[p for p in sys.path if p]])}
    log = options.out / "locust.log"
    with log.open("wb") as sink:
        return subprocess.run([str(c) for c in command], env=env, stdout=sink, stderr=sink,  # noqa: S603  (our own)
                              check=False).returncode


def warm(url: str) -> None:
    """Wait a minute at most for a service that was just started: until its VM is loaded, an interpreter answers."""
    for _ in range(600):
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/readyz", timeout=10).status_code == 200:
                return
        time.sleep(0.1)


def offered(url: str) -> set[str]:
    """Paths of the service, and media types in which it answers."""
    paths = httpx2.get(f"{url}/openapi.json", timeout=30).json()["paths"]
    answers = paths["/v1/hessian"]["post"]["responses"]["200"]["content"]
    return {*paths, *answers}


# ---- the verdict -----------------------------------------------------------------------------------------------------
def rows_of(stats: Path) -> dict[str, Row]:
    with stats.open(encoding="utf-8", newline="") as lines:
        return {row["Name"]: row for row in csv.DictReader(lines)}


def violations(rows: Mapping[str, Row], codes: Mapping[str, int], thresholds: Mapping[str, Any], features: set[str],
               seconds: float = FULL_S, slack: float = 1.0) -> list[str]:
    """What the run did not keep to, in words."""
    total, found = rows["Aggregated"], []
    if int(total["Failure Count"]) > thresholds["failures"]:
        found.append(f"{total['Failure Count']} failures, at most {thresholds['failures']}")
    for code, share in thresholds["codes"].items():
        rate = codes.get(code, 0) / max(1, int(total["Request Count"]))
        if rate > share:
            found.append(f"{100 * rate:.2f} % of the requests were answered {code}, at most {100 * share:g} %")
    for name, limits in thresholds["names"].items():
        if limits.get("needs", "") in {"", *features}:
            found += _of_row(name, rows.get(name), limits, min(1.0, seconds / FULL_S) / slack, slack)
    return found


def _of_row(name: str, row: Row | None, limits: Mapping[str, Any], share: float, slack: float) -> list[str]:
    least = max(1, int(share * limits["least_requests"]))
    count = 0 if row is None else int(row["Request Count"])
    if row is None or count < least:
        return [f"{name}: {count} requests, at least {least}"]
    return [f"{name}: {what} {row[column]} ms, at most {slack * limits[what]:g} ms"
            for what, column in QUANTILES if float(row[column]) > slack * limits[what]]


def table(rows: Mapping[str, Row], codes: Mapping[str, int], style: str = "{:24} {:>9} {:>9} {:>9} {:>8} {:>8}") -> str:
    """Requests, failures, rate and latencies of every name."""
    lines = [style.format("", "requests", "failures", "per s", "p50 ms", "p99 ms")]
    lines += [style.format(name, row["Request Count"], row["Failure Count"], f"{float(row['Requests/s']):.1f}",
                           row["50%"], row["99%"]) for name, row in rows.items()]
    return "\n".join([*lines, *[f"answered {code}: {count}" for code, count in codes.items()]])


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    options.out.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(options.url) if options.url else service() as url:
        warm(url)
        return judged(url, options)


def judged(url: str, options: argparse.Namespace) -> int:
    stats, counted = options.out / "load_stats.csv", options.out / "codes.json"
    for old in (stats, counted):
        old.unlink(missing_ok=True)
    thresholds = tomllib.loads(options.thresholds.read_text("utf-8"))
    features = offered(url)
    status = locust(url, options)
    if status not in (0, 1) or not stats.exists():
        print((options.out / "locust.log").read_text("utf-8"))
        return 2
    rows, codes = rows_of(stats), json.loads(counted.read_text("utf-8"))
    print(table(rows, codes))
    if int(rows["Aggregated"]["Failure Count"]):
        print((options.out / "load_failures.csv").read_text("utf-8"))
    skipped = [n for n, limits in thresholds["names"].items() if limits.get("needs", "") not in {"", *features}]
    print(*[f"Not offered by this service: {name}" for name in skipped], sep="\n", end="\n" if skipped else "")
    found = violations(rows, codes, thresholds, features, options.seconds, options.slack)
    print("\n".join(found) or "All thresholds kept.")
    print(f"Report: {options.out / 'report.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
