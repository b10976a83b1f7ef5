"""What the SDK promises over HTTP: one request a call, the answers and errors of the embedded client, an async twin."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

import hesse
from hesse import func, functional
from scenarios import SCENARIOS, hesse_library

X = np.array([0.5, -1.0, 2.0])
V = np.array([1.0, 0.0, -1.0])
BATCH = np.linspace(-1.0, 1.0, 12).reshape(4, 3)


def f(x: Any) -> Any:
    return (x**3).sum() + x[0] * x[1]


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    elif isinstance(theirs, dict):
        for key in theirs:
            same(ours[key], theirs[key])
    else:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-14, atol=1e-14)


# every one of these is a single outermost call
CALLS: dict[str, Callable[[], Any]] = {
    "hessian": lambda: functional.hessian(f, X),
    "hessian of two": lambda: functional.hessian(lambda x, y: (x * y).sum() ** 2, (X, V)),
    "jacobian": lambda: functional.jacobian(lambda x: (np.sin(x), x.sum()), X),
    "jvp": lambda: functional.jvp(np.sin, X, V),
    "vjp": lambda: functional.vjp(np.sin, X, V),
    "hvp": lambda: functional.hvp(f, X, V),
    "vhp": lambda: functional.vhp(f, X, V),
    "third derivative": lambda: functional.jacobian(lambda x: functional.hessian(f, x, create_graph=True), X),
    "func.hessian": lambda: func.hessian(f)(X),
    "func.hessian of a dict": lambda: func.hessian(lambda p: (p["a"] * p["b"]).sum())({"a": X, "b": V}),
    "jacrev in chunks": lambda: func.jacrev(np.sin, chunk_size=2)(X),
    "jacfwd(jacfwd(jacrev))": lambda: func.jacfwd(func.jacfwd(func.jacrev(f)))(X),
    "grad with aux": lambda: func.grad(lambda x: (f(x), {"x": x * 2}), has_aux=True)(X),
    "grad_and_value": lambda: func.grad_and_value(f)(X),
    "func.jvp": lambda: func.jvp(lambda x: {"y": np.sin(x)}, (X,), (V,)),
    "vmap(jacfwd)": lambda: func.vmap(func.jacfwd(np.sin))(BATCH),
    "vmap in chunks": lambda: func.vmap(func.grad(f), chunk_size=3)(BATCH),
    "jet": lambda: func.jet(lambda x: {"y": np.exp(x) * x}, (X,), ([V, X, V],)),
    "taylor": lambda: func.taylor(f, X, V, 6),
    "cond": lambda: func.hessian(lambda x: hesse.cond(x.sum() > 0, f, np.sum, x))(X),
    "non-finite": lambda: functional.hessian(lambda x: (1.0 / x).sum(), np.array([0.0, -0.0, np.inf, np.nan, 1.0])),
    "float32": lambda: functional.hessian(f, X.astype(np.float32)),
}


class Counting(httpx2.HTTPTransport):
    """A transport that counts its requests."""

    count = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.count += 1
        return super().handle_request(request)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_request_and_answers_as_embedded(name: str, service_url: str) -> None:
    transport = Counting()
    with httpx2.Client(transport=transport) as http, hesse.use(hesse.Client(service_url, http_client=http)):
        found = CALLS[name]()
    with hesse.use(hesse.Client(":local:")):
        wanted = CALLS[name]()
    same(found, wanted)
    assert transport.count == 1


def test_a_function_is_registered_once_and_then_called_by_its_id(service_url: str) -> None:
    transport = Counting()
    with httpx2.Client(transport=transport) as http:
        g = hesse.Client(service_url, http_client=http).function(f)
        first = g.hessian(X)
        assert transport.count == 2
        second = g.hessian(2 * X)
        g.grad(X), g.hvp(X, V), g.value(X)
        assert transport.count == 6
    local = hesse.Client(":local:").function(f)
    same(first, local.hessian(X))
    same(second, local.hessian(2 * X))
    assert g.id(X) == local.id(X)


def test_the_id_is_the_service_s(service_url: str) -> None:
    g = hesse.function(f)
    body = {"function": {"graph": g.graph(X)}, "inputs": [{"name": "x0", "shape": [3], "dtype": "float64"}]}
    answer = httpx2.put(f"{service_url}/v1/functions", json=body)
    assert answer.json()["id"] == g.id(X)


def test_a_function_that_the_server_forgot_is_registered_again(http_client: hesse.Client, service_url: str) -> None:
    g = http_client.function(lambda x: (x**5).sum())
    wanted = g.hessian(X)
    assert httpx2.delete(f"{service_url}/v1/functions/{g.id(X)}").status_code == 204
    same(g.hessian(X), wanted)


def test_a_branch_is_traced_anew(client: hesse.Client) -> None:
    g = client.function(lambda x: (x**2).sum() if x.sum() > 0 else (x**3).sum())
    np.testing.assert_allclose(g.hessian(np.array([1.0, 2.0])), 2 * np.eye(2))
    np.testing.assert_allclose(g.hessian(np.array([-1.0, -2.0])), np.diag([-6.0, -12.0]))
    np.testing.assert_allclose(g.hessian(np.array([3.0, 2.0])), 2 * np.eye(2))
    assert g.id(np.array([1.0, 2.0])) != g.id(np.array([-1.0, -2.0]))


BAD: dict[str, Callable[[hesse.Client], Any]] = {
    "not-scalar": lambda c: c.functional.hessian(np.sin, X),
    "bad-v": lambda c: c.functional.vhp(f, X, np.ones(4)),
    "bad-device": lambda c: c.plan(f, X, device="toaster"),
    "device-absent": lambda c: c.plan(f, X, device="cuda"),
    "over-memory-budget": lambda c: c.plan(lambda x: np.sin(x.sum()) ** 2, X, max_memory_bytes=8),
    "unknown-operation": lambda c: c.plan(f, X, operation="integral"),
    "bad-chunk-size": lambda c: c.function(f).hessian(X, chunk_size=0),
    "index-out-of-range": lambda c: c.functional.jacobian(lambda x: x[(x * 0 + 7).astype(int)], X),
}


@pytest.mark.parametrize("code", BAD)
def test_errors_are_those_of_the_embedded_client(code: str, http_client: hesse.Client) -> None:
    found = []
    for client in (http_client, hesse.Client(":local:")):
        with pytest.raises(hesse.HesseError) as caught:
            BAD[code](client)
        found.append(caught.value)
    over_http, embedded = found
    assert over_http.code == embedded.code == code
    assert type(over_http) is type(embedded)
    assert str(over_http) == str(embedded)


def test_an_error_of_the_service_names_its_request(http_client: hesse.Client) -> None:
    with pytest.raises(ValueError, match="not available") as caught:
        http_client.plan(f, X, device="cuda")
    assert isinstance(caught.value, hesse.HesseError)
    assert caught.value.request_id
    assert f"request id: {caught.value.request_id}" in caught.value.__notes__


def test_a_plan(client: hesse.Client) -> None:
    plan = client.plan(f, X, operation="hessian", threads=1, max_memory_bytes=1 << 20)
    assert plan.operation == "hessian"
    assert 72 <= plan.predicted_peak_bytes <= 1 << 20
    assert plan.as_dict()["threads"] == 1
    assert "hessian" in str(plan)


@pytest.mark.parametrize("kind", ["embedded", "http"])
def test_the_async_client_awaits_the_same(kind: str, service_url: str) -> None:
    async def ask() -> list[Any]:
        async with hesse.AsyncClient(":local:" if kind == "embedded" else service_url) as client:
            g = client.function(f)
            output, pull = await client.func.vjp(np.sin, X)
            with hesse.use(client):
                current = await functional.hessian(f, X)
                nested = await func.vmap(func.grad(f), chunk_size=3)(BATCH)
            return [
                await client.functional.hessian(f, X), await client.functional.vhp(f, X, V), output, await pull(V),
                *await asyncio.gather(*[g.grad(k * X) for k in range(4)]), await g.hvp(X, V), current, nested,
                (await client.plan(f, X)).result_bytes,
            ]

    *found, size = asyncio.run(ask())
    with hesse.use(hesse.Client(":local:")):
        g = hesse.function(f)
        output, pull = func.vjp(np.sin, X)
        wanted = [functional.hessian(f, X), functional.vhp(f, X, V), output, pull(V),
                  *[g.grad(k * X) for k in range(4)], g.hvp(X, V), functional.hessian(f, X),
                  func.vmap(func.grad(f))(BATCH)]
    same(found, wanted)
    assert size == 72


def test_the_environment_chooses_the_client(service_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSE_BASE_URL", service_url)
    with hesse.Client() as client:
        assert client.base_url == service_url
        np.testing.assert_allclose(client.functional.hessian(lambda x: (x**2).sum(), X), 2 * np.eye(3))


BASE_ONLY = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
import hesse

with hesse.Client({url!r}) as client:
    x = np.array([1.0, 2.0])
    print(client.functional.hessian(lambda x: (x**3).sum(), x).tolist())
    print(client.func.vmap(client.func.jacfwd(np.sin))(np.zeros((2, 1))).tolist())
    print(client.function(lambda x: (x**3).sum()).grad(x).tolist())
"""


def test_the_base_dependencies_suffice_over_http(service_url: str) -> None:
    absent = {"numba", "llvmlite", "scipy", "fastapi", "pydantic", "uvicorn", "pebble", "threadpoolctl", "torch"}
    code = BASE_ONLY.format(absent=absent, url=service_url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[[6.0, 0.0], [0.0, 12.0]]", "[[[1.0]], [[1.0]]]", "[3.0, 12.0]"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_people_write_travels(name: str, service_url: str) -> None:
    """Loops, factorizations and special functions in the graphs: the Hessian over HTTP is the embedded one."""
    scenario = SCENARIOS[name]
    with hesse.Client(service_url) as client, hesse.use(client):
        found = hesse.function(scenario.at(hesse_library())).hessian(scenario.point)
    wanted = hesse.function(scenario.at(hesse_library())).hessian(scenario.point)
    np.testing.assert_allclose(found, wanted, rtol=0.0, atol=1e-12 * np.abs(wanted).max())
