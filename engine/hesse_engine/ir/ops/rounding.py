"""Rounding, remainders and signs: piecewise constant or piecewise linear rows."""

from __future__ import annotations
