"""Binary frames: every bit pattern travels, every damage is found before anything is made of it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hesse_engine.errors import HesseError
from hesse_engine.ir import frames
from hesse_engine.ir.graph import DTYPES

Array = NDArray[Any]
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def patterns(draw: st.DrawFn) -> Array:
    """Arrays of any dtype whose bytes are arbitrary, so of every NaN, subnormal and zero."""
    shape, dtype = draw(SHAPES), DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype.kind == "b":
        data = bytes([b & 1 for b in data])
    return np.frombuffer(data, dtype).reshape(shape)


def frame(value: Any) -> tuple[bytes, str]:
    """The frame of `value` and what the HTTP header says."""
    tensors: list[memoryview] = []
    header = frames.padded(json.dumps(frames.detach(value, tensors)).encode())
    return b"".join([header, *tensors]), str(len(header))


def thawed(body: bytes, stated: str | None, max_elements: int = 1 << 20) -> Any:
    header, tensors = frames.split(memoryview(body), stated)
    return frames.attach(json.loads(header), tensors, max_elements)


def handmade(head: Any, data: bytes = b"") -> tuple[bytes, str]:
    header = json.dumps(head).encode()
    return header + data, str(len(header))


def described(shape: Any, dtype: Any, size: Any, **more: Any) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "parameters": {"binary_data_size": size}, **more}


def refusal(body: bytes, stated: str | None) -> HesseError:
    with pytest.raises(HesseError) as caught:
        thawed(body, stated)
    return caught.value


@given(st.recursive(patterns(), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6))
@example(np.array([np.uint64(0x7FF4_0000_0000_0001)]).view(np.float64))  # a signaling NaN with a payload
@example(np.array(-0.0))
def test_every_bit_pattern_travels(value: Any) -> None:
    def check(found: Any, wanted: Any) -> None:
        if isinstance(wanted, dict):
            assert list(found) == list(wanted)
            wanted, found = list(wanted.values()), list(found.values())
        if isinstance(wanted, list):
            for f, w in zip(found, wanted, strict=True):
                check(f, w)
            return
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        assert found.tobytes() == wanted.tobytes()
        assert found.flags.aligned
        assert not found.flags.writeable

    check(thawed(*frame(value)), value)


@settings(max_examples=40)
@given(patterns(), patterns())
def test_every_truncation_and_every_addition_is_an_error(one: Array, two: Array) -> None:
    body, stated = frame({"inputs": [one, two], "options": {}})
    for length in range(len(body)):
        with pytest.raises((HesseError, json.JSONDecodeError)):  # the caller reads the JSON
            thawed(body[:length], stated)
    assert refusal(body + b"x", stated).code == "bad-frame"


@pytest.mark.parametrize("array", [np.arange(12.0).reshape(3, 4).T, np.arange(10)[::2], np.arange(3.0).astype(">f8"),
                                   np.broadcast_to(2.5, (2, 2))], ids=["transposed", "strided", "big-endian", "spread"])
def test_other_memory_orders_are_written_in_row_major_little_endian_order(array: Array) -> None:
    found = thawed(*frame(array))
    np.testing.assert_array_equal(found, array)


def test_reading_copies_nothing_that_is_aligned() -> None:
    body, stated = frame([np.arange(1000.0), np.arange(8.0)])
    whole = np.frombuffer(body, np.uint8)
    for found in thawed(body, stated):
        assert np.shares_memory(found, whole)


def test_writing_copies_nothing_that_is_in_order() -> None:
    array = np.arange(1000.0)
    assert np.shares_memory(np.frombuffer(frames.raw(array)), array)


MISFITS: dict[str, tuple[Any, bytes, str, str]] = {
    "size too small": (described([2], "float64", 8), bytes(8), "bad-tensor", "/parameters/binary_data_size"),
    "size too large": (described([2], "float64", 24), bytes(24), "bad-tensor", "/parameters/binary_data_size"),
    "size negative": (described([2], "float64", -16), bytes(16), "bad-tensor", "/parameters/binary_data_size"),
    "size a float": (described([2], "float64", 16.0), bytes(16), "bad-tensor", "/parameters/binary_data_size"),
    "size a boolean": (described([1], "bool", True), bytes(1), "bad-tensor", "/parameters/binary_data_size"),
    "size a text": (described([2], "float64", "16"), bytes(16), "bad-tensor", "/parameters/binary_data_size"),
    "shape negative": (described([-2], "float64", 16), bytes(16), "bad-tensor", "/shape"),
    "shape of floats": (described([2.0], "float64", 16), bytes(16), "bad-tensor", "/shape"),
    "shape missing": ({"dtype": "float64", "parameters": {"binary_data_size": 16}}, bytes(16), "bad-tensor", ""),
    "shape huge": (described([10**12], "float64", 8 * 10**12), b"", "too-many-elements", "/shape"),
    "shape beyond 64 bits": (described([2**40, 2**40], "int8", 2**80), b"", "too-many-elements", "/shape"),
    "rank": (described([1] * 40, "float64", 8), bytes(8), "rank-too-high", "/shape"),
    "dtype unknown": (described([2], "float128", 32), bytes(32), "bad-tensor", "/dtype"),
    "dtype complex": (described([2], "complex128", 32), bytes(32), "unsupported-complex", "/dtype"),
    "dtype object": (described([2], "object", 16), bytes(16), "bad-tensor", "/dtype"),
    "dtype a list": (described([2], ["float64"], 16), bytes(16), "bad-tensor", "/dtype"),
    "data, too": (described([2], "float64", 16, data=[1, 2]), bytes(16), "bad-frame", ""),
    "another member": (described([2], "float64", 16, offset=0), bytes(16), "bad-tensor", ""),
    "bytes missing": (described([2], "float64", 16), bytes(15), "bad-frame", ""),
    "bytes left over": ([described([2], "float64", 16)], bytes(17), "bad-frame", None),
    "bytes for nothing": ({"inputs": [[1.0]]}, bytes(8), "bad-frame", None),
    "overlap": ([described([2], "float64", 16), described([2], "float64", 16)], bytes(16), "bad-frame", "/1"),
    "boolean 2": (described([3], "bool", 3), b"\x00\x01\x02", "bad-tensor", ""),
}


@pytest.mark.parametrize("name", MISFITS)
def test_misfits_are_refused_with_their_place(name: str) -> None:
    head, data, code, pointer = MISFITS[name]
    at = "" if isinstance(head, list) or "inputs" in head else "/v"
    error = refusal(*handmade({"v": head} if at else head, data))
    assert error.code == code
    assert error.pointer == (None if pointer is None else f"{at}{pointer}")


@pytest.mark.parametrize("stated", [None, "", "-1", "+5", "1e1", "0x10", "5.0", " 5", "٥", "0", "9" * 30, "1000000",
                                    "5,5"])
def test_what_is_no_header_length_is_refused(stated: str | None) -> None:
    assert refusal(b'{"a":1}', stated).code == "bad-frame"


def test_a_claim_allocates_nothing() -> None:
    body, stated = handmade(described([1 << 30], "float64", 8 << 30))
    tracemalloc.start()
    try:
        with pytest.raises(HesseError):
            thawed(body, stated, max_elements=1 << 34)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_deep_nests_do_not_recurse() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    frames.attach(value, memoryview(b""))
    while value:
        value = value[0]


def test_pointers_leave_out_what_is_not_of_the_protocol() -> None:
    secret = "a secret/name"
    error = refusal(*handmade({"options": {secret: {"x": described([2], "float64", 1)}}}, b"x"))
    assert secret not in str(error)
    assert error.pointer is not None
    assert secret not in error.pointer


@given(st.binary(max_size=300), st.integers(0, 320))
def test_any_bytes_are_read_or_refused(body: bytes, length: int) -> None:
    try:
        thawed(body, str(length))
    except (HesseError, ValueError):
        return
    assert 0 < length <= len(body)
