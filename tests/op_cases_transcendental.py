"""Cases of roots, logarithms, trigonometric and hyperbolic rows: see `op_cases`."""

from __future__ import annotations

from op_cases import Case
from precision import Precision

TRANSCENDENTAL: dict[str, tuple[Case, ...]] = {}

PRECISION: dict[str, Precision] = {}
