"""Settings that every test shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

from hesse_engine.backend import kernels

# the same examples on every run, no clock, nothing left on disk
settings.register_profile("hesse", deadline=None, derandomize=True, database=None)
settings.load_profile("hesse")


# Where files are handed to several processes, those that take longest come first: none is left alone at the end.
LONG = ("test_faults", "test_hostile", "test_properties", "test_kernels", "test_scenarios", "test_jit",
        "test_job_faults", "test_drain", "test_memory", "test_soak", "test_processes", "test_streaming",
        "test_job_streams", "test_precision")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def loaded_kernels() -> None:
    """The VM is there before the first test; what happens before it is there is tested in processes of their own.

    A load behind a test imports Numba, which swaps the process's warning filters while the test runs.
    """
    kernels.load(("float64", "float32"), wait=True)
