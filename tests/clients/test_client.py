"""What clients say and how they take the answers: retries, timeouts, errors, headers; against a scripted server."""

from __future__ import annotations

import asyncio
import pickle
import time
from email.utils import formatdate
from typing import Any

import httpx2
import numpy as np
import pytest

import hesse
from hesse.protocol import delay
from hesse_engine.errors import CODES
from scripted import GRADIENT, Answer, problem, scripted, tensor

X = np.array([1.0, 2.0])
AT_ONCE = {"Retry-After": "0"}


def f(x: Any) -> Any:
    return (x**2).sum()


def grad(url: str, **options: Any) -> Any:
    with hesse.Client(url, **options) as client:
        return client.func.grad(f)(X)


ANSWER = Answer(200, {"result": [tensor([2.0, 4.0])], "aux": [{"shape": [], "dtype": "float64", "data": [5.0]}],
                      "stats": {}})


@pytest.mark.parametrize(
    "first",
    [Answer(408, {}, AT_ONCE), Answer(429, {"code": "busy", "detail": "quota"}, AT_ONCE), Answer(500, {}, AT_ONCE),
     Answer(502, b"<html>", AT_ONCE), Answer(503, {"code": "busy", "detail": "queue"}, AT_ONCE), Answer(0)],
    ids=lambda a: str(a.status),
)
def test_what_is_repeated(first: Answer) -> None:
    with scripted(first, ANSWER) as (url, seen):
        np.testing.assert_array_equal(grad(url), [2.0, 4.0])
    assert len(seen) == 2
    assert seen[0].body == seen[1].body


@pytest.mark.parametrize(
    "first",
    [Answer(400, {}), problem(404, "not-found"), problem(409, "graph-point-specific"),
     problem(422, "not-scalar"), problem(504, "deadline-exceeded")],
    ids=lambda a: str(a.status),
)
def test_what_is_not_repeated(first: Answer) -> None:
    with scripted(first) as (url, seen), pytest.raises(hesse.HesseError):
        grad(url)
    assert len(seen) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_how_often_it_is_repeated(retries: int) -> None:
    refused = Answer(503, {"code": "busy", "detail": "full"}, AT_ONCE)
    with scripted(refused) as (url, seen), pytest.raises(RuntimeError, match="full") as caught:
        grad(url, max_retries=retries)
    assert isinstance(caught.value, hesse.HesseError)
    assert caught.value.code == "busy"
    assert len(seen) == retries + 1


def test_the_delay_between_attempts() -> None:
    assert delay(0, {"retry-after": "3"}) == 3.0
    assert 0.0 <= delay(0, {"retry-after": formatdate(time.time() + 10, usegmt=True)}) <= 10.0
    for attempt, longest in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 8.0]):
        for headers in ({}, {"retry-after": "soon"}, {"retry-after": "3600"}, {"retry-after": "-1"}):
            assert 0.75 * longest <= delay(attempt, headers) <= longest


def test_nobody_listens() -> None:
    with scripted(ANSWER) as (url, _):
        pass
    with pytest.raises(hesse.TransportError, match="could not be reached") as caught:
        grad(url, max_retries=0)
    assert caught.value.code == "connection-failed"
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value.__cause__, httpx2.TransportError)
    for text in f"The service at {url} could", "base_url", "HESSE_BASE_URL", "`hesse serve`":
        assert text in str(caught.value)


def test_where_nobody_listens_is_named_without_a_password() -> None:
    with scripted(ANSWER) as (url, _):
        pass
    with pytest.raises(hesse.TransportError) as caught:
        grad(url.replace("//", "//me:secret@") + "/behind", max_retries=0)
    assert f"The service at {url}/behind could" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_answer_in_time_is_not_repeated() -> None:
    with scripted(Answer(pause=0.5)) as (url, seen), pytest.raises(hesse.TransportTimeoutError) as caught:
        grad(url, timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.code == "timed-out"
    assert len(seen) == 1


STRANGE = [b"", b"<html>hello</html>", b"[1, 2]", b'{"result": 7}', b'{"stats": {}}', b"[" * 5000]


@pytest.mark.parametrize("body", STRANGE)
def test_an_answer_that_is_not_the_service_s(body: bytes) -> None:
    with scripted(Answer(200, body)) as (url, _), pytest.raises(hesse.TransportError, match="Is the base") as caught:
        grad(url)
    assert caught.value.code == "bad-answer"


@pytest.mark.parametrize("code", CODES)
def test_every_code_comes_back_as_its_exception(code: str) -> None:
    answer = problem(422, code, "What is wrong.", hint="Do this.", pointer="/inputs/0", node="n1", request_id="r-1")
    with scripted(answer) as (url, _), pytest.raises(hesse.HesseError) as caught:
        grad(url)
    error = caught.value
    assert type(error) is CODES[code]
    assert (error.code, str(error), error.pointer, error.node) == (code, "What is wrong. Do this.", "/inputs/0", "n1")
    assert error.request_id == "r-1"


def test_a_code_of_a_later_service() -> None:
    with scripted(problem(422, "not-invented-yet", "Later.")) as (url, _), pytest.raises(hesse.HesseError) as caught:
        grad(url)
    assert type(caught.value) is hesse.HesseError
    assert caught.value.code == "not-invented-yet"


@pytest.mark.parametrize("kind", [hesse.TransportError, hesse.TransportTimeoutError])
def test_errors_of_the_transport_survive_pickling(kind: type[hesse.TransportError]) -> None:
    error = kind("timed-out", "Too late.", hint="Wait longer.")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, str(again)) == (kind, "timed-out", "Too late. Wait longer.")


def test_what_is_sent() -> None:
    with scripted(ANSWER) as (url, seen):
        grad(f"{url}/", api_key="secret")
    (request,) = seen
    assert (request.method, request.path) == ("POST", "/v1/grad")
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("hesse-python/")
    assert set(request.body) == {"function", "inputs", "options"}
    assert request.body["inputs"] == [tensor([1.0, 2.0])]
    assert request.body["options"] == {"api": "func", "argnums": [0], "aux": 1}


def test_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSE_API_KEY", "from-the-environment")
    with scripted(ANSWER) as (url, seen):
        monkeypatch.setenv("HESSE_BASE_URL", url)
        with hesse.Client() as client:
            client.func.grad(f)(X)
    assert seen[0].headers["authorization"] == "Bearer from-the-environment"


def test_a_client_of_one_s_own_is_used_and_left_open() -> None:
    with scripted(ANSWER) as (url, seen), httpx2.Client(headers={"X-Mine": "1"}) as http:
        with hesse.Client(url, http_client=http) as client:
            client.func.grad(f)(X)
        assert not http.is_closed
    assert seen[0].headers["x-mine"] == "1"


def test_the_base_url_is_checked() -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        hesse.Client("localhost:8000")


def test_a_forgotten_function_is_registered_again() -> None:
    register = Answer(200, {"id": "0" * 64, "inputs": [], "outputs": []})
    found = Answer(200, {"result": tensor([2.0, 4.0]), "stats": {}})
    unknown = problem(404, "unknown-function")
    with scripted(register, found, found, unknown, register, found) as (url, seen), hesse.Client(url) as client:
        g = client.function(f)
        for _ in range(3):
            np.testing.assert_array_equal(g.grad(X), [2.0, 4.0])
    assert [s.method for s in seen] == ["PUT", "POST", "POST", "POST", "PUT", "POST"]
    assert [set(s.body["function"]) for s in seen if s.method == "POST"] == [{"id"}] * 4


def test_a_function_that_stays_unknown_is_an_error() -> None:
    register = Answer(200, {"id": "0" * 64, "inputs": [], "outputs": []})
    unknown = problem(404, "unknown-function", "No such function.")
    with (
        scripted(register, unknown) as (url, seen),
        hesse.Client(url) as client,
        pytest.raises(hesse.HesseError, match="No such function"),
    ):
        client.function(f).grad(X)
    assert len(seen) == 2


def test_the_async_client_repeats_and_translates() -> None:
    async def ask(url: str) -> Any:
        async with hesse.AsyncClient(url) as client:
            return await client.func.grad(f)(X)

    with scripted(Answer(503, {}, AT_ONCE), Answer(0), ANSWER) as (url, seen):
        np.testing.assert_array_equal(asyncio.run(ask(url)), [2.0, 4.0])
    assert len(seen) == 3
    with scripted(problem(422, "not-scalar", "Not one.")) as (url, _), pytest.raises(RuntimeError, match="Not one"):
        asyncio.run(ask(url))
    with pytest.raises(hesse.TransportError):
        asyncio.run(ask(url))


def test_the_async_client_takes_one_s_own() -> None:
    async def ask(url: str) -> None:
        async with httpx2.AsyncClient() as http:
            async with hesse.AsyncClient(url, http_client=http) as client:
                await client.func.grad(f)(X)
            assert not http.is_closed

    with scripted(ANSWER) as (url, seen):
        asyncio.run(ask(url))
    assert len(seen) == 1


def test_a_tuple_of_inputs_is_answered_by_a_list() -> None:
    with scripted(GRADIENT) as (url, _), hesse.Client(url) as client:
        (found,) = client.function(lambda x: f(x)).grad((X,))
    np.testing.assert_array_equal(found, [2.0, 4.0])


def test_what_is_printed_names_things_and_no_password() -> None:
    def cube(x: Any) -> Any:
        return (x**3).sum()

    with hesse.Client("http://ada:secret@127.0.0.1:1/") as client:
        assert repr(client) == "Client('http://...@127.0.0.1:1/')"
    assert repr(hesse.AsyncClient(":local:")) == "AsyncClient(':local:')"
    assert repr(hesse.function(cube)).endswith("cube)")
    job = hesse.Client(":local:").submit("value", cube, np.ones(2))
    assert repr(job) == f"LocalJob(id={job.id!r})"
    assert job.result() == 2.0
