"""hesse.numpy is NumPy outside of a trace and the graph inside of one, function by function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import functional
from hesse_engine.backend.reference import run
from hesse_engine.errors import ArgumentTypeError
from hesse_engine.frontends.trace import Trace, is_tracer

random = np.random.default_rng(11)
X = random.normal(size=(2, 3))
V = random.normal(size=3)
P = random.uniform(0.1, 2.0, size=(2, 3))
S = random.normal(size=(3, 3))


def traced(f: Callable[..., Any], value: Any) -> Any:
    trace = Trace()
    x = trace.input(value, "x")

    def read(result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return [read(r) for r in result]
        assert is_tracer(result)
        return run([result.node], {x.node: value})[0]

    return read(f(x))


def same(actual: Any, expected: Any) -> None:
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            same(a, b)
        return
    assert isinstance(actual, np.ndarray)
    np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-15)
    assert actual.dtype == np.asarray(expected).dtype
    assert actual.shape == np.shape(expected)


# name of the function here and in NumPy, on positive numbers
UNARY = ["abs", "negative", "positive", "sign", "square", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10",
    "sin", "cos", "tan",
         "tanh", "isnan", "isinf", "isfinite", "logical_not", "reciprocal"]
BINARY = ["add", "subtract", "multiply", "divide", "pow", "power", "maximum", "minimum", "equal", "not_equal",
    "less", "less_equal",
          "greater", "greater_equal", "logical_and", "logical_or", "logical_xor"]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    f, wanted = getattr(xp, name), getattr(np, name)(P)
    same(f(P), wanted)
    same(traced(f, P), wanted)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    f, wanted = getattr(xp, name), getattr(np, name)(P, V[:3] ** 2)
    same(f(P, V**2), wanted)
    same(traced(lambda x: f(x, V**2), P), wanted)
    same(traced(lambda v: f(P, v**2), V), wanted)


FUNCTIONS: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda x: xp.sum(x), lambda x: np.sum(x)), (lambda x: xp.sum(x, axis=[0, 1]), lambda x: np.sum(x, (0, 1))),
    (lambda x: xp.sum(x, axis=0, dtype=xp.float32), lambda x: np.sum(x, 0, dtype=np.float32)),
    (lambda x: xp.mean(x, axis=1), lambda x: np.mean(x, 1)),
    (lambda x: xp.prod(x, axis=0, keepdims=True), lambda x: np.prod(x, 0, keepdims=True)),
    (lambda x: xp.max(x, axis=1), lambda x: np.max(x, 1)),
    (lambda x: xp.min(x), lambda x: np.min(x)), (lambda x: xp.var(x, correction=1.0), lambda x: np.var(x, ddof=1)),
    (lambda x: xp.std(x, axis=0), lambda x: np.std(x, 0)),
    (lambda x: xp.any(x > 0, axis=0), lambda x: np.any(x > 0, 0)),
    (lambda x: xp.all(x > -9), lambda x: np.all(x > -9)), (lambda x: xp.argmax(x, axis=1), lambda x: np.argmax(x, 1)),
    (lambda x: xp.argmin(x), lambda x: np.argmin(x)),
    (lambda x: xp.cumulative_sum(x, axis=1), lambda x: np.cumsum(x, 1)),
    (lambda x: xp.cumulative_prod(x[0]), lambda x: np.cumprod(x[0])), (lambda x: xp.diff(x), lambda x: np.diff(x)),
    (lambda x: xp.clip(x, -0.5, 0.5), lambda x: np.clip(x, -0.5, 0.5)),
    (lambda x: xp.clip(x, min=0.0), lambda x: np.clip(x, 0.0, None)),
    (lambda x: xp.where(x > 0, x, 0.0), lambda x: np.where(x > 0, x, 0.0)),
    (lambda x: xp.reshape(x, (3, 2)), lambda x: np.reshape(x, (3, 2))),
    (lambda x: xp.permute_dims(x, (1, 0)), lambda x: x.T), (lambda x: xp.matrix_transpose(x), lambda x: x.T),
    (lambda x: xp.moveaxis(x, 0, 1), lambda x: x.T), (lambda x: xp.expand_dims(x, axis=1), lambda x: x[:, None]),
    (lambda x: xp.squeeze(x[:1], axis=0), lambda x: x[0]),
    (lambda x: xp.broadcast_to(x, (2, 2, 3)), lambda x: np.broadcast_to(x, (2, 2, 3))),
    (lambda x: xp.broadcast_arrays(x, x[0]), lambda x: list(np.broadcast_arrays(x, x[0]))),
    (lambda x: xp.concat([x, X]), lambda x: np.concatenate([x, X])),
    (lambda x: xp.concatenate([x, X], axis=1), lambda x: np.concatenate([x, X], 1)),
    (lambda x: xp.stack([x, X], axis=1), lambda x: np.stack([x, X], 1)),
    (lambda x: xp.unstack(x), lambda x: [x[0], x[1]]), (lambda x: xp.flip(x, axis=[0]), lambda x: x[::-1]),
    (lambda x: xp.roll(x, 1, axis=1), lambda x: np.roll(x, 1, 1)),
    (lambda x: xp.tile(x, (2, 1)), lambda x: np.tile(x, (2, 1))),
    (lambda x: xp.repeat(x, 2, axis=0), lambda x: np.repeat(x, 2, 0)),
    (lambda x: xp.take(x, xp.asarray([0, 2]), axis=1), lambda x: x[:, [0, 2]]),
    (lambda x: xp.tril(x), lambda x: np.tril(x)),
    (lambda x: xp.take_along_axis(x, np.array([[0], [2]]), axis=1), lambda x: x[[0, 1], [0, 2]][:, None]),
    (lambda x: xp.triu(x, k=1), lambda x: np.triu(x, 1)),
    (lambda x: xp.meshgrid(x[0], x[1]), lambda x: list(np.meshgrid(x[0], x[1]))),
    (lambda x: xp.matmul(x, S), lambda x: x @ S),
    (lambda x: xp.tensordot(x, S, axes=1), lambda x: x @ S), (lambda x: xp.vecdot(x, x), lambda x: (x * x).sum(1)),
    (lambda x: xp.outer(x[0], x[1]), lambda x: np.outer(x[0], x[1])),
    (lambda x: xp.dot(x, V), lambda x: x @ V), (lambda x: xp.einsum("ij,j->i", x, V), lambda x: x @ V),
    (lambda x: xp.linalg.norm(x), lambda x: np.linalg.norm(x)),
    (lambda x: xp.linalg.vector_norm(x, axis=1), lambda x: np.linalg.norm(x, axis=1)),
    (lambda x: xp.linalg.matrix_norm(x), lambda x: np.linalg.norm(x)),
    (lambda x: xp.linalg.matrix_power(x @ x.T, 2), lambda x: x @ x.T @ x @ x.T),
    (lambda x: xp.linalg.trace(x @ x.T), lambda x: np.trace(x @ x.T)),
    (lambda x: xp.linalg.diagonal(x), lambda x: np.diagonal(x)),
    (lambda x: xp.linalg.cross(x, V), lambda x: np.cross(x, V)),
    (lambda x: xp.linalg.matmul(x, S), lambda x: x @ S),
    (lambda x: xp.cumsum(x, 1), lambda x: np.cumsum(x, 1)),
    (lambda x: xp.asarray([x[0, 0], 1.0]), lambda x: np.array([x[0, 0], 1.0])),
    (lambda x: xp.asarray([[x[0, 0], 1], [2, x[1, 1]]]), lambda x: np.array([[x[0, 0], 1.0], [2.0, x[1, 1]]])),
    (lambda x: xp.array(x), lambda x: x),
    (lambda x: xp.asarray(x, dtype=xp.float32), lambda x: x.astype(np.float32)),
    (lambda x: xp.astype(x, xp.int64), lambda x: x.astype(np.int64)),
    (lambda x: xp.full((2, 2), x[0, 0]), lambda x: np.full((2, 2), x[0, 0])),
    (lambda x: xp.linspace(x[0, 0], 2.0, 5), lambda x: np.linspace(x[0, 0], 2.0, 5)),
    (lambda x: xp.linspace(0.0, x[0], 4, endpoint=False), lambda x: np.linspace(0.0, x[0], 4, endpoint=False)),
    (lambda x: xp.zeros_like(x), lambda x: np.zeros_like(x)),
    (lambda x: xp.ones_like(x, dtype=xp.int32), lambda x: np.ones_like(x, dtype=np.int32)),
    (lambda x: xp.full_like(x, x[0, 0]), lambda x: np.full_like(x, x[0, 0])),
    (lambda x: xp.kron(x, V), lambda x: np.kron(x, V)), (lambda x: xp.hstack([x, X]), lambda x: np.hstack([x, X])),
    (lambda x: xp.trace(x), lambda x: np.trace(x)),
    (lambda x: xp.sin(xp.pi * x) + xp.e, lambda x: np.sin(np.pi * x) + np.e),
    (lambda x: xp.sigmoid(x), lambda x: 1 / (1 + np.exp(-x))),
    (lambda x: xp.softplus(x), lambda x: np.log1p(np.exp(x))), (lambda x: x[..., xp.newaxis], lambda x: x[..., None]),
]


@pytest.mark.parametrize(("f", "wanted"), FUNCTIONS)
def test_functions(f: Callable[[Any], Any], wanted: Callable[[Any], Any]) -> None:
    same(f(X), wanted(X))
    same(traced(f, X), wanted(X))


def test_lists_of_numbers_and_scalars_are_numpy_s() -> None:
    same(xp.sum([1.0, 2.0]), np.asarray(3.0))
    same(xp.sin(0.5), np.asarray(np.sin(0.5)))
    same(xp.sigmoid(0), np.asarray(0.5))


CREATION: list[tuple[Any, Any]] = [
    (xp.zeros((2, 3)), np.zeros((2, 3))), (xp.zeros(2, dtype=xp.int64), np.zeros(2, np.int64)),
    (xp.ones(3), np.ones(3)), (xp.full((2,), 2.5), np.full(2, 2.5)),
    (xp.arange(4), np.arange(4)), (xp.arange(1.0, 2.0, 0.25), np.arange(1.0, 2.0, 0.25)),
    (xp.linspace(0, 1, 5), np.linspace(0, 1, 5)), (xp.eye(2, 3, k=1), np.eye(2, 3, 1)),
    (xp.empty((0,)), np.empty(0)), (xp.asarray([1, 2], dtype=xp.float32), np.array([1, 2], np.float32)),
]


@pytest.mark.parametrize(("got", "wanted"), CREATION)
def test_creation(got: Any, wanted: Any) -> None:
    same(got, wanted)


def test_arrays_that_were_created_take_item_assignment() -> None:
    a = xp.zeros(3)
    a[1] = 2.0
    same(a, np.array([0.0, 2.0, 0.0]))


def test_array_copies() -> None:
    a = np.ones(2)
    assert xp.asarray(a) is a
    assert xp.array(a) is not a


def test_a_tracer_names_the_namespace() -> None:
    trace = Trace()
    x = trace.input(X, "x")
    assert x.__array_namespace__() is xp
    assert x.__array_namespace__(api_version="2024.12") is sys.modules["hesse.numpy"]
    assert xp.result_type(x, xp.float32) == np.float64


def test_code_written_for_any_namespace() -> None:
    def logistic(x: Any) -> Any:
        space = x.__array_namespace__()
        return space.sum(space.log1p(space.exp(-x)))

    same(np.asarray(logistic(X)), np.sum(np.log1p(np.exp(-X))))
    same(traced(logistic, X), np.sum(np.log1p(np.exp(-X))))


@pytest.mark.parametrize("name", ["asin", "floor", "hypot", "logaddexp"])
def test_without_a_rule_a_function_is_numpy_s_outside_and_refused_inside(name: str) -> None:
    args = (0.5 * np.tanh(X),) if name in ("asin", "floor") else (X, X)
    same(getattr(xp, name)(*args), getattr(np, name)(*args))
    from hesse_engine.ir.ops import ROWS

    if name in ROWS:
        same(traced(lambda x: getattr(xp, name)(x, *args[1:]), args[0]), getattr(np, name)(*args))
        return
    with pytest.raises(ArgumentTypeError, match=f"hesse.numpy.{name} has no rule") as caught:
        traced(lambda x: getattr(xp, name)(x, *args[1:]), args[0])
    assert caught.value.code == "no-rule"


def test_names_that_do_not_exist() -> None:
    for name in ("no_such_function", "_private", "fft", "memmap"):
        assert not hasattr(xp, name)
    with pytest.raises(ArgumentTypeError, match="axis"):
        xp.cumulative_sum(X)


def test_segments_inside_and_outside_of_a_trace() -> None:
    data, ids = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 2, 0, 2])
    wanted = {"sum": [4, 0, 6], "mean": [2, np.nan, 3], "prod": [3, 1, 8], "max": [3, -np.inf, 4],
              "min": [1, np.inf, 2]}
    for name, expected in wanted.items():
        segment = getattr(xp, f"segment_{name}")
        found = segment(data, ids, 3)
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(hesse.function(lambda x, s=segment: s(x, ids, 3))(data), expected)
    hessian = functional.hessian(lambda x: (xp.segment_sum(x, ids) ** 2).sum(), data)
    np.testing.assert_array_equal(hessian, 2.0 * (ids[:, None] == ids))
    np.testing.assert_array_equal(xp.ix_([0, 1], [2])[0], [[0], [1]])
