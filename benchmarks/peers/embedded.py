"""Hesse, embedded: `hesse.function(f).hessian`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import hesse
import hesse.numpy as xp
from benchmarks.cases import Case
from benchmarks.peers import Contender
from hesse_engine.backend import kernels


def function(case: Case, scale: float = 1.0) -> hesse.Function:
    return hesse.function(lambda x: scale * case.f(xp, x, case.data))


def make(case: Case, scale: float) -> Callable[[Any], Any]:
    return function(case, scale).hessian


def warm_up() -> None:
    """Wait for the VM, so that no figure depends on how far its loading is."""
    kernels.load(wait=True)


def nodes(case: Case) -> int:
    """How many nodes the graph of the function has."""
    return len(function(case).graph(case.inputs(1)[0])["nodes"])


def contenders() -> list[Contender]:
    return [Contender("Hesse", hesse.__version__, make, np.asarray, lambda result, case: np.asarray(result))]
