"""Every differentiable row: jvp, vjp, second order in each composition, third order, and the batch rule."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import reference
from hesse_engine.ir.check import check
from hesse_engine.ir.graph import Array, Builder, Graph, Node, apply
from hesse_engine.transforms.batch import batch
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient, pull_back
from op_cases import Case
from op_cases_arrays import CASES
from oracles import Point, weighted_squares
from orders import (
    HESSIANS,
    Values,
    close,
    columns,
    filled,
    fresh,
    jacobian_forward,
    jacobian_reverse,
    numbers,
    third_along,
)

TOLERANCE = {"float64": 1e-13, "float32": 2e-5}


class Built:
    """A case as a graph: y = op(operands), and s = sum(w y^2)."""

    def __init__(self, name: str, index: int, dtype: str) -> None:
        self.case: Case = CASES[name][index]
        builder = Builder()
        self.operands, self.values = [], {}
        for k, array in enumerate(self.case.cast(dtype)):
            is_constant = k in self.case.constant
            node = builder.constant(array) if is_constant else builder.input(f"x{k}", array.shape, array.dtype)
            self.operands.append(node)
            if not is_constant:
                self.values[node] = array
        self.y = apply(name, *self.operands, **self.case.attributes(dtype))
        self.wrt = [self.operands[k] for k in self.case.moving]
        kinds = {n.dtype.name for n in [self.y, *self.wrt]}
        self.tolerance = TOLERANCE["float32" if "float32" in kinds else "float64"]

    def scalar(self) -> Node:
        w = self.y.builder.constant(weights(self.y.size).reshape(self.y.shape), self.y.dtype)
        return apply("sum", w * apply("square", self.y))

    @property
    def is_differentiable(self) -> bool:
        return self.y.is_floating and bool(self.wrt)


def weights(count: int) -> Array:
    return np.array([0.5 + (0.375 * k) % 1.0 for k in range(count)])


@cache
def differentiable() -> list[tuple[str, int]]:
    every = [(n, k) for n, cases in CASES.items() for k in range(len(cases))]
    return [(n, k) for n, k in every if Built(n, k, "float64").is_differentiable]


@cache
def oracle(name: str, index: int) -> tuple[Array, Array]:
    """The Jacobian of y and the Hessian of s."""
    case = CASES[name][index]
    y = Point(case.reference, case.operands, case.moving)
    s = Point(weighted_squares(case.reference, weights(y.value.size)), case.operands, case.moving)
    if case.is_cut:
        return np.zeros((y.value.size, y.count)), np.zeros((y.count, y.count))
    return y.jacobian(), s.hessian()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "index"), differentiable())
def test_jvp_and_vjp(name: str, index: int, dtype: str) -> None:
    built = Built(name, index, dtype)
    wanted, _ = oracle(name, index)
    close(jacobian_forward(built.y, built.wrt, built.values), wanted, built.tolerance)
    close(jacobian_reverse(built.y, built.wrt, built.values), wanted, built.tolerance)


@pytest.mark.parametrize(("name", "index"), differentiable())
def test_dot_products_agree(name: str, index: int) -> None:
    """ct . (J t) = (ct' J) . t"""
    built = Built(name, index, "float64")
    rng = np.random.default_rng(index)
    t, (ct,) = fresh(built.wrt, "t"), fresh([built.y], "ct")
    moved = filled(push_forward([built.y], dict(zip(built.wrt, t, strict=True))), [built.y])
    pulled = filled(pull_back([built.y], [ct], built.wrt), built.wrt)
    check(Graph((*built.values, *t, ct), (*moved, *pulled)))
    values = {**built.values, **{n: rng.standard_normal(n.shape).astype(n.dtype) for n in [*t, ct]}}
    left = numbers(moved, values) @ values[ct].ravel().astype(float)
    right = numbers(pulled, values) @ np.concatenate([values[n].ravel() for n in t])
    assert left == pytest.approx(right, rel=built.tolerance, abs=built.tolerance * (1 + values[ct].size))
    for node, like in [(moved[0], built.y), *zip(pulled, built.wrt, strict=True)]:
        assert (node.shape, node.dtype) == (like.shape, like.dtype)


@pytest.mark.parametrize("order", HESSIANS)
@pytest.mark.parametrize(("name", "index"), differentiable())
def test_second_order(name: str, index: int, order: str) -> None:
    built = Built(name, index, "float64")
    _, wanted = oracle(name, index)
    close(HESSIANS[order](built.scalar(), built.wrt, built.values), wanted, 10 * built.tolerance)


@pytest.mark.parametrize("order", ["forward-over-reverse", "reverse-over-reverse"])
@pytest.mark.parametrize("name", sorted({name for name, _ in differentiable()}))
def test_second_order_in_single_precision(name: str, order: str) -> None:
    index = next(k for n, k in differentiable() if n == name)
    built = Built(name, index, "float32")
    _, wanted = oracle(name, index)
    close(HESSIANS[order](built.scalar(), built.wrt, built.values), wanted, 10 * built.tolerance)


@pytest.mark.parametrize("name", sorted({name for name, _ in differentiable()}))
def test_third_order(name: str) -> None:
    index = next(k for n, k in differentiable() if n == name)
    built, case = Built(name, index, "float64"), CASES[name][index]
    s = Point(weighted_squares(case.reference, weights(built.y.size)), case.operands, case.moving)
    direction = np.round(np.random.default_rng(0).uniform(-1, 1, s.count), 3)
    wanted = 0.0 if case.is_cut else s.third(direction)
    close(third_along(built.scalar(), built.wrt, built.values, direction), wanted,
          1e-10 if built.tolerance < 1e-12 else 1e-3)


def test_fourth_order_of_a_composition() -> None:
    """d^4/dx^4 sin(exp(x)) by four reverse sweeps, against its closed form."""
    x = Builder().input("x", (3,), np.dtype(np.float64))
    node = apply("sum", apply("sin", apply("exp", x)))
    for _ in range(4):
        (g,) = gradient(node, [x])
        node = apply("sum", g)
    points = np.array([-0.5, 0.25, 1.0])
    e = np.exp(points)
    wanted = e * np.cos(e) - 7 * e**2 * np.sin(e) - 6 * e**3 * np.cos(e) + e**4 * np.sin(e)
    np.testing.assert_allclose(reference.run([g], {x: points})[0], wanted, rtol=1e-13)


# ---- no derivative -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "index"), [(n, k) for n, c in CASES.items() for k in range(len(c))
                                             if (n, k) not in differentiable()])
def test_nothing_flows_through_integers_and_booleans(name: str, index: int) -> None:
    built = Built(name, index, "float64")
    z = built.y.builder.input("z", built.y.shape, np.dtype(np.float64))
    mixed = apply("multiply", apply("convert", built.y, dtype="float64"), z)
    t = fresh(built.wrt, "t")
    assert push_forward([mixed], dict(zip(built.wrt, t, strict=True))) == [None]
    pulled = pull_back([mixed], [z], [*built.wrt, z])
    assert pulled[:-1] == [None] * len(built.wrt)
    assert pulled[-1] is not None


# ---- batch ---------------------------------------------------------------------------------------------------------
SIZE = 3


def examples(array: Array) -> list[Array]:
    """Different values for the batch, within the range of `array`."""
    if array.dtype.kind == "f":
        return [np.roll(array.ravel(), k).reshape(array.shape) * (1 - 0.03125 * k) for k in range(SIZE)]
    return [np.roll(array.ravel(), k).reshape(array.shape) for k in range(SIZE)]


def batched_equals_loop(outputs: list[Node], values: Values, which: list[Node], tolerance: float) -> None:
    """`outputs` with the nodes of `which` batched, against one run for each example."""
    sets = {n: examples(values[n]) for n in which}
    new = {n: n.builder.input("b", (*n.shape, SIZE), n.dtype) for n in which}
    together = batch(outputs, new, SIZE)
    stacked = {**values, **{new[n]: np.stack(sets[n], -1) for n in which}}
    got = reference.run(together, stacked)
    for k in range(SIZE):
        alone = reference.run(outputs, {**values, **{n: sets[n][k] for n in which}})
        for one, many, node, whole in zip(alone, got, outputs, together, strict=True):
            assert whole.shape == many.shape == (*node.shape, SIZE)
            assert whole.dtype == many.dtype == node.dtype
            scale = np.max(np.abs(one), initial=0.0, where=np.isfinite(one)) if one.dtype.kind == "f" else 0
            np.testing.assert_allclose(many[..., k], one, rtol=tolerance, atol=tolerance * scale)


def subsets(nodes: list[Node]) -> list[list[Node]]:
    chosen = [[n for n, keep in zip(nodes, flags, strict=True) if keep] for flags in product([True, False],
                                                                                             repeat=len(nodes))]
    return [c for c in chosen if c]


@pytest.mark.parametrize(("name", "index"), [(n, k) for n, c in CASES.items() for k in range(len(c))])
def test_batch(name: str, index: int) -> None:
    built = Built(name, index, "float64")
    for which in subsets(list(built.values)):
        batched_equals_loop([built.y], built.values, which, built.tolerance)


@pytest.mark.parametrize(("name", "index"), differentiable())
def test_batch_of_derivatives(name: str, index: int) -> None:
    """J t, ct' J and H t, with every subset of the operands batched, and the tangents too or alone."""
    built = Built(name, index, "float64")
    t, (ct,) = fresh(built.wrt, "t"), fresh([built.y], "ct")
    tangents = dict(zip(built.wrt, t, strict=True))
    outputs = [
        *filled(push_forward([built.y], tangents), [built.y]),
        *filled(pull_back([built.y], [ct], built.wrt), built.wrt),
        *filled(push_forward(gradient(built.scalar(), built.wrt), tangents), built.wrt),
    ]
    values: dict[Node, Any] = {**built.values, **{n: weights(n.size).reshape(n.shape).astype(n.dtype)
                                              for n in [*t, ct]}}
    seeds = [*t, ct]
    for which in [seeds, *subsets(list(built.values)), [*built.values, *seeds]]:
        batched_equals_loop(outputs, values, which, 10 * built.tolerance)


def test_batch_repeats_what_does_not_depend_on_it() -> None:
    builder = Builder()
    x, z = (builder.input(n, (2,), np.dtype(np.float64)) for n in "xz")
    b = builder.input("b", (2, 4), x.dtype)
    one, two, three = batch([x, z, builder.zeros((3,), x.dtype)], {x: b}, 4)
    assert one is b
    assert (two.shape, three.shape) == ((2, 4), (3, 4))
    np.testing.assert_array_equal(reference.run([two], {z: np.array([1.0, 2.0])})[0], [[1.0] * 4, [2.0] * 4])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "int32"])
@pytest.mark.parametrize("size", [1, 200])
def test_batched_indices_of_every_integer_type(dtype: str, size: int) -> None:
    """index * size leaves a small integer type: it must widen, not wrap."""
    builder = Builder()
    x, index = builder.input("x", (5, 2), np.dtype(np.float64)), builder.input("i", (3,), np.dtype(dtype))
    taken, summed = apply("take", x, index, axis=0), apply("scatter_add", apply("take", x, index, axis=0), index,
                                                           size=5)
    xs = builder.input("xs", (5, 2, size), x.dtype)
    indices = builder.input("is", (3, size), index.dtype)
    rng = np.random.default_rng(0)
    values = {xs: rng.standard_normal((5, 2, size)), indices: rng.integers(0, 5, (3, size)).astype(dtype)}
    got = reference.run(batch([taken, summed], {x: xs, index: indices}, size), values)
    for k in range(size):
        alone = reference.run([taken, summed], {x: values[xs][..., k], index: values[indices][..., k]})
        for one, many in zip(alone, got, strict=True):
            np.testing.assert_array_equal(many[..., k], one)


def test_columns_of_nothing() -> None:
    x = Builder().input("x", (0, 2), np.dtype(np.float64))
    assert columns([x], [x], {}).shape == (0, 0)
