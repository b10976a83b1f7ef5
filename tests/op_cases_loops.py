"""Cases of the loops. Each reference walks the recurrence with the step written in mpmath."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.ir.graph import Builder, Graph, Node, apply
from hesse_engine.ir.ops.scan import Body
from op_cases import Case, real
from oracles import MP, Array

Shapes = Sequence[tuple[int, ...]]


def body(shapes: Shapes, step: Callable[..., Sequence[Node]], dtype: str = "float64") -> Body:
    """The body that takes inputs of `shapes` through `step`."""
    builder = Builder()
    inputs = tuple([builder.input(f"i{k}", s, np.dtype(dtype)) for k, s in enumerate(shapes)])
    return Body(Graph(inputs, tuple(step(*inputs))))


@dataclass(frozen=True)
class LoopCase(Case):
    """A case whose body is made for the dtype of its operands."""

    shapes: Shapes = ()
    step: Callable[..., Sequence[Node]] = tuple

    def attributes(self, dtype: str) -> Mapping[str, Any]:
        return {**self.attrs, "body": body(self.shapes, self.step, dtype)}


def walked(
    step: Callable[..., Sequence[Array]], constants: int, carries: int, length: int, reverse: bool, drives: int = 0
) -> Callable[..., Array]:
    """All values of the carries, by step, one carry after the other."""

    def reference(*operands: Array) -> Array:
        at = len(operands) - carries - drives
        fixed, slices = operands[:constants], operands[constants:at]
        now, drive = list(operands[at:at + carries]), operands[at + carries:]
        found = [[None] * (length + 1) for _ in now]
        for t in [*range(length - 1, -1, -1), None] if reverse else [*range(length), None]:
            place = (0 if t is None else t + 1) if reverse else (length if t is None else t)
            for rows, c in zip(found, now, strict=True):
                rows[place] = c
            if t is not None:
                now = [np.asarray(c, object) for c in step(*fixed, *[x[t] for x in slices], *now)]
                now = [c + drive[k][t] if drives else c for k, c in enumerate(now)]
        flat = [np.asarray(row, object).reshape(-1) for rows in found for row in rows]
        return np.concatenate(flat)

    return reference


def mp_sin(x: Any) -> Any:
    return np.vectorize(MP.sin, otypes=[object])(x)


def pair(k: Any, x: Any, c: Any) -> list[Node]:
    """c' = sin(k c) x + reversed c."""
    flipped = apply("flip", c)
    return [apply("sin", k * c) * apply("broadcast_to", x, shape=(2,)) + flipped]


def mp_pair(k: Array, x: Any, c: Array) -> list[Array]:
    return [mp_sin(k * c) * x + c[::-1]]


def coupled(x: Node, u: Node, v: Node) -> list[Node]:
    """u' = u v + x, v' = cos(u): two carries of no dimension."""
    return [u * v + x, apply("cos", u)]


def mp_coupled(x: Any, u: Any, v: Any) -> list[Any]:
    return [u * v + x, MP.cos(np.asarray(u, object).item())]


def product(k: Node, x: Node, d: Node) -> list[Node]:
    """d' = k d + x d: a matrix, and a number of each step."""
    return [apply("contract", k, d, subscripts="ab,b->a") + apply("broadcast_to", x, shape=(2,)) * d]


def mp_product(k: Array, x: Any, d: Array) -> list[Array]:
    return [np.array([sum([k[i, j] * d[j] for j in range(2)]) for i in range(2)], object) + x * d]


def scaled(x: Any, d: Any) -> list[Any]:
    return [x * d]


PAIR = [(2,), (), (2,)], pair, mp_pair
COUPLED = [(), (), ()], coupled, mp_coupled
PRODUCT = [(2, 2), (), (2,)], product, mp_product
SCALED = [(), ()], scaled, scaled


def case(
    operands: Sequence[Array], loop: tuple[Shapes, Callable[..., Any], Callable[..., Any]], constants: int, length: int,
    reverse: bool, drives: int = 0,
) -> Case:
    shapes, step, by_hand = loop
    made = body(shapes, step)
    reference = walked(by_hand, constants, len(made.graph.outputs), length, reverse, drives)
    attrs = {"body": made, "constants": constants, "length": length, "reverse": reverse}
    return LoopCase(tuple(operands), reference, attrs, shapes=shapes, step=step)


LOOPS: dict[str, tuple[Case, ...]] = {
    "scan": (
        case([real(2), real(3, seed=1), real(2, seed=2)], PAIR, 1, 3, False),
        case([real(2), real(3, seed=1), real(2, seed=2)], PAIR, 1, 3, True),
        case([real(2), real(0), real(2, seed=2)], PAIR, 1, 0, False),
        case([real(3), real(seed=1), real(seed=2)], COUPLED, 0, 3, False),
        case([real(1), real(seed=1), real(seed=2)], COUPLED, 0, 1, True),
    ),
    "linear_scan": (
        case([real(2, 2), real(3, seed=1), real(2, seed=2), real(3, 2, seed=3)], PRODUCT, 1, 3, False, 1),
        case([real(2, 2), real(3, seed=1), real(2, seed=2), real(3, 2, seed=3)], PRODUCT, 1, 3, True, 1),
        case([real(4), real(seed=1), real(4, seed=2)], SCALED, 0, 4, False, 1),
        case([real(4), real(seed=1), real(4, seed=2)], SCALED, 0, 4, True, 1),
    ),
}
