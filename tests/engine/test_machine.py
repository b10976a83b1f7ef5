"""The machine's rates: measured once, kept on disk, never in the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from hesse_engine.backend import kernels, machine
from hesse_engine.backend.machine import DEFAULTS, Machine


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, and nothing known yet."""
    kernels.load(wait=True)
    cache = tmp_path / "cache"
    monkeypatch.setenv("HESSE_CACHE_DIR", str(cache))
    machine.forget()
    yield cache
    _join()
    machine.forget()


def _join() -> None:
    for thread in threading.enumerate():
        if thread.name == "hesse-calibrate":
            thread.join()


def test_rates_are_positive_and_kept() -> None:
    found = machine.calibrate()
    assert all(getattr(found, f.name) > 0 for f in fields(Machine))
    file = machine.path()
    assert file is not None
    assert Machine(**json.loads(file.read_text("utf-8"))) == found
    assert not list(file.parent.glob("*.tmp"))
    machine.forget()
    assert machine.current() == found


def test_asking_does_not_measure_on_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    rates = replace(DEFAULTS, call=2e-6)

    def measure() -> Machine:
        measured.append(threading.current_thread().name)
        return rates

    monkeypatch.setattr(machine, "_measure", measure)
    assert machine.current() in (DEFAULTS, rates)
    _join()
    assert measured == ["hesse-calibrate"]
    assert machine.current() == rates


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({**asdict(DEFAULTS), "call": "fast"}), "null"])
def test_a_broken_file_is_measured_anew(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_measure", lambda: replace(DEFAULTS, run=3e-6))
    file = machine.path()
    assert file is not None
    file.write_text(text, "utf-8")
    assert machine.current() in (DEFAULTS, replace(DEFAULTS, run=3e-6))
    _join()
    assert machine.current().run == 3e-6
    assert json.loads(file.read_text("utf-8"))["run"] == 3e-6


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan"), 1e30])
def test_a_rate_out_of_all_proportion_is_not_believed(value: float) -> None:
    file = machine.path()
    assert file is not None
    file.write_text(json.dumps({**asdict(DEFAULTS), "gemm_flops": value, "run": 3e-6}), "utf-8")
    assert machine.current() == replace(DEFAULTS, run=3e-6)


def test_a_cache_that_cannot_be_used_leaves_the_rates_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSE_CACHE_DIR", "/dev/null/nowhere")
    assert machine.path() is None
    found = machine.calibrate()
    assert machine.current() is found


def test_a_failed_measurement_leaves_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Machine:
        raise RuntimeError("no clock")

    monkeypatch.setattr(machine, "_measure", fail)
    machine.current()
    _join()
    assert machine.current() == DEFAULTS
