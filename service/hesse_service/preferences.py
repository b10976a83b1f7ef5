"""What a request prefers (`Prefer`, RFC 7240), and the key that makes it safe to repeat (`Idempotency-Key`,
draft-ietf-httpapi-idempotency-key-header-07)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastapi import Request

from hesse_engine.errors import InputError

LONGEST_KEY = 255
LONGEST_HEADER = 1000  # characters of Prefer that are read: the expressions below take quadratic time
LONGEST_WAIT_S = 600.0
QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
PREFERENCE = re.compile(rf"\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:\s*=\s*([^\s;,\"]+|{QUOTED}))?\s*(?:;[^,]*)?")
COMMAS = re.compile(rf"(?:[^,\"]|{QUOTED})+")
STRING = re.compile(QUOTED)
BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")  # visible ASCII without quote, comma, semicolon and backslash


@dataclass(frozen=True, slots=True)
class Preference:
    """A wish to be answered by a job: at once, or after `wait_s` seconds where it is not finished by then."""

    is_async: bool
    wait_s: float | None

    @property
    def applied(self) -> str:
        """The value of the header `Preference-Applied`."""
        words = ["respond-async"] if self.is_async else []
        return ", ".join([*words, *([] if self.wait_s is None else [f"wait={self.wait_s:g}"])])


def preference_of(request: Request) -> Preference | None:
    """The preference for a job, if any. What is malformed or unknown is passed over; of equals the first counts."""
    if "prefer" not in request.headers:
        return None
    found: dict[str, str] = {}
    for part in COMMAS.findall(",".join(request.headers.getlist("prefer"))[:LONGEST_HEADER]):
        match = PREFERENCE.fullmatch(part)
        if match is not None:
            found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    is_async = found.get("respond-async") == ""
    wait = found.get("wait", "")
    wait_s = min(float(wait), LONGEST_WAIT_S) if re.fullmatch(r"[0-9]{1,9}", wait) else None
    return Preference(is_async, wait_s) if is_async or wait_s is not None else None


def idempotency_key(request: Request) -> str | None:
    """The key: a quoted string, or the same without quotes.

    Raises:
        InputError: `bad-header`.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    text = given[0].strip()
    if len(given) == 1 and STRING.fullmatch(text):
        key = re.sub(r"\\(.)", r"\1", text[1:-1])
    else:
        key = text if len(given) == 1 and BARE.fullmatch(text) else ""
    if not 1 <= len(key) <= LONGEST_KEY:
        raise InputError(
            "bad-header",
            f"Idempotency-Key must be one string of 1 to {LONGEST_KEY} visible ASCII characters.",
            hint='For example Idempotency-Key: "8e03978e-40d5-43e8-bc93-6894a57f9324".',
        )
    return key
