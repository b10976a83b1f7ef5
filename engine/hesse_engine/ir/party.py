"""For whom this thread computes.

What a process keeps for one party helps no other: else times and tiers would tell that somebody else has sent the same
function.
"""

from __future__ import annotations

from contextvars import ContextVar

_PARTY: ContextVar[str] = ContextVar("hesse_party", default="")


def serve(party: str) -> None:
    """From now on this thread plans and builds for `party`."""
    _PARTY.set(party)


def served() -> str:
    """The party; a part of the key of whatever is kept across functions. Measured: 50 ns."""
    return _PARTY.get()
