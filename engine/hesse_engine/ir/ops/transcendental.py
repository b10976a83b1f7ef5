"""Logarithms, roots, trigonometric and hyperbolic functions beyond those of `pointwise`."""

from __future__ import annotations
