"""Hostile binary frames, npy and npz files and compressed bodies. The rows run where the server offers these."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import zstandard
from hostile_row import CANARY, GOOD, Family, Row, call

OCTETS, NPY, NPZ = "application/octet-stream", "application/x-npy", "application/x-npz"
_frame, _packed = Family("frame", (OCTETS,)), Family("compressed", ("inflated-too-large",))
_npy, _npz = Family("npy", (NPY,)), Family("npz", (NPZ,))
TEXT = json.dumps(GOOD).encode()
FRAME = "400 bad-frame"
LOOSE = f"{FRAME} | 422 bad-tensor | 400 malformed-json | 422 bad-request"
CODING = "400 bad-encoding"
BOMB = "413 inflated-too-large"
QUERY = "/v1/hessian?expression=sum(x**2)"
ARCHIVE = "400 bad-archive | 422 bad-tensor"


def _tensor(size: Any = 16, **members: Any) -> dict[str, Any]:
    return {"shape": [2], "dtype": "float64", "parameters": {"binary_data_size": size}, **members}


def _framed(name: str, tensor: Any, tail: bytes = bytes(16), answers: str = LOOSE, length: Any = None,
            headers: tuple[str, ...] = ()) -> Row:
    """A call with this tensor; `length` is what the header states instead of the truth."""
    text = json.dumps(call(inputs=tensor if isinstance(tensor, list) else [tensor])).encode()
    stated = (f"Inference-Header-Content-Length: {len(text) if length is None else length}",) if length != "" else ()
    return _frame.row(name, text + tail, answers, media=OCTETS, headers=(*stated, *headers))


FRAME_ROWS: list[Row] = [
    *[_framed(f"stated length {str(n)[:14]!r}", _tensor(), length=n)
      for n in ("", "-1", "+5", "1.5", "0x10", CANARY, 1, 10**6, 1 << 63, 10**40, "٣", "5, 6")],
    _framed("stated length 0", _tensor(), length=0, answers=LOOSE + " | 415 unsupported-media-type"),
    _framed("length twice", _tensor(), headers=("Inference-Header-Content-Length: 7",)),
    *[_framed(f"size {str(n)[:14]!r}", _tensor(n))
      for n in (0, 8, 15, 17, 24, -16, 1 << 63, 10**30, 16.0, True, None, "16", [16], CANARY)],
    _framed("too few bytes", _tensor(), bytes(15)),
    _framed("no bytes", _tensor(), b""),
    _framed("bytes left over", _tensor(), bytes(17)),
    _framed("1 MB left over", _tensor(), CANARY.encode() * 70_000),
    _framed("data as well", _tensor(data=[1.0, 2.0])),
    _framed("no shape", {"dtype": "float64", "parameters": {"binary_data_size": 16}}),
    _framed("shape of 1e12", _tensor(8 * 10**12, shape=[10**12]), answers=f"{LOOSE} | 413 too-many-elements"),
    _framed("shape past 2^63", _tensor(0, shape=[1 << 62, 4]), answers=f"{LOOSE} | 413 too-many-elements"),
    _framed("shape negative", _tensor(16, shape=[-2])),
    _framed("shape two negatives", _tensor(16, shape=[-1, -2])),
    _framed("rank 1000", _tensor(8, shape=[1] * 1000), bytes(8), f"{LOOSE} | 413 rank-too-high"),
    _framed("dtype object", _tensor(dtype="object")),
    _framed("dtype complex", _tensor(32, dtype="complex128"), bytes(32), f"{LOOSE} | 422 unsupported-complex"),
    _framed("boolean of 2", _tensor(2, dtype="bool"), b"\x02\x01"),
    _framed("other parameters", {**_tensor(), "parameters": {"binary_data_size": 16, CANARY: 1}}),
    _framed("shared memory parameters", {**_tensor(), "parameters": {"shared_memory_region": CANARY}}),
    _framed("parameters a list", {**_tensor(), "parameters": [16]}),
    _framed("2000 empty tensors", [_tensor(0, shape=[0])] * 2000, b""),
    _frame.row("no JSON", bytes(64), LOOSE, media=OCTETS, headers=["Inference-Header-Content-Length: 64"]),
    _frame.row("empty", b"", LOOSE, media=OCTETS, headers=["Inference-Header-Content-Length: 0"]),
    _frame.row("header in a JSON body", TEXT, "200 | " + LOOSE, headers=["Inference-Header-Content-Length: 3"]),
]


def _npy_head(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode("latin-1")


def _saved(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def _head(descr: str = "'<f8'", order: str = "False", shape: str = "(2,)") -> bytes:
    return _npy_head(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n")


class _Call:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, (CANARY,))


GOOD_NPY = _saved(np.array([1.0, 2.0]))
NPY_BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", f"{ARCHIVE} | 400 malformed-json"),
    "magic alone": (b"\x93NUMPY", ARCHIVE),
    "no magic": (CANARY.encode() * 10, ARCHIVE),
    "cut in the head": (GOOD_NPY[:40], ARCHIVE),
    "cut in the data": (GOOD_NPY[:-1], ARCHIVE),
    "bytes left over": (GOOD_NPY + b"\x00", ARCHIVE),
    "version 9": (GOOD_NPY.replace(b"\x01\x00", b"\x09\x00", 1), ARCHIVE),
    "head of 60 KB": (_npy_head(" " * 60_000), ARCHIVE),
    "head that calls": (_npy_head(f"__import__('{CANARY}')\n"), ARCHIVE),
    "head nested deep": (_npy_head("(" * 9000), ARCHIVE),
    "head no dictionary": (_npy_head("[1, 2]\n"), ARCHIVE),
    "objects": (_saved(np.array([_Call(), 1], object), allow_pickle=True), ARCHIVE),
    "a pickle": (pickle.dumps(_Call()), ARCHIVE),
    "records": (_saved(np.zeros(2, [("a", "f8")])), ARCHIVE),
    "complex": (_saved(np.zeros(2, complex)), f"{ARCHIVE} | 422 unsupported-complex"),
    "strings": (_saved(np.array(["a", "b"])), ARCHIVE),
    "dates": (_saved(np.zeros(2, "M8[s]")), ARCHIVE),
    "shape of 1e12": (_head(shape="(1000000000000,)"), f"{ARCHIVE} | 413 too-many-elements"),
    "shape past 2^63": (_head(shape="(4611686018427387904, 4)"), f"{ARCHIVE} | 413 too-many-elements"),
    "shape negative": (_head(shape="(-2,)") + bytes(16), ARCHIVE),
    "shape of a fraction": (_head(shape="(2.5,)") + bytes(16), ARCHIVE),
    "shape no tuple": (_head(shape="2") + bytes(16), ARCHIVE),
    "rank 100": (_head(shape=str((1,) * 100)) + bytes(8), f"{ARCHIVE} | 413 rank-too-high"),
    "void of 2^31": (_head("'|V2147483647'", shape="(1,)"), ARCHIVE),
}
NPY_ROWS = [_npy.row(name, body, answers, path=QUERY, media=NPY) for name, (body, answers) in NPY_BODIES.items()]


def _zipped(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return out.getvalue()


NPZ_BODIES: dict[str, tuple[Any, str]] = {
    "empty": (b"", f"{ARCHIVE} | 400 malformed-json"),
    "no archive": (CANARY.encode() * 100, ARCHIVE),
    "cut": (_zipped(**{"x.npy": GOOD_NPY})[:-10], ARCHIVE),
    "no members": (_zipped(), f"{ARCHIVE} | 422 unknown-name"),
    "a path": (_zipped(**{f"../../{CANARY}.npy": GOOD_NPY}), f"{ARCHIVE} | 422 bad-request"),
    "a name with NUL": (_zipped(**{"x\x01.npy": GOOD_NPY}), f"{ARCHIVE} | 422 bad-request"),
    "other files": (_zipped(**{"x.npy": GOOD_NPY, "a.py": b"import os"}), f"{ARCHIVE} | 422 wrong-inputs"),
    "objects": (_zipped(**{"x.npy": NPY_BODIES["objects"][0]}), ARCHIVE),
    "a bomb": (lambda: _zipped(zipfile.ZIP_DEFLATED, **{"x.npy": _head(shape="(62500000,)") + bytes(500_000_000)}),
               f"{BOMB} | {ARCHIVE} | 413 too-many-elements"),
    "3000 members": (lambda: _zipped(**{f"a{k}.npy": GOOD_NPY for k in range(3000)}), "413 inflated-too-large"),
    "600k members in the directory alone": (
        lambda: (b"PK\x01\x02" + bytes(42)) * 600_000
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, 27_600_000, 0, 0),
        "413 inflated-too-large"),
    "an archive in an archive": (_zipped(**{"x.npy": _zipped(**{"x.npy": GOOD_NPY})}), ARCHIVE),
    "bzip2": (_zipped(zipfile.ZIP_BZIP2, **{"x.npy": GOOD_NPY}), ARCHIVE),
    "lzma": (_zipped(zipfile.ZIP_LZMA, **{"x.npy": GOOD_NPY}), ARCHIVE),
    "a wrong checksum": (_zipped(**{"x.npy": GOOD_NPY}).replace(b"\x00\x40", b"\x00\x41"), ARCHIVE),
}
NPZ_ROWS = [_npz.row(name, body, answers, path=QUERY, media=NPZ) for name, (body, answers) in NPZ_BODIES.items()]


def _zstd_bomb() -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(bytes(1 << 30))


def _gzip_bomb() -> bytes:
    made = zlib.compressobj(9, wbits=31)
    return b"".join([made.compress(bytes(1 << 24)) for _ in range(64)]) + made.flush()


GZIPPED, ZSTD = gzip.compress(TEXT), zstandard.ZstdCompressor().compress(TEXT)
PACKED_BODIES: tuple[tuple[str, str, Any, str], ...] = (
    ("gzip of nothing", "gzip", b"", f"{CODING} | 400 malformed-json"),
    ("gzip, not", "gzip", TEXT, CODING),
    ("gzip, cut", "gzip", GZIPPED[:-9], CODING),
    ("gzip, wrong checksum", "gzip", GZIPPED[:-8] + bytes(8), CODING),
    ("gzip, flipped", "gzip", GZIPPED[:20] + bytes([GZIPPED[20] ^ 255]) + GZIPPED[21:], CODING),
    ("gzip, more behind", "gzip", GZIPPED + CANARY.encode(), CODING),
    ("gzip bomb of 1 GiB", "gzip", _gzip_bomb, BOMB),
    ("gzip of a gzip bomb", "gzip", lambda: gzip.compress(_gzip_bomb()), f"{CODING} | 400 malformed-json"),
    ("zlib as gzip", "gzip", zlib.compress(TEXT), CODING),
    ("zstd, not", "zstd", TEXT, CODING),
    ("zstd, cut", "zstd", ZSTD[:-5], CODING),
    ("zstd, more behind", "zstd", ZSTD + CANARY.encode(), CODING),
    ("zstd bomb of 1 GiB", "zstd", _zstd_bomb, BOMB),
    ("zstd, a window of 2 GiB", "zstd", b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(20), CODING),
    ("zstd, claims 2^60 bytes", "zstd", b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + bytes(20),
     f"{CODING} | {BOMB}"),
    ("zstd as gzip", "gzip", ZSTD, CODING),
)
PACKED_ROWS = [_packed.row(name, body, answers, headers=[f"Content-Encoding: {coding}"])
               for name, coding, body, answers in PACKED_BODIES]
ROWS: list[Row] = [*FRAME_ROWS, *NPY_ROWS, *NPZ_ROWS, *PACKED_ROWS]
