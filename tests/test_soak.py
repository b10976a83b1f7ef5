"""The soak in its short form: half a minute of mixed requests, with kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.soak import Plan, report, soak


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_half_a_minute_of_mixed_requests_and_kills(tmp_path: Path) -> None:
    """In so short a run caches still fill: the growth allowed is that of a warm-up, the slope is for the long form."""
    plan = Plan(minutes=0.5, kill_s=8.0, growth_mib=200.0)
    found = soak(plan, tmp_path / "server.log")
    assert report(plan, found) == []
    assert found.kills >= 2
    assert found.answers["ok"] >= 50
