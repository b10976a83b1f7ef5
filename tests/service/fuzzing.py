"""Hostile requests in this process: each gives a declared 4xx, or the answer that the other interpreter gives too.

    python tests/service/fuzzing.py --minutes 10
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mutations import bodies

from hesse_engine.errors import STATUS, HesseError
from hesse_service import codec
from hesse_service.evaluator import Evaluator, translate
from hesse_service.exchange import Terms
from hesse_service.settings import Settings
from hesse_service.store import Store

LONGEST_S = 3.0  # of processor time; the promise is a second, on a processor that is not shared
SETTINGS = Settings(max_memory_bytes=1 << 26, max_nodes=20_000, max_elements=1 << 20, max_threads=1, threads=1)
DISCRETE = ("bool", "int")


class Fault(AssertionError):
    """A broken promise, with the request that broke it."""


def evaluator() -> Evaluator:
    folder = Path(tempfile.mkdtemp(prefix="hesse-fuzz-"))
    return Evaluator(SETTINGS, Store(folder / "functions.sqlite", 1000, 1 << 26))


def outcome(asked: Evaluator, operation: str, value: Any) -> bytes | HesseError:
    """The answer or the declared error.

    Raises:
        Fault: of any other exception.
    """
    kind = operation if operation in ("plan", "register") else "call"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return b"".join(asked.answer(kind, operation, value, Terms(), lambda left_s: None).pieces)
    except Exception as error:
        found = translate(error)
        if found is None or not 400 <= STATUS.get(found.code, 0) < 500:
            raise Fault("".join(traceback.format_exception(error)[-6:])) from error
        return found


def examine(asked: Evaluator, operation: str, body: bytes) -> str:
    """What became of one body: the code, or "answered".

    Raises:
        Fault: an exception that is none of ours, too much time, or two interpreters that differ.
    """
    started = time.process_time()
    try:
        value = codec.parse(body, SETTINGS.max_json_parts)
    except HesseError as error:
        return error.code
    found = outcome(asked, operation, value)
    spent = time.process_time() - started
    if spent > LONGEST_S:
        raise Fault(f"{spent:.1f} s of processor time")
    if isinstance(found, HesseError):
        return found.code
    if operation not in ("plan", "register"):
        _compare(asked, operation, value, found)
    return "answered"


def _compare(asked: Evaluator, operation: str, value: Any, answer: bytes) -> None:
    """The reference interpreter gives the same numbers as the VM."""
    for tier in ("reference", "vm"):
        again = outcome(asked, operation, {**value, "options": {**value.get("options", {}), "tier": tier}})
        if isinstance(again, HesseError):
            raise Fault(f"tier {tier} refuses what was answered: {again.code} {again}")
        mine, theirs = _numbers(json.loads(answer)["result"]), _numbers(json.loads(again)["result"])
        if len(mine) != len(theirs) or not np.allclose(mine, theirs, rtol=1e-6, atol=1e-9 * _scale(mine),
            equal_nan=True):
            raise Fault(f"tier {tier} differs: {mine[:8]} {theirs[:8]}")


def _scale(numbers: Any) -> float:
    finite = np.abs(numbers[np.isfinite(numbers)])
    return max(1.0, float(finite.max(initial=0.0)))


def _numbers(result: Any) -> Any:
    """All numbers of a result in their order."""
    flat: list[float] = []
    waiting = [result]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [value[k] for k in sorted(value)]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, (int, float)) or value in ("NaN", "Infinity", "-Infinity"):
            flat.append(float(value))
    return np.array(flat)


def main() -> int:
    """Random seeds for some minutes; every fault is printed with its request."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, resource.RLIM_INFINITY))
    end, seed = time.monotonic() + 60 * asked.minutes, asked.seed or random.SystemRandom().randrange(1 << 40)
    counts: dict[str, int] = {}
    faults, engine = 0, evaluator()
    while time.monotonic() < end:
        for operation, body in bodies(seed, 200):
            try:
                code = examine(engine, operation, body)
            except Fault as fault:
                faults, code = faults + 1, "fault"
                sys.stdout.write(f"seed {seed}: {operation} {body[:600]!r}\n{fault}\n\n")
            counts[code] = counts.get(code, 0) + 1
        seed += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    found = dict(sorted(counts.items()))
    sys.stdout.write(f"{sum(counts.values())} requests, {faults} faults, peak {grown} MiB; {found}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
