"""What clients do with a key: they send it, show it to nobody else, and take a refusal for what it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

import hesse
import keyed
from scripted import Answer, problem, scripted, tensor
from serving import Server, running

X = np.array([1.0, 2.0])
KEY = "hesse_0123456789ab_" + "5ec2e7" * 8
SECRET = "5ec2e7" * 8
GRADIENT = Answer(200, {"result": [tensor([2.0, 4.0])], "aux": [{"shape": [], "dtype": "float64", "data": [5.0]}],
                        "stats": {}})


def f(x: Any) -> Any:
    return (x**2).sum()


def gradient(client: Any) -> Any:
    return client.func.grad(f)(X)


# ---- the secret ----------------------------------------------------------------------------------------------------
def test_the_key_is_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in [problem(401, "unauthorized"), problem(403, "forbidden"), problem(500, "internal"),
                   Answer(200, b"<html>")]:
        with scripted(answer) as (url, seen), hesse.Client(url, api_key=KEY, max_retries=0) as client:
            with pytest.raises(hesse.HesseError) as caught:
                gradient(client)
            assert seen[0].headers["authorization"] == f"Bearer {KEY}"
            error = caught.value
            texts = [str(error), repr(error), repr(client), str(vars(client)), repr(error.__cause__),
                     str(getattr(error, "__notes__", "")), pickle.dumps(error).decode("latin-1")]
            assert not any([SECRET in text for text in texts])
    with hesse.Client(url, api_key=KEY, max_retries=0) as client, pytest.raises(hesse.TransportError) as unreached:
        gradient(client)
    assert SECRET not in repr(unreached.value) + repr(unreached.value.__cause__)
    assert caplog.records
    assert SECRET not in caplog.text


@pytest.mark.parametrize("bad", [KEY + "\nX-Other: 1", f"a {KEY}", KEY + "é", " ", "\x00" + KEY])
def test_a_key_that_no_header_carries_is_not_repeated(bad: str) -> None:
    with pytest.raises(ValueError, match="has characters that no key has") as caught:
        hesse.Client("http://127.0.0.1:1", api_key=bad)
    assert SECRET not in str(caught.value)


def test_blanks_around_a_key_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSE_API_KEY", f"{KEY}\n")
    with scripted(GRADIENT) as (url, seen), hesse.Client(url) as client:
        gradient(client)
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HESSE_API_KEY", raising=False)
    with scripted(GRADIENT) as (url, seen), hesse.Client(url) as client:
        gradient(client)
    assert "authorization" not in seen[0].headers
    assert "x-api-key" not in seen[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_host_never_gets_the_key(status: int) -> None:
    with scripted(GRADIENT) as (other, others):
        for follow in (False, True):
            moved = Answer(status, {}, {"Location": f"{other}/v1/grad"})
            with (
                scripted(moved) as (url, seen),
                httpx2.Client(follow_redirects=follow) as http,
                hesse.Client(url, api_key=KEY, http_client=http) as client,
            ):
                with contextlib.suppress(hesse.HesseError):
                    gradient(client)
                assert seen[0].headers["authorization"] == f"Bearer {KEY}"
        assert len(others) == 1  # followed where the user's own client follows
    assert not any([SECRET in str(s.headers) for s in others])


def test_a_page_elsewhere_is_not_followed() -> None:
    with scripted(GRADIENT) as (other, others):
        for where in (f"{other}/v1/functions?limit=5", "//evil.example/v1/functions?", "@evil.example/", 5):
            page = Answer(200, {"functions": [], "next": where})
            with (
                scripted(page) as (url, _),
                hesse.Client(url, api_key=KEY) as client,
                pytest.raises(hesse.TransportError, match="Is the base"),
            ):
                list(client.functions())
        assert not others


# ---- refusals ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "forbidden")])
def test_what_a_key_may_not_do_is_not_repeated(status: int, code: str) -> None:
    with scripted(problem(status, code, "No.")) as (url, seen), hesse.Client(url, api_key=KEY) as client:
        with pytest.raises(RuntimeError) as caught:
            gradient(client)
        assert isinstance(caught.value, hesse.HesseError)
        assert caught.value.code == code
        assert ("Client(api_key=...), or from HESSE_API_KEY" in str(caught.value)) is (status == 401)
        assert len(seen) == 1


def refusal(retryable: bool = True, **headers: str) -> Answer:
    made = problem(429, "over-quota", "Spent.", retryable=retryable)
    return Answer(429, made.body, headers)


def test_a_spent_quota_is_waited_for() -> None:
    with scripted(refusal(**{"Retry-After": "0"}), GRADIENT) as (url, seen), hesse.Client(url) as client:
        np.testing.assert_array_equal(gradient(client), [2.0, 4.0])
    assert len(seen) == 2


@pytest.mark.parametrize(("answer", "wait_s"), [
    (refusal(**{"Retry-After": "3600"}), 3600.0), (refusal(retryable=False), math.inf),
    (refusal(retryable=False, **{"Retry-After": "0"}), math.inf),
], ids=["in an hour", "never", "never, whatever the header"])
def test_a_quota_that_is_not_back_soon_is_not_waited_for(answer: Answer, wait_s: float) -> None:
    with scripted(answer) as (url, seen), hesse.Client(url) as client, pytest.raises(RuntimeError) as caught:
        gradient(client)
    assert isinstance(caught.value, hesse.HesseError)
    assert (caught.value.code, caught.value.retry_after_s) == ("over-quota", wait_s)
    assert caught.value.is_retryable is (wait_s < math.inf)
    assert len(seen) == 1


# ---- a real server -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keys")
    path = keyed.write(folder / "keys", keyed.line("ada", 1), keyed.line("bob", 2),
                       keyed.line("eve", 3, quota=1, burst=1), keyed.line("sync", 4), keyed.line("async", 5))
    with running(folder / "server.log", compute_processes=1, keys_file=path) as started:
        yield started


def test_with_and_without_a_key(server: Server) -> None:
    with hesse.Client(server.url, api_key=keyed.text(1)) as client:
        np.testing.assert_array_equal(gradient(client), [2.0, 4.0])
    for key in (None, keyed.text(9)):
        with hesse.Client(server.url, api_key=key) as client, pytest.raises(RuntimeError, match="key") as caught:
            gradient(client)
        assert isinstance(caught.value, hesse.HesseError)
        assert caught.value.code == "unauthorized"
        assert caught.value.request_id


def test_a_request_that_no_quota_of_the_key_holds(server: Server) -> None:
    with hesse.Client(server.url, api_key=keyed.text(3)) as client, pytest.raises(RuntimeError, match="never") as found:
        client.func.hessian(f)(np.ones(200))
    assert isinstance(found.value, hesse.HesseError)
    assert (found.value.code, found.value.is_retryable) == ("over-quota", False)


def powers(client: Any, count: int) -> list[Any]:
    return [client.function(lambda x, k=k: (x**k).sum()) for k in range(2, 2 + count)]


def test_functions_are_listed_described_and_forgotten(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hesse.listed.PAGE", 2)
    with hesse.Client(server.url, api_key=keyed.text(4)) as client:
        assert list(client.functions()) == []
        made = powers(client, 5)
        for g in made:
            g.grad(X)
        found = list(client.functions())
        assert len({g.id for g in found}) == 5
        assert [g.created for g in found] == sorted([g.created for g in found])
        for g in found:
            assert [(a.shape, a.dtype) for a in g.inputs] == [((2,), "float64")]
            assert [(a.shape, a.dtype) for a in g.outputs] == [((), "float64")]
            assert g.bytes > 0
            assert g.graph is None
        whole = client.describe(found[0].id)
        assert whole.id == found[0].id
        assert whole.graph is not None
        assert whole.graph["format"] == "hesse-graph/1"
        for g in found:
            client.forget(g.id)
        assert list(client.functions()) == []
        with pytest.raises(RuntimeError, match="No function is registered"):
            client.describe(found[0].id)
        np.testing.assert_array_equal(made[0].grad(X), [2.0, 4.0])  # sent again
        assert len(list(client.functions())) == 1
    with hesse.Client(server.url, api_key=keyed.text(2)) as other:
        assert list(other.functions()) == []
        with pytest.raises(RuntimeError, match="No function is registered"):
            other.describe(found[0].id)


def test_the_same_awaited(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hesse.listed.PAGE", 2)

    async def ask() -> None:
        async with hesse.AsyncClient(server.url, api_key=keyed.text(5)) as client:
            for g in powers(client, 3):
                await g.grad(X)
            found = [g async for g in client.functions()]
            assert len(found) == 3
            assert (await client.describe(found[1].id)).graph is not None
            await client.forget(found[1].id)
            assert [g.id async for g in client.functions()] == [found[0].id, found[2].id]

    asyncio.run(ask())


@pytest.mark.parametrize("bad", ["", "../livez", "0" * 63, "0" * 64 + "/", "G" * 64])
def test_ids_are_checked_before_they_make_a_path(server: Server, bad: str) -> None:
    with hesse.Client(server.url, api_key=keyed.text(1)) as client:
        for step in (client.describe, client.forget):
            with pytest.raises(ValueError, match="64 hexadecimal"):
                step(bad)


def test_the_engine_here_keeps_nothing() -> None:
    with hesse.Client(":local:") as client:
        assert list(client.functions()) == []
        with pytest.raises(RuntimeError, match="keeps no functions"):
            client.forget("0" * 64)


# ---- the command ---------------------------------------------------------------------------------------------------
def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from hesse.cli import main

    status = main(["keys", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_keys_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    status, out, err = run(capsys, "add", "ada", "--file", str(path), "--expires", "90d", "--quota", "600")
    key = out.strip()
    assert (status, out.count("\n")) == (0, 1)
    assert "shown this once" in err
    assert key not in err
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.split("_")[2] not in path.read_text()
    monkeypatch.setenv("HESSE_KEYS_FILE", str(path))
    assert run(capsys, "--file", str(path), "add", "ops", "--role", "operator")[0] == 0
    second = run(capsys, "add", "ada")[1].strip()  # takes over the quota
    status, out, _ = run(capsys, "list")
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert [r[1:3] for r in rows[1:]] == [["ada", "user"], ["ops", "operator"], ["ada", "user"]]
    assert rows[1][0] == key.split("_")[1]
    assert [r[-2:] for r in rows[1:]] == [["600", "600"], ["-", "-"], ["600", "600"]]
    assert not any([k.split("_")[2] in out for k in (key, second)])
    with running(tmp_path / "server.log", compute_processes=1, keys_file=path) as server:
        for text, expected in ((key, 200), (second, 200), (key[:-1] + "x", 401)):
            assert httpx2.get(f"{server.url}/v1/ops", headers={"X-API-Key": text}).status_code == expected
    assert run(capsys, "revoke", key.split("_")[1])[0] == 0
    assert len(run(capsys, "list")[1].splitlines()) == 3
    status, _, err = run(capsys, "revoke", key.split("_")[1])
    assert (status, "No key" in err) == (1, True)


@pytest.mark.parametrize(("arguments", "message"), [
    (("add", "a b"), "name does not match"), (("add", "ada", "--expires", "soon"), "90d, 12h or 30m"),
    (("add", "ada", "--quota", "0"), "quota is not a whole number"), (("add", "ada", "--burst", "5"), "needs a quota"),
    (("list",), "cannot be read"),
])
def test_what_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
                                  message: str) -> None:
    status, out, err = run(capsys, *arguments, "--file", str(tmp_path / "keys"))
    assert (status, out) == (1, "")
    assert message in err
    assert not (tmp_path / "keys").exists()


def test_the_command_needs_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HESSE_KEYS_FILE", raising=False)
    assert run(capsys, "list")[0] == 1
