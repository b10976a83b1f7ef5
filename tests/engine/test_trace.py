"""A function traced and run by the reference interpreter gives what NumPy gives: a table of functions, any index."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hesse_engine.backend.reference import run
from hesse_engine.errors import ArgumentTypeError, FunctionError, GraphError, HesseError, IndexRangeError, InputError
from hesse_engine.frontends.trace import Trace, active_trace, is_tracer
from hesse_engine.ir.graph import Limits
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient
from tracing import traced

random = np.random.default_rng(3)
X = random.normal(size=(2, 3))
Y = random.normal(size=(2, 3))
P = random.uniform(0.5, 2.0, size=(2, 3))
V = random.normal(size=3)
S = random.normal(size=(3, 3))
C = random.normal(size=(2, 3, 4))
N = np.array([[3, -1, 2], [0, 5, 1]])
B = np.array([[True, False, True], [False, False, True]])


def same(actual: Any, expected: Any, rtol: float = 1e-13) -> None:
    if isinstance(expected, (tuple, list)) and not np.isscalar(expected):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            same(a, e, rtol)
        return
    assert np.shape(actual) == np.shape(expected)
    assert np.asarray(actual).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-14)


ELEMENTWISE = ["exp", "expm1", "sin", "cos", "tan", "tanh", "abs", "absolute", "fabs", "negative", "positive", "sign",
               "square", "isnan", "isinf", "isfinite", "logical_not", "deg2rad", "rad2deg", "radians", "degrees",
               "conj",
               "copy", "reciprocal", "real_if_close"]
POSITIVE = ["log", "log1p", "sqrt", "log2", "log10"]
BINARY = ["add", "subtract", "multiply", "divide", "true_divide", "maximum", "minimum", "fmax", "fmin", "greater",
          "greater_equal", "less", "less_equal", "equal", "not_equal", "logical_and", "logical_or", "logical_xor",
          "heaviside"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str) -> None:
    same(traced(getattr(np, name), X), getattr(np, name)(X))


@pytest.mark.parametrize("name", POSITIVE)
def test_elementwise_of_positive_numbers(name: str) -> None:
    same(traced(getattr(np, name), P), getattr(np, name)(P))


@pytest.mark.parametrize("name", BINARY)
def test_binary_with_tracers_arrays_scalars_and_lists(name: str) -> None:
    f = getattr(np, name)
    same(traced(f, X, Y), f(X, Y))
    same(traced(lambda x: f(x, V), X), f(X, V))
    same(traced(lambda x: f(V, x), X), f(V, X))
    same(traced(lambda x: f(x, 0.5), X), f(X, 0.5))
    same(traced(lambda x: f(2, x), X), f(2, X))
    same(traced(lambda x: f(np.float64(2), x), X), f(np.float64(2), X))
    same(traced(lambda x: f([1.0, 2.0, 3.0], x), X), f([1.0, 2.0, 3.0], X))


OPERATORS: list[Callable[..., Any]] = [
    lambda x, y: x + y, lambda x, y: 2 + x - y, lambda x, y: x * y - 3, lambda x, y: 1 / (2 + y**2) / x,
    lambda x, y: -x + +y, lambda x, y: abs(x) ** y, lambda x, y: abs(x) ** 1.5, lambda x, y: 2.0**x, lambda x, y: x**3,
    lambda x, y: x**-1, lambda x, y: abs(x) ** 0.5, lambda x, y: abs(x) ** np.float64(2.5), lambda x, y: x @ y.T,
    lambda x, y: x @ V, lambda x, y: S @ y.T, lambda x, y: V @ x.T, lambda x, y: x < y, lambda x, y: x <= 0,
    lambda x, y: x == y, lambda x, y: x != X, lambda x, y: (x > 0) & (y > 0), lambda x, y: (x > 0) | B,
    lambda x, y: B ^ (x > 0), lambda x, y: ~(x <= 0), lambda x, y: np.float64(3) * x, lambda x, y: V - x,
    lambda x, y: V / x, lambda x, y: np.float32(2) * x, lambda x, y: True * x, lambda x, y: np.int64(2) ** x,
]


@pytest.mark.parametrize("f", OPERATORS)
def test_operators(f: Callable[..., Any]) -> None:
    same(traced(f, X, Y), f(X, Y))


FUNCTIONS: list[Callable[..., Any]] = [
    # reductions
    lambda x: np.sum(x), lambda x: np.sum(x, axis=0), lambda x: np.sum(x, (0, 1), keepdims=True), lambda x: sum(x),
    lambda x: np.mean(x, axis=-1), lambda x: np.mean(x), lambda x: np.prod(x, axis=1), lambda x: np.max(x),
    lambda x: np.min(x, axis=0), lambda x: np.amax(x, 1, keepdims=True), lambda x: np.amin(x),
    lambda x: np.ptp(x, axis=1),
    lambda x: np.argmax(x), lambda x: np.argmin(x, axis=1), lambda x: np.argmax(x, axis=0, keepdims=True),
    lambda x: np.any(x > 0), lambda x: np.all(x > -9, axis=0), lambda x: np.count_nonzero(x > 0, axis=0),
    lambda x: np.std(x), lambda x: np.var(x, axis=0), lambda x: np.std(x, 1, ddof=1, keepdims=True),
    lambda x: np.nansum(x),
    lambda x: np.var(x, correction=1), lambda x: np.average(x),
    lambda x: np.average(x, axis=1, weights=[1.0, 2.0, 3.0]),
    lambda x: np.cumsum(x), lambda x: np.cumsum(x, axis=1), lambda x: np.cumprod(x, axis=0), lambda x: np.diff(x),
    lambda x: np.diff(x, n=2, axis=1), lambda x: np.diff(x, axis=0), lambda x: np.trapezoid(x, dx=0.5),
    lambda x: np.trapezoid(x, V, axis=1), lambda x: np.trapezoid(x, axis=0), lambda x: np.sum(x, initial=2.0),
    lambda x: np.max(x, initial=1.0), lambda x: np.sum(x, dtype=np.float32), lambda x: np.sum(x > 0),
    # ufunc methods
    lambda x: np.add.reduce(x), lambda x: np.multiply.reduce(x, axis=1), lambda x: np.maximum.reduce(x, axis=None),
    lambda x: np.add.accumulate(x), lambda x: np.multiply.outer(x, V), lambda x: np.subtract.outer(V, x),
    lambda x: np.minimum.reduce(x, keepdims=True), lambda x: np.add(x, 1, dtype=np.float64),
    # products
    lambda x: np.matmul(x, S), lambda x: np.dot(x, V), lambda x: np.dot(V, x.T), lambda x: np.dot(x, 2.0),
    lambda x: np.vdot(x, X), lambda x: np.inner(x, x), lambda x: np.inner(V, x), lambda x: np.outer(x, V),
    lambda x: np.tensordot(x, S, 1), lambda x: np.tensordot(x, X), lambda x: np.tensordot(x, C, ([0, 1], [0, 1])),
    lambda x: np.tensordot(x, S, (1, 0)), lambda x: np.tensordot(x, V, 0), lambda x: np.einsum("ij,jk->ik", x, S),
    lambda x: np.einsum("ij,ij", x, x), lambda x: np.einsum("ij->j", x), lambda x: np.einsum("...j,j->...", x, V),
    lambda x: np.kron(x, S), lambda x: np.kron(V, x), lambda x: np.cross(x, V),
    lambda x: np.linalg.multi_dot([x, S, V]),
    lambda x: np.linalg.matrix_power(x @ x.T, 3), lambda x: np.linalg.matrix_power(x @ x.T, 0),
    lambda x: np.vecdot(x, x),
    lambda x: np.trace(x), lambda x: np.trace(x, offset=1), lambda x: np.polyval(x[0], V),
    lambda x: np.polyval([1.0, 2.0], x),
    lambda x: np.linalg.matmul(x, S), lambda x: np.matvec(x, V), lambda x: np.vecmat(V, x.T),
    # norms
    lambda x: np.linalg.norm(x), lambda x: np.linalg.norm(x, axis=1), lambda x: np.linalg.norm(x, "fro"),
    lambda x: np.linalg.norm(x, 1), lambda x: np.linalg.norm(x, -np.inf),
    lambda x: np.linalg.norm(x, np.inf, keepdims=True),
    lambda x: np.linalg.norm(x, 3, axis=0), lambda x: np.linalg.norm(x, 1, axis=1, keepdims=True),
    lambda x: np.linalg.norm(x[0], np.inf), lambda x: np.linalg.norm(x[0], -np.inf), lambda x: np.linalg.norm(x[0], 0),
    lambda x: np.linalg.vector_norm(x), lambda x: np.linalg.matrix_norm(x), lambda x: np.linalg.norm(x[0], -2),
    # shapes
    lambda x: np.reshape(x, (3, 2)), lambda x: np.reshape(x, -1), lambda x: np.ravel(x), lambda x: np.transpose(x),
    lambda x: np.transpose(x[None], (1, 2, 0)), lambda x: np.permute_dims(x, (1, 0)), lambda x: np.swapaxes(x, 0, 1),
    lambda x: np.moveaxis(x[None], 0, -1), lambda x: np.moveaxis(C * x[..., None], [0, 1], [-1, -2]),
    lambda x: np.expand_dims(x, 1), lambda x: np.expand_dims(x, (0, -1)), lambda x: np.squeeze(x[:1]),
    lambda x: np.squeeze(x[:1], axis=0), lambda x: np.broadcast_to(x, (4, 2, 3)), lambda x: np.matrix_transpose(x),
    lambda x: np.broadcast_arrays(x, V), lambda x: np.atleast_1d(x[0, 0]), lambda x: np.atleast_2d(x[0]),
    lambda x: np.atleast_3d(x[0]), lambda x: np.atleast_3d(x), lambda x: np.atleast_2d(x, V), lambda x: np.shape(x),
    lambda x: np.ndim(x), lambda x: np.size(x), lambda x: np.size(x, 1),
    # joining, splitting, order
    lambda x: np.concatenate([x, X]), lambda x: np.concatenate((X, x), axis=1), lambda x: np.concat([x, x], axis=None),
    lambda x: np.stack([x, X], axis=1), lambda x: np.stack(list(x)), lambda x: np.stack([x[0, 0], 1.0, x[1, 1]]),
    lambda x: np.hstack([x, X]), lambda x: np.hstack([x[0, 0], x[1]]), lambda x: np.vstack([x[0], x]),
    lambda x: np.dstack([x, X]), lambda x: np.column_stack([x[0], V]), lambda x: np.append(x, V),
    lambda x: np.append(x, X, axis=0), lambda x: np.split(x, 3, axis=1), lambda x: np.array_split(x, 2, axis=1),
    lambda x: np.split(x, [1], axis=1), lambda x: np.hsplit(x, 3), lambda x: np.vsplit(x, 2), lambda x: np.unstack(x),
    lambda x: np.unstack(x, axis=1), lambda x: np.flip(x), lambda x: np.flip(x, axis=1), lambda x: np.fliplr(x),
    lambda x: np.flipud(x), lambda x: np.rot90(x), lambda x: np.rot90(x, 3), lambda x: np.rot90(x, 2),
    lambda x: np.roll(x, 1),
    lambda x: np.roll(x, -4, axis=1), lambda x: np.roll(x, (1, 2), axis=(0, 1)), lambda x: np.tile(x, 2),
    lambda x: np.tile(x, (2, 1, 2)), lambda x: np.repeat(x, 2), lambda x: np.repeat(x, 3, axis=0),
    lambda x: np.delete(x, 1, 1),
    lambda x: np.repeat(x, [1, 0, 2], axis=1), lambda x: np.pad(x, 1), lambda x: np.pad(x, ((0, 1), (2, 0))),
    lambda x: np.pad(x, ((1, 1), (0, 2)), constant_values=2.0),
    lambda x: np.pad(x, (1, 2), constant_values=((1, 2), (3, 4))),
    lambda x: np.meshgrid(x[0], V), lambda x: np.meshgrid(x[0], V, indexing="ij"),
    lambda x: np.meshgrid(x[0], V, sparse=True),
    # diagonals
    lambda x: np.diag(x), lambda x: np.diag(x[0]), lambda x: np.diag(x, 1), lambda x: np.diag(x, -1),
    lambda x: np.diag(x[0], -2), lambda x: np.diagonal(x), lambda x: np.diagonal(x, -1),
    lambda x: np.diagonal(C * x[..., None], 1, 1, 2),
    lambda x: np.tril(x), lambda x: np.triu(x, 1), lambda x: np.triu(x, -1), lambda x: np.linalg.diagonal(x),
    # selection
    lambda x: np.where(x > 0, x, 0.0), lambda x: np.where(B, x, X), lambda x: np.where(x > 0, 1.0, -1.0),
    lambda x: np.where(x, x, 1), lambda x: np.select([x > 1, x > 0], [x, 2 * x], 3.0), lambda x: np.clip(x, -0.5, 0.5),
    lambda x: np.clip(x, None, 0.5), lambda x: np.clip(x, 0.0, None), lambda x: np.clip(x, V, V + 1),
    lambda x: np.clip(x, min=0.1), lambda x: np.take(x, [0, 2], axis=1), lambda x: np.take(x, 4),
    lambda x: np.take(x, np.argmax(x)),
    lambda x: np.take_along_axis(x, N % 2, 0), lambda x: np.take_along_axis(x, np.argmax(x, axis=1, keepdims=True), 1),
    # arrays like another
    lambda x: np.zeros_like(x), lambda x: np.ones_like(x, dtype=int), lambda x: np.full_like(x, 2.5),
    lambda x: np.full_like(x, x[0, 0]), lambda x: np.zeros_like(x, shape=(2,)), lambda x: np.copy(x),
    lambda x: np.isclose(x, X), lambda x: np.allclose(x, X), lambda x: np.array_equal(x, X),
    lambda x: np.array_equal(x, V),
    lambda x: np.isclose(x, np.where(B, np.nan, np.inf), equal_nan=True), lambda x: np.astype(x, np.float32),
    lambda x: np.linalg.trace(x), lambda x: np.linalg.cross(x, V), lambda x: np.float_power(x, 2),
]


@pytest.mark.parametrize("f", FUNCTIONS)
def test_functions(f: Callable[..., Any]) -> None:
    same(traced(f, X), f(X))


METHODS: list[Callable[..., Any]] = [
    lambda x: x.sum(), lambda x: x.sum(axis=0), lambda x: x.sum(1, keepdims=True), lambda x: x.mean(),
    lambda x: x.mean(axis=1),
    lambda x: x.prod(), lambda x: x.max(), lambda x: x.max(axis=0), lambda x: x.min(1), lambda x: x.std(),
    lambda x: x.var(ddof=1),
    lambda x: x.argmax(), lambda x: x.argmin(axis=0), lambda x: (x > 0).any(), lambda x: (x > 0).all(axis=1),
    lambda x: x.cumsum(), lambda x: x.cumprod(axis=1), lambda x: x.dot(V), lambda x: x.reshape(3, 2),
    lambda x: x.reshape((6,)),
    lambda x: x.reshape(-1), lambda x: x.ravel(), lambda x: x.flatten(), lambda x: x.flatten(order="F"), lambda x: x.T,
    lambda x: x.mT, lambda x: x.transpose(), lambda x: x.transpose(1, 0), lambda x: x.transpose((1, 0)),
    lambda x: x.transpose(None),
    lambda x: x.swapaxes(0, 1), lambda x: x[:1].squeeze(), lambda x: x.repeat(2), lambda x: x.repeat(2, axis=1),
    lambda x: x.clip(-0.5, 0.5), lambda x: x.clip(max=0.2), lambda x: x.take([0, 1]), lambda x: x.diagonal(),
    lambda x: x.astype(np.float32), lambda x: x.astype(int, copy=False), lambda x: x.astype("float"),
    lambda x: x.astype("f4"), lambda x: x.copy(),
    lambda x: x.conj(), lambda x: x.size, lambda x: x.shape, lambda x: x.ndim, lambda x: len(x), lambda x: x.real,
    lambda x: x.nbytes, lambda x: x.itemsize, lambda x: [row * 2 for row in x], lambda x: [*x[0]], lambda x: x.ptp()
    if hasattr(x, "ptp") and not is_tracer(x) else np.ptp(x),
]


@pytest.mark.parametrize("f", METHODS)
def test_methods(f: Callable[..., Any]) -> None:
    same(traced(f, X), f(X))


INTEGERS: list[Callable[..., Any]] = [
    lambda n: n + 1, lambda n: n + 1.5, lambda n: n / 2, lambda n: n * n, lambda n: n**2, lambda n: np.sum(n),
    lambda n: n.mean(),
    lambda n: n.astype(np.int8).sum(), lambda n: n.prod(axis=0), lambda n: np.sin(n), lambda n: abs(n), lambda n: n > 1,
    lambda n: n.astype(np.uint8).sum(), lambda n: n.astype(np.float32) * n, lambda n: n.astype(np.float32) * 2,
    lambda n: n.astype(np.float32) * np.float64(2), lambda n: np.maximum(n, 2), lambda n: np.clip(n, 0, None),
    lambda n: n == 2,
    lambda n: np.minimum(n, 2.5), lambda n: np.isnan(n), lambda n: np.isfinite(n), lambda n: n.cumsum(),
    lambda n: np.std(n),
    lambda n: np.linalg.norm(n, axis=1), lambda n: (n > 1) * 2, lambda n: (n > 1) + (n > 2), lambda n: np.sqrt(abs(n)),
    lambda n: np.where(n > 1, n, 0), lambda n: V[np.arange(3)] * n,
    lambda n: np.array([10.0, 20.0, 30.0])[N[0] % 3] * n,
]


@pytest.mark.parametrize("f", INTEGERS)
def test_integers_promote_as_in_numpy(f: Callable[..., Any]) -> None:
    same(traced(f, N), f(N))


# ---- indexing --------------------------------------------------------------------------------------------------------
KEYS: list[Any] = [
    0, -1, (0, 1), (..., 1), slice(None, None, -1), (slice(None), slice(2, 0, -1)), None, (None, 0, ..., None), ...,
    (slice(5, 1), 0), [1, 0], ([0, 1], [2, 0]), ([0, 1], slice(None), [2, 0]), (slice(None), [0, 1], [2, 0]),
    ([1], ..., [0]),
    (0, slice(None), [2, 0]), (slice(None), 0, [1, 2]), ([[0], [1]], [0, 2]), np.array([[0, 1], [1, 1]]),
    (slice(None), np.array([[0, 1], [2, 2]])), B, (B, 0), (B, slice(1, 3)),
    (slice(None), np.array([True, False, True])),
    (slice(None), [True, False, True], [0, 1]), (np.bool_(True), 0), False, True, (..., np.array([], int)), [],
    np.int64(1), np.array(1), (np.array(1), [0, 2]), (None, [0, 1], None, [1, 2]), (0, None, [0, 1]), ([-1, -2], -1),
    (0, 1, 2),
    (slice(1, 1), [0]), ([0], None, 1), np.array([1, 0], np.uint8),
    (np.array([-1], np.int8), np.array([200 - 198], np.uint8)),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indices(key: Any) -> None:
    same(traced(lambda x: x[key], C), C[key])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_index_is_numpy_s(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    x = np.arange(float(math.prod(shape))).reshape(shape)
    basic = arrays.basic_indices(shape, allow_newaxis=True)
    fancy = arrays.integer_array_indices(shape) if shape and all(shape) else basic
    key = data.draw(st.one_of(basic, fancy, mixed_indices(shape)))
    same(traced(lambda t: t[key], x), x[key])


@st.composite
def mixed_indices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Ints, slices, None, an ellipsis and index arrays that broadcast, in any order."""
    width = draw(st.integers(1, 3))
    key: list[Any] = []
    dots = draw(st.integers(0, len(shape)))
    for axis, length in enumerate(shape):
        if axis == dots:
            key.append(...)
            break
        kind = draw(st.sampled_from(["int", "slice", "array", "column", "mask"]))
        if kind == "slice" or length == 0:
            key.append(draw(st.slices(length)))
        elif kind == "int":
            key.append(draw(st.integers(-length, length - 1)))
        elif kind == "mask":
            flags = np.zeros(length, bool)
            flags[: min(width, length)] = True
            key.append(flags if flags.sum() == width else slice(None))
        else:
            values = draw(arrays.arrays(np.int64, width if kind == "array" else (2, 1),
                                        elements=st.integers(-length, length - 1)))
            key.append(values)
        if draw(st.booleans()) and len(key) < 6:
            key.append(None)
    return tuple(key)


def test_traced_integers_index() -> None:
    same(traced(lambda x, n: x[n % 2 if not is_tracer(n) else n], C, np.array([1, 0])), C[[1, 0]])
    same(traced(lambda x: x[np.argmax(x[:, 0, 0])], C), C[np.argmax(C[:, 0, 0])])
    places = np.array([1, 0]), np.array([-1, 2])
    same(traced(lambda x, i, j: x[i, :, j], C, *places), C[places[0], :, places[1]])
    same(traced(lambda x, i, j: x[:, i, j], C, *places), C[:, places[0], places[1]])
    same(traced(lambda x, i: x[i, :, [0, 1]], C, places[0]), C[places[0], :, [0, 1]])
    same(traced(lambda x, i: x[0, i, ..., None], C, places[0]), C[0, places[0], ..., None])
    same(traced(lambda x, i: x[[i, 0], 1], C, np.array(1)), C[[1, 0], 1])


def test_a_traced_index_out_of_range_is_found_when_it_is_known() -> None:
    trace = Trace()
    x, i = trace.input(C, "x"), trace.input(np.array([0, 5]), "i")
    y = x[i, i]
    with pytest.raises(IndexRangeError, match="index 5"):
        run([y.node], {x.node: C, i.node: np.array([0, 5])})


OUT_OF_RANGE: list[tuple[Any, str]] = [
    (2, "Index 2 is out of range for axis 0 of length 2"), ((0, -4), "Index -4 is out of range for axis 1 of length 3"),
    (([0, 1], [0, 3]), "Index 3 is out of range for axis 1 of length 3"), ((0, 0, 0, 0), "Too many indices"),
    (([0, -5],), "Index -5 is out of range for axis 0 of length 2"), ((..., ...), "only one ellipsis"),
    (np.array([True, False, True]), "boolean index has length 3 along its axis 0, but axis 0 is 2 long"),
]


@pytest.mark.parametrize(("key", "message"), OUT_OF_RANGE, ids=str)
def test_indices_out_of_range(key: Any, message: str) -> None:
    with pytest.raises(IndexRangeError, match=message) as caught:
        traced(lambda x: x[key], C)
    assert caught.value.code == "index-out-of-range"


@pytest.mark.parametrize("key", ["a", 1.5, [0.5], {}, slice("a", None), (slice(0, 1, 0),), np.array([1.0])], ids=str)
def test_keys_that_are_no_index(key: Any) -> None:
    with pytest.raises(HesseError):
        traced(lambda x: x[key], C)


# ---- branches --------------------------------------------------------------------------------------------------------
def test_a_branch_records_a_guard() -> None:
    trace = Trace()
    x = trace.input(V, "x")
    y = x[0] ** 2 if x.sum() > 100 else x[1] * 3
    graph = trace.graph([y], [x])
    assert [v for _, v in graph.guards] == [False]
    (guard, _), = graph.guards
    assert not run([guard], {x.node: V})[0]
    assert run([guard], {x.node: V + 100})[0]
    same(run(graph.outputs, {x.node: V})[0], V[1] * 3)


def test_guards_of_one_condition_are_one() -> None:
    trace = Trace()
    x = trace.input(V, "x")
    for _ in range(5):
        assert not (x[0] > 100)
    assert bool(trace.constant(3.0) > 2)
    assert len(trace.graph([x], [x]).guards) == 1


def test_loops_until_converged() -> None:
    def newton(a: Any) -> Any:
        x = a
        while abs(x * x - a) > 1e-12:
            x = 0.5 * (x + a / x)
        return x

    same(traced(newton, np.array(2.0)), math.sqrt(2.0), rtol=1e-12)


def test_item_is_a_number_and_a_guard() -> None:
    trace = Trace()
    x = trace.input(V, "x")
    value = x[0].item()
    assert type(value) is float and value == V[0]
    assert x.item(1) == V[1]
    (guard, held), *_ = trace.graph([x], [x]).guards
    assert held and run([guard], {x.node: V})[0] and not run([guard], {x.node: V + 1})[0]
    assert np.isnan(trace.input(np.array(np.nan), "nan").item())
    nan_guard, _ = trace.graph([x], [x]).guards[-1]
    assert not run([nan_guard], {n: np.array(1.0) for n in trace.builder.nodes if n.op == "input"})[0]


def test_a_traced_mask_is_read_and_guarded() -> None:
    trace = Trace()
    x = trace.input(X, "x")
    y = x[x > 0]
    graph = trace.graph([y, x[1, x[1] > 0]], [x])
    same(run(graph.outputs, {x.node: X})[0], X[X > 0])
    same(run(graph.outputs, {x.node: X})[1], X[1, X[1] > 0])
    assert [v for _, v in graph.guards] == [True, True]
    assert run([graph.guards[0][0]], {x.node: X})[0] and not run([graph.guards[0][0]], {x.node: -X})[0]


def test_detach_cuts_the_derivative() -> None:
    trace = Trace()
    x = trace.input(V, "x")
    y = (x * x.detach()).sum()
    same(run(gradient(y.node, [x.node]), {x.node: V})[0], V)


def test_examples_of_a_batch_have_no_value() -> None:
    trace = Trace()
    x, other = trace.mapped((3,), np.float64), trace.input(V, "v")
    assert (x * 2).shape == (3,)
    assert isinstance(bool(other[0] > 0), bool)
    attempts: list[Callable[[], Any]] = [lambda: bool(x[0] > 0), lambda: x[x > 0], lambda: 1.0 in x,
                                         lambda: x[0] if (other[0] > x[0]) else 0]
    for attempt in attempts:
        with pytest.raises(FunctionError, match="vmap: It looks like you're attempting to use a Tensor in some") as e:
            attempt()
        assert e.value.code == "vmap-branch"
    with pytest.raises(FunctionError, match=r"vmap: It looks like you're calling .item\(\) on a Tensor") as e:
        x[0].item()
    assert e.value.code == "vmap-item"
    assert trace.graph([other], [other]).guards[0][1] in (True, False)


def test_fresh_inputs_stand_for_what_they_were_made_of() -> None:
    trace = Trace()
    x = trace.input(V, "x")
    inner = trace.fresh(x * 2)
    y = inner**2 if inner[0] < 100 else inner
    again = trace.fresh(y)
    assert again[0].item() == 4 * V[0] ** 2
    graph = trace.graph([again + 1], [x])
    same(run(graph.outputs, {x.node: V})[0], 4 * V**2 + 1)
    assert all(run([n], {x.node: V})[0] == held for n, held in graph.guards)
    unknown = trace.fresh(trace.mapped((), np.float64))
    with pytest.raises(FunctionError, match="vmap"):
        bool(unknown > 0)


@pytest.mark.parametrize(("value", "message"), [(V, "more than one element"), (V[:0], "empty array")])
def test_truth_of_many(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        traced(bool, value)


# ---- refusals --------------------------------------------------------------------------------------------------------
def _store_all(x: Any) -> Any:
    a = np.zeros(3)
    a[:] = x
    return a


def _assign(x: Any) -> None:
    x[0] = 1.0


def _add_into(x: Any) -> Any:
    a = np.zeros(3)
    a += x
    return a


CUTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "float": (lambda x: float(x[0]), r"t\.item\(\)"), "int": (lambda x: int(x[0]), r"t\.item\(\)"),
    "complex": (lambda x: complex(x[0]), r"t\.item\(\)"), "math": (lambda x: math.sin(x[0]), r"np\.sin"),
    "asarray": (lambda x: np.asarray(x), r"np\.stack"), "array": (lambda x: np.array([x[0], x[1]]), r"np\.stack"),
    "tolist": (lambda x: x.tolist(), "Iterate"), "numpy": (lambda x: x.numpy(), "detach"),
    "store all": (_store_all, "stack"), "assign": (_assign, "Copy it first"), "in place": (_add_into, "returned value"),
    "out": (lambda x: np.add(x, 1, out=np.zeros(3)), "returned value"), "pickle": (lambda x: pickle.dumps(x), "item"),
    "sum out": (lambda x: np.sum(x, out=np.zeros(())), "returned value"), "range": (lambda x: range(x[0]), "item"),
    "list index": (lambda x: [1, 2][np.argmax(x)], "item"), "round": (lambda x: math.floor(x[0]), "item"),
    "array index": (lambda x: V[np.argmax(x)], "detach|item"),
    "take": (lambda x: np.take(V, np.argmax(x)), "detach|item"), "exponent": (lambda x: math.pow(x[0], 2), "item"),
}


@pytest.mark.parametrize("case", CUTS)
def test_what_would_cut_the_graph_is_refused_with_advice(case: str) -> None:
    f, advice = CUTS[case]
    with pytest.raises(ArgumentTypeError, match=advice) as caught:
        traced(f, np.abs(V))
    assert caught.value.code == "cut-graph"


def test_storing_an_element_is_refused_by_numpy_with_our_advice_as_its_cause() -> None:
    a = np.zeros(3)
    with pytest.raises(ValueError, match="setting an array element") as caught:
        a[0] = Trace().input(V, "x")[0]
    assert isinstance(caught.value.__cause__, ArgumentTypeError)
    assert caught.value.__cause__.code == "cut-graph"


ABSENT: dict[str, Callable[[Any], Any]] = {
    "numpy.gcd": lambda x: np.gcd(x, 2), "x.tobytes": lambda x: x.tobytes(), "numpy.bitwise_count": np.bitwise_count,
    "numpy.frexp": np.frexp,
    "numpy.add.reduceat": lambda x: np.add.reduceat(x, [0]), "numpy.hypot.at": lambda x: np.hypot.at(x * 1, [0], 1.0),
    "repeat with traced": lambda x: np.repeat(x, x.astype(int)[0] * 0 + 1, axis=1),
}


@pytest.mark.parametrize("name", ABSENT)
def test_a_function_without_a_rule_is_named(name: str) -> None:
    with pytest.raises(ArgumentTypeError, match=name) as caught:
        traced(ABSENT[name], X)
    assert caught.value.code == "no-rule"


BAD: dict[str, tuple[Callable[[Any], Any], type[HesseError], str]] = {
    "complex scalar": (lambda x: x * 1j, FunctionError, "unsupported-complex"),
    "complex array": (lambda x: x + np.array([1j, 2, 3]), FunctionError, "unsupported-complex"),
    "complex dtype": (lambda x: x.astype(complex), FunctionError, "unsupported-complex"),
    "shapes": (lambda x: x + np.ones(4), GraphError, "shape-mismatch"),
    "matmul": (lambda x: x @ np.ones((4, 2)), GraphError, "shape-mismatch"),
    "axis": (lambda x: x.sum(axis=2), GraphError, "bad-attribute"),
    "reshape": (lambda x: x.reshape(4), GraphError, "shape-mismatch"),
    "keyword": (lambda x: np.mean(x, where=x > 0), ArgumentTypeError, "bad-type"),
    "operand": (lambda x: np.add(x, "a"), ArgumentTypeError, "bad-type"),
    "huge": (lambda x: x + 10**400, InputError, "constant-overflow"),
    "ragged": (lambda x: np.concatenate([x, [[1.0], [2.0, 3.0]]]), InputError, "bad-tensor"),
    "minus of booleans": (lambda x: (x > 0) - (x > 1), ArgumentTypeError, "bad-type"),
    "negative boolean": (lambda x: -(x > 0), ArgumentTypeError, "bad-type"),
    "len": (lambda x: len(x[0]), ArgumentTypeError, "bad-type"),
    "iter": (lambda x: list(x[0]), ArgumentTypeError, "bad-type"),
    "order": (lambda x: x.reshape(3, 1, order="F"), ArgumentTypeError, "bad-type"),
    "einsum": (lambda x: np.einsum(x, 0), GraphError, "bad-attribute"),
    "item": (lambda x: x.item(), InputError, "ambiguous-array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_operands(case: str) -> None:
    f, error, code = BAD[case]
    with pytest.raises(error) as caught:
        traced(f, V)
    assert caught.value.code == code


def test_complex_inputs_are_refused() -> None:
    with pytest.raises(FunctionError, match="complex"):
        Trace().input(np.array([1j]), "x")


def test_tracers_of_another_call_are_refused() -> None:
    kept = Trace().input(V, "x")
    with pytest.raises(ArgumentTypeError, match="another call"):
        traced(lambda x: x + kept, V)


def test_limits_hold_while_tracing() -> None:
    x = Trace(limits=Limits(elements=100)).input(V, "x")
    with pytest.raises(HesseError, match="at most 100 elements"):
        np.broadcast_to(x, (1000, 3))


# ---- the tracer as a Python object -----------------------------------------------------------------------------------
def test_object_protocol() -> None:
    trace = Trace()
    x = trace.input(X, "x")
    assert active_trace() is None
    with trace:
        assert active_trace() is trace
        with Trace() as inner:
            assert active_trace() is inner
    assert active_trace() is None
    assert repr(x) == "Tracer(shape=(2, 3), dtype=float64)"
    for again in (copy.copy(x), copy.deepcopy([x])[0]):
        assert again is not x and again.node is x.node
    assert not hasattr(x, "unknown_name") and hasattr(x, "sum") and "reshape" in dir(x)
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    assert X[0, 0] in x and 1e9 not in x
    before = x
    x += 1
    assert is_tracer(x) and x.node is not before.node
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)
    a, b = x
    assert a.shape == b.shape == (3,)
    same([r.shape for r in reversed(x)], [(3,), (3,)])


def test_object_arrays_of_tracers_are_stacked() -> None:
    same(traced(lambda x: np.stack([x[0] * 2, x[1]]) @ S, X), np.stack([X[0] * 2, X[1]]) @ S)

    def boxed(x: Any) -> Any:
        box = np.empty(2, object)
        box[0], box[1] = x[0, 0], x[1, 1]
        return x[0, :2] * box

    same(traced(boxed, X), X[0, :2] * np.array([X[0, 0], X[1, 1]]))


def test_norm_and_deviation_at_zero_have_derivatives_zero() -> None:
    """norm(0): gradient 0 and Hessian 0, by forward over reverse."""
    def constant_norm(x: Any) -> Any:
        return np.linalg.norm(x)

    for f in (constant_norm, np.std, lambda x: np.linalg.norm(x, 3)):
        trace = Trace()
        x = trace.input(np.zeros(3), "x")
        slope = gradient(f(x).node, [x.node])
        direction = trace.input(np.ones(3), "t")
        curvature = push_forward(slope, {x.node: direction.node})
        for node in (*slope, *[c for c in curvature if c is not None]):
            same(run([node], {x.node: np.zeros(3), direction.node: np.ones(3)})[0], np.zeros(3))


def test_deep_chains_do_not_recurse() -> None:
    def chain(x: Any) -> Any:
        y = x
        for _ in range(20_000):
            y = y * 0.5 + 1.0
        return y

    trace = Trace()
    x = trace.input(np.array(1.0), "x")
    assert bool(chain(x) > 0)
    same(traced(chain, np.array(1.0)), chain(1.0))


def test_the_method_trace_is_not_the_attribute() -> None:
    with pytest.raises(ArgumentTypeError, match=r"np\.trace"):
        traced(lambda x: x.trace(), S)
