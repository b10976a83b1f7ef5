"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import settings

# the same examples on every run, no clock, nothing left on disk
settings.register_profile("hesse", deadline=None, derandomize=True, database=None)
settings.load_profile("hesse")
