"""Sorting, order statistics and searching: values are read at positions that carry no derivative."""

from __future__ import annotations
