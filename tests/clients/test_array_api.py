"""hesse.numpy is the array API standard of 2024.12, function by function and dtype by dtype, against array-api-strict:
outside of a trace and inside of one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import array_api_strict as strict
import pytest

import hesse.numpy as xp
from array_api import CALLS, GAPS, VERSION, Call, lift, lower, same
from hesse_engine.errors import ArgumentTypeError
from tracing import traced


@pytest.fixture(scope="module", autouse=True)
def of_the_standard() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # array-api-strict knows a newer standard, and says so
        strict.set_array_api_strict_flags(api_version=VERSION)
    yield
    strict.reset_array_api_strict_flags()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("call", CALLS, ids=lambda c: c.label)
def test_outside_a_trace(call: Call) -> None:
    for dtype in call.dtypes:
        arrays = call.make(dtype)
        same(call.f(xp, *arrays), lower(call.f(strict, *lift(arrays))), f"{call.label} {dtype}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("call", CALLS, ids=lambda c: c.label)
def test_inside_a_trace(call: Call) -> None:
    """All of it is traced: every array is an input."""
    for dtype in call.dtypes:
        arrays = call.make(dtype)
        if call.name in GAPS or call.label in GAPS:
            with pytest.raises(ArgumentTypeError) as caught:
                traced(lambda *x: call.f(xp, *x), *arrays)
            assert caught.value.code == "no-rule"
            return
        wanted = lower(call.f(strict, *lift(arrays)))
        same(traced(lambda *x: call.f(xp, *x), *arrays), wanted, f"{call.label} {dtype}")


def test_gaps_are_names_that_are_called() -> None:
    assert set(GAPS) <= {c.name for c in CALLS} | {c.label for c in CALLS}
