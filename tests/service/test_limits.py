"""Every limit of the settings has a request here that reaches its code; a new limit without one fails."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

import keyed
from hesse_engine.errors import CODES, STATUS
from hesse_service.settings import Settings
from serving import Server, running, slow_request, wait_for

DESCRIBED = re.compile(r"\[[a-z]+\] -> ([a-z-]+)\.$")
LIMITS = {name: match[1] for name, field in Settings.model_fields.items()
          if (match := DESCRIBED.search(field.description or "")) is not None}

TIGHT: dict[str, Any] = {
    "compute_processes": 1, "queue_length": 1, "max_threads": 2, "deadline_s": 15, "body_timeout_s": 1,
    "max_body_bytes": 100_000, "max_nodes": 100, "max_rank": 5, "max_elements": 3000, "max_memory_bytes": 4_000_000,
    "max_flops": 5_000_000, "max_result_bytes": 200_000, "store_bytes": 1500, "key_concurrency": 4,
    "max_inflated_bytes": 150_000, "max_json_parts": 5_000,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    path = keyed.write(folder / "keys", *[keyed.line(f"owner.{k}", k) for k in range(1, 5)])
    with running(folder / "server.log", keys_file=path, **TIGHT) as started:
        yield started


def post(server: Server, body: Any, operation: str = "value", key: int = 1) -> httpx2.Response:
    with keyed.holder(server.url, key) as client:
        return client.post(f"/v1/{operation}", json=body)


def formula(expression: str, *inputs: Any, **options: Any) -> dict[str, Any]:
    return {"function": {"expression": expression}, "inputs": list(inputs), "options": options}


def ones(n: int) -> list[float]:
    return [1.0] * n


def long_sum(count: int) -> str:
    return " + ".join([f"{k}.5*x" for k in range(count)])


def product(n: int, rounds: int) -> dict[str, Any]:
    """x of n elements -> sum of the product of matrices: n * n elements at most, 2 n^3 flops each."""
    nodes: list[dict[str, Any]] = [
        {"id": "r", "op": "reshape", "args": ["x"], "attrs": {"shape": [1, n]}},
        {"id": "c", "op": "reshape", "args": ["x"], "attrs": {"shape": [n, 1]}},
        {"id": "m0", "op": "multiply", "args": ["r", "c"]},
    ]
    nodes += [{"id": f"m{k + 1}", "op": "matmul", "args": [f"m{k}", f"m{k}"]} for k in range(rounds)]
    nodes.append({"id": "y", "op": "sum", "args": [f"m{rounds}"]})
    return {"function": {"graph": {"format": "hesse-graph/1", "nodes": nodes, "outputs": ["y"],
                                   "inputs": [{"name": "x", "shape": [n], "dtype": "float64"}]}},
            "inputs": [[0.01] * n]}


def too_large_body(server: Server) -> httpx2.Response:
    return post(server, formula("sum(x)", ones(30_000)))


def slow_body(server: Server) -> httpx2.Response:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as opened:
        opened.sendall(b"POST /v1/value HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n"
                       + f"X-API-Key: {keyed.text(1)}\r\nConnection: close\r\n\r\n{{".encode())
        opened.settimeout(30)
        answer = b""
        while part := opened.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return httpx2.Response(int(head.split()[1]), content=body, headers={"content-type": "application/problem+json"})


def large_when_inflated(server: Server) -> httpx2.Response:
    body = gzip.compress(json.dumps(formula("sum(x)", ones(2), chunk_size=1)).encode() + b" " * 200_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with keyed.holder(server.url, 1) as client:
        return client.post("/v1/value", content=body, headers=headers)


def large_function(server: Server) -> httpx2.Response:
    with keyed.holder(server.url, 1) as client:
        return client.put("/v1/functions", json={"function": {"expression": long_sum(20), "inputs": ["x"]},
                                                 "inputs": [{"name": "x", "shape": [], "dtype": "float64"}]})


def many_at_a_time(server: Server) -> httpx2.Response:
    """Requests of one key whose bodies do not come, until one more is refused."""
    head = ("POST /v1/value HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
            f"X-API-Key: {keyed.text(2)}\r\n\r\n")
    opened: list[socket.socket] = []
    try:
        for _ in range(TIGHT["key_concurrency"]):
            opened.append(socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))))
            opened[-1].sendall(head.encode())

        def refused() -> httpx2.Response | None:
            response = httpx2.get(f"{server.url}/v1/functions", headers={"X-API-Key": keyed.text(2)})
            return response if response.status_code == 429 else None

        found: httpx2.Response = wait_for(refused, 10)
        return found
    finally:
        for connection in opened:
            connection.close()


# setting -> what reaches it
REACHED: dict[str, Callable[[Server], httpx2.Response]] = {
    "max_threads": lambda s: post(s, formula("sum(x)", ones(3), threads=3)),
    "body_timeout_s": slow_body,
    "max_body_bytes": too_large_body,
    "max_inflated_bytes": large_when_inflated,
    "max_json_parts": lambda s: post(s, formula("sum(x)", [[1.0]] * 6_000)),
    "max_nodes": lambda s: post(s, formula(long_sum(100), 1.0)),
    "max_rank": lambda s: post(s, product(4, 1) | {"function": _deep()}),
    "max_elements": lambda s: post(s, formula("sum(x)", ones(3001))),
    "max_memory_bytes": lambda s: post(s, formula("sum(x**2)", ones(1500)), "hessian"),
    "max_flops": lambda s: post(s, product(50, 40)),
    "max_result_bytes": lambda s: post(s, formula("sum(x**2)", ones(300)), "hessian"),
    "store_bytes": large_function,
    "key_concurrency": many_at_a_time,
}


def _deep() -> dict[str, Any]:
    nodes = [{"id": "d", "op": "reshape", "args": ["x"], "attrs": {"shape": [1, 1, 1, 1, 1, 4]}},
             {"id": "y", "op": "sum", "args": ["d"]}]
    return {"graph": {"format": "hesse-graph/1", "nodes": nodes, "outputs": ["y"],
                      "inputs": [{"name": "x", "shape": [4], "dtype": "float64"}]}}


OWN_TEST = {  # in test_processes, test_queue, test_connections, test_faults, test_streaming and test_jobs
    "queue_length", "deadline_s", "queue_share", "max_connections", "process_memory_bytes", "stream_deadline_s",
    "max_jobs", "job_deadline_s", "job_attempts", "job_keep_s", "job_bytes",
}


def test_every_limit_has_a_row() -> None:
    assert set(LIMITS) == set(REACHED) | OWN_TEST
    assert set(LIMITS.values()) <= set(CODES)
    named = {n for n in Settings.model_fields if n.startswith("max_")} - {"max_jobs"}  # that one in test_jobs.py
    assert named <= set(LIMITS), "a limit says which code it is refused with: '... [unit] -> code.'"


@pytest.mark.parametrize("name", REACHED)
def test_a_limit_answers_with_its_code(server: Server, name: str) -> None:
    response = REACHED[name](server)
    problem = response.json()
    assert (problem["code"], response.status_code) == (LIMITS[name], STATUS[LIMITS[name]]), problem
    assert response.status_code < 500
    assert response.headers["content-type"] == "application/problem+json"
    wait_for(lambda: post(server, formula("sum(x**2)", ones(3))).status_code == 200, 20)


def test_just_below_the_limits(server: Server) -> None:
    for body, operation in [
        (formula("sum(x)", ones(3), threads=2), "value"), (formula(long_sum(20), 1.0), "value"),
        (formula("sum(x)", ones(3000)), "value"), (formula("sum(x**2)", ones(150)), "hessian"),
        (product(50, 5), "value"),
    ]:
        response = post(server, body, operation)
        assert response.status_code == 200, response.text


def test_a_full_queue_and_a_passed_deadline(tmp_path: Path) -> None:
    """One computes, one waits, the third hears that the server is busy, not that its key asks for too much."""
    log = tmp_path / "server.log"
    with running(log, compute_processes=1, queue_length=1, deadline_s=4) as server, ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(httpx2.post, f"{server.url}/v1/value", json=slow_request(), timeout=60)
                 for _ in range(3)]
        answers = sorted([(a.result().status_code, a.result().json()["code"]) for a in asked])
    late = (504, LIMITS["deadline_s"])
    assert answers == [(503, LIMITS["queue_length"]), late, late]


def test_the_limits_are_published(server: Server) -> None:
    with keyed.holder(server.url, 1) as client:
        limits = client.get("/v1/ops").json()["limits"]
    for name in limits:
        assert limits[name] == TIGHT[name]


def test_docs_name_each_limit_once() -> None:
    """What the table of settings is made of."""
    for name in LIMITS:
        text = Settings.model_fields[name].description or ""
        assert text.count("->") == 1
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    assert "<!-- settings -->" in page.read_text()


@pytest.mark.parametrize(("name", "value"), [
    ("HESSE_DEADLINE_S", "soon"), ("HESSE_MAX_RANK", "0"), ("HESSE_LOG_FORMAT", "xml"), ("HESSE_LOG_LEVEL", "LOUD"),
    ("HESSE_ALLOWED_ORIGINS", "https://a.example"),
])
def test_a_setting_that_does_not_fit_is_named_at_the_start(name: str, value: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p]), name: value}
    done = subprocess.run([sys.executable, "-m", "hesse", "serve", "--port", "0"], env=env, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert name.removeprefix("HESSE_").lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
