"""Binary frames: a JSON header and the raw tensors that it describes, as in the Open Inference Protocol.

    {"result": {"shape": [2], "dtype": "float64", "parameters": {"binary_data_size": 16}}}     the header, n bytes
    16 bytes                                                                                   the tensor

The HTTP header `Inference-Header-Content-Length: n` says where the tensors begin. They follow one another in the order
in which the header describes them, depth first: little-endian, in row-major order, a boolean in one byte. So every bit
pattern travels, those of NaN included. Writers end the header with blanks up to a multiple of 64 bytes, which JSON
allows: then a reader finds the first tensor aligned and needs no copy of it.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hesse_engine.errors import HesseError, InputError
from hesse_engine.ir.graph import DTYPES, Array, DType, size_of
from hesse_engine.ir.tensor import decode_dtype, decode_shape

MEDIA_TYPE = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"
SIZE = "binary_data_size"
MEMBERS = {"shape", "dtype", "parameters"}
ALIGNMENT = 64  # bytes: a cache line
PLAIN = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
NAMES = {dtype: name for name, dtype in DTYPES.items()}  # str(dtype) takes microseconds
LONGEST = 18  # digits of a header's length

Path = tuple[Any, Any] | None  # (the container's path, the key in it)


# ---- writing --------------------------------------------------------------------------------------------------------
def describe(array: Array) -> dict[str, Any]:
    """What a header says of `array`."""
    name = NAMES.get(array.dtype) or array.dtype.name
    return {"shape": list(array.shape), "dtype": name, "parameters": {SIZE: array.nbytes}}


def raw(array: Array) -> memoryview:
    """The bytes of `array`: its own memory where that is in row-major order, else a copy."""
    little = _little(array.dtype)
    if not array.flags.c_contiguous or array.dtype != little:
        array = np.ascontiguousarray(array, little)
    return array.data.cast("B") if array.size else memoryview(b"")


def padded(header: bytes) -> bytes:
    """`header` with the blanks that align what follows it."""
    return header + b" " * (-len(header) % ALIGNMENT)


def detach(value: Any, tensors: list[memoryview]) -> Any:
    """`value` with a description in the place of each array, whose bytes are appended to `tensors`."""
    if isinstance(value, np.ndarray):
        tensors.append(raw(value))
        return describe(value)
    if isinstance(value, dict):
        return {k: detach(v, tensors) for k, v in value.items()}
    return [detach(v, tensors) for v in value] if isinstance(value, (list, tuple)) else value


def _little(dtype: DType) -> DType:
    return dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype


# ---- reading --------------------------------------------------------------------------------------------------------
def split(body: memoryview, stated: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a frame, and the tensors behind it.

    Args:
        body: the whole frame.
        stated: what the HTTP header `Inference-Header-Content-Length` says.

    Raises:
        InputError: `bad-frame`.
    """
    if stated is None or not stated.isascii() or not stated.isdigit() or len(stated) > LONGEST:
        raise _bad_frame(f"A frame comes with the header {LENGTH}: the length of its JSON part [bytes], a plain "
                         "number.", "")
    length = int(stated)
    if not 0 < length <= len(body):
        raise _bad_frame(f"{LENGTH} is {length}; the body has {len(body)} bytes.", "")
    return bytes(body[:length]), body[length:]


def attach(value: Any, tensors: memoryview, max_elements: int = 1 << 34) -> Any:
    """`value`, a frame's JSON, with arrays in the place of their descriptions. They are read-only and share `tensors`.

    Everything is checked before an array is made, and an array is copied only where it is not aligned.

    Raises:
        InputError: `bad-frame`, where descriptions and bytes do not fit together; `bad-tensor`.
        LimitError: `too-many-elements`, `rank-too-high`.
    """
    holder, offset = [value], 0
    waiting: list[tuple[Any, Any, Path]] = [(holder, 0, None)]
    while waiting:  # an explicit stack: a deep nest must not recurse
        container, key, path = waiting.pop()
        node = container[key]
        if type(node) is dict and type(node.get("parameters")) is dict and SIZE in node["parameters"]:
            container[key], offset = _tensor(node, tensors, offset, path, max_elements)
            continue
        keys = list(node) if type(node) is dict else range(len(node)) if type(node) is list else ()
        waiting += [(node, k, (path, k)) for k in reversed(keys) if type(node[k]) in (dict, list)]
    if offset != len(tensors):
        raise _bad_frame(f"{len(tensors) - offset} bytes follow the last tensor that the header describes.", "")
    return holder[0]


def _tensor(
    node: dict[str, Any], tensors: memoryview, offset: int, path: Path, max_elements: int
) -> tuple[Array, int]:
    """The array that `node` describes, and where the next one begins."""
    try:
        return _described(node, tensors, offset, max_elements)
    except HesseError as error:  # a pointer for each good tensor, too, would cost more than the tensors
        error.pointer = f"{_pointer(path)}{error.pointer or ''}" or None
        raise


def _described(node: dict[str, Any], tensors: memoryview, offset: int, max_elements: int) -> tuple[Array, int]:
    if "data" in node:
        raise _bad_frame(f"A tensor has either data or {SIZE}, not both.")
    if set(node) != MEMBERS or len(node["parameters"]) != 1:
        raise InputError("bad-tensor", f"A binary tensor has shape, dtype and parameters.{SIZE}, nothing else.")
    dtype = decode_dtype(node["dtype"], "/dtype")
    shape = decode_shape(node["shape"], "/shape", max_elements)
    stated, size = node["parameters"][SIZE], size_of(shape) * dtype.itemsize
    if type(stated) is not int or stated != size:
        raise InputError("bad-tensor", f"{SIZE} must be the {size} bytes that the shape and {dtype} make.",
                         pointer=f"/parameters/{SIZE}")
    if offset + size > len(tensors):
        raise _bad_frame(f"The body ends {offset + size - len(tensors)} bytes before this tensor does.")
    return _array(tensors[offset : offset + size], dtype).reshape(shape), offset + size


def _array(data: memoryview, dtype: DType) -> Array:
    if dtype.kind == "b":
        bits = np.frombuffer(data, np.uint8)
        if bits.size and bits.max() > 1:
            raise InputError("bad-tensor", "A boolean is a byte 0 or 1.")
        return bits.view(dtype)
    flat = np.frombuffer(data, _little(dtype))
    if flat.flags.aligned and flat.dtype.isnative:
        return flat
    flat = flat.astype(dtype)
    flat.flags.writeable = False
    return flat


def _pointer(path: Path) -> str:
    """JSON pointer of a path, up to the first name that is not one of this protocol's kind."""
    keys: list[Any] = []
    while path is not None:
        path, key = path
        keys.append(key)
    found = ""
    for key in reversed(keys):
        if type(key) is str and not PLAIN.fullmatch(key):
            break
        found += f"/{key}"
    return found


def _bad_frame(message: str, pointer: str = "") -> InputError:
    return InputError("bad-frame", message, pointer=pointer or None)
