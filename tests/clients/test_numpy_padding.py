"""np.pad in every mode, np.convolve and np.correlate: traced they give NumPy's values, and linear maps of the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hesse
from hesse import functional

RNG = np.random.default_rng(0)
LINE, PLANE = RNG.standard_normal(5), RNG.standard_normal((3, 4))
MODES: list[tuple[str, dict[str, Any]]] = [
    ("constant", {}), ("constant", {"constant_values": 2.5}),
    ("constant", {"constant_values": ((1.0, 2.0), (3.0, 4.0))}),
    ("edge", {}), ("reflect", {}), ("symmetric", {}), ("wrap", {}), ("reflect", {"reflect_type": "odd"}),
    ("symmetric", {"reflect_type": "odd"}), ("linear_ramp", {}),
    ("linear_ramp", {"end_values": ((1.0, -2.0), (0.5, 3.0))}),
    ("mean", {}), ("mean", {"stat_length": 2}), ("maximum", {}), ("maximum", {"stat_length": ((1, 2), (3, 2))}),
    ("minimum", {}),
]
WIDTHS: list[Any] = [2, (1, 3), ((0, 2), (7, 1)), ((4, 0), (0, 0))]


def derivative(f: Any, x: Any) -> Any:
    """The Jacobian of a piecewise linear f by differences of a step that ties nothing."""
    steps = np.eye(x.size).reshape(x.size, *x.shape) * 1e-6
    return np.stack([(f(x + s) - f(x - s)) / 2e-6 for s in steps], -1)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize(("mode", "options"), MODES, ids=str)
def test_pad_is_numpys(mode: str, options: dict[str, Any], widths: Any) -> None:
    def pad(x: Any) -> Any:
        return np.pad(x, widths, mode=mode, **options)

    expected = pad(PLANE)
    np.testing.assert_allclose(hesse.function(pad)(PLANE), expected, rtol=1e-13, atol=1e-14)
    slopes = functional.jacobian(pad, PLANE).reshape(*expected.shape, PLANE.size)
    np.testing.assert_allclose(slopes, derivative(pad, PLANE), atol=1e-8)


def test_pad_keeps_float32_and_integers() -> None:
    found = hesse.function(lambda x: np.pad(x, 1, mode="linear_ramp"))(LINE.astype(np.float32))
    assert found.dtype == np.float32
    whole = hesse.function(lambda x: np.pad(x, 2, mode="reflect"))(np.arange(4))
    np.testing.assert_array_equal(whole, np.pad(np.arange(4), 2, mode="reflect"))


def test_pad_is_empty_where_numpy_leaves_memory_as_it_is() -> None:
    found = hesse.function(lambda x: np.pad(x, (1, 2), mode="empty"))(LINE)
    assert found.shape == (8,)
    np.testing.assert_array_equal(found[1:6], LINE)


def test_pad_by_axis() -> None:
    widths = {-1: (1, 2)}
    found = hesse.function(lambda x: np.pad(x, widths))(PLANE)
    np.testing.assert_array_equal(found, np.pad(PLANE, [(0, 0), (1, 2)]))


@pytest.mark.parametrize(("arguments", "options"), [
    ((-1,), {}), ((1,), {"mode": "median"}), ((1.5,), {}), ((1,), {"mode": "mean", "stat_length": 0}),
])
def test_pad_refuses(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(hesse.HesseError, match="pad"):
        hesse.function(lambda x: np.pad(x, *arguments, **options))(LINE)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("sizes", [(5, 3), (3, 5), (4, 4), (5, 2), (2, 6), (1, 3)])
def test_sums_over_windows_are_numpys(name: str, mode: str, sizes: tuple[int, int]) -> None:
    a, v = (RNG.standard_normal(n) for n in sizes)

    def total(a: Any, v: Any) -> Any:
        return getattr(np, name)(a, v, mode=mode)

    expected = total(a, v)
    np.testing.assert_allclose(hesse.function(total)(a, v), expected, rtol=1e-13, atol=1e-14)
    weights = np.arange(1.0, expected.size + 1)
    mixed = functional.hessian(lambda a, v: (weights * total(a, v)).sum(), (a, v))[0][1]
    units = np.array([[(weights * total(e, d)).sum() for d in np.eye(sizes[1])] for e in np.eye(sizes[0])])
    np.testing.assert_allclose(mixed, units, rtol=1e-13, atol=1e-14)
