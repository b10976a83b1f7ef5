"""`hesse.function` beyond one dense result, embedded and over HTTP: the same kinds, the same bits, the same errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hesse
from hesse_engine.result import SparseMatrix
from serving import running

X = np.array([0.5, -1.0, 2.0, 0.25])
V = np.arange(8.0).reshape(2, 4) - 3.0
MANY = np.stack([X, 2 * X, X - 1.0])
OPERATIONS = ("value", "grad", "hessian", "jacobian", "hessian_diag", "laplacian", "value_grad_hessian")


def chain(x: Any) -> Any:
    return (x[1:] * x[:-1] ** 2).sum() + (x**3).sum()


def parts(x: Any) -> Any:
    return x**2 * x[::-1], (x**3).sum()


def both(x: Any, y: Any) -> Any:
    return (x**2 * y).sum() + (y**3).sum()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("sdk") / "server.log", compute_processes=1) as server:
        yield server.url


@pytest.fixture(scope="module")
def clients(address: str) -> Iterator[tuple[hesse.Client, hesse.Client]]:
    with hesse.Client(":local:") as here, hesse.Client(address) as there:
        yield here, there


def exact() -> Any:
    """Hessian of `chain` at X."""
    found = np.diag(6 * X)
    for k in range(3):
        found[k, k] += 2 * X[k + 1]
        found[k, k + 1] += 2 * X[k]
        found[k + 1, k] += 2 * X[k]
    return found


def test_argnums_choose_what_is_differentiated() -> None:
    g = hesse.function(both)
    np.testing.assert_allclose(g.hessian((X, X + 1), argnums=0), np.diag(2 * (X + 1)))
    np.testing.assert_allclose(g.grad((X, X + 1), argnums=1), X**2 + 3 * (X + 1) ** 2)
    np.testing.assert_allclose(g.hessian((X, X + 1), argnums=(1,))[0][0], np.diag(6 * (X + 1)))


CALLS: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = [
    *[(name, chain, (X,), {}) for name in OPERATIONS],
    *[(name, both, ((X, X + 1),), {}) for name in OPERATIONS],
    *[("hessian", chain, (X,), {"layout": layout}) for layout in ("csr", "coo", "packed", "diag")],
    *[("jacobian", parts, (X,), {"layout": layout}) for layout in ("csr", "coo")],
    ("value_grad_hessian", both, ((X, X + 1),), {"layout": "csr"}),
    ("hessian", both, ((X, X + 1),), {"layout": "diag"}),
    ("hessian", chain, (X,), {"rows": [0, 3], "columns": np.array([1, 2])}),
    ("hessian", chain, (X,), {"columns": range(2), "layout": "csr"}),
    *[(name, parts, (X,), {"weights": (X, np.array(2.0))}) for name in (*OPERATIONS[2:3], *OPERATIONS[4:])],
    *[(name, chain, (X, V), {}) for name in ("hvp", "vhp", "jvp")],
    ("vjp", parts, (X, (V, np.array([1.0, 2.0]))), {}),
    ("hvp", parts, (X, X), {"weights": (X, np.array(2.0))}),
    *[(name, chain, (MANY,), {"batched": True}) for name in OPERATIONS],
    ("hvp", chain, (MANY, MANY), {"batched": True}),
    ("hvp", chain, (MANY, np.stack([V, V + 1, 2 * V])), {"batched": True}),
    ("vjp", parts, (MANY, (MANY, np.ones(3))), {"batched": True}),
    ("laplacian", parts, (MANY,), {"batched": True, "weights": (MANY, np.ones(3))}),
    ("hessian", chain, (X,), {"nonfinite": "error"}),
    *[(name, both, ((X, X + 1),), {"argnums": k}) for name in ("grad", "hessian", "jacobian") for k in (0, -1, (1, 0))],
]


def leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [a for v in value for a in leaves(v)]
    if hasattr(value, "tocoo"):
        csr = value.format == "csr"
        rows, columns = (value.indptr, value.indices) if csr else (value.row, value.col)
        return [value.data, rows, columns, np.array(value.shape)]
    return [value]


@pytest.mark.parametrize("call", range(len(CALLS)), ids=lambda k: f"{k}-{CALLS[k][0]}")
def test_here_and_there_are_the_same_bits(clients: tuple[hesse.Client, hesse.Client], call: int) -> None:
    name, f, arguments, options = CALLS[call]
    options = {"tier": "vm", **options}
    first, second = (leaves(getattr(c.function(f), name)(*arguments, **options)) for c in clients)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_the_async_client_has_them_too(address: str) -> None:
    async def ask(url: str) -> Any:
        async with hesse.AsyncClient(url) as client:
            g = client.function(chain)
            return await g.hessian(X, layout="csr"), await g.laplacian(MANY, batched=True)

    for url in (":local:", address):
        matrix, traces = asyncio.run(ask(url))
        np.testing.assert_allclose(matrix.toarray(), exact(), rtol=1e-13)
        assert traces.shape == (3,)


# ---- kinds -----------------------------------------------------------------------------------------------------------
def test_scipy_s_arrays() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    g = hesse.function(chain)
    matrix = g.hessian(X, layout="csr")
    assert isinstance(matrix, sparse.csr_array) and matrix.nnz == 10 and matrix.has_sorted_indices
    np.testing.assert_allclose(matrix.toarray(), exact(), rtol=1e-13)
    np.testing.assert_allclose(matrix @ X, exact() @ X, rtol=1e-13)
    coo = g.hessian(X, layout="coo")
    assert isinstance(coo, sparse.coo_array)
    np.testing.assert_allclose(coo.toarray(), exact(), rtol=1e-13)
    _, _, third = g.value_grad_hessian(X, layout="csr")
    np.testing.assert_array_equal(third.data, matrix.data)


def test_a_result_cannot_change_the_next() -> None:
    g = hesse.function(chain)
    first = g.hessian(X, layout="csr")
    first.data[:] = 0.0
    for array in (first.indices, first.indptr):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    np.testing.assert_allclose(g.hessian(X, layout="csr").toarray(), exact(), rtol=1e-13)


def test_without_scipy_the_matrix_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    matrix = hesse.function(chain).hessian(X, layout="csr")
    assert isinstance(matrix, SparseMatrix)
    np.testing.assert_allclose(matrix.to_dense(), exact(), rtol=1e-13)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    g, x = hesse.function(chain), torch.tensor(X)
    for layout, kind in (("csr", torch.sparse_csr), ("coo", torch.sparse_coo)):
        matrix = g.hessian(x, layout=layout)
        assert matrix.layout == kind
        np.testing.assert_allclose(matrix.to_dense().numpy(), exact(), rtol=1e-13)
    out = torch.empty(4, 4, dtype=torch.float64)
    g.hessian(x, out=out)
    np.testing.assert_allclose(out.numpy(), exact(), rtol=1e-13)
    value, slope, matrix = g.value_grad_hessian(x)
    assert value.shape == () and slope.shape == (4,) and matrix.shape == (4, 4)
    assert torch.is_tensor(g.laplacian(x))


# ---- against torch ---------------------------------------------------------------------------------------------------
def test_batches_are_torch_s_vmap() -> None:
    torch = pytest.importorskip("torch")
    wanted = torch.func.vmap(torch.func.hessian(chain))(torch.tensor(MANY))
    np.testing.assert_allclose(hesse.function(chain).hessian(MANY, batched=True), wanted.numpy(), rtol=1e-12)


def test_a_lagrangian_keeps_its_pattern() -> None:
    torch = pytest.importorskip("torch")
    g = hesse.function(parts)
    first = g.hessian(X, weights=(X, np.array(1.0)), layout="csr")
    for seed in range(3):
        w, sigma = np.random.default_rng(seed).normal(size=4), 0.5 + seed

        def lagrangian(x: Any, w: Any = w, sigma: Any = sigma) -> Any:
            return (torch.tensor(w) * x**2 * x.flip(0)).sum() + sigma * (x**3).sum()

        wanted = torch.func.hessian(lagrangian)
        found = g.hessian(X, weights=(w, np.array(sigma)), layout="csr")
        np.testing.assert_allclose(found.toarray(), wanted(torch.tensor(X)).numpy(), rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(found.indices, first.indices)


def test_products_of_many_vectors() -> None:
    value, products = hesse.function(chain).hvp(X, V)
    assert value.shape == ()
    np.testing.assert_allclose(products, V @ exact(), rtol=1e-13)


# ---- out -------------------------------------------------------------------------------------------------------------
def test_out_is_the_result(clients: tuple[hesse.Client, hesse.Client]) -> None:
    for client in clients:
        g, out = client.function(chain), np.empty((4, 4))
        for point in (X, X + 1.0):
            found = g.hessian(point, out=out)
            assert np.shares_memory(found, out)
            np.testing.assert_array_equal(out, g.hessian(point))
        data = np.empty(10)
        matrix = g.hessian(X, layout="csr", out=data)
        np.testing.assert_array_equal(matrix.data, data)
        np.testing.assert_allclose(matrix.toarray(), exact(), rtol=1e-13)
        for wrong in (np.empty((4, 3)), np.empty((4, 4), np.float32), [out], "here"):
            with pytest.raises(ValueError) as caught:
                g.hessian(X, out=wrong)
            assert caught.value.code == "bad-out"  # type: ignore[attr-defined]


# ---- nested ----------------------------------------------------------------------------------------------------------
def test_a_laplacian_inside_a_traced_function() -> None:
    g = hesse.function(lambda x: (x**4).sum())
    outer = hesse.function(lambda x: g.laplacian(x) + g.hessian_diag(x).sum() + g.value_grad_hessian(x)[2].sum())
    np.testing.assert_allclose(outer.value(X), 36 * (X**2).sum(), rtol=1e-13)
    np.testing.assert_allclose(outer.grad(X), 72 * X, rtol=1e-13)
    value, slope, _ = hesse.function(lambda x: (*g.value_grad_hessian(x)[:2], x)).value(X)
    np.testing.assert_allclose(value, (X**4).sum())
    np.testing.assert_allclose(slope, 4 * X**3)


def test_what_has_no_meaning_inside_is_refused() -> None:
    g = hesse.function(chain)
    with pytest.raises(NotImplementedError, match="knows no layout"):
        hesse.function(lambda x: g.hessian(x, layout="csr")).value(X)


# ---- refusals --------------------------------------------------------------------------------------------------------
def log(x: Any) -> Any:
    return hesse.numpy.log(x).sum()


REFUSED: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], str]] = [
    ("hessian", chain, (X,), {"layout": "bsr"}, "bad-layout"),
    ("grad", chain, (X,), {"layout": "csr"}, "bad-layout"),
    ("jacobian", chain, (X,), {"layout": "diag"}, "bad-layout"),
    ("hessian", parts, (X,), {"layout": "csr"}, "bad-layout"),
    ("hessian", chain, (X,), {"chunk_size": 0}, "bad-chunk-size"),
    ("hessian", chain, (X,), {"rows": [4]}, "bad-rows"),
    ("hessian", chain, (X,), {"columns": [-5]}, "bad-columns"),
    ("hessian", chain, (X,), {"weights": np.ones(2)}, "bad-weights"),
    ("grad", chain, (X,), {"weights": np.array(1.0)}, "bad-weights"),
    ("hessian", parts, (X,), {"weights": np.ones(4)}, "bad-weights"),
    ("hessian", chain, (np.array(1.0),), {"batched": True}, "wrong-inputs"),
    ("hessian", both, ((MANY, X),), {"batched": True}, "wrong-inputs"),
    ("hvp", chain, (X, np.ones((2, 3))), {}, "bad-v"),
    ("hvp", chain, (X, np.ones(3)), {}, "bad-v"),
    ("hvp", chain, (MANY, np.ones((2, 4))), {"batched": True}, "bad-v"),
    ("hessian", log, (np.array([1.0, 0.0]),), {"nonfinite": "error"}, "nonfinite-result"),
    ("hessian", chain, (X,), {"nonfinite": "warn"}, "bad-option"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)), ids=lambda k: f"{k}-{REFUSED[k][4]}")
def test_refusals_are_the_same_here_and_there(clients: tuple[hesse.Client, hesse.Client], case: int) -> None:
    name, f, arguments, options, code = REFUSED[case]
    found = []
    for client in clients:
        with pytest.raises(hesse.HesseError) as caught:
            getattr(client.function(f), name)(*arguments, **options)
        found.append(caught.value)
    assert [e.code for e in found] == [code, code]
    assert type(found[0]) is type(found[1]) and found[0].message == found[1].message


def test_a_batch_that_branches_is_refused() -> None:
    g = hesse.function(lambda x: (x**2).sum() if x[0] > 0 else (x**3).sum())
    with pytest.raises(RuntimeError, match="point 1 of the batch takes other branches"):
        g.hessian(np.array([[1.0, 2.0], [-1.0, 2.0]]), batched=True)
    assert g.hessian(np.array([[1.0, 2.0], [3.0, 2.0]]), batched=True).shape == (2, 2, 2)


def test_plans_of_layouts_and_batches(clients: tuple[hesse.Client, hesse.Client]) -> None:
    for client in clients:
        assert client.plan(chain, MANY, "laplacian", batched=True).strategy == "direct-assembly"
        assert client.plan(chain, MANY, batched=True).result_bytes == 3 * 16 * 8
        assert client.plan(chain, X, layout="csr").strategy == "direct-assembly"
        with pytest.raises(ValueError, match="cannot be given in the layout"):
            client.plan(chain, X, "grad", layout="csr")
