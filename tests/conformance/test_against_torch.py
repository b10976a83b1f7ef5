"""Every function that a case names: its value, Jacobian and Hessian, shapes and dtypes, against the installed torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hesse
from conformance import algebra, arrays, elementwise, losses, neural, ordering, products, special, windows
from conformance.cases import Case, torch
from hesse import functional

pytestmark = [
    pytest.mark.skipif(torch is None, reason="torch is compared with; it is an optional peer"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*",
                               "ignore:reduction. 'mean' divides:UserWarning", "ignore:Using padding:UserWarning"),
]

FAMILIES = (elementwise, special, ordering, algebra, neural, losses, windows, arrays, products)
CASES = [c for family in FAMILIES for c in family.CASES]
TOLERANCE = {"float64": 1.0, "float32": 1e4}  # float32 has about 2e-7 where float64 has 2e-16; sums of a few terms


def named(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in cases])


def tensors(case: Case, dtype: str) -> tuple[Any, ...]:
    return tuple([torch.from_numpy(np.array(a)) for a in case.arrays(dtype)])


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def close(ours: Any, theirs: Any, rtol: float) -> None:
    assert isinstance(ours, torch.Tensor)
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert ours.dtype == theirs.dtype
    if not theirs.dtype.is_floating_point:
        assert torch.equal(ours, theirs)
        return
    a, b = ours.detach().double().numpy(), theirs.detach().double().numpy()
    finite = b[np.isfinite(b)]
    scale = np.abs(finite).max() if finite.size else 1.0
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(scale, 1e-300))


@named(CASES)
def test_value(case: Case) -> None:
    if "value" in case.differs:
        pytest.skip(case.differs["value"])
    for dtype in case.dtypes:
        given = tensors(case, dtype)
        theirs, ours = case.f(torch, *given), hesse.function(lambda *x: case.f(torch, *x))(*given)
        assert len(as_tuple(ours)) == len(as_tuple(theirs))
        for a, b in zip(as_tuple(ours), as_tuple(theirs), strict=True):
            close(a, b, case.rtol * TOLERANCE[dtype])


def scalar(case: Case, given: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """A weighted sum of the floating outputs as a function of the floating inputs, and those."""
    moving = [k for k, x in enumerate(given) if x.dtype.is_floating_point]

    def total(*x: Any) -> Any:
        full = list(given)
        for k, value in zip(moving, x, strict=True):
            full[k] = value
        found = [y for y in as_tuple(case.f(torch, *full)) if torch.is_floating_point(y)]
        parts = [(y * torch.linspace(0.5, 1.5, max(y.numel(), 1), dtype=y.dtype)[:y.numel()].reshape(y.shape)).sum()
                 for y in found]
        return sum(parts[1:], parts[0])

    return total, tuple([given[k] for k in moving])


@named([c for c in CASES if c.order >= 1])
def test_gradient(case: Case) -> None:
    if "gradient" in case.differs:
        pytest.skip(case.differs["gradient"])
    for dtype in case.dtypes:
        f, x = scalar(case, tensors(case, dtype))
        theirs = torch.autograd.functional.jacobian(f, x)
        for a, b in zip(functional.jacobian(f, x), theirs, strict=True):
            close(a, b, 10 * case.rtol * TOLERANCE[dtype])


@named([c for c in CASES if c.order >= 2])
def test_hessian(case: Case) -> None:
    if "hessian" in case.differs:
        pytest.skip(case.differs["hessian"])
    f, x = scalar(case, tensors(case, "float64"))
    theirs = torch.autograd.functional.hessian(f, x)
    for row, expected in zip(functional.hessian(f, x), theirs, strict=True):
        for a, b in zip(row, expected, strict=True):
            close(a, b, 100 * case.rtol)
