"""Conversions of a traced value to Python's and NumPy's: refused where they would cut the graph in silence.

A value that depends on no input is known, so nothing is cut: arrays that `hesse.numpy` made inside a trace convert.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from hesse_engine.frontends.refusals import EXPLICIT, cut
from hesse_engine.ir.graph import Array


class Conversions:
    """Every conversion in terms of `_known()`, the value of a constant or None."""

    __slots__ = ()

    @abstractmethod
    def _known(self) -> Array | None: ...

    def __float__(self) -> float:
        known = self._known()
        if known is not None:
            return float(known)
        raise cut("float(t), which functions of the module math call too,",
                  f"Use np.sin(t), torch.sin(t) or t.sin() in place of math.sin(t). {EXPLICIT}")

    def __int__(self) -> int:
        known = self._known()
        if known is not None:
            return int(known)
        raise cut("int(t)", EXPLICIT)

    def __index__(self) -> int:
        known = self._known()
        if known is not None:
            return known.__index__()
        raise cut("The use of a traced integer as a Python index or length",
                  f"Index an array by it with hesse.numpy.take(a, t). {EXPLICIT}")

    def __complex__(self) -> complex:
        known = self._known()
        if known is not None:
            return complex(known)
        raise cut("complex(t)", EXPLICIT)

    def tolist(self) -> Any:
        known = self._known()
        if known is not None:
            return known.tolist()
        raise cut("t.tolist()", "Iterate over t itself: its elements are traced. " + EXPLICIT)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        known = self._known()
        if known is not None:
            return np.array(known)
        raise cut("t.numpy()", EXPLICIT)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        known = self._known()
        if known is not None:
            return np.array(known, dtype)
        raise cut("The conversion of a traced value to a NumPy array (np.asarray(t), np.array([t, ...]), a[0] = t)",
                  "Build arrays with hesse.numpy.asarray, np.stack([...]) or np.concatenate([...]); an array made by "
                  f"hesse.numpy.zeros, or copied from a traced one, takes item assignment. {EXPLICIT}")

    def __reduce__(self) -> Any:
        raise cut("Pickling a traced value", EXPLICIT)
