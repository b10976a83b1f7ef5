"""NumPy's functions by `__array_function__`: values, shapes and dtypes against NumPy, first derivatives against
differences of NumPy's values, parameters against NumPy's signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse_engine.errors import ArgumentTypeError, FunctionError, GraphError, HesseError
from hesse_engine.frontends.table import NUMPY
from hesse_engine.ir.rows import ROWS
from tracing import traced

random = np.random.default_rng(5)
V = random.uniform(0.3, 2.0, 5)
W = np.sort(random.uniform(-2.0, 2.0, 5))
M = random.uniform(-1.5, 1.5, (3, 4))
S = random.uniform(-1.0, 1.0, (3, 3))
C = random.uniform(-1.5, 1.5, (2, 3, 4))
GRID = np.array([-1.0, 0.2, 0.5, 1.7, 2.5])
PLACES = np.array([[-2.0, -0.3, 0.31], [1.1, 2.2, 3.0]])
COUNTS, WEIGHTS = np.array([1, 2, 1, 3]), np.array([0.5, 1.0, 2.0, 0.25])

Case = tuple[Callable[..., Any], tuple[Any, ...]]
# name of the function, and what is special -> f of the traced arrays, and the arrays
CASES: dict[str, Case] = {
    # ---- samples along an axis
    "interp at x": (lambda x: np.interp(x, GRID, W), (PLACES,)),
    "interp of fp": (lambda f: np.interp(PLACES, GRID, f), (W,)),
    "interp of knots": (lambda k: np.interp(PLACES, k, W), (GRID,)),
    "interp at a number": (lambda x: np.interp(x, GRID, W), (np.array(0.3),)),
    "interp ends": (lambda x: np.interp(x, GRID, W, left=-7.0, right=x[0, 0]), (PLACES,)),
    "interp of one": (lambda f: np.interp(PLACES, [0.5], f), (V[:1],)),
    "interp period": (lambda x, f: np.interp(x, GRID, f, period=2.2), (PLACES + 0.05, W)),
    "ediff1d": (lambda x: np.ediff1d(x), (M,)),
    "ediff1d ends": (lambda x: np.ediff1d(x, to_end=[1.0, 2.0], to_begin=x[0, :1]), (M,)),
    "diff ends": (lambda x: np.diff(x, prepend=0.0, append=x[:, :2]), (M,)),
    "diff twice": (lambda x: np.diff(x, 2, axis=0), (M,)),
    "gradient": (lambda x: np.gradient(x), (V,)),
    "gradient of a matrix": (lambda x: np.gradient(x), (M,)),
    "gradient spaced": (lambda x: np.gradient(x, 0.5, 2.0), (M,)),
    "gradient axis": (lambda x: np.gradient(x, 0.25, axis=1), (M,)),
    "gradient at coordinates": (lambda y, x: np.gradient(y, x), (V, GRID)),
    "gradient second order": (lambda y, x: np.gradient(y, x, edge_order=2), (V, GRID)),
    "gradient second order even": (lambda x: np.gradient(x, axis=(0, 1), edge_order=2), (M,)),
    "gradient of two": (lambda x: np.gradient(x), (V[:2],)),
    "trapezoid": (lambda y: np.trapezoid(y), (M,)),
    "trapezoid at coordinates": (lambda y, x: np.trapezoid(y, x), (V, W)),
    "trapezoid axis": (lambda y: np.trapezoid(y, dx=0.5, axis=0), (M,)),
    "unwrap": (lambda x: np.unwrap(x), (np.array([0.1, 3.0, -3.0, 2.5, 9.0, 0.5]),)),
    "unwrap period": (lambda x: np.unwrap(x, axis=0, period=1.3, discont=0.9), (M,)),
    "linspace": (lambda a, b: np.linspace(a, b, 4), (np.array(0.5), np.array(2.0))),
    "linspace step": (lambda a: np.linspace(a, 2.0, 4, retstep=True), (np.array(0.5),)),
    "linspace open": (lambda a: np.linspace(a, 3.0, 4, endpoint=False, axis=1), (V,)),
    "logspace": (lambda a, b: np.logspace(a, b, 5), (np.array(-1.0), np.array(0.7))),
    "logspace base": (lambda a, b: np.logspace(0.0, a, 3, base=b, endpoint=False), (V[:2], np.array(2.5))),
    "geomspace": (lambda a, b: np.geomspace(a, b, 5), (np.array(0.5), np.array(8.0))),
    "geomspace negative": (lambda a: np.geomspace(a, -2.0, 4), (np.array(-0.25),)),
    "meshgrid sparse": (lambda x, y: np.meshgrid(x, y, sparse=True, indexing="ij"), (V[:2], W)),
    # ---- statistics
    "average": (lambda x: np.average(x), (M,)),
    "average axis": (lambda x, w: np.average(x, axis=1, weights=w), (M, WEIGHTS)),
    "average two axes": (lambda x, w: np.average(x, axis=(2, 0), weights=w), (C, np.abs(C[:, 0].T) + 0.5)),
    "average whole": (lambda x, w: np.average(x, weights=w, keepdims=True), (M, np.abs(M) + 1.0)),
    "average returned": (lambda x, w: np.average(x, axis=1, weights=w, returned=True), (M, WEIGHTS)),
    "average returned plain": (lambda x: np.average(x, axis=0, returned=True), (M,)),
    "cov": (lambda x: np.cov(x), (M,)),
    "cov of a vector": (lambda x: np.cov(x), (V,)),
    "cov of two": (lambda x, y: np.cov(x, y), (V, W)),
    "cov columns": (lambda x: np.cov(x, rowvar=False, bias=True), (M,)),
    "cov ddof": (lambda x: np.cov(x, ddof=2), (M,)),
    "cov counts": (lambda x: np.cov(x, fweights=COUNTS), (M,)),
    "cov weights": (lambda x, w: np.cov(x, aweights=w), (M, WEIGHTS)),
    "cov counts and weights": (lambda x, w: np.cov(x, fweights=COUNTS, aweights=w, ddof=1), (M, WEIGHTS)),
    "corrcoef": (lambda x: np.corrcoef(x), (M,)),
    "corrcoef of two": (lambda x, y: np.corrcoef(x, y), (V, W)),
    "corrcoef columns": (lambda x: np.corrcoef(x, rowvar=False), (M,)),
    # ---- arrangement
    "block": (lambda x, y: np.block([[x, y], [y, x]]), (S, 2.0 * S)),
    "block of vectors": (lambda x: np.block([x, x[:2], 3.0]), (V,)),
    "block mixed": (lambda x, y: np.block([[x, x[:1]], [S[:, :2], np.ones((3, 3)), y]][:1]), (V, W)),
    "atleast_1d": (lambda x: np.atleast_1d(x), (np.array(2.0),)),
    "atleast_2d": (lambda x, y: np.atleast_2d(x, y), (V, M)),
    "atleast_3d": (lambda x: np.atleast_3d(x), (M,)),
    "hstack": (lambda x, y: np.hstack([x, y]), (S, M)), "vstack": (lambda x, y: np.vstack([x, y]), (V, W)),
    "dstack": (lambda x: np.dstack([x, x**2]), (M,)), "column_stack": (lambda x, y: np.column_stack([x, y]), (V, W)),
    "stack": (lambda x, y: np.stack([x, y], axis=-1), (V, W)),
    "concatenate": (lambda x, y: np.concatenate((x, y), axis=None), (V, M)),
    "append": (lambda x: np.append(x, 1.0), (M,)), "rot90": (lambda x: np.rot90(x, 3), (M,)),
    "tril": (lambda x: np.tril(x, -1), (S,)), "triu": (lambda x: np.triu(x, 1), (C,)),
    "diagflat": (lambda x: np.diagflat(x, -1), (M[:2, :2],)), "diag": (lambda x: np.diag(x, 1), (V,)),
    "diagonal": (lambda x: np.diagonal(x, 1, 1, 2), (C,)), "trace": (lambda x: np.trace(x, 1, 0, 2), (C,)),
    "resize": (lambda x: np.resize(x, (3, 5)), (M[:2],)), "resize down": (lambda x: np.resize(x, 3), (M,)),
    "rollaxis": (lambda x: np.rollaxis(x, 2), (C,)), "rollaxis to": (lambda x: np.rollaxis(x, 0, 3), (C,)),
    "swapaxes": (lambda x: np.swapaxes(x, 0, -1), (C,)), "moveaxis": (lambda x: np.moveaxis(x, [0, 1], [-1, 0]), (C,)),
    "dsplit": (lambda x: np.dsplit(x, 2), (C,)), "hsplit": (lambda x: np.hsplit(x, [1, 3]), (M,)),
    "vsplit": (lambda x: np.vsplit(x, 3), (M,)), "array_split": (lambda x: np.array_split(x, 3), (V,)),
    "delete": (lambda x: np.delete(x, [0, 2], axis=1), (M,)), "tile": (lambda x: np.tile(x, (2, 1, 2)), (M,)),
    "repeat": (lambda x: np.repeat(x, [1, 0, 2], axis=0), (M,)), "roll": (lambda x: np.roll(x, (1, -1), (0, 1)), (M,)),
    "ravel": (lambda x: np.ravel(x), (M,)), "select": (lambda x: np.select([x > 1, x < 0], [x**2, -x], 0.5), (M,)),
    "copy": (lambda x: np.copy(x), (M,)),
    "ptp": (lambda x: np.ptp(x, axis=1), (M,)), "nansum": (lambda x: np.nansum(x, axis=0), (M,)),
    "triu_indices_from": (lambda x: x[np.triu_indices_from(x)], (M,)),
    "tril_indices_from": (lambda x: x[np.tril_indices_from(x, -1)], (M,)),
    "diag_indices_from": (lambda x: x[np.diag_indices_from(x)], (S,)),
    # ---- products
    "outer": (lambda x, y: np.outer(x, y), (M, V)), "inner": (lambda x, y: np.inner(x, y), (C, M)),
    "inner of numbers": (lambda x, y: np.inner(x, y), (np.array(2.0), M)),
    "vdot": (lambda x, y: np.vdot(x, y), (M, M.T)),
    "dot": (lambda x, y: np.dot(x, y), (C, M.T)), "kron": (lambda x, y: np.kron(x, y), (S, M)),
    "kron of ranks": (lambda x, y: np.kron(x, y), (V, M)),
    "tensordot": (lambda x, y: np.tensordot(x, y, axes=([1, 2], [0, 1])), (C, M)),
    "cross": (lambda x, y: np.cross(x, y), (S, S[0])),
    "cross axes": (lambda x, y: np.cross(x, y, axisa=0, axisb=1, axisc=0), (M[:, :3], S)),
    "cross axis": (lambda x, y: np.cross(x, y, axis=0), (M, 2.0 * M[:, ::-1])),
    "multi_dot": (lambda x, y: np.linalg.multi_dot([x, y, x]), (S, S.T)),
    "matrix_power": (lambda x: np.linalg.matrix_power(x, 3), (S,)),
    "einsum implicit": (lambda x, y: np.einsum("ij,jk", x, y), (S, M)),
    "einsum transposed": (lambda x: np.einsum("ba", x), (M,)),
    "einsum ellipsis": (lambda x, y: np.einsum("...ij,...jk->...ik", x, y), (C, M.T)),
    "einsum dots inside": (lambda x: np.einsum("i...->...", x), (C,)),
    "einsum repeated": (lambda x: np.einsum("ii->i", x), (S,)), "einsum trace": (lambda x: np.einsum("ii", x), (S,)),
    "einsum many": (lambda x, y, z: np.einsum("ij,jk,k->i", x, y, z, optimize=True), (S, M, WEIGHTS)),
    "einsum lists": (lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2]), (S, M)),
    "einsum lists implicit": (lambda x, y: np.einsum(x, [0, 1], y, [1, 2]), (S, M)),
    "einsum lists dots": (lambda x: np.einsum(x, [Ellipsis, 1], [Ellipsis]), (C,)),
    "einsum sum": (lambda x: np.einsum("ij->", x), (M,)), "einsum outer": (lambda x, y: np.einsum("i,j", x, y), (V, W)),
    # ---- polynomials
    "polyval": (lambda p, x: np.polyval(p, x), (WEIGHTS, M)), "polyder": (lambda p: np.polyder(p), (WEIGHTS,)),
    "polyder twice": (lambda p: np.polyder(p, 2), (WEIGHTS,)), "polyint": (lambda p: np.polyint(p), (WEIGHTS,)),
    "polyint twice": (lambda p: np.polyint(p, 2, k=p[:2]), (WEIGHTS,)),
    "vander": (lambda x: np.vander(x), (V,)), "vander up": (lambda x: np.vander(x, 3, increasing=True), (V,)),
    "vander of one": (lambda x: np.vander(x, 1), (V,)),
    # ---- elementwise
    "real_if_close": (lambda x: np.real_if_close(x) ** 2, (M,)), "real": (lambda x: np.real(x), (M,)),
    "clip": (lambda x: np.clip(x, -0.5, 0.75), (M,)), "heaviside": (lambda x: np.heaviside(x, 0.5) * x, (M,)),
    "float_power": (lambda x: np.float_power(x, 2.5), (V,)), "deg2rad": (lambda x: np.deg2rad(x), (M,)),
    "left_shift": (lambda x: x * np.left_shift(np.sign(x).astype(np.int64) + 2, 1), (M,)),
}
NEEDS = {"interp period": "remainder", "unwrap": "remainder", "unwrap period": "remainder"}


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def is_absent(name: str) -> bool:
    return name in NEEDS and NEEDS[name] not in ROWS.load()


@pytest.mark.parametrize("name", CASES)
def test_value(name: str) -> None:
    f, arrays = CASES[name]
    if is_absent(name):
        with pytest.raises(ArgumentTypeError, match=NEEDS[name]):
            traced(f, *arrays)
        return
    for dtype in (np.float64, np.float32):
        given = [a.astype(dtype) for a in arrays]
        found, wanted = listed(traced(f, *given)), listed(f(*given))
        assert len(found) == len(wanted)
        for y, z in zip(found, wanted, strict=True):
            assert np.shape(y) == np.shape(z)
            assert y.dtype == np.asarray(z).dtype, dtype
            precision = 2e-14 if dtype == np.float64 else 2e-5
            np.testing.assert_allclose(y, z, rtol=precision, atol=precision * float(np.max(np.abs(z), initial=1.0)))


def slope(f: Callable[[Any], Any], x: Any, k: int) -> Any:
    """df/dx_k by central differences of eighth order, of NumPy's own values."""
    h = 1e-3
    e = np.zeros(x.size)
    e[k] = h
    e = e.reshape(x.shape)
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    return sum(w * (flat(f(x + j * e)) - flat(f(x - j * e))) for j, w in weights.items()) / h


def flat(result: Any) -> Any:
    return np.concatenate([np.ravel(r) for r in listed(result)])


@pytest.mark.parametrize("name", CASES)
def test_first_derivative(name: str) -> None:
    if is_absent(name):
        return
    f, arrays = CASES[name]
    for j in range(len(arrays)):
        def of_one(x: Any, j: int = j) -> Any:
            return f(*[x if k == j else a for k, a in enumerate(arrays)])

        def whole(x: Any, of_one: Any = of_one) -> Any:
            return xp.concat([xp.reshape(r, (-1,)) for r in listed(of_one(x))])

        jacobian = hesse.func.jacrev(whole)(arrays[j]).reshape(-1, arrays[j].size)
        for k in range(arrays[j].size):
            wanted = slope(of_one, arrays[j], k)
            scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
            np.testing.assert_allclose(jacobian[:, k], wanted, rtol=1e-9, atol=1e-9 * scale, err_msg=f"{name} {j} {k}")


@pytest.mark.parametrize("name", ["interp at x", "gradient at coordinates", "cov weights", "corrcoef", "geomspace",
                                  "einsum lists", "cross axes", "average axis", "polyint twice", "vander"])
def test_second_derivatives_agree_forward_and_reverse(name: str) -> None:
    f, arrays = CASES[name]

    def scalar(x: Any) -> Any:
        ys = listed(f(x, *arrays[1:]))
        return sum(xp.sum(xp.sin(y) * y) for y in ys)

    forward, reverse = (outer(inner(scalar))(arrays[0]) for outer, inner in (
        (hesse.func.jacfwd, hesse.func.jacrev), (hesse.func.jacrev, hesse.func.jacfwd)))
    np.testing.assert_allclose(forward, reverse, rtol=1e-10, atol=1e-10)


# ---- truth, positions, refusals --------------------------------------------------------------------------------------
TRUTHS: dict[str, Case] = {
    "isclose": (lambda x: np.isclose(x, M + 1e-9), (M,)), "isclose far": (lambda x: np.isclose(x, M + 1e-3), (M,)),

       "isclose special": (lambda x: np.isclose(x, [np.inf, np.nan, 1.0], equal_nan=True),
                        (np.array([np.inf, np.nan, 1.0]),)),
    "isclose unlike": (lambda x: np.isclose(x, [-np.inf, np.nan, np.inf]), (np.array([np.inf, np.nan, 1.0]),)),
    "allclose": (lambda x: np.allclose(x, M), (M,)), "allclose not": (lambda x: np.allclose(x, 0.0, atol=0.1), (M,)),
    "array_equal": (lambda x: np.array_equal(x, M), (M,)), "array_equal not": (lambda x: np.array_equal(x, V), (M,)),
    "array_equal nan": (lambda x: np.array_equal(x, [np.nan, 1.0], equal_nan=True), (np.array([np.nan, 1.0]),)),
    "array_equiv": (lambda x: np.array_equiv(x, np.ones((2, 3))), (np.ones(3),)),
    "array_equiv not": (lambda x: np.array_equiv(x, np.ones((2, 3))), (np.ones(4),)),
    "isreal": (lambda x: np.isreal(x), (M,)), "iscomplex": (lambda x: np.iscomplex(x), (M,)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_truth(name: str) -> None:
    f, arrays = TRUTHS[name]
    np.testing.assert_array_equal(traced(f, *arrays), f(*arrays))
    assert traced(f, *arrays).dtype == bool


def test_what_an_array_is() -> None:
    assert traced(lambda x: np.isrealobj(x), M) is True
    assert traced(lambda x: np.iscomplexobj(x), M) is False
    path, text = traced(lambda x, y: np.einsum_path("ij,jk->ik", x, y), S, M)
    assert path == ["einsum_path", [0, 1]]
    assert "FLOP" in text


REFUSED: dict[str, tuple[Callable[[Any], Any], type[HesseError], str]] = {
    "fft": (lambda x: np.fft.fft(x), FunctionError, "complex"), "rfft2": (lambda x: np.fft.rfft2(x), FunctionError,
    "rfft2"),
    "interp shapes": (lambda x: np.interp(0.5, GRID, x[:3]), GraphError, "one length"),
    "interp period": (lambda x: np.interp(0.5, x, V, period=2.0), ArgumentTypeError, "period"),
    "gradient short": (lambda x: np.gradient(x[:2], edge_order=2), GraphError, "at least 3"),
    "gradient spacings": (lambda x: np.gradient(x, 1.0, 2.0), GraphError, "spacings"),
    "gradient order": (lambda x: np.gradient(x, edge_order=3), GraphError, "edge_order"),
    "cov weights": (lambda x: np.cov(x, fweights=[0.5] * 5), GraphError, "integers"),
    "average": (lambda x: np.average(x, weights=[1.0, 2.0]), GraphError, "weights"),
    "vander": (lambda x: np.vander(x[None]), GraphError, "vector"),
    "block": (lambda x: np.block([[x], x]), GraphError, "nest"),
    "einsum": (lambda x: np.einsum(x, 3), GraphError, "subscripts"),
    "polyder": (lambda x: np.polyder(x, -1), GraphError,
                                                                                 "negative"),
    "diff": (lambda x: np.diff(x, -1), GraphError, "non-negative"),
    "vectorize": (lambda x: np.vectorize(lambda v: v**2)(x), ArgumentTypeError, "cut the graph"),
    "arange": (lambda x: xp.arange(x[0]), ArgumentTypeError, "arange"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    f, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        traced(f, W)


# keywords of NumPy's that a trace answers without the function: neutral settings pass, others are refused
ANSWERED = {"out", "where", "order", "casting", "subok", "like", "device", "copy", "optimize", "mode"}
SIGNATURES = [
    "interp", "linspace", "ediff1d", "gradient", "unwrap", "logspace", "geomspace", "average", "cov", "corrcoef",
    "vander", "polyder", "polyint", "diagflat", "resize", "rollaxis", "cross", "array_equal", "array_equiv", "diff",
    "trapezoid", "rot90", "kron", "block", "dsplit", "isclose", "allclose", "triu_indices_from",
]


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_are_numpy_s(name: str) -> None:
    wanted = [p for n, p in inspect.signature(getattr(np, name)).parameters.items() if n not in ANSWERED]
    got = [p for n, p in inspect.signature(NUMPY[name]).parameters.items() if n not in ANSWERED]
    removed = [p.name for p in wanted if p.default is np._NoValue and p.name in ("bias", "ddof") and name == "corrcoef"]
    assert [(p.name, p.kind) for p in got] == [(p.name, p.kind) for p in wanted if p.name not in removed]
    for mine, theirs in zip(got, [p for p in wanted if p.name not in removed], strict=True):
        assert mine.default == theirs.default or theirs.default is np._NoValue, mine.name


def test_functions_of_numbers() -> None:
    for name, args in (("triu_indices", (3,)), ("tril_indices", (3, -1)), ("diag_indices", (3,)), ("hanning", (4,))):
        np.testing.assert_array_equal(getattr(xp, name)(*args), getattr(np, name)(*args))
    np.testing.assert_array_equal(xp.broadcast_shapes((2, 1), (3,)), (2, 3))
    np.testing.assert_array_equal(xp.tri(2, 3), np.tri(2, 3))
    np.testing.assert_array_equal(xp.identity(2), np.eye(2))
    np.testing.assert_array_equal(xp.array([1.0], ndmin=2), [[1.0]])
    np.testing.assert_array_equal(traced(lambda x: xp.array(x, ndmin=2), V), V[None])
