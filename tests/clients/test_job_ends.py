"""Waiting for jobs where something goes wrong: they failed, the server starts again, what answers is no service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import hesse
from hesse import numpy as hnp
from hesse.jobs import JobEvent
from scripted import Answer, scripted

NAME = "0" * 32
WIDE = np.full(700, 0.5)
STREAM = {"Content-Type": "text/event-stream"}
END = b'id: 2\nevent: end\ndata: {"state": "succeeded"}\n\n'
PAGE = Answer(200, b"<html>Hello</html>", {"Content-Type": "text/html"})


def wide(x: Any) -> Any:
    return hnp.log(hnp.sum(hnp.exp(x)))  # its Hessian: about 50 units


def slow(x: Any) -> Any:
    y = x[:, None] * x[None, :]
    for _ in range(400):
        y = hnp.tanh(y @ y)
    return y.sum()


async def seen_by(client: hesse.AsyncClient, name: str) -> list[JobEvent]:
    return [event async for event in client.job(name).events()]


def waited(url: str, name: str, **options: Any) -> Iterator[Callable[[], Any]]:
    """The four ways to wait for the end of a job."""

    async def awaited(is_result: bool) -> Any:
        async with hesse.AsyncClient(url, **options) as client:
            return await (client.job(name).result(60) if is_result else seen_by(client, name))

    def sync(is_result: bool) -> Any:
        with hesse.Client(url, **options) as client:
            return client.job(name).result(60) if is_result else list(client.job(name).events())

    for is_result in (True, False):
        yield lambda is_result=is_result: sync(is_result)  # type: ignore[misc]
        yield lambda is_result=is_result: asyncio.run(awaited(is_result))  # type: ignore[misc]


def code_of(run: Callable[[], Any]) -> str:
    with pytest.raises(hesse.HesseError) as caught:
        run()
    return caught.value.code


# ---- ids -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["../functions", "", "x", NAME + "0", NAME[1:] + "\n", "A" * 32, NAME + "?a", None])
def test_what_is_no_id_is_refused_before_it_is_sent(name: Any) -> None:
    with scripted(PAGE) as (url, seen):
        with hesse.Client(url) as client:
            job = client.job(name)
            asked = [job.state, job.progress, job.result, job.cancel, lambda: list(job.events())]
            assert {code_of(run) for run in asked} == {"bad-option"}
        assert {code_of(run) for run in waited(url, name)} == {"bad-option"}
        assert seen == []
