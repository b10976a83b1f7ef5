"""API keys: what opens the door, what does not, and the file that says so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import Request

import keyed
from hesse_engine.errors import StateError
from hesse_service import keys
from hesse_service.security import require_operator
from serving import Server, running, wait_for

SQUARES = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
USER, OPERATOR, EXPIRED, LATER = 1, 2, 3, 4
PAST, FUTURE = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00+02:00"


def lines() -> list[dict[str, Any]]:
    return [keyed.line("ada", USER), keyed.line("ops", OPERATOR, role="operator"),
            keyed.line("ada", EXPIRED, expires=PAST), keyed.line("ada", LATER, expires=FUTURE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    path = keyed.write(folder / "keys", *lines())
    with running(folder / "server.log", compute_processes=1, keys_file=path) as started:
        yield started


def ask(server: Server, *headers: tuple[str, str], path: str = "/v1/value") -> httpx2.Response:
    return httpx2.post(server.url + path, json=SQUARES, headers=list(headers), timeout=60)


def bearer(number: int) -> tuple[str, str]:
    return "Authorization", f"Bearer {keyed.text(number)}"


@pytest.mark.parametrize("header", [
    bearer(USER), bearer(OPERATOR), bearer(LATER), ("X-API-Key", keyed.text(USER)),
    ("Authorization", f"bearer   {keyed.text(USER)}"), ("AUTHORIZATION", f"BEARER {keyed.text(USER)}"),
], ids=lambda h: h[1][:20])
def test_a_good_key_opens(server: Server, header: tuple[str, str]) -> None:
    response = ask(server, header)
    assert response.status_code == 200, response.text
    assert response.json()["result"]["data"] == [5.0]


GOOD = keyed.text(USER)
REFUSED: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "unknown id": [("Authorization", f"Bearer {keyed.text(99)}")],
    "wrong secret": [("Authorization", f"Bearer {GOOD[:-1]}{'0' if GOOD[-1] != '0' else '1'}")],
    "another's secret": [("Authorization", f"Bearer {keyed.text(OPERATOR)[:18]}_{GOOD.split('_')[2]}")],
    "the hash for the secret": [("X-API-Key", f"hesse_{1:012x}_{keyed.line('ada', USER)['sha256']}")],
    "expired": [bearer(EXPIRED)],
    "empty": [("Authorization", "")],
    "no scheme": [("Authorization", GOOD)],
    "Basic": [("Authorization", f"Basic {GOOD}")],
    "bare Bearer": [("Authorization", "Bearer")],
    "two in one": [("Authorization", f"Bearer {GOOD}, Bearer {GOOD}")],
    "two headers": [bearer(USER), bearer(OPERATOR)],
    "twice the same": [bearer(USER), bearer(USER)],
    "two kinds": [bearer(USER), ("X-API-Key", keyed.text(USER))],
    "wrong prefix": [("X-API-Key", GOOD.replace("hesse", "messe"))],
    "too short": [("X-API-Key", "hesse_1")],
    "too long": [("X-API-Key", GOOD + "0" * 500)],
    "more parts": [("X-API-Key", GOOD + "_0")],
    "empty secret": [("X-API-Key", f"hesse_{1:012x}_")],
    "secret of nobody": [("X-API-Key", f"hesse_{0:012x}_nobody has this")],
    "surrounding text": [("X-API-Key", f"key={GOOD}")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_does_not(server: Server, name: str) -> None:
    response = ask(server, *REFUSED[name])
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["retryable"] is False
    for _, value in REFUSED[name]:
        secret = value.split("_")[-1]
        assert len(secret) < 8 or secret not in response.text


def test_strange_bytes_in_a_credential(server: Server) -> None:
    response = httpx2.post(f"{server.url}/v1/value", json=SQUARES, headers=[(b"X-API-Key", b"hesse_\xe9\xff_\x80")])
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


def test_unknown_and_wrong_are_told_apart_by_nothing(server: Server) -> None:
    one, two = [ask(server, *REFUSED[n]) for n in ("unknown id", "wrong secret")]
    assert {**one.json(), "request_id": ""} == {**two.json(), "request_id": ""}
    assert list(one.headers) == list(two.headers)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/livez", 200), ("HEAD", "/livez", 200), ("GET", "/openapi.json", 401), ("GET", "/v1/ops", 401),
    ("GET", "/v1/functions", 401), ("PUT", "/v1/functions", 401), ("GET", f"/v1/functions/{'0' * 64}", 401),
    ("DELETE", f"/v1/functions/{'0' * 64}", 401), ("POST", "/v1/plan", 401), ("POST", "/v1/hessian", 401),
    ("GET", "/nothing/here", 401), ("OPTIONS", "/v1/hessian", 401), ("GET", "/livez/", 401), ("GET", "//livez", 401),
])
def test_what_needs_a_key(server: Server, method: str, path: str, status: int) -> None:
    assert httpx2.request(method, server.url + path).status_code == status


def test_readiness_needs_none(server: Server) -> None:
    wait_for(lambda: httpx2.get(f"{server.url}/readyz").status_code == 200, 120)


def test_every_path_of_the_document_needs_a_key(server: Server) -> None:
    """A route that somebody adds later is behind the door, too."""
    document = httpx2.get(f"{server.url}/openapi.json", headers=[bearer(USER)]).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, methods in document["paths"].items():
        for method in methods:
            status = httpx2.request(method, server.url + path.replace("{id}", "0" * 64)).status_code
            assert (status == 401) is (path not in ("/livez", "/readyz")), path


def test_the_secret_stands_nowhere(server: Server, folder: Path) -> None:
    ask(server, bearer(USER))
    secrets = [keyed.text(n).split("_")[2] for n in (USER, OPERATOR, EXPIRED, 99)]
    for path in folder.iterdir():
        text = path.read_text("latin-1")
        assert not any([s in text for s in secrets]), path


def test_the_file_is_read_again(tmp_path: Path) -> None:
    path = keyed.write(tmp_path / "keys", keyed.line("ada", 1))
    with running(tmp_path / "server.log", compute_processes=1, keys_file=path) as server:

        def status(number: int) -> int:
            return httpx2.get(f"{server.url}/v1/functions", headers=[bearer(number)]).status_code

        assert (status(1), status(2)) == (200, 401)
        keyed.write(path, keyed.line("ada", 1), keyed.line("bob", 2))
        wait_for(lambda: status(2) == 200, 10)
        keyed.write(path, keyed.line("bob", 2))
        wait_for(lambda: status(1) == 401, 10)
        path.write_text('{"name": "broken"')
        wait_for(lambda: "stay in force" in server.log.read_text(), 10)
        assert (status(1), status(2)) == (401, 200)
        path.unlink()
        wait_for(lambda: "cannot be read" in server.log.read_text(), 10)
        assert status(2) == 200
        keyed.write(path, keyed.line("ada", 1))
        wait_for(lambda: (status(1), status(2)) == (200, 401), 10)
        log = server.log.read_text()
        assert log.count("stay in force") == 2
        assert "broken" not in log


BROKEN: dict[str, tuple[str, str]] = {
    "not JSON": ("{", "Line 1 .* it is not JSON"),
    "deep": ("[" * 100_000, "it is not JSON"),
    "a list": ("[]", "it is not a JSON object"),
    "missing": ('{"name": "ada"}', "created, id, sha256 is missing"),
}
for _name, _change, _pattern in [
    ("bad name", {"name": "a b"}, "name does not match"), ("no name", {"name": ""}, "name does not match"),
    ("bad id", {"id": "../../etc"}, "id does not match"), ("bad hash", {"sha256": "00"}, "sha256 does not match"),
    ("bad role", {"role": "root"}, "role is not one of"), ("bad quota", {"quota": -1}, "quota is not a whole"),
    ("real quota", {"quota": 1.5}, "quota is not a whole"), ("true quota", {"quota": True}, "quota is not a whole"),
    ("bare burst", {"burst": 5}, "burst needs a quota"), ("no zone", {"expires": "2026-01-01T00:00:00"}, "no zone"),
    ("no time", {"expires": "soon"}, "RFC 3339"), ("number for time", {"expires": 5}, "a time is no text"),
    ("unknown member", {"secret": "x"}, "unknown"), ("id is a list", {"id": []}, "id does not match"),
]:
    BROKEN[_name] = (str({**keyed.line("ada", 1), **_change}).replace("'", '"').replace("True", "true"), _pattern)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "keys"
    path.write_text(BROKEN[name][0])
    with pytest.raises(keys.KeysFileError, match=BROKEN[name][1]):
        keys.load(path)


def test_keys_that_contradict_each_other(tmp_path: Path) -> None:
    for one, two, pattern in [
        (keyed.line("ada", 1), keyed.line("bob", 1), "Line 2 .* earlier line"),
        (keyed.line("ada", 1, quota=5), keyed.line("ada", 2), "different quota"),
    ]:
        with pytest.raises(keys.KeysFileError, match=pattern):
            keys.load(keyed.write(tmp_path / "keys", one, two))


@pytest.mark.parametrize("content", [None, "{", '{"name": "ada"}'], ids=["absent", "broken", "incomplete"])
def test_no_server_starts_with_a_broken_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HESSE_KEYS_FILE": str(path)}
    done = subprocess.run([sys.executable, "-m", "hesse", "serve", "--port", "0"], env=env, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "hesse serve: " in done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_all_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = keyed.write(tmp_path / "keys", keyed.line("ada", 1))
    keys.load(path)
    assert not caplog.records
    path.chmod(0o644)
    keys.load(path)
    assert "can be read by everybody" in caplog.text


def test_concurrency_of_one_key(tmp_path: Path) -> None:
    """Requests whose bodies do not end hold their places; another key has places of its own."""
    path = keyed.write(tmp_path / "keys", keyed.line("ada", 1), keyed.line("ada", 2), keyed.line("bob", 3))
    with running(tmp_path / "server.log", compute_processes=1, keys_file=path, key_concurrency=2) as server:

        def status(number: int) -> int:
            return httpx2.get(f"{server.url}/v1/functions", headers=[bearer(number)]).status_code

        def begin() -> socket.socket:
            opened = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
            opened.sendall("POST /v1/value HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           f"Content-Length: 9\r\nAuthorization: Bearer {keyed.text(1)}\r\n\r\n{{".encode())
            return opened

        opened = [begin(), begin()]
        wait_for(lambda: status(1) == 429, 10)
        response = httpx2.get(f"{server.url}/v1/functions", headers=[bearer(2)])
        assert (response.status_code, response.json()["code"]) == (429, "too-many-requests")
        assert (response.headers["retry-after"], response.json()["retryable"]) == ("1", True)
        assert status(3) == 200
        opened[0].close()
        wait_for(lambda: status(1) == 200, 10)
        opened[1].close()


def test_a_new_key_is_random_and_long() -> None:
    made = [keys.made("ada") for _ in range(50)]
    texts = [text for _, text in made]
    assert len({t.split("_")[1] for t in texts}) == len({t.split("_")[2] for t in texts}) == 50
    assert all([len(t.split("_")[2]) * 4 >= 160 for t in texts])
    assert all([text.split("_")[2] not in str(key) for key, text in made])
    assert time.time() < made[0][0].expires_at


@pytest.mark.parametrize(("role", "is_admitted"), [(None, True), ("operator", True), ("user", False)])
def test_what_needs_an_operator(role: str | None, is_admitted: bool) -> None:
    """Where no keys are asked for there is no key in the scope."""
    scope: dict[str, Any] = {"type": "http"}
    if role is not None:
        scope["hesse.key"] = keys.made("ada", role=role)[0]
    if is_admitted:
        require_operator(Request(scope))
        return
    with pytest.raises(StateError) as caught:
        require_operator(Request(scope))
    assert (caught.value.code, caught.value.status) == ("forbidden", 403)
