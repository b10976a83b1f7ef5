"""What the namespace can do, as the standard asks for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse.eager import check_device

MAX_DIMENSIONS = 32  # of a graph; NumPy's own arrays may have 64


class __array_namespace_info__:  # noqa: N801  (the standard's name)
    """Capabilities, devices and dtypes of `hesse.numpy`."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and shapes that depend on data are offered; in a trace they are read, and guarded."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": MAX_DIMENSIONS}

    def default_device(self) -> str:
        """'cpu'."""
        return "cpu"

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of what is created without one."""
        check_device(device)
        found: dict[str, np.dtype[Any]] = {
            "real floating": np.dtype(np.float64), "complex floating": np.dtype(np.complex128),
            "integral": np.dtype(np.int64), "indexing": np.dtype(np.int64),
        }
        return found

    def devices(self) -> list[str]:
        """['cpu']."""
        return ["cpu"]

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of a kind, or of any, by name. Complex ones are NumPy's, outside of a trace only."""
        check_device(device)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        return {n: d for k in kinds for n, d in _of_kind(k).items()}


_NAMES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
          "complex64", "complex128")


def _of_kind(kind: str | None) -> dict[str, np.dtype[Any]]:
    every = {n: np.dtype(n) for n in _NAMES}
    return every if kind is None else {n: d for n, d in every.items() if np.isdtype(d, kind)}
