"""`hesse.numpy.random`: random numbers under the functions of NumPy, for code that is traced and for code that is not.

A draw made while tracing is a constant of the graph. What a transform around it makes of it is torch's rule:

    func.vmap(f, randomness="error")        a draw raises (the default)
    func.vmap(f, randomness="same")         one draw for all examples
    func.vmap(f, randomness="different")    one draw for each example

`func.jacfwd` and `func.hessian` run the function under a vmap over columns, so they follow the same rule. A function
given to `hesse.function` is traced once, so a draw inside of it raises instead of being repeated in every call: pass
the noise as an argument. A generator that is made with a seed inside of such a function is allowed: its numbers are the
same in every call by its own definition.

Draws of `np.random` itself cannot be seen: they are constants of whatever is traced, whatever `randomness` says.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError
from hesse_engine.frontends.randomness import drawn
from hesse_engine.frontends.trace import Trace, Tracer, active_trace, tracer_in
from hesse_engine.ir.graph import Array, Node, Shape

Size = int | Sequence[int] | None


class Generator:
    """Draws as `numpy.random.Generator` does, with the same numbers for the same seed where nothing is mapped."""

    def __init__(self, generator: np.random.Generator, is_seeded: bool) -> None:
        self._generator = generator
        self._trace: Trace | None = active_trace() if is_seeded else None

    # ---- numbers -----------------------------------------------------------------------------------------------------
    def standard_normal(self, size: Size = None, dtype: Any = np.float64) -> Any:
        """Normal, mean 0 and variance 1."""
        return self._draw(_shape(size), lambda shape: self._generator.standard_normal(shape, dtype))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None) -> Any:
        """loc + scale z with a standard normal z: differentiable in loc and scale."""
        return loc + scale * self.standard_normal(_broadcast(size, loc, scale))

    def random(self, size: Size = None, dtype: Any = np.float64) -> Any:
        """Uniform on [0, 1)."""
        return self._draw(_shape(size), lambda shape: self._generator.random(shape, dtype))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Size = None) -> Any:
        """low + (high - low) u with u uniform on [0, 1): differentiable in both."""
        return low + (high - low) * self.random(_broadcast(size, low, high))

    def standard_exponential(self, size: Size = None, dtype: Any = np.float64) -> Any:
        """Exponential, mean 1."""
        return self._draw(_shape(size), lambda shape: self._generator.standard_exponential(shape, dtype))

    def exponential(self, scale: Any = 1.0, size: Size = None) -> Any:
        """Exponential of mean `scale`: differentiable in it."""
        return scale * self.standard_exponential(_broadcast(size, scale))

    def integers(
        self, low: Any, high: Any = None, size: Size = None, dtype: Any = np.int64, endpoint: bool = False
    ) -> Any:
        """Integers from low (or 0) up to high (or low); that one is among them only with `endpoint`."""
        _check_known("integers", low, high)
        base = np.broadcast_shapes(np.shape(low), np.shape(high))
        shape = base if size is None else _shape(size)
        return self._draw(shape, lambda full: self._generator.integers(low, high, full, dtype, endpoint))

    # ---- orders ------------------------------------------------------------------------------------------------------
    def permutation(self, x: Any, axis: int = 0) -> Any:
        """The numbers below x, or the rows of x, in random order."""
        is_count = isinstance(x, (int, np.integer))
        count = operator.index(x) if is_count else np.shape(x)[axis] if tracer_in([x]) is None else x.shape[axis]
        order = self._draw((count,), self._orders)
        return order if is_count else _take(x, order, axis)

    def choice(self, a: Any, size: Size = None, replace: bool = True, p: Any = None, axis: int = 0) -> Any:
        """Numbers below a, or rows of a, drawn at random; `p` are their probabilities."""
        _check_known("choice", p)
        is_count = isinstance(a, (int, np.integer))
        count = operator.index(a) if is_count else np.shape(a)[axis] if tracer_in([a]) is None else a.shape[axis]
        wanted = _shape(size)

        def indices(shape: Shape) -> Array:
            lead = shape[:len(shape) - len(wanted)]
            if replace:
                return np.asarray(self._generator.choice(count, shape, True, p))
            rows = [self._generator.choice(count, wanted, False, p) for _ in range(int(np.prod(lead)))]
            return np.stack(rows).reshape(shape) if rows else np.zeros(shape, np.int64)

        found = self._draw(wanted, indices)
        return found if is_count else _take(a, found, axis)

    def _orders(self, shape: Shape) -> Array:
        rows = np.broadcast_to(np.arange(shape[-1]), shape)
        return self._generator.permuted(rows, axis=-1) if len(shape) > 1 else self._generator.permutation(shape[-1])

    # ---- shared ------------------------------------------------------------------------------------------------------
    def _draw(self, shape: Shape, make: Callable[[Shape], Any]) -> Any:
        trace = active_trace()
        is_repeatable = trace is not None and trace is self._trace
        found = drawn(lambda lead: np.asarray(make((*lead, *shape))), None if trace is None else trace.builder,
                      is_repeatable)
        if isinstance(found, Node):
            assert trace is not None
            return Tracer(trace, found)
        return found


def _shape(size: Size) -> Shape:
    if size is None:
        return ()
    return (operator.index(size),) if not isinstance(size, Sequence) else tuple([operator.index(n) for n in size])


def _broadcast(size: Size, *parameters: Any) -> Shape:
    shapes = [p.shape if isinstance(p, Tracer) else np.shape(p) for p in parameters]
    return np.broadcast_shapes(*shapes) if size is None else _shape(size)


def _check_known(name: str, *values: Any) -> None:
    if tracer_in([*values]) is not None:
        raise ArgumentTypeError("bad-type", f"hesse.numpy.random.{name}: the distribution may not depend on traced "
                                            "values: a draw is not differentiable in them.")


def _take(x: Any, order: Any, axis: int) -> Any:
    tracer = tracer_in([x, order])
    return np.take(x, order, axis) if tracer is None else tracer.trace.call("numpy", "take", (x, order, axis), {})


# ---- the module's own generator --------------------------------------------------------------------------------------
_own = Generator(np.random.default_rng(), is_seeded=False)


def default_rng(seed: Any = None) -> Generator:
    """A generator of its own; with a seed it gives the numbers of `numpy.random.default_rng(seed)`."""
    return Generator(np.random.default_rng(seed), is_seeded=seed is not None)


def seed(value: int) -> None:
    """Start the generator that the functions of this module share anew."""
    _own._generator = np.random.default_rng(value)


standard_normal, normal, random, uniform = _own.standard_normal, _own.normal, _own.random, _own.uniform
standard_exponential, exponential = _own.standard_exponential, _own.exponential
integers, permutation, choice = _own.integers, _own.permutation, _own.choice

__all__ = [
    "Generator", "choice", "default_rng", "exponential", "integers", "normal", "permutation", "random", "seed",
    "standard_exponential", "standard_normal", "uniform",
]
