"""Special functions: error functions, gamma functions and their kin."""

from __future__ import annotations
