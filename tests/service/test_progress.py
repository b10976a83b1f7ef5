"""How far a compute process is, seen from the server's event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from hesse_service.bodies import Body
from hesse_service.exchange import Terms
from hesse_service.settings import Settings
from hesse_service.workers import Reply, Work, Workers
from serving import slow_graph

SIZE = 1000


def work(body: Any, left_s: float = 200.0) -> Work:
    content = to_json(body)
    return Work("call", "hvp", Body([content], len(content)), Terms(), left_s)


def many_products(count: int) -> dict[str, Any]:
    """`count` products with a Hessian, each of some ten milliseconds, in chunks of one."""
    return {
        "function": {"graph": slow_graph(1)},
        "inputs": [[0.001] * SIZE],
        "v": [{"shape": [count, SIZE], "dtype": "float64", "data": [0.5] * (count * SIZE)}],
        "options": {"many": True, "chunk_size": 1},
    }


def run(folder: Path, body: Any, heard: list[tuple[int, int]]) -> Reply:
    async def session() -> Reply:
        workers = Workers(Settings(compute_processes=1), folder / "functions.sqlite")
        await workers.start()
        try:
            return await workers.run(work(body), lambda done, total: heard.append((done, total)))
        finally:
            await workers.close()

    return asyncio.run(session())


def test_progress_reaches_the_server(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    reply = run(tmp_path, many_products(20), heard)
    assert reply.error is None
    assert len(heard) >= 2, heard
    assert heard[-1] == (20, 20)
    assert heard == sorted(set(heard))
    assert {total for _, total in heard} == {20}


def test_nobody_has_to_listen(tmp_path: Path) -> None:
    async def session() -> Reply:
        workers = Workers(Settings(compute_processes=1), tmp_path / "functions.sqlite")
        await workers.start()
        try:
            return await workers.run(work(many_products(2)))
        finally:
            await workers.close()

    assert asyncio.run(session()).error is None
