"""Settings that every test shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

from hesse_engine.backend import kernels

# the same examples on every run, no clock, nothing left on disk
settings.register_profile("hesse", deadline=None, derandomize=True, database=None)
settings.load_profile("hesse")


@pytest.fixture(scope="session", autouse=True)
def loaded_kernels() -> None:
    """The VM is there before the first test; what happens before it is there is tested in processes of their own.

    A load behind a test imports Numba, which swaps the process's warning filters while the test runs.
    """
    kernels.load(("float64", "float32"), wait=True)
