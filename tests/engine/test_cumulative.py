"""Cumulative ops and log-sum-exp against NumPy, torch and JAX: names, zeros, extremes, second order, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse.numpy as xp
from hesse_engine.backend import reference
from hesse_engine.backend.program import build_program
from hesse_engine.compute import compute
from hesse_engine.errors import CODES, HesseError
from hesse_engine.frontends.expression import parse
from hesse_engine.frontends.trace import Trace
from hesse_engine.ir.graph import FLOAT64, Array, Builder, apply
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options
from oracles import peer
from tracing import traced

torch, jax = peer("torch"), peer("jax")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in torch.func
RNG = np.random.default_rng(7)
X = RNG.standard_normal((3, 4))
V = RNG.standard_normal(6)
FAR = np.array([1000.0, -1000.0, 1001.0, -2000.0, 0.0])
INF = np.inf


def hessian(f: Callable[..., Any], x: Array, library: str = "numpy", **options: Any) -> Array:
    trace = Trace(library)
    given = trace.input(x, "x")
    found: Array = compute(trace.graph([f(given)], [given]), "hessian", [x], options=Options(**options)).value
    return found


# ---- NumPy's names -------------------------------------------------------------------------------------------------
VALUES: list[tuple[Callable[..., Any], tuple[Array, ...]]] = [
    (np.cumsum, (X,)), (lambda x: np.cumsum(x, 1), (X,)), (lambda x: x.cumsum(axis=-2), (X,)),
    (lambda x: np.cumsum(x, dtype=np.float32), (X,)), (np.cumsum, (np.array([[True, False], [True, True]]),)),
    (np.cumsum, (np.array([[1, 2], [3, 4]], np.int8),)), (np.cumsum, (np.float64(2.5),)),
    (np.cumprod, (X,)), (lambda x: np.cumprod(x, 0), (X,)), (lambda x: x.cumprod(1), (X,)),
    (np.cumprod, (np.array([[1, 2], [3, 4]]),)), (lambda x: np.add.accumulate(x, 1), (X,)),
    (np.multiply.accumulate, (X,)), (np.logaddexp.accumulate, (X,)),
    (lambda x: np.cumulative_sum(x, axis=1), (X,)), (np.cumulative_sum, (V,)),
    (lambda x: np.cumulative_sum(x, axis=0, include_initial=True), (X,)),
    (lambda x: np.cumulative_prod(x, axis=1, include_initial=True), (X,)), (np.cumulative_prod, (V,)),
    (lambda x: np.cumsum(x, 0), (np.zeros((0, 2)),)), (lambda x: np.cumprod(x, 1), (np.zeros((2, 0)),)),
    (np.logaddexp, (X, X[0])), (lambda x: np.logaddexp(x, 2), (X,)), (np.logaddexp, (np.array([1, 2]), np.array(3))),
    (lambda x: np.logaddexp.reduce(x, axis=1), (X,)), (lambda x: np.logaddexp.reduce(x, axis=0, keepdims=True), (X,)),
    (np.logaddexp.reduce, (X,)),
]


@pytest.mark.parametrize(("f", "operands"), VALUES)
def test_value_under_numpy_names(f: Callable[..., Any], operands: tuple[Array, ...]) -> None:
    got, wanted = traced(f, *operands), np.asarray(f(*operands))
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if got.dtype == np.float32 else 1e-14)


def test_numpy_namespace() -> None:
    k = X @ X.T + np.eye(3)
    for f in (lambda n, x: n.logaddexp(x, x.T), lambda n, x: n.cumulative_sum(x, axis=1), lambda n, x: n.linalg.inv(x),
              lambda n, x: n.linalg.cholesky(x), lambda n, x: n.linalg.cholesky(x, upper=True),
              lambda n, x: n.linalg.solve(x, x[0]), lambda n, x: n.linalg.det(x), lambda n, x: n.linalg.slogdet(x)[1]):
        wanted = f(np, k)
        np.testing.assert_allclose(f(xp, k), wanted, rtol=1e-13)
        np.testing.assert_allclose(traced(lambda x, f=f: f(xp, x), k), wanted, rtol=1e-13)


EXPRESSIONS = {
    "sum(cumsum(x)**2)": (np.cumsum(V) ** 2).sum(), "cumulative_sum(x, axis=0)[2]": V[:3].sum(),
    "flip(cumsum(flip(x)))[4]": V[4:].sum(), "cumprod(x)[3]": V[:4].prod(),
    "logsumexp(x)": np.logaddexp.reduce(V), "logcumsumexp(x)[1]": np.logaddexp(V[0], V[1]),
    "sum(softmax(x)*x)": np.exp(V) @ V / np.exp(V).sum(), "log_softmax(x)[0]": V[0] - np.logaddexp.reduce(V),
    "logaddexp(x[0], 1.0)": np.logaddexp(V[0], 1.0),
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_value_of_an_expression(text: str) -> None:
    graph = parse(text, [("x", [6], "float64")])
    got = reference.run(graph.outputs, {graph.inputs[0]: V})[0]
    np.testing.assert_allclose(got, EXPRESSIONS[text], rtol=1e-13)


# ---- torch's names -------------------------------------------------------------------------------------------------
TORCH: list[tuple[Callable[[Any], Callable[..., Any]], tuple[Array, ...]]] = [
    (lambda t: lambda x: t.cumsum(x, 1), (X,)), (lambda t: lambda x: x.cumsum(dim=0), (X,)),
    (lambda t: lambda x: t.cumsum(x, 1, dtype=t.float32), (X,)), (lambda t: lambda x: t.cumprod(x, dim=-1), (X,)),
    (lambda t: lambda x: x.cumprod(0), (X,)), (lambda t: lambda x: t.logcumsumexp(x, 1), (X,)),
    (lambda t: lambda x: x.logcumsumexp(dim=0), (FAR,)), (lambda t: lambda x: t.logsumexp(x, 1), (X,)),
    (lambda t: lambda x: t.logsumexp(x, (0, 1)), (X,)), (lambda t: lambda x: x.logsumexp(0, keepdim=True), (X,)),
    (lambda t: lambda x: t.logsumexp(x, 0), (FAR,)), (lambda t: t.logaddexp, (X, X[0])),
    (lambda t: lambda x: t.softmax(x, 1), (X,)), (lambda t: lambda x: t.log_softmax(x, 0), (X,)),
    (lambda t: lambda x: t.nn.functional.log_softmax(x, dim=0), (FAR,)),
    (lambda t: lambda x: t.softmax(x, 0), (FAR,)),
    (lambda t: t.logaddexp, (np.array([-INF, INF, -INF, 1.0]), np.array([-INF, INF, 2.0, -INF]))),
    (lambda t: lambda x: t.logsumexp(x, 1), (np.array([[-INF, -INF], [INF, 1.0], [-INF, 3.0]]),)),
]


@pytest.mark.skipif(torch is None, reason="compares with torch")
@pytest.mark.parametrize("index", range(len(TORCH)))
def test_value_under_torch_names(index: int) -> None:
    assert torch is not None
    f, operands = TORCH[index][0](torch), TORCH[index][1]
    got, wanted = traced(f, *operands, library="torch"), f(*[torch.tensor(a) for a in operands]).numpy()
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if got.dtype == np.float32 else 1e-14, atol=1e-300)


# ---- second order --------------------------------------------------------------------------------------------------
ZEROS = np.array([1.5, 0.0, -2.0, 0.5, 0.0, 3.0])
FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], Array]] = {
    "cumsum": (lambda n, x: (n.cumsum(x) ** 3).sum(), V),
    "cumsum by rows": (lambda n, x: n.sin(n.cumsum(x, 1)).sum(), X),
    "cumprod": (lambda n, x: n.sin(n.cumprod(x)).sum(), V),
    "cumprod with zeros": (lambda n, x: (n.cumprod(x) ** 2 + n.cumprod(x)).sum(), ZEROS),
    "logaddexp at a tie": (lambda n, x: n.logaddexp(x, 1.0 * x[::-1]).sum(), np.array([1.0, 0.5, 1.0])),
}


@pytest.mark.skipif(jax is None, reason="compares with JAX")
@pytest.mark.parametrize("strategy", ["auto", "reverse-over-reverse", "forward-over-forward"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_as_jax_has_it(name: str, strategy: str) -> None:
    assert jax is not None
    f, x = FUNCTIONS[name]
    with jax.enable_x64(True):
        wanted = np.asarray(jax.hessian(lambda v: f(jax.numpy, v))(jax.numpy.asarray(x)))
    np.testing.assert_allclose(hessian(lambda v: f(np, v), x, strategy=strategy), wanted, rtol=1e-11, atol=1e-12)


TORCH_FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], Array]] = {
    "logcumsumexp": (lambda t, x: (t.logcumsumexp(x, 0) ** 2).sum(), V),
    "logsumexp": (lambda t, x: t.logsumexp(x, 0), V), "far apart": (lambda t, x: t.logsumexp(x, 0), FAR),
    "softmax": (lambda t, x: (t.softmax(x, 1) ** 2).sum(), X),
    "log_softmax": (lambda t, x: (t.log_softmax(x, 0) ** 3).sum(), X),
    "cumprod with zeros": (lambda t, x: (t.cumprod(x, 0) ** 2 + t.cumprod(x, 0)).sum(), ZEROS),
    "cumsum": (lambda t, x: (t.cumsum(x, 1) ** 3).sum(), X),
}


@pytest.mark.skipif(torch is None, reason="compares with torch")
@pytest.mark.parametrize("name", TORCH_FUNCTIONS)
def test_hessian_as_torch_has_it(name: str) -> None:
    assert torch is not None
    f, x = TORCH_FUNCTIONS[name]
    wanted = torch.autograd.functional.hessian(lambda v: f(torch, v), torch.tensor(x)).numpy()
    np.testing.assert_allclose(hessian(lambda v: f(torch, v), x, "torch"), wanted, rtol=1e-11, atol=1e-12)


def test_hessian_of_logsumexp_far_apart() -> None:
    """diag(p) - p p' with p = softmax(x), where exp(x) alone would overflow."""
    p = np.exp(FAR - FAR.max())
    p /= p.sum()
    got = hessian(np.logaddexp.reduce, FAR)
    np.testing.assert_allclose(got, np.diag(p) - np.outer(p, p), rtol=1e-13, atol=1e-300)
    assert np.isfinite(hessian(lambda x: np.logaddexp.accumulate(x).sum(), FAR)).all()


def test_logaddexp_keeps_its_small_part() -> None:
    """Elements far apart: log1p(exp(-gap)) is added to the larger one, on either side."""
    a, b = np.array([-50.0, 0.0, 30.0]), np.array([0.0, -50.0, 30.0])
    np.testing.assert_allclose(traced(np.logaddexp, a, b), np.logaddexp(a, b), rtol=1e-15, atol=0)


# ---- the rows ------------------------------------------------------------------------------------------------------
def test_a_sum_from_the_end_is_the_transpose() -> None:
    builder = Builder()
    x = builder.input("x", (5, 2), FLOAT64)
    matrix = np.tril(np.ones((5, 5)))
    given = RNG.standard_normal((5, 2))
    forward, backward = (apply("cumulative_sum", x, axis=0, reverse=r) for r in (False, True))
    got = build_program([x], [forward, backward], tier="vm").run([given])
    np.testing.assert_allclose(got[0], matrix @ given, rtol=1e-14)
    np.testing.assert_allclose(got[1], matrix.T @ given, rtol=1e-14)


def test_doubling_takes_logarithmically_many_nodes() -> None:
    x = Builder().input("x", (1000,), FLOAT64)
    assert len(reachable([apply("cumulative_prod", x)])) < 60


REFUSED: list[tuple[str, tuple[tuple[int, ...], ...], dict[str, Any], str]] = [
    *[(op, ((3,),), {"axis": axis}, "bad-attribute") for op in ("cumulative_sum", "cumulative_prod", "logcumsumexp",
                                                             "logsumexp", "softmax", "log_softmax")
      for axis in (1, -2, 0.5, "0", True)],
    *[(op, ((),), {}, "bad-attribute") for op in ("cumulative_sum", "cumulative_prod", "logcumsumexp")],
    ("cumulative_sum", ((3,),), {"reverse": 1}, "bad-attribute"),
    ("logsumexp", ((2, 0),), {"axis": 1}, "shape-mismatch"), ("softmax", ((0,),), {}, "shape-mismatch"),
    ("logaddexp", ((2,), (3,)), {}, "shape-mismatch"), ("logaddexp", ((2,),), {}, "wrong-arity"),
]


@pytest.mark.parametrize(("op", "shapes", "attrs", "code"), REFUSED)
def test_refused(op: str, shapes: Any, attrs: dict[str, Any], code: str) -> None:
    builder = Builder()
    with pytest.raises(HesseError) as caught:
        apply(op, *[builder.input("x", s, FLOAT64) for s in shapes], **attrs)
    assert (caught.value.code, type(caught.value)) == (code, CODES[code])


def test_an_axis_must_be_named_for_matrices() -> None:
    with pytest.raises(HesseError) as caught:
        traced(np.cumulative_sum, X)
    assert caught.value.code == "bad-attribute"
