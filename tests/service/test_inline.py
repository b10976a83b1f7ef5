"""Which computations stay on the event loop: those that are cheap, whatever the clock on the wall says."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hesse_service import codec
from hesse_service.evaluator import Evaluator, HotKey
from hesse_service.exchange import Terms
from hesse_service.inline import STRIKES, Inline
from hesse_service.schemas import CallRequest
from hesse_service.settings import Settings
from hesse_service.store import Store

CUBE = {"expression": "sum(x**3)", "inputs": ["x"]}
POINT = [1.0, 2.0, 3.0]
LIMIT_S = 0.02


class Delayed:
    """A computation that takes longer, by sleeping (others have the core) or by computing."""

    def __init__(self, prepared: Any, is_computing: bool) -> None:
        self.prepared, self.is_computing, self.is_on = prepared, is_computing, True

    def __call__(self, *arguments: Any) -> Any:
        end = time.perf_counter() + 2 * LIMIT_S
        used = time.thread_time() + 2 * LIMIT_S
        while self.is_on and (time.thread_time() < used if self.is_computing else time.perf_counter() < end):
            if not self.is_computing:
                time.sleep(LIMIT_S / 4)
        return self.prepared(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prepared, name)


@pytest.fixture
def inline(tmp_path: Path) -> Any:
    settings = Settings(inline_s=LIMIT_S)
    made = Inline(Evaluator(settings, Store(tmp_path / "functions.sqlite", 100, 1 << 20)))
    yield made
    made.close()
    made.evaluator.store.close()


def prepared(inline: Inline, is_computing: bool) -> tuple[CallRequest, HotKey, Delayed]:
    signature = [{"name": "x", "shape": [3], "dtype": "float64"}]
    registered = inline.evaluator.register({"function": CUBE, "inputs": signature}, Terms())
    name = codec.parse(b"".join(registered.pieces))["id"]
    call = codec.validate(CallRequest, {"function": {"id": name}, "inputs": [POINT]})
    key = HotKey("", name, "hessian", inline.evaluator._options(call.options))
    entry = inline.evaluator.warm(key)
    delayed = Delayed(entry.prepared, is_computing)
    slow: Any = replace(entry, prepared=delayed)  # type: ignore[arg-type]
    inline.evaluator.entries.put(key, slow, 1)
    return call, key, delayed


def answered(inline: Inline, call: CallRequest) -> bool:
    """Whether the event loop answered; then rightly."""
    entry = inline.entry("hessian", call, Terms())
    if entry is None:
        return False
    answer = inline.answer("hessian", call, entry, Terms())
    data = codec.parse(b"".join(answer.pieces))["result"]["data"]
    np.testing.assert_array_equal(np.reshape(data, (3, 3)), np.diag(6.0 * np.array(POINT)))
    return True


def test_what_computes_for_long_leaves(inline: Inline) -> None:
    call, key, _ = prepared(inline, is_computing=True)
    assert [answered(inline, call) for _ in range(STRIKES + 1)] == [True] * STRIKES + [False]
    inline.promote(key)
    inline._thread.submit(lambda: None).result(10)
    assert not answered(inline, call), "it came back while banned"


def test_what_only_waits_for_a_core_stays(inline: Inline) -> None:
    call, _, _ = prepared(inline, is_computing=False)
    assert all(answered(inline, call) for _ in range(3 * STRIKES))


def test_a_cheap_run_forgives(inline: Inline) -> None:
    call, _, delayed = prepared(inline, is_computing=True)
    for k in range(3 * STRIKES):
        delayed.is_on = k % STRIKES != 0
        assert answered(inline, call), k
