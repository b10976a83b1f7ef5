"""What probes hear."""

from __future__ import annotations

from pathlib import Path

import httpx2

from serving import running, wait_for


def test_readiness_says_why_not(tmp_path: Path) -> None:
    with running(tmp_path / "log", compute_processes=1) as server, httpx2.Client(base_url=server.url) as client:
        first = client.get("/readyz")  # the VM takes longer than the first answer
        assert first.status_code == 503
        assert first.json()["code"] == "not-ready"
        assert first.json()["retryable"] is True
        assert int(first.headers["retry-after"]) >= 1
        assert client.head("/readyz").status_code == 503
        assert client.get("/livez").json() == {"status": "ok"}
        wait_for(lambda: client.get("/readyz").status_code == 200, 120)
        assert client.get("/readyz").json() == {"status": "ok"}
        for path in ("/livez", "/readyz"):
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")


def test_readiness_tells_of_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(tmp_path / "log", compute_processes=1, data_dir=data) as server:
        wait_for(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, 120)
        store = data / "functions.sqlite"
        with store.open("r+b") as file:
            file.write(b"\0" * store.stat().st_size)  # a damaged disk
        for name in ("functions.sqlite-wal", "functions.sqlite-shm"):
            if (data / name).exists():
                with (data / name).open("r+b") as file:
                    file.write(b"\0" * (data / name).stat().st_size)
        response = wait_for(lambda: unready(httpx2.get(f"{server.url}/readyz")), 10)
        assert response.json()["code"] == "store-unavailable"
        assert int(response.headers["retry-after"]) >= 1
        assert httpx2.get(f"{server.url}/livez").status_code == 200


def unready(response: httpx2.Response) -> httpx2.Response | None:
    return response if response.status_code == 503 else None
