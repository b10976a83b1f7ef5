"""Cases of sorting, searching and scattering: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

ORDERING: dict[str, tuple[Case, ...]] = {}
