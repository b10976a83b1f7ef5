"""Bodies as values and back: JSON, binary frames, bare arrays. Pure functions, used in every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hesse_engine.ir import frames
from hesse_engine.ir.graph import Array
from hesse_engine.result import Result, SparseMatrix
from hesse_service import archives, codec
from hesse_service.compression import compressed, inflate
from hesse_service.exchange import FRAME, JSON, NPY, Formats, Terms
from hesse_service.settings import Settings

VARY = {"Vary": "Accept, Accept-Encoding"}


@dataclass(frozen=True, slots=True)
class Written:
    """The body of an answer in pieces, its media type and the headers that it needs."""

    pieces: Sequence[bytes | memoryview]
    media: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


# ---- in -------------------------------------------------------------------------------------------------------------
def read(body: bytes | memoryview, terms: Terms, settings: Settings, names_of: archives.NamesOf) -> Any:
    """The value of a request body: as of JSON, with arrays in the place of tensors that came as bytes.

    Args:
        names_of: gives the names of the inputs of a registered function.

    Raises:
        InputError: `malformed-json`, `non-finite-token`, `bad-frame`, `bad-tensor`, `bad-archive`, `bad-encoding`.
        LimitError: `inflated-too-large`, `too-many-elements`, `rank-too-high`.
    """
    formats = terms.formats
    content = inflate(body, formats.coding, settings.max_inflated_bytes) if formats.coding else body
    if formats.media == FRAME:
        header, tensors = frames.split(memoryview(content).toreadonly(), terms.header_length)
        return frames.attach(codec.parse(header, settings.max_json_parts), tensors, settings.max_elements)
    plain = bytes(content) if isinstance(content, memoryview) else content
    if formats.media == JSON:
        return codec.parse(plain, settings.max_json_parts)
    if formats.media == NPY:
        return archives.call_of_array(bytes(plain), terms.query, settings)
    return archives.call_of_archive(bytes(plain), terms.query, settings, names_of)


# ---- out ------------------------------------------------------------------------------------------------------------
def write(result: Result, is_pair: bool, has_aux: bool, media: str) -> Written:
    """The answer of a call.

    Raises:
        StateError: `not-acceptable`, for a result that the media type cannot hold.
    """
    if media == JSON:
        return Written(codec.encode_result(result, is_pair, has_aux))
    if media == FRAME:
        tensors: list[memoryview] = []
        header = frames.padded(b"".join(codec.encode_result(result, is_pair, has_aux, tensors)))
        return Written([header, *tensors], FRAME, {frames.LENGTH: str(len(header))})
    value = _members(result, is_pair, has_aux)
    arrays = dict(_named(value["result"], "result"))
    if has_aux:
        arrays.update(_named(value["aux"], "aux"))
    if media == NPY:
        return Written(archives.array_file(arrays), media)
    return Written(archives.archive(arrays, codec.encode(result.stats)), media)


def _members(result: Result, is_pair: bool, has_aux: bool) -> dict[str, Any]:
    """The members of an answer that hold arrays, by the names that they have in JSON."""
    value = _plain(result.value)
    if is_pair:
        value = {"output": _plain(result.output), "product": value}
    elif result.gradient is not None:
        value = {"value": _plain(result.output), "gradient": _plain(result.gradient), "hessian": value}
    return {"result": value, "aux": list(result.aux)} if has_aux else {"result": value}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if not isinstance(value, SparseMatrix):
        return value
    parts = {name: getattr(value, name) for name in ("indptr", "rows", "indices", "data")}
    head = {"layout": value.layout, "shape": list(value.shape), "dtype": str(value.data.dtype)}
    return {**head, **{k: v for k, v in parts.items() if v is not None}}


def _named(value: Any, name: str) -> Iterator[tuple[str, Array]]:
    """Names and arrays: `result.0.1` for the second part of the first, `result.indices` for a member."""
    if isinstance(value, dict) and "layout" in value:
        yield f"{name}.shape", np.array(value["shape"])
        value = {k: v for k, v in value.items() if k not in ("layout", "shape", "dtype")}
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _named(part, f"{name}.{key}")
    else:
        yield name, value


def coded(written: Written, formats: Formats, least: int) -> Written:
    """`written` in the content coding that was asked for, if it is large enough for one.

    Args:
        least: bytes of JSON that are worth compressing. Numbers as bytes hardly shrink, so other media are compressed
            only for a client that names a single coding.
    """
    length = sum([len(p) for p in written.pieces])
    is_worth = length >= least and (written.media == JSON or formats.is_asked)
    if not formats.answer_coding or not (is_worth or formats.is_coded):
        return written
    headers = {**written.headers, "Content-Encoding": formats.answer_coding}
    return Written(compressed(written.pieces, formats.answer_coding), written.media, headers)
