"""Cases of special functions: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

SPECIAL: dict[str, tuple[Case, ...]] = {}
