"""Cases of bitwise rows: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

BITWISE: dict[str, tuple[Case, ...]] = {}
