"""Cases of rows that round, divide with a remainder or copy signs: see `op_cases`."""

from __future__ import annotations

from op_cases import Case
from precision import Precision

ROUNDING: dict[str, tuple[Case, ...]] = {}

PRECISION: dict[str, Precision] = {}
