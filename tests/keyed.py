"""API keys for servers under test, written by hand: the hashes here share no code with the service."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2


def line(name: str, number: int, secret: str = "", **more: Any) -> dict[str, Any]:
    """The line of the keys file for the key that `text` gives."""
    return {"name": name, "id": f"{number:012x}", "created": "2026-01-01T00:00:00Z",
            "sha256": hashlib.sha256((secret or _secret(number)).encode()).hexdigest(), **more}


def text(number: int) -> str:
    return f"hesse_{number:012x}_{_secret(number)}"


def _secret(number: int) -> str:
    return hashlib.sha256(f"secret {number}".encode()).hexdigest()[:48]


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join([json.dumps(found) + "\n" for found in lines]))
    path.chmod(0o600)
    return path


def holder(url: str, number: int) -> httpx2.Client:
    """A client that shows the key with this number."""
    return httpx2.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {text(number)}"})
