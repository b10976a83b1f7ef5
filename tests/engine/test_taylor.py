"""Taylor propagation of every differentiable row: the coefficients are those of nested tangents.

    y_k = (d/dt)^k y(x + t v) / k!,   the tangent of the tangent of the tangent along v
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from hesse_engine.backend import reference
from hesse_engine.ir.graph import Array, Builder, Node, apply
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.taylor import taylor
from op_cases_arrays import CASES

ORDER = 3


class Built:
    """A case with a direction for each of its operands."""

    def __init__(self, name: str, index: int) -> None:
        case = CASES[name][index]
        builder = Builder()
        rng = np.random.default_rng(3)
        operands, self.values = [], {}
        self.series: dict[Node, list[Node | None]] = {}
        for k, array in enumerate(case.cast("float64")):
            if k in case.constant:
                operands.append(builder.constant(array))
                continue
            node = builder.input(f"x{k}", array.shape, array.dtype)
            operands.append(node)
            self.values[node] = array
            if k in case.moving:
                self.series[node] = [builder.constant(rng.uniform(-1.0, 1.0, array.shape))]
        self.y = apply(name, *operands, **case.attributes("float64"))

    @property
    def is_differentiable(self) -> bool:
        return self.y.is_floating and bool(self.series)

    def run(self, nodes: list[Node]) -> list[Array]:
        return reference.run(nodes, self.values)

    def nested(self) -> list[Node]:
        found, directions = [self.y], {x: terms[0] for x, terms in self.series.items() if terms[0] is not None}
        for _ in range(ORDER):
            (moved,) = push_forward([found[-1]], directions)
            found.append(self.y.builder.zeros(self.y.shape, self.y.dtype) if moved is None else moved)
        return found


@cache
def differentiable() -> list[tuple[str, int]]:
    every = [(n, k) for n, cases in CASES.items() for k in range(len(cases))]
    return [(n, k) for n, k in every if Built(n, k).is_differentiable and not is_singular(n, k)]


def is_singular(name: str, index: int) -> bool:
    """A determinant has no third derivative here where it is 0."""
    return name == "det" and bool((np.abs(np.linalg.det(CASES[name][index].operands[0])) < 1e-9).any())


@pytest.mark.parametrize(("name", "index"), differentiable(), ids=lambda v: str(v))
def test_coefficients_are_nested_tangents(name: str, index: int) -> None:
    built = Built(name, index)
    (coefficients,) = taylor([built.y], built.series, ORDER)
    found, wanted = built.run(coefficients), built.run(built.nested())
    for k, (c, w) in enumerate(zip(found, wanted, strict=True)):
        exact = w / math.factorial(k)
        fits = np.isfinite(exact)
        scale = float(np.max(np.abs(exact[fits]), initial=1.0))
        assert c.shape == exact.shape
        np.testing.assert_allclose(c[fits], exact[fits], rtol=1e-11, atol=1e-12 * scale)
