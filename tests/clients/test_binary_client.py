"""The SDK over frames and over JSON, against a real server: the same bits, arrays of the caller's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

import hesse
import hesse.numpy as hnp
from hesse.protocol import BINARY_BYTES
from scripted import GRADIENT, Answer, scripted
from serving import Server, running, wait_for

Array = NDArray[Any]
FRAME = "application/octet-stream"
WIRES: dict[str, dict[str, Any]] = {
    "as cheaper": {}, "binary": {"binary": True}, "json": {"binary": False}, "gzip": {"compression": "gzip"},
    "zstd": {"compression": "zstd"}, "json, gzip": {"binary": False, "compression": "gzip"},
}
POINT = np.linspace(-1.0, 2.0, 300)
MATRIX = np.random.default_rng(3).standard_normal((300, 300))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("binary") / "log", compute_processes=1) as started:
        wait_for(lambda: httpx2.get(f"{started.url}/readyz").status_code == 200, 120)  # one interpreter for all
        yield started


def quadratic(x: Any) -> Any:
    return hnp.sum(x * (hnp.asarray(MATRIX) @ x)) + hnp.sum(x**4)


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, (tuple, list)):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            assert_same(f, w)
        return
    f, w = np.asarray(found), np.asarray(wanted)
    assert (f.shape, f.dtype) == (w.shape, w.dtype)
    assert f.tobytes() == w.tobytes()


def asked(client: Any) -> list[Any]:
    """Everything that a client can be asked, at one point."""
    v = np.cos(POINT)
    g = client.function(quadratic)
    return [
        client.functional.hessian(quadratic, POINT), client.functional.jacobian(quadratic, POINT),
        client.functional.hvp(quadratic, POINT, v), client.functional.vhp(quadratic, POINT, v),
        client.functional.vjp(quadratic, POINT), client.functional.jvp(quadratic, POINT, v),
        client.func.grad(quadratic)(POINT), client.func.hessian(quadratic)(POINT),
        g.hessian(POINT), g.grad(POINT), g.value_grad_hessian(POINT),
    ]


@pytest.fixture(scope="module")
def plain_answers(server: Server) -> list[Any]:
    with hesse.Client(server.url, binary=False) as client:
        return asked(client)


@pytest.mark.parametrize("name", WIRES)
def test_every_wire_gives_the_same_bits(server: Server, plain_answers: list[Any], name: str) -> None:
    with hesse.Client(server.url, **WIRES[name]) as client:
        for found, wanted in zip(asked(client), plain_answers, strict=True):
            assert_same(found, wanted)


@pytest.mark.parametrize("name", WIRES)
def test_results_are_writable_and_own_their_memory(server: Server, name: str) -> None:
    with hesse.Client(server.url, **WIRES[name]) as client:
        found = client.functional.hessian(quadratic, POINT)
        assert isinstance(found, np.ndarray)
        assert found.flags.writeable
        assert found.flags.owndata or found.base.flags.owndata
        found += 1.0


@pytest.mark.parametrize("name", WIRES)
def test_sparse_results(server: Server, name: str) -> None:
    with hesse.Client(server.url, **WIRES[name]) as client:
        found = client.function(lambda x: hnp.sum(x[1:] ** 2 * x[:-1])).hessian(POINT, layout="csr")
        with hesse.Client(server.url, binary=False) as other:
            wanted = other.function(lambda x: hnp.sum(x[1:] ** 2 * x[:-1])).hessian(POINT, layout="csr")
        for part in ("indptr", "indices", "data"):
            assert_same(getattr(found, part), getattr(wanted, part))
            assert getattr(found, part).flags.writeable


@pytest.mark.parametrize("name", WIRES)
def test_errors_are_the_same(server: Server, name: str) -> None:
    with hesse.Client(server.url, **WIRES[name]) as client, pytest.raises(hesse.HesseError) as caught:
        client.functional.hessian(lambda x: x * 2.0, POINT)
    assert caught.value.code == "not-scalar"


def test_awaited(server: Server, plain_answers: list[Any]) -> None:
    async def run() -> Any:
        async with hesse.AsyncClient(server.url, binary=True, compression="zstd") as client:
            return await client.functional.hessian(quadratic, POINT)

    assert_same(asyncio.run(run()), plain_answers[0])


@pytest.mark.parametrize("name", WIRES)
def test_a_forgotten_function_is_registered_again(server: Server, name: str) -> None:
    with hesse.Client(server.url, **WIRES[name]) as client, httpx2.Client(base_url=server.url) as other:
        function = client.function(quadratic)
        wanted = function.grad(POINT)
        for known in client._server.registered:
            assert other.delete(f"/v1/functions/{known}").status_code == 204
        assert_same(function.grad(POINT), wanted)


def test_what_is_said(server: Server) -> None:
    sent: list[httpx2.Request] = []
    got: list[httpx2.Response] = []
    with httpx2.Client(event_hooks={"request": [sent.append], "response": [got.append]}) as http:
        client = hesse.Client(server.url, http_client=http)
        client.functional.hessian(lambda x: (x**3).sum(), np.ones(BINARY_BYTES // 8))
        client.functional.hessian(lambda x: (x**3).sum(), np.ones(BINARY_BYTES // 8 - 1))
        packed = hesse.Client(server.url, http_client=http, compression="gzip")
        packed.functional.hessian(lambda x: (x**3).sum(), np.ones(1000))
    assert [r.headers["content-type"] for r in sent] == [FRAME, "application/json", FRAME]
    assert [r.headers["accept"] for r in sent] == [f"{FRAME}, application/json;q=0.9"] * 3
    assert [r.headers.get("content-encoding") for r in sent] == [None, None, "gzip"]
    assert [r.headers["content-type"] for r in got] == [FRAME] * 3
    assert [r.headers.get("content-encoding") for r in got] == [None, None, "gzip"]
    length = int(sent[0].headers["inference-header-content-length"])
    assert length % 64 == 0
    assert json.loads(sent[0].content[:length])["inputs"][0]["parameters"] == {"binary_data_size": BINARY_BYTES}


def test_a_server_that_knows_only_json_is_understood() -> None:
    with scripted(GRADIENT) as (url, _), hesse.Client(url) as client:
        assert client.functional.jacobian(lambda x: (x**2).sum(), np.array([1.0, 2.0])).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"result":{"shape":[1],"dtype":"float64","parameters":'
                                               b'{"binary_data_size":8}},"stats":{}}', b"\xff" * 64])
@pytest.mark.parametrize("stated", ["2", "x", "1000", None])
def test_broken_frames_are_bad_answers(body: bytes, stated: str | None) -> None:
    headers = {"Content-Type": FRAME} | ({} if stated is None else {"Inference-Header-Content-Length": stated})
    with (
        scripted(Answer(200, body, headers)) as (url, _),
        hesse.Client(url) as client,
        pytest.raises(hesse.HesseError) as caught,
    ):
        client.func.grad(lambda x: (x**2).sum())(np.array([1.0, 2.0]))
    assert caught.value.code == "bad-answer"


@pytest.mark.parametrize("coding", ["br", "deflate", "", 7])
def test_other_compressions_are_refused(coding: Any) -> None:
    with pytest.raises(hesse.HesseError) as caught:
        hesse.Client("http://127.0.0.1:1", compression=coding)
    assert caught.value.code == "bad-option"
