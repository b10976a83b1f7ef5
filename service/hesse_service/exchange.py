"""What a request says about itself in its headers: how its body is written, and what its sender takes back."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from hesse_engine.errors import StateError

JSON = "application/json"
ANYBODY = ""  # the owner of everything where no keys are asked for


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one exchange; they travel with a request to the process that computes it.

    Attributes:
        owner: whose functions, jobs and quota the request uses.
        media: media type of the body, without parameters.
        request_id: names the request in logs, answers and errors.
    """

    owner: str = ANYBODY
    media: str = JSON
    request_id: str = ""


def terms_of(request: Request, owner: str = ANYBODY) -> Terms:
    """The terms that the headers state.

    Raises:
        StateError: `unsupported-media-type`.
    """
    media, _, parameters = header(request, b"content-type").partition(";")
    charset = parameters.strip().lower()
    if media.strip().lower() != JSON or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise StateError(
            "unsupported-media-type", "The body must be JSON in UTF-8.", hint=f"Send the header Content-Type: {JSON}."
        )
    if header(request, b"content-encoding", "identity").lower() != "identity":
        raise StateError(
            "unsupported-media-type",
            "Compressed bodies are not accepted.",
            hint="Leave out the header Content-Encoding.",
        )
    return Terms(owner, JSON, request_id_of(request))


def header(request: Request, name: bytes, default: str = "") -> str:
    """A header by its lower-case name, from the envelope's dictionary: Starlette searches a list, 2 us a time."""
    value: bytes | None = request.scope["hesse.headers"].get(name)
    return default if value is None else value.decode("latin-1")


def request_id_of(request: Request) -> str:
    return str(request.scope.get("hesse.request_id", ""))
