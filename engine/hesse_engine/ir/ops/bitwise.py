"""Bitwise rows of integers and booleans."""

from __future__ import annotations
