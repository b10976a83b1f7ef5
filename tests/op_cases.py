"""One entry for each row of the op table: sample operands, attributes, and what the op means, written from its
definition.

A reference function takes object arrays (`mpf`, int or bool elements) and gives one. It never calls the row's own NumPy
function: elementwise ops are stated for one element, the others by their index equation (`op_cases_arrays`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles import MP, Array, Reference


@dataclass(frozen=True)
class Case:
    """Operands and the reference value of an op there. Floating operands are exact in float32 too."""

    operands: tuple[Array, ...]
    reference: Reference
    attrs: Mapping[str, Any] = field(default_factory=dict)
    constant: tuple[int, ...] = ()  # operands given as constants of the graph, not as inputs
    is_cut: bool = False  # the derivative is zero by definition, whatever the value does
    dtypes: tuple[str, ...] = ("float64", "float32")

    def cast(self, dtype: str) -> tuple[Array, ...]:
        return tuple([a.astype(dtype) if a.dtype.kind == "f" else a for a in self.operands])

    def attributes(self, dtype: str) -> Mapping[str, Any]:
        """The attributes for operands of `dtype`."""
        return self.attrs

    @property
    def moving(self) -> tuple[int, ...]:
        """The operands that are inputs of a floating dtype."""
        return tuple([k for k, a in enumerate(self.operands) if a.dtype.kind == "f" and k not in self.constant])


def real(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Array:
    """Numbers of [low, high) without ties, exact in float32."""
    rng = np.random.default_rng([seed, *shape])
    return rng.uniform(low, high, shape).astype(np.float32).astype(np.float64)


def positive(*shape: int, seed: int = 0) -> Array:
    return real(*shape, low=0.2, high=3.0, seed=seed)


def apart(*shape: int, seed: int = 0) -> Array:
    """Numbers of both signs at least 0.2 from 0."""
    x = real(*shape, low=0.2, high=2.0, seed=seed)
    return x * np.where(np.arange(x.size).reshape(shape) % 2, -1.0, 1.0)


def truth(*shape: int) -> Array:
    return np.arange(np.prod(shape, dtype=int)).reshape(shape) % 3 != 1


# ---- elementwise ---------------------------------------------------------------------------------------------------
def each(f: Callable[..., Any]) -> Reference:
    """f of one element, over operands broadcast together."""

    def over(*operands: Array) -> Array:
        spread = np.broadcast_arrays(*operands)
        out = np.empty(spread[0].shape, object)
        for index in np.ndindex(out.shape):
            out[index] = f(*[a[index] for a in spread])
        return out

    return over


def unary(f: Callable[[Any], Any], sample: Callable[..., Array] = real, **kind: Any) -> tuple[Case, ...]:
    one = each(f)
    return (Case((sample(2, 3),), one, **kind), Case((sample(),), one, **kind), Case((sample(5, seed=1),), one, **kind),
            Case((sample(0, 2),), one, **kind))


def binary(f: Callable[[Any, Any], Any], left: Callable[..., Array] = real, right: Callable[..., Array] = real,
           **kind: Any) -> tuple[Case, ...]:
    """Equal shapes, both operands broadcast, a missing axis, a scalar, and nothing at all."""
    two = each(f)
    shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = (
        ((2, 3), (2, 3)), ((3, 1), (1, 2)), ((3,), (2, 3)), ((2, 2), ()), ((), ()), ((0, 2), (2,)),
    )
    return tuple([Case((left(*a, seed=1), right(*b, seed=2)), two, **kind) for a, b in shapes])


def _sign(x: Any) -> Any:
    return MP.mpf((x > 0) - (x < 0))


def _clip(x: Any, low: Any, high: Any) -> Any:
    return min(max(x, low), high)


def _boolean(f: Callable[[Any, Any], bool]) -> tuple[Case, ...]:
    integers = np.array([[3, 1, 2], [0, -1, 2]]), np.array([3, 0, 2])
    ties = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    return (*binary(f), Case(integers, each(f)), Case(ties, each(f)))


def _logical(f: Callable[[bool, bool], bool]) -> tuple[Case, ...]:
    over = each(lambda a, b: f(bool(a), bool(b)))
    pairs = np.array([[False, True], [False, True]]), np.array([[False, False], [True, True]])
    return Case(pairs, over), Case((pairs[0], np.array([True, False])), over)


INTEGERS = np.array([[3, -1, 2], [0, 5, -7]]), np.array([2, 3, -2])
WHERE = each(lambda c, a, b: a if c else b)

ELEMENTWISE: dict[str, tuple[Case, ...]] = {
    "add": (*binary(lambda a, b: a + b), Case(INTEGERS, each(lambda a, b: a + b))),
    "subtract": (*binary(lambda a, b: a - b), Case(INTEGERS, each(lambda a, b: a - b))),
    "multiply": (*binary(lambda a, b: a * b), Case(INTEGERS, each(lambda a, b: a * b))),
    "divide": (*binary(lambda a, b: a / b, right=apart),
               Case(INTEGERS, each(lambda a, b: MP.mpf(a) / b), dtypes=("float64",))),
    "negative": (*unary(lambda x: -x), Case(INTEGERS[:1], each(lambda x: -x))),
    "square": (*unary(lambda x: x * x), Case(INTEGERS[:1], each(lambda x: x * x))),
    "where": (
        Case((truth(2, 3), real(2, 3, seed=1), real(2, 3, seed=2)), WHERE),
        Case((truth(3, 1), real(2, seed=1), real(3, 2, seed=2)), WHERE),
        Case((truth(2), real(seed=1), real(3, 1, seed=2)), WHERE),
        Case((np.array(False), real(2, seed=1), real(2, seed=2)), WHERE),
        Case((truth(4), np.arange(4), np.array(7)), WHERE),
        Case((truth(2, 3), real(2, 3, seed=1), real(2, 3, seed=2)), WHERE, constant=(0,)),
    ),
    "sqrt": unary(MP.sqrt, positive),
    "power": (
        *binary(lambda a, b: a**b, positive, real),
        Case((positive(3), np.array(2.5)), each(lambda a, b: a**b), constant=(1,)),
        Case((positive(3), np.array([2.0, -1.0, 0.0])), each(lambda a, b: a**b), constant=(1,)),
        Case((np.array(1.5), real(3)), each(lambda a, b: a**b), constant=(0,)),
    ),
    "power_scalar": (
        *[Case((apart(2, 3),), each(lambda x, p=p: x**p), {"exponent": float(p)}) for p in (3, -2, 0, 1, 2, 7)],
        *[Case((positive(4),), each(lambda x, p=p: x ** MP.mpf(p)), {"exponent": p}) for p in (0.5, -0.5, 1.5, 2.5,
                                                                                               -3.25)],
        Case((apart(0, 2),), each(lambda x: x**3), {"exponent": 3.0}),
        Case((apart(),), each(lambda x: x**3), {"exponent": 3}),
        Case(INTEGERS[:1], each(lambda x: x**3), {"exponent": 3}),
    ),
    "exp": unary(MP.exp),
    "expm1": unary(MP.expm1),
    "log": unary(MP.log, positive),
    "log1p": unary(lambda x: MP.log(1 + x), positive),
    "sin": unary(MP.sin),
    "cos": unary(MP.cos),
    "tan": unary(MP.tan, lambda *s, seed=0: real(*s, low=-1.2, high=1.2, seed=seed)),
    "tanh": unary(MP.tanh),
    "sech_squared": unary(lambda x: MP.sech(x) ** 2),
    "sigmoid": unary(lambda x: 1 / (1 + MP.exp(-x))),
    "softplus": unary(lambda x: MP.log(1 + MP.exp(x))),
    "abs": (*unary(abs, apart), Case(INTEGERS[:1], each(abs))),
    "sign": unary(_sign, apart),
    "maximum": (*binary(max), Case(INTEGERS, each(max))),
    "minimum": (*binary(min), Case(INTEGERS, each(min))),
    "clip": (
        Case((real(2, 3), np.array(-0.5), np.array(0.75)), each(_clip)),
        Case((real(6), real(6, low=-1.0, high=0.0, seed=1), real(6, low=0.0, high=1.0, seed=2)), each(_clip)),
        Case((real(2, 3), real(3, seed=1), real(2, 1, seed=2)), each(_clip)),  # some low > high: then high wins
        Case((real(5), np.array(-0.5), np.array(0.75)), each(_clip), constant=(1, 2)),
        Case((np.array([3, -4, 1]), np.array(-2), np.array(2)), each(_clip)),
    ),
    "stop_gradient": unary(lambda x: x, is_cut=True),
    "equal": _boolean(lambda a, b: a == b),
    "not_equal": _boolean(lambda a, b: a != b),
    "less": _boolean(lambda a, b: a < b),
    "less_equal": _boolean(lambda a, b: a <= b),
    "greater": _boolean(lambda a, b: a > b),
    "greater_equal": _boolean(lambda a, b: a >= b),
    "logical_and": _logical(lambda a, b: a and b),
    "logical_or": _logical(lambda a, b: a or b),
    "logical_xor": _logical(lambda a, b: a != b),
    "logical_not": (Case((truth(4),), each(lambda a: not a)), Case((np.array(True),), each(lambda a: not a))),
}
