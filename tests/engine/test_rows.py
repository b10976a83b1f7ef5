"""The table loads on first need, once, and refuses rows that would fail later."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from hesse_engine.ir.rows import ROWS, describe, register

RACE = """
import threading
from hesse_engine.ir import rows
from hesse_engine.ir.graph import FLOAT64, Builder, apply

calls = []
original = rows.importlib.import_module
rows.importlib.import_module = lambda name: (calls.append(name), original(name))[1]
assert not dict.__len__(rows.ROWS)
barrier = threading.Barrier(16)
shapes, failures = [], []

def first_use(k):
    builder = Builder()
    x = builder.input("x", (k + 1,), FLOAT64)
    barrier.wait()
    try:
        shapes.append(apply("sum", apply("sin", x) * 2.0).shape)
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=first_use, args=(k,)) for k in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not failures, failures
assert shapes == [()] * 16
assert calls == [rows.FAMILIES], calls
"""


def test_racing_threads_load_the_families_once() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", RACE], check=True, timeout=60)


def test_an_unknown_op_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        ROWS["no_such_op"]


def test_the_table_describes_itself() -> None:
    entries = {e["name"]: e for e in describe()}
    assert {"sin", "matmul", "sum", "where", "max"} <= set(entries)
    assert "input" not in entries
    assert entries["sum"]["attrs"] == ["axis", "keepdims"]
    assert all(e["doc"] for e in entries.values())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (replace(ROWS.load()["sin"], name="sin"), "two rows"),
        (replace(ROWS.load()["sin"], name="sine", doc=""), "no docstring"),
        (replace(ROWS.load()["sin"], name="sine", arity=2), "the rule takes"),
        (replace(ROWS.load()["sum"], name="total", batch=None), "no batch rule"),
    ],
)
def test_broken_rows_are_refused_at_registration(row: object, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        register(row)  # type: ignore[arg-type]
    assert "sine" not in ROWS
    assert "total" not in ROWS
