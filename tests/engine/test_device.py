"""How many cores there are to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hesse_engine.backend import device


@pytest.mark.parametrize(("text", "most"), [
    ("max 100000", 1000), ("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1), ("6400000 100000", 64),
    ("", 1000), ("fast", 1000), ("100000", 1000), ("100000 0", 1000), (None, 1000),
])
def test_a_container_s_quota_bounds_the_cores(
    text: str | None, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.max"
    if text is not None:
        path.write_text(f"{text}\n", "ascii")
    monkeypatch.setattr(device, "CPU_MAX", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert device.available_threads() == min(8, most)
