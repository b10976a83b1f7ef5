"""JAX: `jax.jit(jax.hessian(f))`, compilation included in the cold time as a user meets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import PLAIN, Case
from benchmarks.peers import Call, Namespace

NAME = "JAX jit"
NAMES = Namespace(jnp, scan=jax.lax.scan, diagonal_of=jnp.diagonal,
                  solve_lower=lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True))


def function(case: Case, scale: float) -> Call:
    """scale * f, of x alone or of x and the data."""
    if case.data_as == "arguments":
        keys = list(case.values())
        return lambda x, *given: scale * case.f(NAMES, x, dict(zip(keys, given, strict=True)))
    data = case.values() if case.data_as == "numbers" else {k: jnp.asarray(v) for k, v in case.values().items()}
    return lambda x: scale * case.f(NAMES, x, data)


class Jax:
    version = jax.__version__

    def names(self, case: Case, is_short: bool) -> Sequence[str]:
        return [n for n in (NAME,) if n not in case.without and not (is_short and n in case.slow)]

    def make(self, name: str, case: Case, scale: float) -> Call:
        f = function(case, scale)
        if case.peer_task == "hvp":
            compiled = jax.jit(lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1])
        else:
            compiled = jax.jit(jax.vmap(jax.hessian(f)) if case.task == "batched" else jax.hessian(f))
        return lambda *given: compiled(*given).block_until_ready()

    def arguments(self, name: str, case: Case, x: NDArray[Any], v: NDArray[Any]) -> tuple[Any, ...]:
        if case.peer_task == "hvp":
            return jnp.asarray(x), jnp.asarray(v)
        return (jnp.asarray(x), *self._data(case))

    def _data(self, case: Case) -> list[Any]:
        return [jnp.asarray(v) for v in case.values().values()] if case.data_as == "arguments" else []

    def plain(self, name: str, case: Case, result: Any) -> NDArray[Any]:
        found = np.asarray(result)
        return found @ case.probe if case.peer_task == "hessian" and case.n > PLAIN else found


def library() -> Jax:
    jax.config.update("jax_enable_x64", True)
    return Jax()
