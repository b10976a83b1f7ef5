"""Bare arrays as bodies: npy files and npz archives, as NumPy writes them. Nothing in them is ever unpickled.

The function and the options stand in the query, `?function=<id>` or `?expression=sum(x**2)`, `options=<JSON object>`.
An npy body is the only input. Members of an npz archive are inputs, by name or as `inputs.0`, ..., and `v`, `v.0`, ...,
`weights.0`, ... where there are such.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from tokenize import TokenError
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from hesse_engine.errors import HesseError, InputError, LimitError, StateError
from hesse_engine.ir.graph import DTYPES, Array
from hesse_engine.ir.tensor import decode_dtype, decode_shape
from hesse_service import codec
from hesse_service.settings import Settings

QUERY = ("function", "expression", "inputs", "options")
NUMBERED = re.compile(r"(inputs|v|weights)\.(0|[1-9][0-9]{0,3})")
MAX_MEMBERS = 1_000
ENTRY = b"PK\x01\x02"  # before each member in the directory of an archive
MAX_HEADER = 10_000  # characters of an npy header
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
NamesOf = Callable[[str], Sequence[str]]


# ---- in -------------------------------------------------------------------------------------------------------------
def call_of_array(body: bytes, query: str, settings: Settings) -> dict[str, Any]:
    """The call that an npy body and a query make."""
    array = read_array(memoryview(body), "/inputs/0", settings.max_elements)
    call = _function(query)
    call.pop("names")
    return {**call, "inputs": [array]}


def call_of_archive(body: bytes, query: str, settings: Settings, names_of: NamesOf) -> dict[str, Any]:
    """The call that an npz body and a query make.

    Args:
        names_of: gives the names of the inputs of a registered function.

    Raises:
        InputError: `bad-archive`, `bad-tensor`, `bad-request`, `wrong-inputs`.
        LimitError: `inflated-too-large`, `too-many-elements`.
    """
    call = _function(query)
    names = call.pop("names")
    arrays = read_archive(body, settings)
    numbered = _numbered(arrays)
    if "v" in arrays:
        numbered["v"] = arrays.pop("v")
    if arrays and "inputs" in numbered:
        raise InputError("wrong-inputs", "Inputs are given by name or by number, not both.", pointer="/inputs")
    if "inputs" not in numbered:
        if "id" in call["function"]:
            names = names_of(call["function"]["id"])
        elif names is None:
            names = list(arrays)
        if set(names) != set(arrays):
            raise InputError("wrong-inputs", "The names in the archive are not those of the function's inputs.",
                             pointer="/inputs", hint="Name the members after the inputs, or inputs.0, inputs.1, ...")
        numbered["inputs"] = [arrays[n] for n in names]
    if "expression" in call["function"] and names is not None:
        call["function"]["inputs"] = list(names)
    return {**call, **numbered}


def _numbered(arrays: dict[str, Array]) -> dict[str, Any]:
    """Takes what is named `inputs.0`, `v.1`, ... out of `arrays`."""
    found: dict[str, dict[int, Array]] = {}
    for name in [n for n in arrays if NUMBERED.fullmatch(n)]:
        kind, _, number = name.partition(".")
        found.setdefault(kind, {})[int(number)] = arrays.pop(name)
    for kind, parts in found.items():
        if sorted(parts) != list(range(len(parts))):
            raise InputError("wrong-inputs", f"The members {kind}.0, {kind}.1, ... must leave out no number.",
                             pointer=f"/{kind}")
    return {kind: [parts[k] for k in range(len(parts))] for kind, parts in found.items()}


def _function(query: str) -> dict[str, Any]:
    """Function and options of a query; `names` are those of an expression's inputs, or None."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=8)
    except ValueError:
        raise InputError("bad-request", "The query cannot be read.") from None
    given = dict(pairs)
    if len(given) != len(pairs) or set(given) - set(QUERY) or ("function" in given) == ("expression" in given):
        raise InputError("bad-request", "The query names a function, by id or as an expression, and may have inputs "
                                        "(names, separated by commas) and options, each once.", pointer="/function",
                         hint="POST /v1/hessian?function=<id>&options={\"layout\":\"csr\"}, percent-encoded.")
    names = given["inputs"].split(",") if "inputs" in given else None
    function: dict[str, Any] = {"id": given["function"]} if "function" in given else {"expression": given["expression"]}
    if "expression" in function and names is not None:
        function["inputs"] = names
    options = codec.parse(given.get("options", "{}").encode())
    return {"function": function, "options": options, "names": names}


def read_archive(body: bytes, settings: Settings) -> dict[str, Array]:
    """The arrays of an npz archive. Number and sizes of its members are looked at before one is inflated."""
    if body.count(ENTRY) > 2 * MAX_MEMBERS:  # opening reads them all; what is data may look like one by chance
        raise _too_many_members()
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            _check_members(members, settings)
            return {
                m.filename.removesuffix(".npy"): read_array(
                    memoryview(archive.read(m)), _pointer(m.filename), settings.max_elements
                )
                for m in members
            }
    except HesseError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError):
        raise InputError("bad-archive", "The body is not an npz archive, or is damaged.") from None


def _too_many_members() -> LimitError:
    return LimitError("inflated-too-large", f"The archive has more than {MAX_MEMBERS} members.")


def _check_members(members: Sequence[zipfile.ZipInfo], settings: Settings) -> None:
    if len(members) > MAX_MEMBERS:
        raise _too_many_members()
    if sum([m.file_size for m in members]) > settings.max_inflated_bytes:
        raise LimitError("inflated-too-large", f"The archive inflates to more than {settings.max_inflated_bytes} "
                                               "bytes.")
    names = [m.filename for m in members]
    if len(set(names)) != len(names) or not all([n.endswith(".npy") for n in names]):
        raise InputError("bad-archive", "The members of an npz archive are npy files of different names.")
    if not all([m.compress_type in METHODS and not m.flag_bits & 1 for m in members]):
        raise InputError("bad-archive", "The members of an npz archive are stored or deflated, and not encrypted.")


def _pointer(filename: str) -> str:
    found = NUMBERED.fullmatch(filename.removesuffix(".npy"))
    return "/" + found[0].replace(".", "/") if found else "/inputs"


def read_array(data: memoryview, pointer: str, max_elements: int) -> Array:
    """The array of an npy file, without a copy where it is in row-major order and aligned.

    Raises:
        InputError: `bad-archive`, `bad-tensor`.
        LimitError: `too-many-elements`, `rank-too-high`.
    """
    file = io.BytesIO(data[: MAX_HEADER + 16])
    try:
        version = np.lib.format.read_magic(file)
        if version not in READERS:
            raise ValueError
        shape, is_fortran, dtype = READERS[version](file, MAX_HEADER)
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
        raise InputError("bad-archive", "An array is not in npy format 1.0 or 2.0, or is cut short.",
                         pointer=pointer) from None
    if dtype.hasobject or dtype.kind not in "biufc" or dtype.subdtype is not None:
        raise InputError("bad-tensor", f"The dtype must be one of {', '.join(DTYPES)}; objects are never read.",
                         pointer=pointer)
    native = decode_dtype(dtype.newbyteorder("=").name, pointer)
    shape = decode_shape([int(s) for s in shape], pointer, max_elements)
    content = data[file.tell() :]
    if len(content) != np.dtype(dtype).itemsize * int(np.prod(shape, dtype=object)):
        raise InputError("bad-archive", "An array does not have the bytes that its shape and dtype make.",
                         pointer=pointer)
    if native.kind == "b" and len(content) and np.frombuffer(content, np.uint8).max() > 1:
        raise InputError("bad-tensor", "A boolean is a byte 0 or 1.", pointer=pointer)
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    return np.require(array, native, ["C_CONTIGUOUS", "ALIGNED"])


READERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


# ---- out ------------------------------------------------------------------------------------------------------------
def array_file(arrays: dict[str, Array]) -> list[bytes | memoryview]:
    """The npy file of an answer that is a single array.

    Raises:
        StateError: `not-acceptable`.
    """
    if len(arrays) != 1:
        raise StateError("not-acceptable", f"The answer has {len(arrays)} arrays ({', '.join([*arrays][:8])}"
                                           f"{', ...' if len(arrays) > 8 else ''}); an npy file holds one.",
                         hint="Accept application/x-npz, application/octet-stream or application/json.")
    array = np.ascontiguousarray(next(iter(arrays.values())))
    head = io.BytesIO()
    stated = np.lib.format.header_data_from_array_1_0(next(iter(arrays.values())))
    np.lib.format.write_array_header_1_0(head, {**stated, "fortran_order": False})
    return [head.getvalue(), array.reshape(-1).view(np.uint8).data]


def archive(arrays: dict[str, Array], stats: bytes) -> list[bytes | memoryview]:
    """The npz archive of an answer, not deflated; `stats.json` says how it was computed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as opened:
        for name, array in arrays.items():
            with opened.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
        opened.writestr("stats.json", stats)
    return [file.getbuffer()]
