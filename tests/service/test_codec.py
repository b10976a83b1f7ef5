"""The codec as functions: numbers, pointers, places of faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from hesse_engine.errors import HesseError, InputError, rebuild
from hesse_engine.result import Result
from hesse_service import codec
from hesse_service.schemas import CallRequest


@given(npst.arrays(np.float64, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))
def test_arrays_round_trip_bit_for_bit(array: NDArray[np.float64]) -> None:
    array = np.where(np.isnan(array), np.nan, array)  # payloads of NaN do not travel
    pieces: list[bytes] = []
    codec.encode_nested(array, pieces)
    back = codec.decode_one(codec.parse(b"".join(pieces)), "float32", "", 1 << 20)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_long_arrays_are_encoded_in_strides() -> None:
    array = np.arange(2.5 * codec.STRIDE)
    pieces: list[bytes] = []
    codec.encode_nested([array, array[:0]], pieces)
    one, two = json.loads(b"".join(pieces))
    assert one["data"] == array.tolist()
    assert two == {"shape": [0], "dtype": "float64", "data": []}


def refusal(action: Callable[[], Any]) -> InputError | None:
    """What `action` is refused with."""
    try:
        action()
    except InputError as error:
        return error
    return None


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    error = refusal(lambda: codec.parse(body))
    assert error is None or error.code in ("malformed-json", "non-finite-token")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["function", "inputs", "v", "options", "expression", "graph", "id", "data", "shape", "argnums"])
        | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_value_validates_or_is_refused_with_a_pointer(value: Any) -> None:
    error = refusal(lambda: codec.validate(CallRequest, value))
    if error is None:
        return
    assert error.code == "bad-request"
    for part in (error.pointer or "").split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value.get(part)  # the last may be missing


@pytest.mark.parametrize(("code", "kind", "pointer"), [
    ("bad-v", "other", "/v"),
    ("not-scalar", "graph", "/function"),
    ("bad-tensor", "other", None),
])
def test_faults_are_located(code: str, kind: str, pointer: str | None) -> None:
    error = codec.located(rebuild(code, "message", hint="hint"), kind)
    assert isinstance(error, HesseError)
    assert (error.code, error.pointer, error.hint) == (code, pointer, "hint")


def test_a_node_at_fault_lies_in_the_function() -> None:
    assert codec.located(rebuild("shape-mismatch", "m", node="n3"), "graph").pointer == "/function/graph"
    assert codec.located(rebuild("shape-mismatch", "m", node="n3"), "other").pointer == "/function"
    assert codec.located(rebuild("shape-mismatch", "m", pointer="/a", node="n3"), "graph").pointer == "/a"


def test_results_nest() -> None:
    one = np.ones(1)
    pair = json.loads(b"".join(codec.encode_result(Result([one, [one]], one, [one], {"a": float("inf")}), True, True)))
    tensor = {"shape": [1], "dtype": "float64", "data": [1.0]}
    assert pair == {"result": {"output": tensor, "product": [tensor, [tensor]]}, "aux": [tensor],
                    "stats": {"a": "Infinity"}}
