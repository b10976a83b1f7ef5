"""Who filled an array last: a program refreshes entry by entry what it wrote itself, and clears anything else whole."""

from __future__ import annotations

import weakref
from typing import Any

from hesse_engine.backend.memory import address_of
from hesse_engine.ir.graph import Array

# address of the memory -> the array, and the program that filled it; gone when the array is
_LAST: dict[int, tuple[weakref.ref[Array], weakref.ref[Any]]] = {}


def is_refill(out: Array, owner: Any) -> bool:
    """Whether `owner` was the last to fill `out`; from now on it is."""
    key, before = address_of(out), _LAST.get(address_of(out))
    if before is not None and before[0]() is out and before[1]() is owner:
        return True

    def forget(reference: weakref.ref[Array]) -> None:
        found = _LAST.get(key)
        if found is not None and found[0] is reference:
            del _LAST[key]

    _LAST[key] = weakref.ref(out, forget), weakref.ref(owner)
    return False


def disown(out: Any) -> None:
    """The arrays in `out` are filled by something that refreshes nothing."""
    if isinstance(out, (list, tuple)):
        for part in out:
            disown(part)
    elif hasattr(out, "__array_interface__"):
        _LAST.pop(address_of(out), None)
