"""Jobs whose answers come in blocks of rows, and how far jobs say they are; from real compute processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic_core import to_json

from hesse_service.bodies import Body
from hesse_service.exchange import Terms
from hesse_service.rows import RowStream
from hesse_service.settings import Settings
from hesse_service.workers import Work, Workers
from serving import Server, running, slow_graph, slow_request, tensor, wait_for

SIZE, HEIGHT = 100, 10
ASYNC = {"Prefer": "respond-async"}
# f = exp(c' x) has the dense Hessian f c c'
C, X = np.linspace(-1.0, 1.0, SIZE), np.cos(np.arange(SIZE)) / SIZE
DENSE = {"function": {"expression": "exp(sum(c * x))", "inputs": ["c", "x"]}, "inputs": [C.tolist(), X.tolist()],
         "options": {"argnums": 1, "stream": True}}
WANTED: NDArray[np.float64] = np.exp(C @ X) * np.outer(C, C)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job_streams")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(folder / "server.log", compute_processes=1, stream_block_bytes=8 * SIZE * HEIGHT, segment_bytes=1000,
                 data_dir=folder / "data", kept_segment_bytes=0) as started:
        wait_for(lambda: httpx2.get(f"{started.url}/readyz").status_code == 200, 120)
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def ended(client: httpx2.Client, operation: str, body: Any, **headers: str) -> tuple[str, list[tuple[str, Any]]]:
    """The path of a job and its events, all of them."""
    response = client.post(f"/v1/{operation}", json=body, headers={**ASYNC, **headers})
    assert response.status_code == 202, response.text
    path = response.headers["location"]
    blocks = client.get(f"{path}/events").text.split("\n\n")
    told = [dict([line.split(": ", 1) for line in b.splitlines() if not line.startswith(":")]) for b in blocks]
    return path, [(t["event"], json.loads(t["data"])) for t in told if t]


def progress(told: list[tuple[str, Any]]) -> list[tuple[int, int]]:
    return [(data["done"], data["total"]) for kind, data in told if kind == "progress"]


def test_a_job_keeps_a_matrix_that_was_computed_in_blocks(client: httpx2.Client, server: Server) -> None:
    path, told = ended(client, "hessian", DENSE, Accept="application/octet-stream")
    assert told[-1] == ("end", {"state": "succeeded"})
    assert progress(told) == [(k, SIZE) for k in range(HEIGHT, SIZE + 1, HEIGHT)]
    answer = client.get(f"{path}/result")
    assert answer.headers["content-type"] == "application/octet-stream"
    split = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:split])["result"]["shape"] == [SIZE, SIZE]
    np.testing.assert_allclose(np.frombuffer(answer.content[split:], "<f8").reshape(SIZE, SIZE), WANTED, rtol=1e-12)
    assert not list(Path("/dev/shm").glob(f"hesse_{server.pid}_*"))


def test_a_stream_that_fails_midway_fails_the_job(tmp_path: Path) -> None:
    """All blocks together have the job's deadline; what was written of them is removed."""
    body = {"function": {"graph": slow_graph(1)}, "inputs": [[0.001] * 1000], "options": {"stream": True}}
    with running(tmp_path / "server.log", compute_processes=1, stream_block_bytes=8000, segment_bytes=1000,
                 data_dir=tmp_path / "data", job_deadline_s=12, kept_segment_bytes=0,
                 max_flops=10**16) as server:
        with httpx2.Client(base_url=server.url, timeout=100) as client:
            path, told = ended(client, "hessian", body, Accept="application/octet-stream")
            kind, data = told[-1]
            assert (kind, data["state"], data["error"]["code"]) == ("end", "failed", "deadline-exceeded")
            done, total = progress(told)[-1]
            assert 1 <= done < total == 1000
            answer = client.get(f"{path}/result")
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline-exceeded")
        assert not list((tmp_path / "data" / "jobs").iterdir())
        assert not list(Path("/dev/shm").glob(f"hesse_{server.pid}_*"))


def test_a_job_tells_the_chunks_of_its_computation(client: httpx2.Client) -> None:
    size, count = 1000, 20
    v = {"shape": [count, size], "dtype": "float64", "data": [0.5] * (count * size)}
    body = {"function": {"graph": slow_graph(1)}, "inputs": [[0.001] * size], "v": [v],
            "options": {"many": True, "chunk_size": 1}}
    path, told = ended(client, "hvp", body)
    found = progress(told)
    assert len(found) >= 2, told
    assert found[-1] == (count, count)
    assert found == sorted(set(found))
    assert tensor(client.get(f"{path}/result").json()["result"]["product"]).shape == (count, size)


def test_a_stream_that_nobody_waits_for_waits_for_room(tmp_path: Path) -> None:
    """The queue is full when the first block is to be computed."""
    def work(operation: str, body: Any) -> Work:
        content = to_json(body)
        return Work("call", operation, Body([content], len(content)), Terms(), 60.0)

    async def session(folder: Path) -> bytes:
        workers = Workers(Settings(compute_processes=1, queue_length=0), folder / "functions.sqlite")
        await workers.start()
        try:
            planned = await workers.run(work("hessian", DENSE))
            assert planned.plan is not None
            holding = asyncio.create_task(workers.run(work("value", {
                "function": {"graph": slow_graph(10)}, "inputs": [[0.001] * 1000]})))
            while not workers.busy:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            stream = RowStream(workers, work("hessian", DENSE), planned.plan, is_whole=True)
            await stream.begin()
            found = b"".join([bytes(piece) async for piece in stream.pieces()])
            await holding
            return found
        finally:
            await workers.close()

    found = asyncio.run(session(tmp_path))
    np.testing.assert_allclose(np.frombuffer(found, "<f8").reshape(SIZE, SIZE), WANTED, rtol=1e-12)


def test_who_waits_for_a_job_is_told_when_the_server_ends(tmp_path: Path) -> None:
    """It was accepted, so the answer says where it is; a client that left is waited for no longer."""
    with ThreadPoolExecutor(1) as threads:
        with running(tmp_path / "server.log", compute_processes=1, data_dir=tmp_path / "data", drain_s=60) as server:
            url = f"{server.url}/v1/value"
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(url, json=slow_request(), headers={"Prefer": "wait=600"}, timeout=3.0)
            wait_for(lambda: "disconnected" in server.log.read_text(), 10)
            waiting = threads.submit(httpx2.post, url, json=slow_request(), timeout=50, headers={"Prefer": "wait=600"})
            wait_for(lambda: len(httpx2.get(f"{server.url}/v1/jobs").json()["jobs"]) == 2, 20)
        response = waiting.result(10)  # the server has ended by then, within the 30 s that `running` waits
        assert response.status_code == 202, response.text
        assert response.json()["links"]["self"] == response.headers["location"]
