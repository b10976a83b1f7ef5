"""The SDK without a server: arrays in and out, nesting of transforms, `hesse.function`, the current client, imports."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import warnings
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import hesse
from hesse import func, functional, tree

X = np.array([0.5, -1.0, 2.0])
V = np.array([1.0, 0.0, -1.0])
Point = namedtuple("Point", "a b")


def f(x: Any) -> Any:
    return (x**3).sum()


# ---- arrays ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
def test_numpy_in_numpy_out(dtype: Any) -> None:
    found = functional.hessian(f, X.astype(dtype))
    assert type(found) is np.ndarray
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_allclose(found, np.diag(6 * X), rtol=1e-6)


def test_views_are_read_as_they_are() -> None:
    wide = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(functional.jacobian(f, wide[::2, ::-1].T), 3 * wide[::2, ::-1].T ** 2)


def test_array_api_arrays_come_back_as_such() -> None:
    xp = pytest.importorskip("array_api_strict")
    found = functional.hessian(f, xp.asarray([0.5, -1.0, 2.0]))
    assert type(found) is type(xp.asarray(1.0))
    np.testing.assert_allclose(np.from_dlpack(found), np.diag(6 * X))


def test_results_are_the_caller_s_own() -> None:
    g = hesse.function(f)
    first = g.hessian(X)
    kept = first.copy()
    first += 1.0
    g.hessian(2 * X)
    np.testing.assert_array_equal(g.hessian(X), kept)


BAD_ARRAYS = {
    "float16": (np.ones(2, np.float16), ValueError, "float16 is not supported"),
    "masked": (np.ma.masked_array([1.0, 2.0], [True, False]), ValueError, "mask would be lost"),
    "strings": (np.array(["a"]), TypeError, "must be either a Tensor or a tuple of Tensors"),
    "list": ([1.0], TypeError, "a Tensor or a tuple of Tensors but the given inputs has type <class 'list'>"),
    "integers": (np.array([1, 2]), RuntimeError, "only Tensors of floating point dtype can require gradients"),
    "complex": (np.array([1j]), RuntimeError, "grad can be implicitly created only for real scalar outputs"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_are_refused(name: str) -> None:
    value, kind, text = BAD_ARRAYS[name]
    with pytest.raises(kind, match=text) as caught:
        functional.hessian(f, value)
    assert isinstance(caught.value, hesse.HesseError)


# ---- torch ----------------------------------------------------------------------------------------------------------
def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional peer")
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    found = functional.hessian(lambda x: torch.sin(x).sum(), x)
    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.device, found.requires_grad) == (torch.float32, x.device, False)
    assert type(functional.hessian(f, torch.nn.Parameter(torch.ones(2)))) is torch.Tensor


BAD_TENSORS = {
    "meta": (lambda torch: torch.ones(2, device="meta"), ValueError, "lies on device 'meta'; available: 'cpu'"),
    "sparse": (lambda torch: torch.ones(2).to_sparse(), ValueError, "only dense tensors are supported"),
    "bfloat16": (lambda torch: torch.ones(2, dtype=torch.bfloat16), ValueError, "bfloat16 is not supported"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_that_are_refused(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional peer")
    make, kind, text = BAD_TENSORS[name]
    with pytest.raises(kind, match=text):
        functional.hessian(f, make(torch))


SIGNATURES = [(functional, "torch.autograd.functional", n) for n in functional.__all__]
SIGNATURES += [(func, "torch.func", n) for n in func.__all__ if n not in ("jet", "taylor")]  # torch has none


@pytest.mark.parametrize(("ours", "theirs", "name"), SIGNATURES, ids=lambda v: v if isinstance(v, str) else "")
def test_signatures_are_torch_s(ours: Any, theirs: str, name: str) -> None:
    pytest.importorskip("torch", reason="torch is an optional peer")
    module = __import__(theirs, fromlist=["*"])
    wanted = inspect.signature(getattr(module, name)).parameters.values()
    found = inspect.signature(getattr(ours, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in wanted]


# ---- nesting --------------------------------------------------------------------------------------------------------
def test_an_inner_result_is_cut_off_without_create_graph() -> None:
    def inner(x: Any) -> Any:
        return (functional.jacobian(f, x) * x).sum()

    with pytest.warns(hesse.DetachedWarning, match="functional.jacobian .* create_graph=True") as caught:
        found = functional.jacobian(inner, X)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(found, 3 * X**2)  # only the second factor is differentiated


def test_create_graph_keeps_it() -> None:
    found = functional.jacobian(lambda x: (functional.jacobian(f, x, create_graph=True) * x).sum(), X)
    np.testing.assert_allclose(found, 9 * X**2)


def test_func_is_never_cut_off() -> None:
    np.testing.assert_allclose(functional.jacobian(lambda x: (func.grad(f)(x) * x).sum(), X), 9 * X**2)


def test_an_inner_transform_of_constants_is_not_cut_off_from_anything() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = functional.jacobian(lambda x: x * functional.jacobian(f, V), X)
    np.testing.assert_allclose(found, np.diag(3 * V**2))


def test_an_inner_transform_of_constants_gives_arrays() -> None:
    def outer(x: Any) -> Any:
        curvature = functional.hessian(f, V)
        assert type(curvature) is np.ndarray
        return x @ curvature @ x

    np.testing.assert_allclose(func.hessian(outer)(X), 2 * np.diag(6 * V))


def test_no_array_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no array among the arguments"):
        func.grad(lambda p: 1.0)({})
    with pytest.raises(IndexError, match="tuple index out of range"):  # as torch's
        functional.hessian(lambda: 1.0, ())


def test_the_namespace_of_a_traced_array() -> None:
    found = functional.hessian(lambda x: x.__array_namespace__().sum(x**3), X)
    np.testing.assert_allclose(found, np.diag(6 * X))


def test_other_arguments_may_be_anything() -> None:
    rows, mask = np.array([0, 2]), np.array([True, False, True])
    wanted = np.array([3 * X[0] ** 2, 0.0, 3 * X[2] ** 2])
    np.testing.assert_allclose(func.grad(lambda x, rows, power: (x[rows] ** power).sum())(X, rows, 3), wanted)
    np.testing.assert_allclose(func.grad(lambda x, mask, how: (x[mask] ** 3).sum())(X, mask, "how"), wanted)


def test_an_inner_transform_may_close_over_an_outer_variable() -> None:
    # d/dx of d/dy (x y²) = 2 y, evaluated at y = V
    found = func.jacfwd(lambda x: func.grad(lambda y: (x * y**2).sum())(V))(X)
    np.testing.assert_allclose(found, np.diag(2 * V))


@pytest.mark.parametrize("outer", ["jacfwd", "jacrev"])
@pytest.mark.parametrize("middle", ["jacfwd", "jacrev"])
@pytest.mark.parametrize("inner", ["jacfwd", "jacrev"])
def test_third_derivatives_in_any_order(outer: str, middle: str, inner: str) -> None:
    third = getattr(func, outer)(getattr(func, middle)(getattr(func, inner)(lambda x: (x**3).sum() * x[0])))(X)
    i = np.arange(3)
    wanted = np.zeros((3, 3, 3))
    for a in i:  # f = x_0 sum x³: f_aaa = 6 x_0 (24 x_0 for a = 0), f_0aa = 6 x_a
        wanted[a, a, a] = 6 * X[0]
        wanted[0, a, a] = wanted[a, 0, a] = wanted[a, a, 0] = 6 * X[a]
    wanted[0, 0, 0] = 24 * X[0]
    np.testing.assert_allclose(third, wanted, atol=1e-12)


def test_a_wrapped_transform_is_not_taken_for_the_transform() -> None:
    # vmap keeps the name of what it maps, not its nature
    batch = np.linspace(-1, 1, 6).reshape(2, 3)
    found = func.jacrev(func.vmap(func.jacfwd(f)))(batch)
    wanted = np.zeros((2, 3, 2, 3))
    for k, row in enumerate(batch):
        wanted[k, :, k, :] = np.diag(6 * row)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_function_inside_a_traced_function() -> None:
    g = hesse.function(f)
    np.testing.assert_allclose(func.grad(lambda x: g(x))(X), 3 * X**2)
    np.testing.assert_allclose(func.jacfwd(lambda x: g.grad(x))(X), np.diag(6 * X))
    np.testing.assert_allclose(func.jacfwd(lambda x: g.hvp(x, V)[1])(X), np.diag(6 * V))


def test_chunks_are_concatenated_bit_for_bit() -> None:
    m = np.linspace(-2, 2, 20).reshape(4, 5)
    whole = func.jacrev(np.tanh)(m)
    for size in (1, 3, 7, 20, 100):
        for preallocate in (False, True):
            part = func.jacrev(np.tanh, chunk_size=size, _preallocate_and_copy=preallocate)(m)
            np.testing.assert_array_equal(part, whole)


def test_a_tracer_that_outlived_its_call_is_refused() -> None:
    kept: list[Any] = []
    functional.jacobian(lambda x: kept.append(x) or x, X)
    with pytest.raises(TypeError, match="outlived"):
        functional.jacobian(lambda x: x + kept[0], X)


# ---- hesse.function -------------------------------------------------------------------------------------------------
def test_a_function_is_traced_once_for_each_signature() -> None:
    calls: list[Any] = []

    def counted(x: Any) -> Any:
        calls.append(x.shape)
        return f(x)

    g = hesse.function(counted)
    for scale in (1.0, 2.0):
        np.testing.assert_allclose(g.hessian(scale * X), np.diag(6 * scale * X))
        np.testing.assert_allclose(g.grad(scale * X), 3 * (scale * X) ** 2)
    assert calls == [(3,)]
    g.grad(X[:2])
    g.grad(X.astype(np.float32))
    assert calls == [(3,), (2,), (3,)]


def test_all_operations_of_a_function() -> None:
    g = hesse.function(lambda x, y: (x**2 * y).sum())
    np.testing.assert_allclose(g.value((X, V)), (X**2 * V).sum())
    np.testing.assert_allclose(g(X, V), (X**2 * V).sum())
    for found, wanted in zip(g.grad((X, V)), (2 * X * V, X**2), strict=True):
        np.testing.assert_allclose(found, wanted)
    (a, b), (c, d) = g.hessian((X, V))
    np.testing.assert_allclose(a, np.diag(2 * V))
    np.testing.assert_allclose([b, c], [np.diag(2 * X)] * 2)
    np.testing.assert_allclose(d, np.zeros((3, 3)))
    for name in ("hvp", "vhp"):
        output, (p, q) = getattr(g, name)((X, V), (V, X))
        np.testing.assert_allclose(output, (X**2 * V).sum())
        np.testing.assert_allclose(p, 2 * V * V + 2 * X * X)
        np.testing.assert_allclose(q, 2 * X * V)
    pair = hesse.function(lambda x: (x**2, x.sum()))
    np.testing.assert_allclose(pair.jacobian(X)[0], np.diag(2 * X))
    np.testing.assert_allclose(pair.jvp(X, V)[1][1], V.sum())
    np.testing.assert_allclose(pair.vjp(X, (V, np.array(2.0)))[1], 2 * X * V + 2)
    (alone,) = hesse.function(lambda x: (x * 2,)).value(X)
    np.testing.assert_allclose(alone, 2 * X)


def test_a_branch_guards_its_trace() -> None:
    calls: list[int] = []

    def branching(x: Any) -> Any:
        calls.append(1)
        return (x**2).sum() if x[0] > 0 else (x**4).sum()

    g = hesse.function(branching)
    for x in (X, -X, 2 * X, -2 * X):
        wanted = np.diag(np.full(3, 2.0)) if x[0] > 0 else np.diag(12 * x**2)
        np.testing.assert_allclose(g.hessian(x), wanted)
    assert len(calls) == 2


def test_the_options_of_a_function_are_checked() -> None:
    g = hesse.function(f)
    np.testing.assert_array_equal(g.hessian(X, layout="dense", chunk_size=1, threads=1), g.hessian(X))
    with pytest.raises(ValueError, match="chunk_size"):
        g.hessian(X, chunk_size=0)
    with pytest.raises(ValueError, match="takes no option 'colour'"):
        g.hessian(X, colour="red")
    with pytest.raises(ValueError, match="not available"):
        g.hessian(X, device="cuda")
    with pytest.raises(RuntimeError, match="v has invalid size"):
        g.hvp(X, np.ones(4))
    g.hvp(X, V)
    with pytest.raises(RuntimeError, match="v has invalid size"):  # the short way checks as well
        g.hvp(X, np.ones(4))


def test_a_function_shared_by_threads() -> None:
    g, failures = hesse.function(lambda x: np.sin(x).sum()), []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=1 + seed % 3)
        if not all([np.allclose(g.hessian(x), np.diag(-np.sin(x))) for _ in range(20)]):
            failures.append(seed)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_graph_is_the_wire_s() -> None:
    g = hesse.function(lambda x: (2.0 * x).sum())
    graph = g.graph(X)
    assert graph["format"] == "hesse-graph/1"
    assert graph["inputs"] == [{"name": "x0", "shape": [3], "dtype": "float64"}]
    assert len(g.id(X)) == 64
    assert g.id(X) == g.id(2 * X) != g.id(X[:2])


# ---- clients --------------------------------------------------------------------------------------------------------
def test_use_sets_the_current_client_and_resets_it() -> None:
    before = hesse.current_client()
    mine = hesse.Client(":local:")
    with hesse.use(mine) as client:
        assert client is mine is hesse.current_client()
        with pytest.raises(ZeroDivisionError), hesse.use(hesse.Client(":local:")):
            raise ZeroDivisionError
        assert hesse.current_client() is mine
    assert hesse.current_client() is before


def test_prepared_computations_are_reused_and_bounded() -> None:
    from hesse.embedded import Embedded

    client = hesse.Client(":local:")
    client.embedded = engine = Embedded(capacity=2)
    for exponent in (2, 3, 4, 3):
        client.functional.hessian(lambda x, p=exponent: (x**p).sum(), X)
    assert len(engine._prepared) == 2
    kept = set(engine._prepared.values())
    client.functional.hessian(lambda x: (x**3).sum(), X)
    assert set(engine._prepared.values()) == kept


def test_a_plan_reads_well() -> None:
    plan = hesse.plan(f, X, operation="hessian", chunk_size=2, device="cpu", threads=1, max_memory_bytes=10**6)
    assert plan.operation == "hessian"
    assert plan.as_dict()["result_bytes"] == 72
    assert "predicted peak" in str(plan)
    with pytest.raises(AttributeError, match="predicted_peak_bytes"):
        _ = plan.colour
    with pytest.raises(MemoryError, match="nothing was allocated"):
        hesse.plan(f, X, max_memory_bytes=1)


def test_functorch_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match=r"hesse\.func\.hessian") as caught:
        transform = hesse.functorch.hessian(f)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(transform(X), np.diag(6 * X))


def test_what_an_import_loads() -> None:
    heavy = ["numba", "llvmlite", "scipy", "fastapi", "pydantic", "uvicorn", "torch", "jax", "httpx2", "asyncio"]
    code = f"import sys, hesse, hesse.functional, hesse.func; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- trees ----------------------------------------------------------------------------------------------------------
TREES = [1, None, (), (1,), [1, (2, 3)], {"a": 1, "b": [2, {"c": 3}]}, Point(1, (2, 3)), ({}, [], 5), (None, [None])]


@pytest.mark.parametrize("value", TREES, ids=str)
def test_trees_come_back(value: Any) -> None:
    leaves, structure = tree.flatten(value)
    again = tree.unflatten(leaves, structure)
    assert again == value
    assert type(again) is type(value)
    assert structure.leaves == len(leaves)


def test_prefixes_spread_over_trees() -> None:
    structure = tree.flatten(({"a": 1, "b": [2, 3]}, 4))[1]
    assert tree.broadcast(0, structure) == [0, 0, 0, 0]
    assert tree.broadcast(({"a": 0, "b": None}, 1), structure) == [0, None, None, 1]
    assert tree.broadcast((0, 1, 2), structure) is None
    assert tree.broadcast([0, 1], structure) is None
    assert repr(structure) == "({'a': *, 'b': [*, *]}, *)"


# ---- the command ----------------------------------------------------------------------------------------------------
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from hesse.cli import main

    assert main(["version"]) == 0
    assert capsys.readouterr().out.strip() == hesse.__version__
    for bad in (["serve", "--port", "70000"], ["serve", "--workers", "0"], ["dance"], []):
        with pytest.raises(SystemExit) as caught:
            main(bad)
        assert caught.value.code == 2
    capsys.readouterr()


def test_the_command_without_the_service(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from hesse.cli import main

    for name in ("hesse_service.server", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["serve"]) == 2
    assert "pip install 'hesse[service]'" in capsys.readouterr().err
