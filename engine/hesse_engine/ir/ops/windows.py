"""Convolutions and sliding windows."""

from __future__ import annotations
