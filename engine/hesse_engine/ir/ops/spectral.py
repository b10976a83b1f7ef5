"""Eigenvalues, singular values and what follows from them."""

from __future__ import annotations
