"""Special functions."""

from __future__ import annotations

from conformance.cases import Case

CASES: list[Case] = []
