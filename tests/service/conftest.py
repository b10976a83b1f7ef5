"""One server for all tests that do not harm it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from serving import Server, running, wait_for


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("service") / "server.log"
    with running(log, compute_processes=2, max_threads=2, max_body_bytes=8 << 20, body_timeout_s=2, queue_length=8,
                 max_nodes=20_000, segment_bytes=32_768, max_inflated_bytes=16 << 20) as started:
        yield started


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="session")
def warm_client(client: httpx2.Client) -> httpx2.Client:
    """A client of the server once its VM is loaded."""
    wait_for(lambda: client.get("/readyz").status_code == 200, 120)
    return client
