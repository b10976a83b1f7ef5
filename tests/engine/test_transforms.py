"""jvp, vjp and batch as Graph -> Graph: signatures, structure, laws that hold for every function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.backend import reference
from hesse_engine.ir.check import check
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Builder, Graph, Node, is_zero
from hesse_engine.ir.walk import reachable
from hesse_engine.transforms.batch import batch, from_last, to_last
from hesse_engine.transforms.compose import basis, jacobian_forward, jacobian_reverse
from hesse_engine.transforms.jvp import jvp, push_forward
from hesse_engine.transforms.vjp import gradient, pull_back, vjp
from oracles import peer
from orders import HESSIANS, close


def run(graph: Graph, *arrays: Any) -> list[Array]:
    return reference.run(graph.outputs, dict(zip(graph.inputs, arrays, strict=True)))


# name -> (function of nodes, the same of NumPy-like arrays, shapes)
FUNCTIONS: dict[str, tuple[Callable[..., Node], Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "rosenbrock": (
        lambda x: op("sum", 100.0 * op("square", part(x, 1, 3) - op("square", part(x, 0, 3)))
                     + op("square", 1.0 - part(x, 0, 3))),
        lambda np_, x: (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(), ((4,),)),
    "logistic": (
        lambda w, x: op("sum", op("softplus", op("matmul", x, w)) - 0.5 * op("matmul", x, w)),
        lambda np_, w, x: (np_.logaddexp(0.0 * (x @ w), x @ w) - 0.5 * (x @ w)).sum(), ((3,), (5, 3))),
    "network": (
        lambda w, v, x: op("sum", op("square", op("matmul", op("tanh", op("matmul", x, w)), v))),
        lambda np_, w, v, x: ((np_.tanh(x @ w) @ v) ** 2).sum(), ((2, 3), (3, 1), (4, 2))),
    "distances": (
        lambda x: op("sum", op("exp", -op("sum", op("square",
                                                    op("expand_dims", x, axis=0) - op("expand_dims", x, axis=1)),
                                        axis=-1))),
        lambda np_, x: np_.exp(-((x[None] - x[:, None]) ** 2).sum(-1)).sum(), ((3, 2),)),
    "softmax entropy": (
        lambda x: op("sum", soft(x) * op("log", soft(x))),
        lambda np_, x: ((np_.exp(x) / np_.exp(x).sum()) * (x - np_.log(np_.exp(x).sum()))).sum(), ((4,),)),
    "norm": (
        lambda x: op("sqrt", op("mean", op("square", x))), lambda np_, x: np_.sqrt((x**2).mean()), ((2, 3),)),
    "powers": (
        lambda x, y: op("sum", op("power", op("exp", x), y) / (1.0 + op("square", y))),
        lambda np_, x, y: (np_.exp(x) ** y / (1 + y**2)).sum(), ((3,), (2, 1))),
    "product": (lambda x: op("prod", x), lambda np_, x: x.prod(), ((5,),)),
}


def part(x: Node, start: int, count: int) -> Node:
    return op("slice", x, start=(start,), count=(count,))


def soft(x: Node) -> Node:
    return op("exp", x) / op("sum", op("exp", x))


def points(name: str) -> list[Array]:
    rng = np.random.default_rng(len(name))
    return [rng.uniform(-1, 1, s) for s in FUNCTIONS[name][2]]


@pytest.mark.parametrize("order", HESSIANS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessians_agree_with_jax(name: str, order: str) -> None:
    jax: Any = peer("jax")
    if jax is None:
        pytest.skip("JAX is not installed")
    f, plain, shapes = FUNCTIONS[name]
    arrays = points(name)
    sizes = np.cumsum([a.size for a in arrays])[:-1]
    with jax.enable_x64(True):
        import jax.numpy as jnp

        def flat(v: Any) -> Any:
            return plain(jnp, *[p.reshape(s) for p, s in zip(jnp.split(v, sizes), shapes, strict=True)])

        vector = np.concatenate([a.ravel() for a in arrays])
        wanted = np.asarray(jax.jit(jax.hessian(flat))(vector))
    graph = graph_of(f, *shapes)
    got = HESSIANS[order](graph.outputs[0], graph.inputs, dict(zip(graph.inputs, arrays, strict=True)))
    close(got, wanted, 1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient_agrees_with_the_complex_step(name: str) -> None:
    """Im f(x + i h e_k) / h with h = 1e-200 has no cancellation: exact to rounding."""
    f, plain, shapes = FUNCTIONS[name]
    if name == "logistic":
        def plain(np_: Any, w: Any, x: Any) -> Any:  # NumPy's logaddexp is real
            return (np.log(1 + np.exp(x @ w)) - 0.5 * (x @ w)).sum()
    arrays = points(name)
    graph = graph_of(f, *shapes)
    got = reference.run(gradient(graph.outputs[0], graph.inputs), dict(zip(graph.inputs, arrays, strict=True)))
    for k, array in enumerate(arrays):
        wanted = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = [a.astype(complex) for a in arrays]
            moved[k][index] += 1e-200j
            wanted[index] = plain(np, *moved).imag / 1e-200
        close(got[k], wanted, 1e-13)


# ---- signatures ----------------------------------------------------------------------------------------------------
def test_jvp_and_vjp_append_inputs_and_outputs() -> None:
    graph = graph_of(lambda x, y: (op("sin", x) * op("sum", y), op("sum", x)), (3,), (2,), names=["x", "y"])
    forward, reverse = jvp(graph, [1, 0]), vjp(graph, [0])
    assert forward.names == ("x", "y", "t_y", "t_x")
    assert [n.shape for n in forward.outputs] == [(3,), (), (3,), ()]
    assert reverse.names == ("x", "y", "ct_0", "ct_1")
    assert [n.shape for n in reverse.outputs] == [(3,), (), (3,)]
    assert jvp(forward, [0, 2]).names[4:] == ("t_x'", "t_t_y")
    assert vjp(reverse, [0]).names[4:] == ("ct_0'", "ct_1'", "ct_2")
    for derived in (forward, reverse, jvp(forward, [0, 2]), vjp(vjp(graph, [0, 1]), [0])):
        check(derived)
    x, y, t, ct = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0]), np.array([1.0, -1.0, 2.0]), np.array([3.0, 1.0, 1.0])
    np.testing.assert_allclose(run(forward, x, y, np.array([1.0, 1.0]), t)[2], np.cos(x) * t * 3 + np.sin(x) * 2,
                               rtol=1e-15)
    np.testing.assert_allclose(run(reverse, x, y, ct, np.array(2.0))[2], ct * np.cos(x) * 3 + 2, rtol=1e-15)


def test_guards_are_carried_along() -> None:
    graph = graph_of(lambda x: op("sum", x), (3,))
    guarded = Graph(graph.inputs, graph.outputs, ((op("sum", graph.inputs[0]) > 0.0, True),))
    assert jvp(guarded, [0]).guards == vjp(guarded, [0]).guards == guarded.guards


def test_what_is_independent_is_zero() -> None:
    graph = graph_of(lambda x, y: (op("sum", x), op("exp", y), op("argmax", x)), (3,), (2,))
    forward = jvp(graph, [0])
    assert [is_zero(n) for n in forward.outputs[3:]] == [False, True, True]
    assert forward.outputs[4].shape == (2,)
    (g,) = gradient(op("sum", graph.inputs[1]), [graph.inputs[0]])
    assert is_zero(g) and g.shape == (3,)
    x, y = graph.inputs
    assert push_forward([op("sum", y)], {x: x}) == [None]
    assert pull_back([op("sum", y)], [op("sum", y)], [x]) == [None]
    assert pull_back([], [], [x]) == [None]


def test_outputs_that_repeat_and_outputs_that_are_inputs() -> None:
    builder = Builder()
    x, c, d = (builder.input(n, (2,), FLOAT64) for n in "xcd")
    (g,) = pull_back([x, x], [c, d], [x])
    assert g is c + d
    (g,) = pull_back([op("square", x), x], [c, d], [x])
    assert g is not None
    np.testing.assert_array_equal(reference.run([g], {x: np.array([1.0, 2.0]), c: np.array([3.0, 3.0]),
                                                      d: np.ones(2)})[0], [7, 13])
    assert push_forward([x], {x: c}) == [c]


def test_an_intermediate_can_be_differentiated_by() -> None:
    """A node of `wrt` is a variable of its own: nothing flows through it to its operands."""
    builder = Builder()
    x = builder.input("x", (2,), FLOAT64)
    u = op("sin", x)
    s = op("sum", u * u * x)
    by_u, by_x = gradient(s, [u, x])
    t = builder.input("t", (2,), FLOAT64)
    (moved,) = push_forward([s], {u: t, x: builder.zeros((2,), FLOAT64)})
    assert moved is not None
    values = {x: np.array([0.5, 2.0]), t: np.array([1.0, 3.0])}
    got = reference.run([by_u, by_x, moved], values)
    sin = np.sin(values[x])
    np.testing.assert_allclose(got[0], 2 * sin * values[x], rtol=1e-15)
    np.testing.assert_allclose(got[1], sin**2, rtol=1e-15)
    np.testing.assert_allclose(got[2], np.sum(2 * sin * values[x] * values[t]), rtol=1e-15)


def test_dtypes_survive_a_mixed_graph() -> None:
    graph = graph_of(lambda x, y: op("sum", op("exp", x) * op("convert", y, dtype="float64")), (3,), (3,),
                     dtypes=[FLOAT64, FLOAT32])
    derived = vjp(graph, [0, 1])
    assert [n.dtype for n in derived.outputs[1:]] == [FLOAT64, FLOAT32]
    values = run(derived, np.ones(3), np.ones(3, np.float32), np.array(1.0))
    assert [v.dtype for v in values[1:]] == [FLOAT64, FLOAT32]
    assert jvp(graph, [1]).outputs[1].dtype == FLOAT64


def test_shared_expressions_stay_shared() -> None:
    """exp(x) is its own derivative: the gradient graph has one exp and no more."""
    graph = graph_of(lambda x: op("sum", op("exp", op("exp", x))), (3,))
    node = graph.outputs[0]
    for _ in range(3):
        (node,) = [op("sum", g) for g in gradient(node, graph.inputs)]
    assert len([n for n in reachable([node]) if n.op == "exp"]) == 2


def test_the_depth_of_sharing_does_not_multiply() -> None:
    """y <- y * y, sixty times: 2^60 paths, sixty products."""
    graph = graph_of(lambda x: chain(x, 60), ())
    (g,) = gradient(graph.outputs[0], graph.inputs)
    assert len(reachable([g])) < 400
    np.testing.assert_allclose(reference.run([g], {graph.inputs[0]: np.array(1.0)})[0], 2.0**60)


def chain(x: Node, count: int) -> Node:
    for _ in range(count):
        x = x * x
    return x


# ---- batch ---------------------------------------------------------------------------------------------------------
def test_batch_of_batch_commutes() -> None:
    builder = Builder()
    x, y = builder.input("x", (2, 3), FLOAT64), builder.input("y", (3,), FLOAT64)
    s = op("sum", op("tanh", op("matmul", x, y)) * op("max", x, axis=1))
    xs, ys = builder.input("xs", (2, 3, 4), FLOAT64), builder.input("ys", (3, 5), FLOAT64)
    (by_x,) = batch([s], {x: xs}, 4)
    (by_both,) = batch([by_x], {y: ys}, 5)
    (by_y,) = batch([s], {y: ys}, 5)
    (other,) = batch([by_y], {x: xs}, 4)
    assert (by_both.shape, other.shape) == ((4, 5), (5, 4))
    rng = np.random.default_rng(0)
    a, b = reference.run([by_both, other], {xs: rng.standard_normal(xs.shape), ys: rng.standard_normal(ys.shape)})
    np.testing.assert_allclose(a, b.T, rtol=1e-15)


def test_batch_and_derivative_commute() -> None:
    builder = Builder()
    x = builder.input("x", (3,), FLOAT64)
    s = op("sum", op("power", op("square", x) + 1.0, 1.5)) * op("max", x)
    xs = builder.input("xs", (3, 4), FLOAT64)
    (of_gradient,) = batch(gradient(s, [x]), {x: xs}, 4)
    (together,) = batch([s], {x: xs}, 4)
    (of_batch,) = gradient(op("sum", together), [xs])
    a, b = reference.run([of_gradient, of_batch], {xs: np.random.default_rng(0).standard_normal((3, 4))})
    np.testing.assert_allclose(a, b, rtol=1e-14)


def test_a_batch_of_nothing() -> None:
    builder = Builder()
    x, xs = builder.input("x", (2, 3), FLOAT64), builder.input("xs", (2, 3, 0), FLOAT64)
    s = op("max", op("matmul", x, op("transpose", x)), axis=0)
    (y,) = batch([s], {x: xs}, 0)
    assert reference.run([y], {xs: np.zeros((2, 3, 0))})[0].shape == (2, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_to_last_and_back(axis: int) -> None:
    x = Builder().input("x", (2, 3, 4), FLOAT64)
    value = np.arange(24.0).reshape(2, 3, 4)
    there, back = reference.run([to_last(x, axis), from_last(to_last(x, axis), axis)], {x: value})
    np.testing.assert_array_equal(there, np.moveaxis(value, axis, -1))
    np.testing.assert_array_equal(back, value)


def test_jacobians_as_nodes() -> None:
    builder = Builder()
    x, y = builder.input("x", (2,), FLOAT64), builder.input("y", (1, 3), FLOAT64)
    outputs = [op("outer", op("sin", x), y), op("sum", x)]
    for blocks in (jacobian_forward(outputs, [x, y]), jacobian_reverse(outputs, [x, y])):
        assert [[b.shape for b in row] for row in blocks] == [[(2, 3, 2), (2, 3, 1, 3)], [(2,), (1, 3)]]
        values = {x: np.array([0.3, 0.7]), y: np.array([[1.0, 2.0, 3.0]])}
        got = reference.run([b for row in blocks for b in row], values)
        wanted = np.einsum("ij,k,i->ikj", np.eye(2), values[y][0], np.cos(values[x]))
        np.testing.assert_allclose(got[0], wanted, rtol=1e-15)
        np.testing.assert_array_equal(got[3], np.zeros((1, 3)))
    np.testing.assert_array_equal(reference.run([basis(y)], {})[0], np.eye(3)[None])
