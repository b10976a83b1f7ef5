"""Cases of convolutions and sliding windows: see `op_cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from op_cases import Case, real
from oracles import Array, Reference


def windows(axis: int, size: int, step: int = 1, dilation: int = 1) -> Reference:
    """y[.., i, j, ..] = x[.., i step + j dilation, ..] for every window that fits."""

    def reference(x: Array) -> Array:
        k = axis % x.ndim
        starts = [i for i in range(0, x.shape[k], step) if i + dilation * (size - 1) < x.shape[k]]
        out = np.empty((*x.shape[:k], len(starts), size, *x.shape[k + 1:]), object)
        for place in np.ndindex(out.shape):
            at = starts[place[k]] + place[k + 1] * dilation
            out[place] = x[(*place[:k], at, *place[k + 2:])]
        return out

    return reference


def _case(shape: tuple[int, ...], **attrs: Any) -> Case:
    return Case((real(*shape),), windows(**attrs), attrs)


WINDOWS: dict[str, tuple[Case, ...]] = {
    "windows": (
        _case((7,), axis=0, size=3),
        _case((2, 7), axis=-1, size=3, step=2),
        _case((6, 2), axis=0, size=2, step=2),
        _case((2, 7, 2), axis=1, size=2, step=1, dilation=3),
        _case((7,), axis=0, size=3, step=3),
        _case((3,), axis=0, size=5),
        _case((3, 0), axis=0, size=2),
        Case((np.arange(5),), windows(axis=0, size=2), {"axis": 0, "size": 2}),
    ),
}
