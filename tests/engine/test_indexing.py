"""Any index expression on a traced array: its value is NumPy's, its derivatives are those of a scatter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import hesse
from hesse_engine.backend import reference
from hesse_engine.errors import HesseError, IndexRangeError
from hesse_engine.frontends.trace import Trace
from hesse_engine.transforms.vjp import gradient
from oracles import peer
from tracing import traced

torch: Any = peer("torch")
C = np.random.default_rng(2).normal(size=(2, 3, 4))


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Ints, slices of either direction, None, an ellipsis, masks of one or two axes and index arrays, in any order."""
    key: list[Any] = []
    dots, axis = draw(st.integers(0, len(shape))), 0
    width = draw(st.integers(0, 3))
    while axis < len(shape):
        if draw(st.integers(0, 4)) == 0 and len(key) < 7:
            key.append(None)
        if axis == dots:
            key.append(...)
            axis += draw(st.integers(0, len(shape) - axis))
            dots = -1
            continue
        length = shape[axis]
        kind = draw(st.sampled_from(["int", "slice", "slice", "array", "column", "mask", "wide mask", "zero"]))
        axis += 1
        if kind == "int" and length:
            key.append(draw(st.integers(-length, length - 1)))
        elif kind in ("array", "column") and length:
            places = st.integers(-length, length - 1)
            made = draw(arrays.arrays(draw(st.sampled_from([np.int64, np.int8])),
                                      (width,) if kind == "array" else (2, 1), elements=places))
            key.append(draw(st.sampled_from([made, made.tolist()])) if made.size else made)
        elif kind == "mask":
            flags = np.zeros(length, bool)
            flags[:width] = True
            key.append(flags if flags.sum() == width else slice(None))
        elif kind == "wide mask" and axis < len(shape):
            flags = np.zeros(shape[axis - 1:axis + 1], bool)
            flags.reshape(-1)[:width] = True
            key.append(flags if flags.sum() == width else slice(None))
            axis += flags.ndim - 1 if flags.sum() == width else 0
        elif kind == "zero" and length:
            key.append(np.array(draw(st.integers(-length, length - 1))))
        else:
            key.append(draw(st.slices(length)))
    return tuple(key)


SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def scattered(shape: tuple[int, ...], key: Any, weights: Any) -> Any:
    """d/dx sum(weights * x[key]): every element gets the weights of the places where it is read."""
    out = np.zeros(math.prod(shape))
    np.add.at(out, np.arange(out.size).reshape(shape)[key].reshape(-1), weights.reshape(-1))
    return out.reshape(shape)


@SETTINGS
@given(st.data())
def test_reading_and_its_gradient(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    key = data.draw(keys(shape))
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)
    trace = Trace()
    t = trace.input(x, "x")
    y = t[key]
    expected = x[key]
    (value,) = reference.run([y.node], {t.node: x})
    assert value.shape == y.shape == np.shape(expected)
    np.testing.assert_array_equal(value, expected)
    weights = np.arange(1.0, value.size + 1).reshape(value.shape)
    (g,) = gradient((y * weights).sum().node, [t.node])
    np.testing.assert_array_equal(reference.run([g], {t.node: x})[0], scattered(shape, key, weights))


@SETTINGS
@given(st.data())
def test_writing_and_its_gradients(data: st.DataObject) -> None:
    """y = x, y[key] = v: v goes where it was written last, x keeps the rest."""
    shape = data.draw(SHAPES)
    key = data.draw(keys(shape))
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)
    v = -np.arange(1.0, np.size(x[key]) + 1).reshape(np.shape(x[key]))
    trace = Trace()
    t, u = trace.input(x, "x"), trace.input(v, "v")
    y = t * 1
    y[key] = u
    expected = x.copy()
    expected[key] = v
    np.testing.assert_array_equal(reference.run([y.node], {t.node: x, u.node: v})[0], expected)
    gx, gv = gradient((y * y).sum().node, [t.node, u.node])
    kept = np.where(expected > 0, 2 * expected, 0.0)
    np.testing.assert_array_equal(reference.run([gx], {t.node: x, u.node: v})[0], kept)
    written = np.isin(v, expected)
    np.testing.assert_array_equal(reference.run([gv], {t.node: x, u.node: v})[0], np.where(written, 2 * v, 0.0))


@SETTINGS
@given(st.data())
def test_computed_indices_read_and_write_as_known_ones(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    key = list(data.draw(keys(shape)))
    spots = [k for k, part in enumerate(key) if isinstance(part, np.ndarray) and part.dtype != bool and part.size]
    if not spots:
        return
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)

    def f(x: Any, *places: Any) -> Any:
        parts = list(key)
        for k, place in zip(spots, places, strict=True):
            parts[k] = place
        y = x * 1
        read = y[tuple(parts)]
        y[tuple(parts)] = read * 3 + 1
        return read, y

    places = [key[k] for k in spots]
    for ours, theirs in zip(traced(f, x, *places), f(x, *places), strict=True):
        np.testing.assert_array_equal(ours, theirs)


REFUSED: list[Callable[[Any], Any]] = [
    lambda x: x[2], lambda x: x[[0, -3]], lambda x: x[0, 0, 0, 0], lambda x: x[..., 0, ...], lambda x: x[[True]],
    lambda x: x[np.zeros((2, 2), bool)], lambda x: x[[0, 1], [0, 1, 2]], lambda x: x[1.0], lambda x: x["a"],
]


@pytest.mark.parametrize("f", REFUSED)
def test_what_numpy_refuses_is_refused(f: Callable[[Any], Any]) -> None:
    with pytest.raises((IndexError, TypeError, ValueError)):
        f(C)
    with pytest.raises(HesseError):
        traced(f, C)


@pytest.mark.parametrize("place", [8, -9])
def test_a_computed_index_is_checked_when_it_is_known(place: int) -> None:
    trace = Trace()
    x, k = trace.input(np.zeros(8), "x"), trace.input(np.array([0, 1]), "k")
    y = x * 1
    y[k] = 1.0
    with pytest.raises(IndexRangeError):
        reference.run([y.node], {x.node: np.zeros(8), k.node: np.array([0, place])})


FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda x: (x[[0, 1, 0], :, [1, 2, 1]] ** 3).sum(), lambda x: (x[:, [2, 0, 2], ::-2] ** 2 * x[:, :1, :2]).sum(),
    lambda x: (np.take_along_axis(x, np.argsort(x, axis=1), 1)[:, :2] ** 3).sum(),
    lambda x: (x[np.argmax(x[:, 0, 0])] ** 3).sum(), lambda x: (x[x > 0] ** 3).sum(),
    lambda x: (x[:, np.argsort(x[0, :, 0]), [0, 1, 1]] ** 3).sum() * x[0, 0, 0],
]


@pytest.mark.parametrize("f", FUNCTIONS)
def test_hessians_through_indices(f: Callable[[Any], Any]) -> None:
    """Symmetric, the same both ways, and the slope of the gradient."""
    h = hesse.functional.hessian(f, C).reshape(24, 24)
    reverse = hesse.func.jacrev(hesse.func.jacrev(f))(C).reshape(24, 24)
    np.testing.assert_allclose(h, reverse, atol=1e-13)
    np.testing.assert_allclose(h, h.T, atol=1e-13)
    slope = hesse.func.grad(f)
    step = 1e-6
    for k in range(0, 24, 5):
        d = np.zeros(24)
        d[k] = step
        d = d.reshape(C.shape)
        column = (np.asarray(slope(C + d)) - np.asarray(slope(C - d))) / (2 * step)
        np.testing.assert_allclose(h[k], column.ravel(), atol=1e-6)


# ---- torch -----------------------------------------------------------------------------------------------------------
TORCH: list[Callable[[Any], Any]] = [
    lambda x: x[0], lambda x: x[..., None, 1], lambda x: x[:, [0, 2]], lambda x: x[[1, 0], :, [2, 3]],
    lambda x: x[x > 0], lambda x: x[:, torch.tensor([True, False, True])], lambda x: x[torch.tensor([[0, 1], [1, 1]])],
    lambda x: x[1:, ::2, None], lambda x: x[torch.tensor(1)], lambda x: x[:, torch.argsort(x[0, :, 0])],
    lambda x: x[x.argmax() // 12 if isinstance(x, torch.Tensor) else 0] * 0, lambda x: x.take(torch.tensor([5, -1])),
]


@pytest.mark.skipif(torch is None, reason="torch is compared with; it is an optional peer")
@pytest.mark.parametrize("f", TORCH)
def test_torch_indices(f: Callable[[Any], Any]) -> None:
    x = torch.from_numpy(C)
    ours, theirs = hesse.function(f)(x), f(x)
    assert ours.shape == theirs.shape
    assert torch.equal(ours, theirs)
