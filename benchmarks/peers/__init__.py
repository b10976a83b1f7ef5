"""Who is measured: one file a library. Each says how it makes a Hessian function, and nothing else.

A file offers `contenders()`; importing it fails where its library is not installed, and the table then goes without.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case

FILES = ("embedded", "jax_jit", "torch_func", "casadi_functions")


@dataclass(frozen=True, slots=True)
class Contender:
    """A library, and a way of using it."""

    name: str
    version: str
    # (case, scale) -> hessian of scale * f. A scale never used before makes it a function never seen before.
    make: Callable[[Case, float], Callable[[Any], Any]]
    array: Callable[[NDArray[np.float64]], Any]  # the input as the library's own array
    dense: Callable[[Any, Case], NDArray[np.float64]]  # a result as an (n, n) matrix; not timed
    handles: Callable[[Case, bool], bool] = lambda case, is_short: True


def installed() -> tuple[list[Contender], list[str]]:
    """Contenders, ours first, and the names of the files whose library is absent."""
    found: list[Contender] = []
    absent: list[str] = []
    for name in FILES:
        try:
            module = importlib.import_module(f"benchmarks.peers.{name}")
        except ImportError:
            absent.append(name)
            continue
        found.extend(module.contenders())
    return found, absent
