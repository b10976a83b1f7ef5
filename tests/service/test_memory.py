"""Memory stays bounded over distinct graphs, however they come: by expression, as graphs, registered and called by id.

HESSE_LONG=1 sends 100,000 each way; by default, some thousands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest

from serving import Server, running, tensor, wait_for

IS_LONG = bool(os.environ.get("HESSE_LONG"))
COUNT = 100_000 if IS_LONG else 1_000
SETTINGS = {"compute_processes": 1, "recycle_requests": 0, "prepared_functions": 64, "store_functions": 200,
            "prepared_bytes": 32 << 20}
GROWTH_BYTES = 24 << 20  # of one process between the halves of a run; what is kept for 64 functions is a tenth of that


def by_expression(client: httpx2.Client, k: int) -> Any:
    function = {"expression": f"sum((x + {k}.25)**3) + {k}*x[0]*x[1]"}
    return client.post("/v1/hessian", json={"function": function, "inputs": [[1.0, 2.0]]})


def graph(k: int) -> dict[str, Any]:
    """(c . (x + 0.25))^3 summed, plus k x0 x1 through products: names of nodes are new in every graph."""
    return {
        "format": "hesse-graph/1",
        "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}],
        "constants": [[k + 0.25, k + 0.25]],
        "nodes": [
            {"id": f"s{k}", "op": "add", "args": ["x", {"constant": 0}]},
            {"id": f"p{k}", "op": "multiply", "args": [f"s{k}", f"s{k}"]},
            {"id": f"q{k}", "op": "multiply", "args": [f"p{k}", f"s{k}"]},
            {"id": f"y{k}", "op": "sum", "args": [f"q{k}"]},
        ],
        "outputs": [f"y{k}"],
    }


def expected(k: int, has_product: bool) -> np.ndarray[Any, Any]:
    diagonal = np.diag(6.0 * (np.array([1.0, 2.0]) + k + 0.25))
    return diagonal + (k * np.array([[0.0, 1.0], [1.0, 0.0]]) if has_product else 0.0)


def resident(server: Server) -> dict[int, int]:
    """Memory of the server and of its compute processes [bytes]."""
    return {p: psutil.Process(p).memory_info().rss for p in [server.pid, *server.children()]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("memory") / "server.log", **SETTINGS) as started:
        wait_for(lambda: httpx2.get(f"{started.url}/readyz").status_code == 200, 120)
        yield started


def curve(server: Server, one: Callable[[httpx2.Client, int], None], parts: int = 8) -> list[dict[int, int]]:
    """Memory at the end of each part of a run over `COUNT` functions."""
    found = []
    with httpx2.Client(base_url=server.url, timeout=120) as client, ThreadPoolExecutor(2) as threads:
        for part in range(parts):
            for _ in threads.map(lambda k: one(client, k), range(part * COUNT // parts, (part + 1) * COUNT // parts)):
                pass
            found.append(resident(server))
    return found


def check_flat(found: list[dict[int, int]], record: Callable[[str, object], None]) -> None:
    record("rss_mib", [[size >> 20 for size in point.values()] for point in found])
    last = found[-1]
    assert set(last) == set(found[len(found) // 2]), "a process was replaced"
    for pid, size in last.items():
        middle = found[len(found) // 2][pid]
        assert size - middle < GROWTH_BYTES, [[s >> 20 for s in point.values()] for point in found]


@pytest.mark.timeout(7200 if IS_LONG else 300)
@pytest.mark.parametrize("way", ["expression", "graph", "id"])
def test_memory_is_flat(server: Server, way: str, record_property: Callable[[str, object], None]) -> None:
    def one(client: httpx2.Client, k: int) -> None:
        if way == "expression":
            response = by_expression(client, k)
        elif way == "graph":
            response = client.post("/v1/hessian", json={"function": {"graph": graph(k)}, "inputs": [[1.0, 2.0]]})
        else:
            sent = {"expression": f"sum((x + {k}.25)**3)"}
            put = client.put("/v1/functions", json={"function": sent, "inputs": [{"name": "x", "shape": [2]}]})
            assert put.status_code == 200, put.text
            body = {"function": {"id": put.json()["id"]}, "inputs": [[1.0, 2.0]]}
            for _ in range(3):  # the later ones may run on the event loop
                response = client.post("/v1/hessian", json=body)
        assert response.status_code == 200, response.text
        np.testing.assert_allclose(tensor(response.json()["result"]), expected(k, way == "expression"), rtol=1e-12)

    check_flat(curve(server, one), record_property)


def test_large_answers_give_their_memory_back(server: Server) -> None:
    """After a Hessian of 32 MB, and its 80 MB as text, the process has nearly what it had before."""
    body = {"function": {"expression": "sum(sin(x))**2"}, "inputs": [np.linspace(0.1, 1.0, 2000).tolist()]}
    with httpx2.Client(base_url=server.url, timeout=120) as client:
        assert client.post("/v1/hessian", json=body).status_code == 200
        before = resident(server)
        for _ in range(3):
            assert client.post("/v1/hessian", json=body).status_code == 200
        after = resident(server)
    assert set(after) == set(before)
    for pid, size in after.items():
        assert size - before[pid] < 48 << 20, (before, after)


@pytest.mark.parametrize("prefer", [{}, {"Prefer": "respond-async, wait=60"}], ids=["direct", "job"])
def test_refused_bodies_give_their_memory_back(server: Server, prefer: dict[str, str]) -> None:
    """Ten bodies of 60 MB that are no JSON, each in a connection of its own: the server keeps none of them."""
    before, body = resident(server), b" " * (60 << 20)
    for _ in range(10):
        answer = httpx2.post(f"{server.url}/v1/hessian", content=body, timeout=120,
                             headers={"Content-Type": "application/json", **prefer})
        assert answer.json()["code"] == "malformed-json"
    wait_for(lambda: all([size - before[pid] < 96 << 20 for pid, size in resident(server).items()]), 10)


def test_files_of_the_store_stay_bounded(tmp_path: Path) -> None:
    """Three times as many functions as may be kept take no more room on the disk than these and the log."""
    settings = {**SETTINGS, "store_functions": 50, "data_dir": tmp_path / "data"}
    sizes = []
    log = tmp_path / "server.log"
    with running(log, **settings) as server, httpx2.Client(base_url=server.url, timeout=120) as client:
        for k in range(150):
            body = {"function": {"expression": f"sum(x**2) + {k}"}, "inputs": [{"name": "x", "shape": [2]}]}
            assert client.put("/v1/functions", json=body).status_code == 200
            sizes.append(sum([p.stat().st_size for p in (tmp_path / "data").iterdir()]))
    assert max(sizes) < 6 << 20  # the log of SQLite alone takes 4 MB before it is folded in
