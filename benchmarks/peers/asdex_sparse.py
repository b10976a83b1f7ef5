"""asdex: `jax.jit` of its Hessian in the BCOO layout; pattern and coloring are part of the cold time."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import asdex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import PLAIN, Case
from benchmarks.peers import Call
from benchmarks.peers.jax_jit import function

NAME = "asdex"


class Asdex:
    version = version("asdex")

    def names(self, case: Case, is_short: bool) -> Sequence[str]:
        is_sparse = case.peer_task == "hessian" and case.layout != "dense"
        return [NAME] if is_sparse and NAME not in case.without and not (is_short and NAME in case.slow) else []

    def make(self, name: str, case: Case, scale: float) -> Call:
        f = function(case, scale)
        kept: list[Any] = []

        def call(x: Any) -> Any:
            if not kept:  # at the first call, so that the cold time holds what the others' hold
                kept.append(jax.jit(asdex.hessian(f, x)))
            return jax.block_until_ready(kept[0](x))

        return call

    def arguments(self, name: str, case: Case, x: NDArray[Any], v: NDArray[Any]) -> tuple[Any, ...]:
        return (jnp.asarray(x),)

    def plain(self, name: str, case: Case, result: Any) -> NDArray[Any]:
        return np.asarray(result @ jnp.asarray(case.probe) if case.n > PLAIN else result.todense())


def library() -> Asdex:
    jax.config.update("jax_enable_x64", True)
    return Asdex()
