"""JAX: `jax.jit(jax.hessian(f))`, compilation included in the cold time as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Case
from benchmarks.peers import Contender


def make(case: Case, scale: float) -> Callable[[Any], Any]:
    data = {name: jnp.asarray(value) for name, value in case.data.items()}
    compiled = jax.jit(jax.hessian(lambda x: scale * case.f(jnp, x, data)))
    return lambda x: compiled(x).block_until_ready()


def contenders() -> list[Contender]:
    jax.config.update("jax_enable_x64", True)
    return [Contender("JAX jit", jax.__version__, make, jnp.asarray, lambda result, case: np.asarray(result))]
