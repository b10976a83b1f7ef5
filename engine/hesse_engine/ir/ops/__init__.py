"""The table. Importing this package fills `ROWS`; what is not registered here does not exist."""

from __future__ import annotations

import numpy as np

from hesse_engine.ir.rows import ROWS, Row, register


def _no_build(*args: object, **attrs: object) -> None:
    raise RuntimeError("leaves are made by the Builder")


register(Row("input", "leaf", 0, ("name",), _no_build, lambda **attrs: None, None, doc="An input of the graph."))
register(Row("constant", "leaf", 0, (), _no_build, lambda **attrs: None, None, doc="A constant tensor."))
register(
    Row("zeros", "leaf", 0, ("shape", "dtype"), _no_build, lambda *, shape, dtype: np.zeros(shape, dtype), None,
        doc="The structural zero.")
)

from hesse_engine.ir.ops import (  # noqa: E402  (the leaves come first)
    arithmetic,
    bitwise,
    composite,
    contraction,
    cumulative,
    determinants,
    factorizations,
    gathering,
    linalg,
    ordering,
    pointwise,
    reductions,
    rounding,
    scan,
    singular,
    special,
    spectral,
    structural,
    transcendental,
    windows,
)

__all__ = [
    "ROWS", "arithmetic", "bitwise", "composite", "contraction", "cumulative", "determinants", "factorizations",
    "gathering", "linalg", "ordering", "pointwise", "reductions", "rounding", "scan", "singular", "special", "spectral",
    "structural", "transcendental", "windows",
]
