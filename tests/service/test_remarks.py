"""What a server says at its start about settings that its operator may not have meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from hesse_service.server import remarks
from hesse_service.settings import Settings
from serving import running


@pytest.mark.parametrize(("names", "said"), [
    (["HESSE_MAX_BODYBYTES"], ["HESSE_MAX_BODYBYTES is no setting; HESSE_MAX_BODY_BYTES is one"]),
    (["HESSE_ZZZZZZZZ"], ["HESSE_ZZZZZZZZ is no setting"]),
    (["HESSE_MAX_BODY_BYTES", "HESSE_LOG_LEVEL", "HESSE_CACHE_DIR", "HESSE_API_KEY", "HOME"], []),
])
def test_names_that_are_no_settings(names: list[str], said: list[str]) -> None:
    assert remarks("127.0.0.1", Settings(), names) == said


@pytest.mark.parametrize(("host", "has_keys", "count"), [
    ("0.0.0.0", False, 1), ("192.0.2.1", False, 1), ("0.0.0.0", True, 0), ("::1", False, 0), ("localhost", False, 0),
])
def test_an_open_address_without_keys(host: str, has_keys: bool, count: int) -> None:
    settings = Settings(keys_file=Path("/keys") if has_keys else None)
    found = remarks(host, settings, [])
    assert len(found) == count
    assert all([host in text and "HESSE_KEYS_FILE" in text for text in found])


def test_a_server_logs_them_and_starts(tmp_path: Path) -> None:
    with running(tmp_path / "log", compute_processes=1, max_bodybytes=5) as server:
        assert "HESSE_MAX_BODYBYTES is no setting" in server.log.read_text()
