"""One server, started by the command that users type, and clients with and without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

import hesse
from serving import free_port, wait_for


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/livez").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `hesse serve` on a free port."""
    log: Path = tmp_path_factory.mktemp("e2e") / "server.log"
    port = free_port()
    command = [sys.executable, "-m", "hesse.cli", "serve", "--port", str(port), "--workers", "1"]
    with log.open("wb") as sink:
        settings = {**os.environ, "HESSE_COMPUTE_PROCESSES": "1"}
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=settings)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(url) or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="session", params=["embedded", "http"])
def client(request: pytest.FixtureRequest) -> Iterator[hesse.Client]:
    """A client that computes in this process, and one that asks the server."""
    url = ":local:" if request.param == "embedded" else request.getfixturevalue("service_url")
    with hesse.Client(url) as opened:
        yield opened


@pytest.fixture
def http_client(service_url: str) -> Iterator[hesse.Client]:
    with hesse.Client(service_url) as opened:
        yield opened
