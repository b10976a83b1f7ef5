"""Orthogonal factors, least squares, pseudo-inverses and exponentials of matrices."""

from __future__ import annotations
