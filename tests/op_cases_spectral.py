"""Cases of eigenvalues and singular values: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

SPECTRAL: dict[str, tuple[Case, ...]] = {}
