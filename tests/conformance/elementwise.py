"""Elementwise functions."""

from __future__ import annotations

from conformance.cases import Case, normal, positive

CASES: list[Case] = [
    Case("exp", lambda t, x: t.exp(x), (normal(2, 3),)),
    Case("log", lambda t, x: t.log(x), (positive(2, 3),)),
]
