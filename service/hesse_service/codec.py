"""JSON bytes -> request -> engine objects; Result -> JSON bytes. Pure functions, used in every process."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from hesse_engine.errors import FunctionError, HesseError, InputError, LimitError
from hesse_engine.ir import frames
from hesse_engine.ir.graph import DTYPES, Array, Graph
from hesse_engine.ir.tensor import decode_tensor
from hesse_engine.options import Options
from hesse_engine.result import Result, SparseMatrix
from hesse_service.schemas import ByExpression, ByGraph, ById, CallRequest, OptionsModel, Signature
from hesse_service.settings import Settings

M = TypeVar("M", bound=BaseModel)
SIZE = frames.SIZE.encode()
TENSORS = (dict, list, np.ndarray)
MAX_TENSORS = 10_000  # in v, or in weights
STRIDE = 65_536  # elements encoded at a time, which bounds the Python floats alive at once
PARTS = b"[{:,"
PLAIN = re.compile(r"[A-Za-z0-9_.\-]{1,64}")

MEMBERS: dict[str, type[BaseModel]] = {"options": OptionsModel, "inputs": Signature, "by-graph": ByGraph,
                                       "by-expression": ByExpression, "by-id": ById}
NAMES = {dtype: name.encode() for name, dtype in DTYPES.items()}  # str(dtype) takes microseconds

# Where the fault lies when the engine, which knows no request, does not say.
POINTERS = {
    "bad-v": "/v",
    "wrong-inputs": "/inputs",
    "bad-chunk-size": "/options/chunk_size",
    "bad-argnums": "/options/argnums",
    "argnums-type": "/options/argnums",
    "bad-device": "/options/device",
    "device-absent": "/options/device",
    "bad-layout": "/options/layout",
    "bad-rows": "/options/rows",
    "bad-columns": "/options/columns",
    "bad-weights": "/weights",
    "nonfinite-result": "/inputs",
    "bad-strategy": "/options/strategy",
    "over-memory-budget": "/options/max_memory_bytes",
    "not-scalar": "/function",
    "not-single": "/function",
    "expression-syntax": "/function/expression",
    "not-floating": "/inputs",
    "not-floating-primal": "/inputs",
    "not-real": "/inputs",
    "independent": "/options/strict",
    "unknown-function": "/function/id",
    "graph-point-specific": "/inputs",
    "not-floating-output": "/function",
}


# ---- in ------------------------------------------------------------------------------------------------------------
def parse(body: bytes | bytearray, max_parts: int | None = None) -> Any:
    """The JSON value of `body`.

    Every list, object, member and element costs memory (up to 190 bytes) and time (up to 0.4 us) whatever it is worth,
    so they are counted before (80 ms for 64 MiB) by the marks in front of them; those inside strings count, too.

    Raises:
        LimitError: `too-many-parts`.
        InputError: `malformed-json`, or `non-finite-token` for NaN and Infinity written bare.
    """
    if max_parts is not None and len(body) > max_parts and sum([body.count(c) for c in PARTS]) > max_parts:
        raise LimitError("too-many-parts", f"The body has more than {max_parts} lists, objects, members and elements.",
                         hint="Send large arrays as binary tensors: a frame, or npy.")
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        try:
            if b"NaN" not in body and b"Infinity" not in body:
                raise
            from_json(body, allow_inf_nan=True)
        except ValueError:
            raise InputError("malformed-json", f"The body is not JSON in UTF-8: {error}.") from None
        raise InputError(
            "non-finite-token",
            "JSON has no NaN and no Infinity.",
            hint='Write the strings "NaN", "Infinity" or "-Infinity" in data.',
        ) from None


def validate(model: type[M], value: Any) -> M:
    """`value` as a `model`.

    Raises:
        InputError: `bad-request`, with a pointer at the first fault and without the value found there.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        message = _allowed(model, first["loc"]) if first["type"] == "extra_forbidden" else f"{first['msg']}."
        raise InputError("bad-request", message, pointer=_pointer(value, first["loc"], first["type"])) from None


def _allowed(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """What an object may have in the place of a strange member, whose name stays unsaid: only the pointer may tell."""
    steps = [step for step in location if isinstance(step, str)]
    known = list((model if len(steps) < 2 else MEMBERS.get(steps[-2], model)).model_fields)
    near = difflib.get_close_matches(steps[-1], known, 1) if PLAIN.fullmatch(steps[-1]) else []
    asked = f" Did you mean {near[0]}?" if near else ""
    return f"A member of this object is not known.{asked} Its members are {', '.join(known)}."


def _pointer(value: Any, location: Sequence[str | int], kind: str) -> str:
    """JSON pointer of a pydantic location: tags of unions are no members, and strange member names stay unsaid."""
    parts: list[str] = []
    for k, step in enumerate(location):
        is_last = k == len(location) - 1
        if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
            if isinstance(step, str) and not PLAIN.fullmatch(step):
                break
            value = value[step] if isinstance(value, dict) or step < len(value) else None  # type: ignore[index,operator]
        elif not (is_last and kind == "missing"):
            continue
        parts.append(str(step))
    return "".join([f"/{p}" for p in parts])


def decode_options(model: OptionsModel, settings: Settings) -> Options:
    """The engine's options, within what the server allows."""
    threads = settings.threads if model.threads is None else model.threads
    if threads > settings.max_threads:
        raise InputError(
            "bad-option",
            f"threads is {threads}; this server allows at most {settings.max_threads}.",
            pointer="/options/threads",
        )
    budget = settings.max_memory_bytes
    if model.max_memory_bytes is not None:
        budget = min(budget, model.max_memory_bytes)
    fields = model.model_dump(exclude={"deadline_s", "threads", "max_memory_bytes", "batched", "many", "stream"})
    for name in ("argnums", "rows", "columns"):
        fields[name] = tuple(fields[name]) if isinstance(fields[name], list) else fields[name]
    return Options(**fields, threads=threads, max_memory_bytes=budget).checked()


def sized(options: Options, call: CallRequest) -> Options:
    """`options` with what the call's tensors say: how many points and vectors there are, and whether weights."""
    asked = call.options
    if not (asked.batched or asked.many or asked.weighted or call.weights is not None):
        return options
    batch = _length(call.inputs[0] if call.inputs else None, 0, "/inputs/0") if asked.batched else None
    tangents = None
    if asked.many:
        is_list = isinstance(call.v, list) and len(call.v) > 0 and isinstance(call.v[0], TENSORS)
        tangents = _length(call.v[0] if is_list else call.v, int(asked.batched), "/v/0" if is_list else "/v")
    return replace(options, batch=batch, tangents=tangents, weighted=call.weights is not None).checked()


def _length(value: Any, axis: int, pointer: str) -> int:
    """The length of one of the first two axes of a tensor that is not decoded yet."""
    shape = value.get("shape") if isinstance(value, dict) else list(getattr(value, "shape", ())) or None
    if isinstance(shape, list) and len(shape) > axis and type(shape[axis]) is int and shape[axis] >= 0:
        return int(shape[axis])
    data = value.get("data") if isinstance(value, dict) and shape is None else value
    for _ in range(axis):
        data = data[0] if isinstance(data, list) and data else None
    if not isinstance(data, list):
        raise InputError("wrong-inputs" if pointer.startswith("/inputs") else "bad-v",
                         "A leading axis is missing: options.batched and options.many say that there is one.",
                         pointer=pointer)
    return len(data)


def decode_inputs(values: Sequence[Any], dtypes: Sequence[str], max_elements: int) -> list[Array]:
    """Arrays of `inputs`; a tensor that names no dtype takes that of the function's input, of which `dtypes` tells."""
    arrays = []
    for k, value in enumerate(values):
        dtype = dtypes[k] if k < len(dtypes) else "float64"
        arrays.append(decode_one(value, dtype, f"/inputs/{k}", max_elements))
    return arrays


def decode_vector(value: Any, max_elements: int, pointer: str = "/v") -> list[Array] | None:
    """`v`, or weights, as arrays. A list is a list of tensors, unless it holds numbers: then it is one tensor."""
    if value is None:
        return None
    if isinstance(value, list) and len(value) > MAX_TENSORS and isinstance(value[0], TENSORS):
        name = pointer.strip("/")
        raise FunctionError("bad-" + name, f"{name} has {len(value)} tensors; at most {MAX_TENSORS}.", pointer=pointer)
    if isinstance(value, list) and all([isinstance(v, TENSORS) for v in value]):
        return [decode_one(v, "float64", f"{pointer}/{k}", max_elements) for k, v in enumerate(value)]
    return [decode_one(value, "float64", pointer, max_elements)]


def decode_one(value: Any, dtype: str, pointer: str, max_elements: int) -> Array:
    """A tensor object, or data alone, with a default for the dtype; or what is an array already, out of a frame."""
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, dict):
        value = {"data": value}
    if value.get("dtype") is None or value.get("shape", ()) is None:
        given = {k: v for k, v in value.items() if not (v is None and k in ("shape", "dtype"))}
        value = {"dtype": dtype, **given}
    return decode_tensor(value, pointer, max_elements)


def located(error: HesseError, function: str) -> HesseError:
    """`error` with a pointer into the request; `function` is the kind of reference that was sent."""
    pointer = error.pointer or POINTERS.get(error.code)
    if error.node is not None and error.pointer is None:
        pointer = "/function/graph" if function == "graph" else "/function"
    if pointer == error.pointer:
        return error
    return type(error)(error.code, error.message, hint=error.hint, pointer=pointer, node=error.node)


# ---- out -----------------------------------------------------------------------------------------------------------
def encode_result(
    result: Result, is_pair: bool, has_aux: bool, tensors: list[memoryview] | None = None
) -> list[bytes]:
    """The answer of a call, in pieces. With `tensors`, the header of a frame: the numbers go to that list as bytes."""
    pieces = [b'{"result":']
    members = [(b"", result.value)]
    if is_pair:
        members = [(b"output", result.output), (b"product", result.value)]
    elif result.gradient is not None:
        members = [(b"value", result.output), (b"gradient", result.gradient), (b"hessian", result.value)]
    for k, (name, value) in enumerate(members):
        if name:
            pieces.append(b'%b"%b":' % (b"," if k else b"{", name))
        encode_nested(value, pieces, tensors)
    if len(members) > 1:
        pieces.append(b"}")
    if has_aux:
        pieces.append(b',"aux":')
        encode_nested(result.aux, pieces, tensors)
    if result.verification is not None:
        pieces += [b',"verification":', encode(result.verification)]
    pieces += [b',"stats":', encode(result.stats), b"}"]
    return pieces


def encode_nested(value: Any, pieces: list[bytes], tensors: list[memoryview] | None = None) -> None:
    """Append the JSON of an array, of a sparse matrix, or of lists of arrays."""
    if isinstance(value, SparseMatrix):
        _encode_sparse(value, pieces, tensors)
        return
    if not isinstance(value, (list, tuple)):
        _encode_array(value, pieces, tensors)
        return
    pieces.append(b"[")
    for k, part in enumerate(value):
        if k:
            pieces.append(b",")
        encode_nested(part, pieces, tensors)
    pieces.append(b"]")


def _encode_array(array: Array, pieces: list[bytes], tensors: list[memoryview] | None) -> None:
    shape, dtype = to_json(list(array.shape)), NAMES[array.dtype]
    if tensors is not None:
        pieces.append(b'{"shape":%b,"dtype":"%b","parameters":{"%b":%d}}' % (shape, dtype, SIZE, array.nbytes))
        tensors.append(frames.raw(array))
        return
    pieces.append(b'{"shape":%b,"dtype":"%b","data":[' % (shape, dtype))
    _encode_numbers(array.reshape(-1), pieces)
    pieces.append(b"]}")


def _encode_sparse(matrix: SparseMatrix, pieces: list[bytes], tensors: list[memoryview] | None) -> None:
    head = {"layout": matrix.layout, "shape": matrix.shape, "dtype": str(matrix.data.dtype)}
    pieces.append(to_json(head)[:-1])
    for name in ("indptr", "rows", "indices", "data"):
        array = getattr(matrix, name)
        if array is None:
            continue
        pieces.append(b',"%b":' % name.encode())
        if tensors is not None:
            _encode_array(array, pieces, tensors)
            continue
        pieces.append(b"[")
        _encode_numbers(array, pieces)
        pieces.append(b"]")
    pieces.append(b"}")


def _encode_numbers(flat: Array, pieces: list[bytes]) -> None:
    for at in range(0, flat.size, STRIDE):
        if at:
            pieces.append(b",")
        pieces.append(encode(flat[at : at + STRIDE].tolist())[1:-1])


def encode(value: Any) -> bytes:
    """JSON with non-finite numbers by name; finite ones in the shortest form that reads back bit for bit."""
    return to_json(value, inf_nan_mode="strings")


def describe(graph: Graph, name: str) -> dict[str, Any]:
    """Id and signature of a registered function."""
    return {
        "id": name,
        "inputs": [{"name": n.attrs["name"], "shape": list(n.shape), "dtype": str(n.dtype)} for n in graph.inputs],
        "outputs": [{"shape": list(n.shape), "dtype": str(n.dtype)} for n in graph.outputs],
    }
