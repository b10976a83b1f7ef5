"""Jobs by the SDK: the values of direct calls, through real servers, scripted ones and the embedded engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hesse
from hesse import jobs
from hesse import numpy as hnp
from hesse.jobs import OPERATIONS, AsyncJob
from hesse.local_jobs import LocalJob
from scripted import Answer, problem, scripted
from serving import Server, running, wait_for

X = np.array([1.0, 2.0, 3.0])
V = np.array([1.0, 0.0, -1.0])
NAME = "0" * 32


def f(x: Any) -> Any:
    return (hnp.sin(x) * x**2).sum()


def slow(x: Any) -> Any:
    y = x[:, None] * x[None, :]
    for _ in range(400):
        y = hnp.tanh(y @ y)
    return y.sum()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("jobs")
    with running(folder / "server.log", compute_processes=2, data_dir=folder / "data") as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[hesse.Client]:
    with hesse.Client(server.url) as opened:
        yield opened


def options_of(operation: str) -> dict[str, Any]:
    if operation == "vjp":
        return {"v": np.array(2.0)}
    return {"v": V} if operation in ("jvp", "hvp", "vhp") else {}


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
        return
    assert type(found) is type(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("url", ["http", ":local:"])
def test_a_job_s_result_is_that_of_the_direct_call(operation: str, url: str, server: Server) -> None:
    options = options_of(operation)
    expected = getattr(hesse.Client(":local:").function(f), operation)(X, **options)
    with hesse.Client(url if url == ":local:" else server.url) as client:
        job = client.submit(operation, f, X, **options)
        same(job.result(timeout=60), expected)
        same(job.result(), expected)
        assert job.state() == "succeeded"


def test_several_inputs_and_a_layout(client: hesse.Client) -> None:
    pair = client.submit("hessian", lambda x, y: (x * y**2).sum(), X, X).result(60)
    np.testing.assert_allclose(pair[0][1], np.diag(2 * X))
    sparse = client.submit("hessian", f, X, layout="csr").result(60)
    np.testing.assert_allclose(sparse.toarray(), hesse.Client(":local:").function(f).hessian(X), rtol=1e-13)


def test_a_job_is_found_again_by_its_id(client: hesse.Client, server: Server) -> None:
    job = client.submit("hvp", f, X, v=V)
    expected = job.result(60)
    with hesse.Client(server.url) as other:
        same(other.job(job.id).result(60), expected)
        assert job.id in [j.id for j in other.jobs()]
        assert job.id in [j.id for j in other.jobs("succeeded")]
        assert job.id not in [j.id for j in other.jobs("failed")]


def test_events_in_order_until_the_end(client: hesse.Client) -> None:
    job = client.submit("hessian", f, X)
    seen = list(job.events())
    assert [e.id for e in seen] == list(range(1, len(seen) + 1))
    assert [e.data["state"] for e in seen if e.kind != "progress"] == ["queued", "running", "succeeded"]
    assert [e.kind for e in seen][-1] == "end"


def test_cancel_and_what_then_is_raised(client: hesse.Client) -> None:
    job = client.submit("value", slow, np.full(1000, 1e-3))
    wait_for(lambda: job.state() == "running", 30)
    with pytest.raises(TimeoutError) as late:
        job.result(timeout=0.2)
    assert isinstance(late.value, hesse.HesseError)
    job.cancel()
    job.cancel()
    assert job.state() == "canceled"
    with pytest.raises(hesse.HesseError) as caught:
        job.result(20)
    assert caught.value.code == "job-canceled"
    assert [e.kind for e in job.events()][-1] == "end"


def test_a_failed_job_raises_what_the_direct_call_raises(client: hesse.Client) -> None:
    for one in (client, hesse.Client(":local:")):
        job = one.submit("hessian", lambda x: x * 2, X)
        for _ in range(2):
            with pytest.raises(RuntimeError) as caught:
                job.result(60)
            assert isinstance(caught.value, hesse.HesseError)
            assert caught.value.code == "not-scalar"
        assert job.state() == "failed"


def test_unknown_operations_and_ids(client: hesse.Client) -> None:
    with pytest.raises(ValueError, match="operations are"):
        client.submit("invert", f, X)
    with pytest.raises(hesse.HesseError) as caught:
        client.job(NAME).state()
    assert caught.value.code == "unknown-job"
    with pytest.raises(hesse.HesseError) as caught:
        list(client.job(NAME).events())
    assert caught.value.code == "unknown-job"
    with pytest.raises(NotImplementedError):
        hesse.Client(":local:").job(NAME)


def test_awaited(server: Server) -> None:
    async def run(url: str) -> None:
        async with hesse.AsyncClient(url) as client:
            job = await client.submit("hessian", f, X)
            same(await job.result(60), hesse.Client(":local:").function(f).hessian(X))
            assert await job.state() == "succeeded"
            seen = [e async for e in job.events()]
            assert [e.kind for e in seen][-1] == "end"
            await job.cancel()
            assert await job.progress() is None or isinstance(job, AsyncJob)
            if isinstance(job, AsyncJob):
                assert job.id in [j.id async for j in client.jobs()]
                same(await client.job(job.id).result(), await job.result())

    for url in (server.url, ":local:"):
        asyncio.run(run(url))


# ---- against a script ------------------------------------------------------------------------------------------------
def test_the_key_is_kept_over_repetitions() -> None:
    document = {"id": NAME, "state": "queued", "operation": "grad", "progress": None}
    lost, full = Answer(0), problem(429, "too-many-jobs")
    full.headers["Retry-After"] = "0"
    still = problem(409, "idempotency-running")
    still.headers["Retry-After"] = "0"
    with scripted(lost, full, still, Answer(202, document)) as (url, seen), hesse.Client(url, max_retries=5) as client:
        assert client.submit("grad", f, X).id == NAME
        client.submit("grad", f, X)
    keys = [s.headers["idempotency-key"] for s in seen]
    assert len(seen) == 5
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]
    assert {s.headers["prefer"] for s in seen} == {"respond-async"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": 7}', b"{}"])
def test_an_answer_that_is_no_job(body: bytes) -> None:
    with (scripted(Answer(200, body)) as (url, _), hesse.Client(url) as client,
          pytest.raises(hesse.TransportError) as caught):
        client.submit("grad", f, X)
    assert caught.value.code == "bad-answer"


def test_an_embedded_job_does_not_wait_and_can_be_given_up() -> None:
    release = threading.Event()

    def wait() -> float:
        release.wait(30)
        return 1.0

    job = LocalJob(wait)
    assert job.state() == "running"
    with pytest.raises(TimeoutError):
        job.result(0.05)
    job.cancel()
    release.set()
    with pytest.raises(hesse.HesseError) as caught:
        job.result(30)
    assert caught.value.code == "job-canceled"


EVENTS = [b"id: 1\nevent: state\ndata: {\"state\": \"queued\"}\n\n", b": ping\n\n",
          b"event: state\ndata: {\"state\": \"running\", \"attempts\": 1}\nid: 2\n\n",
          b"event: progress\ndata: {\"done\": 1, \"total\": 2}\nid: 3\n\n",
          b"event: end\ndata: {\"state\": \"succeeded\"}\nid: 4\n\n"]


def test_events_go_on_where_a_connection_was_lost() -> None:
    """Each answer ends early, the first in the middle of an event."""
    kind = {"Content-Type": "text/event-stream; charset=utf-8"}
    answers = [Answer(200, EVENTS[0] + EVENTS[1] + EVENTS[2][:20], kind), Answer(0), Answer(200, EVENTS[2], kind),
               Answer(200, EVENTS[3] + EVENTS[4], kind)]
    with scripted(*answers) as (url, seen), hesse.Client(url) as client:
        found = list(client.job(NAME).events())
    assert [(e.id, e.kind) for e in found] == [(1, "state"), (2, "state"), (3, "progress"), (4, "end")]
    assert [s.headers["last-event-id"] for s in seen] == ["0", "1", "1", "2"]
    assert seen[0].headers["accept"] == "text/event-stream"


def test_events_that_never_go_on_raise_what_the_connection_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RESTART_S", 0.0)
    with scripted(Answer(0)) as (url, seen), hesse.Client(url, max_retries=1) as client:
        with pytest.raises(hesse.TransportError):
            list(client.job(NAME).events())
        assert len(seen) == 2
