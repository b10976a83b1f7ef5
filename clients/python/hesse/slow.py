"""The warning that a computation runs in NumPy, op by op, said once for each function."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from hesse.caller import user_level
from hesse.errors import PerformanceWarning
from hesse_engine.ir.show import graph_id
from hesse_engine.result import Result

if TYPE_CHECKING:
    from hesse.protocol import Call

SHARE = 0.25  # of all elements, from which on it is worth a word
ELEMENTS = 1_000_000  # of one run; below, a run takes about a millisecond however it is done
REMEMBERED = 4096  # functions; after that it starts over

_warned: set[tuple[str, str]] = set()


def watched(call: Call, result: Result) -> Result:
    """`result`, with a `PerformanceWarning` where much of the work of `call` has no compiled form."""
    share = result.stats.get("fallback_share", 0.0)
    if share >= SHARE and result.stats.get("fallback_elements", 0) >= ELEMENTS:
        _warn(call, share, result.stats["fallbacks"])
    return result


def _warn(call: Call, share: float, names: list[str]) -> None:
    if os.environ.get("HESSE_PERFORMANCE_WARNINGS") == "0":
        return
    key = (call.id or graph_id(call.graph), call.operation)
    if key in _warned:
        return
    if len(_warned) >= REMEMBERED:
        _warned.clear()
    _warned.add(key)
    warnings.warn(
        f"{call.operation}: about {share:.0%} of the work runs in NumPy, op by op, because these ops have no compiled "
        f"form here: {', '.join(names)}.",
        PerformanceWarning,
        stacklevel=user_level(),
    )
