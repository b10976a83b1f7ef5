"""Waiting for jobs where something goes wrong: they failed, the server starts again, what answers is no service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

import hesse
import keyed
from hesse import jobs
from hesse import numpy as hnp
from hesse.jobs import JobEvent
from hesse.protocol import Pause, Reply, Steps
from scripted import Answer, problem, scripted
from serving import Server, free_port, running, wait_for

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


# ---- jobs that failed ------------------------------------------------------------------------------------------------
@pytest.fixture
def metered(tmp_path: Path) -> Iterator[Server]:
    path = keyed.write(tmp_path / "keys", keyed.line("ada", 1, quota=1, burst=60))
    with running(tmp_path / "server.log", compute_processes=1, keys_file=path, data_dir=tmp_path / "data") as started:
        yield started


def test_a_job_that_failed_over_its_quota_says_so_without_waiting(
    metered: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it failed with asks to come again in 60 s: a new job may, this one will not."""
    pauses: list[float] = []

    def counted(steps: Steps) -> Steps:
        reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Pause):
                pauses.append(step.seconds)
            reply = yield step

    with hesse.Client(metered.url, api_key=keyed.text(1)) as client:
        for _ in range(2):
            job = client.submit("hessian", wide, WIDE)
            wait_for(lambda job=job: job.state() not in jobs.UNFINISHED, 60)
        assert job.state() == "failed"
        whole = jobs.converse_result
        monkeypatch.setattr(jobs, "converse_result", lambda *given: counted(whole(*given)))
        for run in (job.result, lambda: job.result(timeout=1), *list(waited(metered.url, job.id,
                                                                           api_key=keyed.text(1)))[:2]):
            assert code_of(run) == "over-quota"
    assert pauses == []


def test_a_stored_503_is_asked_for_once() -> None:
    failed = {"id": NAME, "state": "failed", "operation": "grad", "error": {"code": "store-unavailable"}}
    answers = Answer(200, failed), problem(503, "store-unavailable")
    with scripted(*answers) as (url, seen), hesse.Client(url) as client:
        assert code_of(client.job(NAME).result) == "store-unavailable"
        assert [s.path for s in seen] == [f"/v1/jobs/{NAME}", f"/v1/jobs/{NAME}/result"]


def test_the_timeout_ends_the_wait_that_a_server_asks_for() -> None:
    steps = jobs.converse_result(NAME, "grad", None, 0.05, 2)
    steps.send(None)
    pause = steps.send(Reply(429, {"retry-after": "60"}, b'{"code": "busy"}'))
    assert isinstance(pause, Pause)
    assert pause.seconds <= 0.05
    full = problem(429, "busy")
    full.headers["Retry-After"] = "60"
    with scripted(full) as (url, seen), hesse.Client(url) as client:
        with pytest.raises(TimeoutError):
            client.job(NAME).result(timeout=0.05)
        assert len(seen) == 2


# ---- events ----------------------------------------------------------------------------------------------------------
def both(url: str, **options: Any) -> list[Callable[[], list[JobEvent]]]:
    return list(waited(url, NAME, **options))[2:]


@pytest.mark.parametrize("answer", [PAGE, Answer(200, b""), Answer(204, b"", STREAM),
                                    Answer(302, b"", {"Location": "/", **STREAM})])
def test_an_answer_without_events_is_no_service(answer: Answer) -> None:
    for k in range(2):
        with scripted(answer) as (url, seen):
            assert code_of(both(url)[k]) == "bad-answer"
            assert len(seen) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_events_that_end_at_once_are_asked_for_as_often_as_a_failure(retries: int) -> None:
    for k in range(2):
        with scripted(Answer(200, b"\n\n", STREAM)) as (url, seen):
            assert code_of(both(url, max_retries=retries)[k]) == "incomplete"
            assert len(seen) == 1 + retries


def test_a_connection_that_was_kept_open_is_no_failure() -> None:
    alive = Answer(200, b": ping\n\n", STREAM)
    for k in range(2):
        with scripted(alive, alive, Answer(200, END, STREAM)) as (url, _):
            assert [e.kind for e in both(url, max_retries=0)[k]()] == ["end"]


@pytest.mark.parametrize("code", ["draining", "busy"])
def test_events_go_on_after_a_refusal_that_passes(code: str) -> None:
    refused = problem(503, code)
    refused.headers["Retry-After"] = "0"
    for k in range(2):
        with scripted(refused, Answer(200, END, STREAM)) as (url, seen):
            assert [e.kind for e in both(url, max_retries=1)[k]()] == ["end"]
            assert len(seen) == 2
        with scripted(refused) as (url, seen):
            assert code_of(both(url, max_retries=0)[k]) == code
            assert len(seen) == 1


@pytest.mark.parametrize("event", [b"id: x\nevent: state\ndata: {}", b"id: 1\nevent: state\ndata: {",
                                   b"id: 1\nevent: end\ndata: 7", b"id: 1\nevent: end\ndata: " + b"[" * 100_000])
def test_a_garbled_event_is_a_bad_answer(event: bytes) -> None:
    for k in range(2):
        with scripted(Answer(200, event + b"\n\n", STREAM)) as (url, seen):
            assert code_of(both(url)[k]) == "bad-answer"
            assert len(seen) == 1


# ---- servers that start again ----------------------------------------------------------------------------------------
class Counting(httpx2.HTTPTransport):
    refused = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return super().handle_request(request)
        except httpx2.ConnectError:
            self.refused += 1
            raise


def test_a_job_is_waited_for_while_its_server_starts_again(tmp_path: Path) -> None:
    """It waits behind another one, so that it ends after the restart; each waits longer than its retries would."""
    settings = {"at": free_port(), "compute_processes": 2, "data_dir": tmp_path / "data", "jobs_at_once": 1}
    with ThreadPoolExecutor(4) as pool:
        with running(tmp_path / "first.log", **settings) as server, hesse.Client(server.url) as client:
            before, job = client.submit("value", slow, np.full(1000, 1e-3)), client.submit("grad", wide, WIDE)
            waits = [pool.submit(run) for run in waited(server.url, job.id, max_retries=1)]
            wait_for(lambda: before.state() == "running", 30)
        transport = Counting()
        with httpx2.Client(transport=transport) as http, ThreadPoolExecutor(1) as witness:
            late = witness.submit(hesse.Client(server.url, max_retries=1, http_client=http).job(job.id).result, 60)
            wait_for(lambda: transport.refused >= 3, 30)
            with running(tmp_path / "second.log", **settings), hesse.Client(server.url) as client:
                client.job(before.id).cancel()
                results = [wait.result(60) for wait in waits]
                np.testing.assert_allclose(late.result(60), np.full(700, 1 / 700))
    for result in results[:2]:
        np.testing.assert_allclose(result, np.full(700, 1 / 700))
    for seen in results[2:]:
        assert [e.id for e in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].kind == "end"


def test_a_server_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert code_of(lambda: hesse.Client(nobody).job(NAME).result(timeout=0.3)) == "timed-out"
    for run in waited(nobody, NAME, max_retries=0):
        assert code_of(run) == "connection-failed"
    monkeypatch.setattr(jobs, "RESTART_S", 0.3)
    for run in waited(nobody, NAME, max_retries=1):
        assert code_of(run) == "connection-failed"


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
