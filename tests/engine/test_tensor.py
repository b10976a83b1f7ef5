"""Tensors as JSON: exact round trips and refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hesse_engine.errors import HesseError
from hesse_engine.ir.graph import DTYPES
from hesse_engine.ir.tensor import decode_tensor, encode_tensor


@given(npst.arrays(st.sampled_from([np.float64, np.float32]), npst.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_every_float_survives_json(array: Any) -> None:
    text = json.dumps(encode_tensor(array), allow_nan=False)
    back = decode_tensor(json.loads(text))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    nan = np.isnan(array)
    assert np.array_equal(nan, np.isnan(back))
    # bit for bit, so that -0.0 and 0.0 stay apart
    assert array[~nan].tobytes() == back[~nan].tobytes()


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_extremes_of_every_dtype(dtype: str) -> None:
    if np.dtype(dtype).kind == "f":
        info = np.finfo(dtype)
        array = np.array([info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, np.inf, -np.inf], dtype)
    elif np.dtype(dtype).kind == "b":
        array = np.array([True, False])
    else:
        array = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min, 0], dtype)
    back = decode_tensor(json.loads(json.dumps(encode_tensor(array))))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, np.float64(2)),
        ([1, 2], np.array([1.0, 2.0])),
        ({"data": [[1, 2], [3, 4]]}, np.array([[1.0, 2.0], [3.0, 4.0]])),
        ({"shape": [2, 2], "data": [1, 2, 3, 4]}, np.array([[1.0, 2.0], [3.0, 4.0]])),
        ({"shape": [0, 3], "dtype": "float32", "data": []}, np.zeros((0, 3), np.float32)),
        ({"shape": [], "dtype": "int64", "data": [7]}, np.int64(7)),
        ({"data": ["NaN", "-Infinity"]}, np.array([np.nan, -np.inf])),
    ],
)
def test_what_is_read(value: Any, expected: Any) -> None:
    back = decode_tensor(value)
    assert back.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "bad-tensor"),
        ("x", "bad-tensor"),
        ({}, "bad-tensor"),
        ({"data": [1], "extra": 1}, "bad-tensor"),
        ({"data": [1, 2], "shape": [3]}, "bad-tensor"),
        ({"data": [[1, 2], [3]]}, "bad-tensor"),
        ({"data": [[1, 2], 3]}, "bad-tensor"),
        ({"data": [1, [2]]}, "bad-tensor"),
        ({"data": [[1, 2]], "shape": [2, 1]}, "bad-tensor"),
        ({"data": [1, None]}, "bad-tensor"),
        ({"data": [True, 1.0]}, "bad-tensor"),
        ({"data": [True]}, "bad-tensor"),
        ({"data": ["nan"]}, "bad-tensor"),
        ({"data": [1e39], "dtype": "float32"}, "bad-tensor"),
        ({"data": [float("inf")]}, "bad-tensor"),
        ({"data": [10**400]}, "bad-tensor"),
        ({"data": [1.5], "dtype": "int64"}, "bad-tensor"),
        ({"data": [300], "dtype": "int8"}, "bad-tensor"),
        ({"data": [2**70], "dtype": "int64"}, "bad-tensor"),
        ({"data": [1], "dtype": "float16"}, "bad-tensor"),
        ({"data": [1], "dtype": 3}, "bad-tensor"),
        ({"data": [1], "dtype": "complex128"}, "unsupported-complex"),
        ({"data": [1], "shape": [-1]}, "bad-tensor"),
        ({"data": [1], "shape": [True]}, "bad-tensor"),
        ({"data": [1], "shape": "1"}, "bad-tensor"),
        ({"data": [], "shape": [10**12, 10**12]}, "too-many-elements"),
        ({"data": [], "shape": [1] * 40}, "rank-too-high"),
    ],
)
def test_what_is_refused(value: Any, code: str) -> None:
    with pytest.raises(HesseError) as caught:
        decode_tensor(value, "/inputs/0")
    assert caught.value.code == code
    assert caught.value.pointer is not None
    assert caught.value.pointer.startswith("/inputs/0")


def test_deep_nesting_does_not_recurse() -> None:
    deep: Any = 1.0
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(HesseError, match="nested more than"):
        decode_tensor({"data": deep})
