"""The predicted peak is what a process grows by: measured in processes of their own, for results above 64 MB.

A process warms up on a small problem of the same kind, gives free memory back, has the kernel forget the peak so far,
and runs: the new peak above what was resident is what the computation took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.25
LEAST = 64_000_000

SCRIPT = """
import ctypes, gc, json, sys
import numpy as np
import hesse
from hesse.current import current_client
from hesse.embedded import Embedded
from hesse_engine.backend import kernels

class Watched(Embedded):
    def prepare(self, call):
        self.last = super().prepare(call)
        return self.last

def rosenbrock(x): return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
def coupled(x): return np.sum(np.sin(x)) ** 2 * np.exp(0.001 * np.sum(x * x))
def pairs(x):
    d = x[:, None] - x[None, :]
    return np.sum(np.sqrt(d * d + 0.1))

KINDS = {
    "assembled": (rosenbrock, "hessian", {}),
    "pairs": (pairs, "hessian", {}),
    "swept": (coupled, "hessian", {"strategy": "forward-over-reverse"}),
    "csr": (rosenbrock, "hessian", {"layout": "csr"}),
    "hvp": (rosenbrock, "hvp", {}),
}

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def run(kind, n):
    f, operation, options = KINDS[kind]
    x = np.linspace(0.5, 1.5, n)
    given = (x, np.ones(n)) if operation == "hvp" else (x,)
    g = hesse.function(f)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = status("VmRSS")
    result = getattr(g, operation)(*given, **options)
    grown = status("VmHWM") - before
    plan = engine.last.plan
    return {"grown": grown, "predicted": plan.predicted_peak_bytes, "result": plan.result_bytes,
            "strategy": plan.strategy}

engine = current_client().embedded = Watched()
kernels.load(wait=True)
run(sys.argv[1], 64)
print(json.dumps(run(sys.argv[1], int(sys.argv[2]))))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel must forget a peak when asked")
@pytest.mark.parametrize(("kind", "n"), [
    ("assembled", 4000), ("pairs", 4000), ("swept", 3000), ("csr", 4_000_000), ("hvp", 10_000_000),
])
def test_the_predicted_peak_is_what_the_process_grows_by(kind: str, n: int) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, kind, str(n)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["predicted"] > LEAST
    assert found["predicted"] == pytest.approx(found["grown"], rel=TOLERANCE), found
