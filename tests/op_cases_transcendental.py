"""Cases of roots, logarithms, trigonometric and hyperbolic rows: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

TRANSCENDENTAL: dict[str, tuple[Case, ...]] = {}
