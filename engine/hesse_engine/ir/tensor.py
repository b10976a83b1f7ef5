"""Tensors as JSON: `{"shape": [2], "dtype": "float64", "data": [1.0, "Infinity"]}`.

`data` is read nested or flat and written flat in row-major order. JSON has no NaN or infinity, so these three values
travel as the strings "NaN", "Infinity" and "-Infinity"; every finite number round-trips bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import FunctionError, InputError, LimitError
from hesse_engine.ir.graph import DTYPES, FLOAT64, Array, DType, Shape, size_of

NON_FINITE = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
MAX_RANK = 32
MEMBERS = frozenset({"shape", "dtype", "data"})
FEW = 64  # elements that Python looks through sooner than NumPy: 0.4 us instead of 6 for four of them


def encode_tensor(array: Array) -> dict[str, Any]:
    """`array` as JSON-ready data."""
    return {"shape": list(array.shape), "dtype": str(array.dtype), "data": encode_data(array)}


def encode_data(array: Array) -> list[Any]:
    """The elements in row-major order, non-finite ones by name."""
    flat = array.reshape(-1)
    data: list[Any] = flat.tolist()
    if array.dtype.kind == "f" and not np.isfinite(flat).all():
        for k in np.flatnonzero(~np.isfinite(flat)):
            data[k] = "NaN" if np.isnan(flat[k]) else "Infinity" if flat[k] > 0 else "-Infinity"
    return data


def decode_tensor(value: Any, pointer: str = "", max_elements: int = 1 << 34) -> Array:
    """The array that `value` stands for: an object, nested lists, or a number (both float64); of an array, a copy."""
    if isinstance(value, np.ndarray):
        return value.copy()  # what came in a frame is read-only and keeps the whole frame alive
    if not isinstance(value, dict):
        value = {"data": value}
    if not value.keys() <= MEMBERS or "data" not in value:
        raise InputError("bad-tensor", "A tensor has the members shape, dtype and data, no others.", pointer=pointer)
    dtype = decode_dtype(value.get("dtype", "float64"), f"{pointer}/dtype")
    flat, nested = _flatten(value["data"], f"{pointer}/data", max_elements)
    shape = nested if "shape" not in value else decode_shape(value["shape"], f"{pointer}/shape", max_elements)
    if size_of(shape) != len(flat) or (len(nested) > 1 and nested != shape):
        raise InputError(
            "bad-tensor",
            f"The data has shape {list(nested)}, which does not fill shape {list(shape)}.",
            pointer=f"{pointer}/data",
        )
    return _to_array(flat, dtype, f"{pointer}/data").reshape(shape)


def decode_dtype(name: Any, pointer: str) -> DType:
    if isinstance(name, str) and name in DTYPES:
        return DTYPES[name]
    if isinstance(name, str) and name.startswith("complex"):
        raise FunctionError("unsupported-complex", "Complex tensors are not supported.", pointer=pointer)
    raise InputError("bad-tensor", f"The dtype must be one of {', '.join(DTYPES)}.", pointer=pointer)


def decode_shape(shape: Any, pointer: str, max_elements: int) -> Shape:
    if not isinstance(shape, list) or not all([type(s) is int and s >= 0 for s in shape]):
        raise InputError("bad-tensor", "The shape must be a list of non-negative integers.", pointer=pointer)
    if len(shape) > MAX_RANK:
        raise LimitError("rank-too-high", f"The tensor has rank {len(shape)}; at most {MAX_RANK}.", pointer=pointer)
    if size_of(tuple(shape)) > max_elements:
        raise LimitError("too-many-elements", f"The shape has more than {max_elements} elements.", pointer=pointer)
    return tuple(shape)


def _flatten(data: Any, pointer: str, max_elements: int) -> tuple[list[Any], Shape]:
    """Elements and shape of nested lists, level by level (a deep nest must not recurse)."""
    if not isinstance(data, list):
        return [data], ()
    shape, level = [len(data)], data
    while level and isinstance(level[0], list):
        length = len(level[0])
        if len(shape) >= MAX_RANK:
            raise LimitError("rank-too-high", f"The data is nested more than {MAX_RANK} deep.", pointer=pointer)
        if any([type(row) is not list or len(row) != length for row in level]):
            raise InputError("bad-tensor", "The nested lists are ragged.", pointer=pointer)
        shape.append(length)
        level = [v for row in level for v in row]
        if len(level) > max_elements:
            raise LimitError("too-many-elements", f"The data has more than {max_elements} elements.", pointer=pointer)
    return level, tuple(shape)


def _to_array(flat: list[Any], dtype: DType, pointer: str) -> Array:
    kinds = set(map(type, flat))
    if kinds & {list, dict, type(None)} or (bool in kinds and (dtype.kind != "b" or len(kinds) > 1)):
        raise InputError("bad-tensor", f"The data must be flat or regularly nested values of {dtype}.", pointer=pointer)
    if dtype.kind == "f":
        return _to_floats(flat, dtype, kinds, pointer)
    wanted = bool if dtype.kind == "b" else int
    if kinds - {wanted}:
        raise InputError("bad-tensor", f"Data of dtype {dtype} must be {wanted.__name__} values.", pointer=pointer)
    try:
        return np.array(flat, dtype=dtype)
    except OverflowError:
        raise InputError("bad-tensor", f"A value does not fit into {dtype}.", pointer=pointer) from None


def _to_floats(flat: list[Any], dtype: DType, kinds: set[type], pointer: str) -> Array:
    named = [k for k, v in enumerate(flat) if type(v) is str] if str in kinds else []
    if named:
        flat = list(flat)
        for k in named:
            if flat[k] not in NON_FINITE:
                raise InputError(
                    "bad-tensor", 'Strings in data must be "NaN", "Infinity" or "-Infinity".', pointer=f"{pointer}/{k}"
                )
            flat[k] = NON_FINITE[flat[k]]
    try:
        array = np.array(flat, dtype=FLOAT64)
    except (OverflowError, ValueError, TypeError):
        raise InputError("bad-tensor", f"A value is not a number of {dtype}.", pointer=pointer) from None
    if dtype == FLOAT64 and not named and len(flat) <= FEW:
        is_sound = all(map(math.isfinite, flat))
    else:
        with np.errstate(over="ignore"):
            array = array.astype(dtype, copy=False)
        is_sound = int(np.count_nonzero(~np.isfinite(array))) == len(named)
    if not is_sound:
        raise InputError(
            "bad-tensor", f'A number overflows {dtype}; write infinity as "Infinity".', pointer=pointer
        )
    return array
