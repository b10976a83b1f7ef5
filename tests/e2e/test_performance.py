"""`PerformanceWarning`: what runs in NumPy, op by op, is said once for each function, here and over HTTP."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import slow

X = np.array([0.1, 0.2])


def loop(steps: int) -> Any:
    """A loop whose step has a maximum of its carry, which has no compiled form."""
    return lambda x: hesse.fori_loop(0, steps, lambda i, c: xp.sin(c) + xp.max(x * c), xp.ones(())) + 0.0


def heard(client: hesse.Client, f: Any, seconds: float = 30.0) -> list[str]:
    """The warnings of calls of `grad`: at first the engine answers by NumPy alone, while it loads."""
    end = time.monotonic() + seconds
    found: list[str] = []
    while not found and time.monotonic() < end:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client.func.grad(f)(X)
        found = [str(w.message) for w in caught if issubclass(w.category, hesse.PerformanceWarning)]
        files = [w.filename for w in caught]
        assert not files or files[0] == __file__
    return found


def test_a_loop_in_numpy_is_said_once(client: hesse.Client) -> None:
    slow._warned.clear()
    f = loop(2000)
    (text,) = heard(client, f)
    assert text.startswith("grad: about ")
    assert "scan" in text
    assert heard(client, f, 0.5) == []


def test_small_functions_are_quiet(client: hesse.Client) -> None:
    slow._warned.clear()
    heard(client, loop(2000))  # the engine is loaded now
    assert heard(client, loop(3), 0.5) == []


def test_it_can_be_switched_off(client: hesse.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    slow._warned.clear()
    heard(client, loop(2000))
    monkeypatch.setenv("HESSE_PERFORMANCE_WARNINGS", "0")
    assert heard(client, loop(2001), 0.5) == []
    monkeypatch.delenv("HESSE_PERFORMANCE_WARNINGS")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=hesse.PerformanceWarning)
        client.func.grad(loop(2002))(X)
    assert issubclass(hesse.PerformanceWarning, UserWarning)
