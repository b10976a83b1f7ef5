"""The list of an owner's functions, page by page, oldest first."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime

from hesse_engine.errors import InputError
from hesse_service import codec
from hesse_service.store import Store

MOST, USUAL = 1000, 100
PLACE = struct.Struct(">d32s")  # time of creation and id of the last function of a page
FIRST = (-math.inf, "")


def asked(query: Mapping[str, str], count: int) -> tuple[int, tuple[float, str]]:
    """(functions of a page, the place after which it starts) of a query with `count` parameters.

    Raises:
        InputError: `bad-request`.
    """
    limit, after = query.get("limit", str(USUAL)), query.get("after")
    if set(query) - {"limit", "after"} or count != len(query):
        raise InputError("bad-request", "The query parameters are limit and after, each at most once.")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MOST):
        raise InputError("bad-request", f"limit is a whole number from 1 to {MOST}.")
    return int(limit), FIRST if after is None else _place(after)


def _place(cursor: str) -> tuple[float, str]:
    try:
        created, name = PLACE.unpack(base64.b64decode(f"{cursor}==".encode(), b"-_", validate=True))
    except (ValueError, struct.error):
        raise InputError(
            "bad-request", "after is no cursor.", hint="Take the link next of the page before, as it is."
        ) from None
    return created, name.hex()


def listing(store: Store, owner: str, limit: int, place: tuple[float, str]) -> tuple[bytes, str | None]:
    """(the page as JSON, the path of the next one)."""
    found = store.page(owner, limit + 1, *place)
    parts = []
    for _, signature, size, created, used in found[:limit]:
        facts = codec.encode({"bytes": size, "created": _text(created), "used": _text(used)})
        parts.append(signature[:-1] + b"," + facts[1:])
    following = None
    if len(found) > limit:
        name, _, _, created, _ = found[limit - 1]
        cursor = base64.urlsafe_b64encode(PLACE.pack(created, bytes.fromhex(name))).decode().rstrip("=")
        following = f"/v1/functions?limit={limit}&after={cursor}"
    return b'{"functions":[' + b",".join(parts) + b'],"next":' + codec.encode(following) + b"}", following


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
