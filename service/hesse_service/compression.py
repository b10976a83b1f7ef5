"""Content codings: bodies are inflated within a limit, answers are compressed where that was asked for."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import zstandard

from hesse_engine.errors import InputError, LimitError

GZIP, ZSTD = "gzip", "zstd"
CODINGS = (ZSTD, GZIP)  # the first of those that a client likes equally well is taken
LEVEL = 1
GZIP_WINDOW = 31  # zlib's way to say: 32 KiB, with gzip's header and checksum
STEP = 1 << 20  # most bytes that gzip inflates at a time
INPUT = 64 * 1024  # bytes of gzip handed over at a time: what one step leaves over is copied
ZSTD_BLOCK = 128 * 1024  # most bytes that one block, of 4 bytes or more, inflates to: RFC 8878, 3.1.1.2
MAX_WINDOW = 8 << 20  # bytes of history that a zstd frame may ask for: RFC 9659


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


# ---- in -------------------------------------------------------------------------------------------------------------
def inflate(body: bytes | memoryview, coding: str, limit: int) -> bytearray:
    """`body` without its content coding, in steps that stop at the limit.

    Args:
        coding: 'gzip' or 'zstd'.
        limit: most bytes that the result may have.

    Raises:
        LimitError: `inflated-too-large`.
        InputError: `bad-encoding`: truncated, corrupt, or followed by more.
    """
    found = bytearray()
    try:
        for part in (_gunzipped if coding == GZIP else _unzstd)(memoryview(body), limit):
            found += part
            if len(found) > limit:
                raise LimitError("inflated-too-large", f"The body inflates to more than {limit} bytes.")
    except (zlib.error, zstandard.ZstdError):
        raise InputError("bad-encoding", f"The body is not {coding}, as Content-Encoding says.") from None
    return found


def _gunzipped(body: memoryview, limit: int) -> Iterator[bytes]:
    inflater, most = zlib.decompressobj(GZIP_WINDOW), min(STEP, limit + 1)
    for at in range(0, len(body), INPUT):
        if inflater.eof:
            raise _goes_on(GZIP)
        part = inflater.decompress(body[at : at + INPUT], most)
        while part:
            yield part
            part = inflater.decompress(inflater.unconsumed_tail, most) if len(part) == most else b""
    if not inflater.eof:
        raise _ends_early(GZIP)
    if inflater.unused_data:
        raise _goes_on(GZIP)


def _unzstd(body: memoryview, limit: int) -> Iterator[bytes]:
    """The library bounds no output, so the input is handed over in parts too short to inflate beyond the limit."""
    inflater = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    done = at = 0
    while at < len(body) and not inflater.eof:
        step = max(64, 4 * ((limit - done) // ZSTD_BLOCK))
        part = inflater.decompress(body[at : at + step])
        at, done = at + step, done + len(part)
        yield part
    if not inflater.eof:
        raise _ends_early(ZSTD)
    if inflater.unused_data or at < len(body):
        raise _goes_on(ZSTD)


def _ends_early(coding: str) -> InputError:
    return InputError("bad-encoding", f"The {coding} body ends before its end is marked.")


def _goes_on(coding: str) -> InputError:
    return InputError("bad-encoding", f"More bytes follow the end of the {coding} body.")


# ---- out ------------------------------------------------------------------------------------------------------------
def _gzip() -> _Compressor:
    return zlib.compressobj(LEVEL, wbits=GZIP_WINDOW)


def _zstd() -> _Compressor:
    return zstandard.ZstdCompressor(LEVEL).compressobj()


COMPRESSORS: dict[str, Callable[[], _Compressor]] = {GZIP: _gzip, ZSTD: _zstd}


def compressed(pieces: Iterable[bytes | memoryview], coding: str) -> list[bytes | memoryview]:
    """The content of `pieces` in a content coding."""
    compressor = COMPRESSORS[coding]()
    found = [compressor.compress(p) for p in pieces]
    return [p for p in (*found, compressor.flush()) if p]
