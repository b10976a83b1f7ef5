"""`make load`: a service on a free port, Locust against it for a bounded time, and the thresholds."""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from examples.demo import service  # noqa: E402  (the repository's root is not installed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtests/run.py", description=__doc__)
    parser.add_argument("--users", type=int, default=13, help="users at once (default 13)")
    parser.add_argument("--seconds", type=int, default=20, help="length of the run (default 20)")
    parser.add_argument("--url", help="a running service; default: one is started")
    return parser.parse_args()


def locust(url: str, users: int, seconds: int, results: Path) -> int:
    command = [sys.executable, "-m", "locust", "-f", FOLDER / "locustfile.py", "--headless", "--host", url,
               "--users", users, "--spawn-rate", users, "--run-time", f"{seconds}s", "--only-summary",
               "--csv", results / "load"]
    results.mkdir(exist_ok=True)
    return subprocess.run([str(c) for c in command], check=False).returncode  # noqa: S603  (our own arguments)


def violations(stats: Path, thresholds: Mapping[str, Any]) -> list[str]:
    """What the run did not keep to, in words."""
    with stats.open(encoding="utf-8") as lines:
        rows = {row["Name"]: row for row in csv.DictReader(lines)}
    total, found = rows["Aggregated"], []
    if int(total["Failure Count"]) > thresholds["failures"]:
        found.append(f"{total['Failure Count']} failures, at most {thresholds['failures']}")
    for name, limits in thresholds.items():
        if not isinstance(limits, dict):
            continue
        row = rows[name]
        for what, column in (("median", "50%"), ("p99", "99%")):
            if float(row[column]) > limits[what]:
                found.append(f"{name}: {what} {row[column]} ms, at most {limits[what]} ms")
        if int(row["Request Count"]) < limits["least_requests"]:
            found.append(f"{name}: {row['Request Count']} requests, at least {limits['least_requests']}")
    return found


def main() -> int:
    options, results = arguments(), FOLDER / "results"
    if options.url:
        status = locust(options.url, options.users, options.seconds, results)
    else:
        with service() as url:
            status = locust(url, options.users, options.seconds, results)
    found = violations(results / "load_stats.csv", tomllib.loads((FOLDER / "thresholds.toml").read_text("utf-8")))
    print("\n".join(found) or "All thresholds kept.")
    return 1 if found or status not in (0, 1) else 0


if __name__ == "__main__":
    sys.exit(main())
