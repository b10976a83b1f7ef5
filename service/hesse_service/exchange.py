"""What a request says about itself in its headers: how its body is written, and what its sender takes back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fastapi import Request

from hesse_engine.errors import StateError
from hesse_engine.ir import frames
from hesse_service.compression import CODINGS
from hesse_service.journal import exchange_of
from hesse_service.quotas import Quota

JSON = "application/json"
FRAME = frames.MEDIA_TYPE
NPY, NPZ = "application/x-npy", "application/x-npz"
DOCUMENT = (JSON,)  # answers that hold no tensors
TENSORS = (JSON, FRAME, NPY, NPZ)  # answers that do; the first of those that a client likes equally well is taken
BODIES = (JSON, FRAME, NPY, NPZ)  # of requests; the last two only of calls
ANYBODY = ""  # the owner of everything where no keys are asked for
UTF8 = ("", "charset=utf-8", 'charset="utf-8"')
LONGEST = 512  # characters of headers whose meaning is remembered

CONTENT_TYPE, CONTENT_ENCODING = b"content-type", b"content-encoding"
ACCEPT, ACCEPT_ENCODING = b"accept", b"accept-encoding"
HEADER_LENGTH = frames.LENGTH.lower().encode()


@dataclass(frozen=True, slots=True)
class Formats:
    """How the bodies of one exchange are written.

    Attributes:
        media: media type of the request body, without parameters.
        coding: its content coding: 'gzip', 'zstd', or '' for none.
        answer: media type of the answer.
        answer_coding: content coding of an answer that is large enough for one, or ''.
        is_asked: whether that coding alone was named: then binary answers are compressed, too.
        is_coded: whether an answer without a content coding is refused.
    """

    media: str = JSON
    coding: str = ""
    answer: str = JSON
    answer_coding: str = ""
    is_asked: bool = False
    is_coded: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one exchange; they travel with a request to the process that computes it.

    Attributes:
        owner: whose functions, jobs and quota the request uses.
        formats: how the bodies are written.
        request_id: names the request in logs, answers and errors.
        header_length: what `Inference-Header-Content-Length` says, or None.
        query: the query of the URL, where the body is a bare array or an archive of them.
        traceparent: its place in a W3C trace.
        quota: what its computing is charged to; None: nothing.
    """

    owner: str = ANYBODY
    formats: Formats = Formats()
    request_id: str = ""
    header_length: str | None = None
    query: str = ""
    traceparent: str = ""
    quota: Quota | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the event loop may read the body and write the answer: both are JSON or frames, uncompressed."""
        formats = self.formats
        return not (formats.coding or formats.is_coded or formats.media in (NPY, NPZ) or formats.answer in (NPY, NPZ))


def terms_of(
    request: Request, owner: str = ANYBODY, quota: Quota | None = None, offers: tuple[str, ...] = TENSORS
) -> Terms:
    """The terms that the headers state.

    Args:
        offers: media types in which the answer can be written.

    Raises:
        StateError: `unsupported-media-type`, `not-acceptable`.
    """
    given = stated(request)
    formats = _formats(given.get(CONTENT_TYPE, ""), given.get(CONTENT_ENCODING, ""), given.get(ACCEPT, ""),
                       given.get(ACCEPT_ENCODING, ""), offers)
    query = request.scope["query_string"].decode("latin-1") if formats.media in (NPY, NPZ) else ""
    trace = exchange_of(request.scope).trace.header
    return Terms(owner, formats, request_id_of(request), given.get(HEADER_LENGTH), query, trace, quota)


def accepted_of(request: Request, offers: tuple[str, ...]) -> Formats:
    """What the sender of a request without a body takes back.

    Raises:
        StateError: `not-acceptable`.
    """
    given = stated(request)
    return _formats(JSON, "", given.get(ACCEPT, ""), given.get(ACCEPT_ENCODING, ""), offers)


def stated(request: Request) -> dict[bytes, str]:
    """The headers that matter here; what is stated twice is joined by a comma."""
    found: dict[bytes, str] = {}
    for name, value in request.scope["headers"]:
        if name in WANTED:
            text = value.decode("latin-1")
            found[name] = text if name not in found else f"{found[name]},{text}"
    return found


WANTED = {CONTENT_TYPE, CONTENT_ENCODING, ACCEPT, ACCEPT_ENCODING, HEADER_LENGTH}


def _formats(content_type: str, coding: str, accept: str, accept_coding: str, offers: tuple[str, ...]) -> Formats:
    is_long = len(content_type) + len(coding) + len(accept) + len(accept_coding) > LONGEST
    read = _read_formats.__wrapped__ if is_long else _read_formats
    return read(content_type, coding, accept, accept_coding, offers)


@lru_cache(1024)
def _read_formats(
    content_type: str, coding: str, accept: str, accept_coding: str, offers: tuple[str, ...]
) -> Formats:
    media, coding = _media(content_type, BODIES if offers == TENSORS else BODIES[:2]), _coding(coding)
    return Formats(media, coding, chosen_media(accept, offers), *chosen_coding(accept_coding))


def _media(content_type: str, allowed: tuple[str, ...]) -> str:
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if media not in allowed or (media == JSON and parameters.strip().lower() not in UTF8):
        raise StateError(
            "unsupported-media-type",
            "The body must be JSON in UTF-8 or a binary frame; of a call also an npy array or an npz archive.",
            hint=f"Send one of these as Content-Type: {', '.join(allowed)}.",
        )
    return media


def _coding(stated: str) -> str:
    coding = stated.strip().lower()
    if coding in ("", "identity"):
        return ""
    if coding not in CODINGS:
        raise StateError(
            "unsupported-media-type",
            "The content coding is not supported; a body has at most one.",
            hint=f"Send one of these as Content-Encoding, or none: {', '.join(CODINGS)}.",
        )
    return coding


# ---- what is taken back ---------------------------------------------------------------------------------------------
def chosen_media(accept: str, offers: tuple[str, ...]) -> str:
    """The offer that `Accept` likes best: by q, then the one named most exactly, then the one offered first.

    Raises:
        StateError: `not-acceptable`.
    """
    if accept in ("", "*/*"):
        return offers[0]
    ranges = _weighed(accept)
    best, rank = "", (0.0, 0)
    for offer in offers:
        kind = offer.partition("/")[0]
        found = next(((ranges[r], -k) for k, r in enumerate((offer, f"{kind}/*", "*/*")) if r in ranges), (0.0, 0))
        if found[0] > 0 and (not best or found > rank):
            best, rank = offer, found
    if not best:
        raise StateError("not-acceptable", f"The answer can be written as {' or '.join(offers)}.",
                         hint="Name one of these in the header Accept, or leave it out.")
    return best


def chosen_coding(accept: str) -> tuple[str, bool, bool]:
    """The content coding that `Accept-Encoding` likes best, whether it is the only one named, whether one must be used.

    Raises:
        StateError: `not-acceptable`.
    """
    if not accept:
        return "", False, False
    weights = _weighed(accept)
    rest = weights.get("*", 0.0)
    is_coded = weights.get("identity", weights.get("*", 1.0)) <= 0
    q, coding = max([(weights.get(c, rest), -k, c) for k, c in enumerate(CODINGS)])[::2]
    if q <= 0 or (q < weights.get("identity", 0.0) and not is_coded):
        coding = ""
    if is_coded and not coding:
        raise StateError("not-acceptable", f"The answer can be compressed by {' or '.join(CODINGS)}, or by nothing.",
                         hint="Name one of these in the header Accept-Encoding, or leave it out.")
    named = [c for c, weight in weights.items() if weight > 0 and c not in ("identity", "*")]
    return coding, bool(coding) and named == [coding], is_coded


def _weighed(header: str) -> dict[str, float]:
    """The elements of a list of preferences with their weights."""
    found: dict[str, float] = {}
    for element in header.lower().split(","):
        name, *parameters = [p.strip() for p in element.split(";")]
        if name:
            found[name] = max(found.get(name, 0.0), _weight(parameters))
    return found


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def header(request: Request, name: bytes, default: str = "") -> str:
    """A header by its lower-case name, from the envelope's dictionary: Starlette searches a list, 2 us a time."""
    value: bytes | None = request.scope["hesse.headers"].get(name)
    return default if value is None else value.decode("latin-1")


def request_id_of(request: Request) -> str:
    return str(request.scope.get("hesse.request_id", ""))
