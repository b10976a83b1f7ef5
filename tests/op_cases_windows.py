"""Cases of convolutions and sliding windows: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

WINDOWS: dict[str, tuple[Case, ...]] = {}
