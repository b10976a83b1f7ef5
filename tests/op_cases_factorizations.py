"""Cases of orthogonal factors, least squares, exponentials of matrices: see `op_cases`."""

from __future__ import annotations

from op_cases import Case

FACTORIZATIONS: dict[str, tuple[Case, ...]] = {}
