"""Whose line a warning points at."""

from __future__ import annotations

import sys

OWN = ("hesse", "hesse_engine")


def user_level() -> int:
    """The `stacklevel` for `warnings.warn`, called where this is, of the first frame outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in OWN:
        frame, level = frame.f_back, level + 1
    return level
