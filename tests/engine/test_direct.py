"""Direct assembly: what it covers, against JAX and against the sweeps, and what it leaves to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.compute import Options, compute, prepare
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Node

RNG = np.random.default_rng(5)
DATA = RNG.normal(size=(30, 6))
LABELS = (RNG.random(30) > 0.5) * 1.0
FIRST, SECOND = np.triu_indices(7, 1)


SQUARE = RNG.normal(size=(6, 6))
TARGET, FACTOR = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 2))


def factored(u: Node) -> Node:
    return constant(u, TARGET) - op("matmul", u, constant(u, FACTOR.T))


def cut(x: Node, *keys: slice | int) -> Node:
    """x[keys]; an int keeps its axis."""
    ranges = [range(n)[k if isinstance(k, slice) else slice(k, k + 1)] for k, n in zip(keys, x.shape, strict=True)]
    return op("slice", x, start=[r.start for r in ranges], step=[r.step for r in ranges], count=list(map(len, ranges)))


def constant(x: Node, value: Any) -> Node:
    return x.builder.constant(value)


def rosenbrock(x: Node) -> Node:
    head, tail = cut(x, slice(None, -1)), cut(x, slice(1, None))
    return op("sum", 100.0 * op("square", tail - op("square", head)) + op("square", 1.0 - head))


def logistic(w: Node) -> Node:
    z = op("matmul", constant(w, DATA), w)
    return op("sum", op("softplus", z) - constant(w, LABELS) * z) + 0.5 * op("sum", op("square", w))


def pairwise(p: Node) -> Node:
    d = op("reshape", p, shape=(7, 1, 3)) - op("reshape", p, shape=(1, 7, 3))
    return op("sum", op("sqrt", op("sum", d * d, axis=-1) + 0.1))


def lennard_jones(p: Node) -> Node:
    d = op("take", p, FIRST) - op("take", p, SECOND)
    r2 = op("sum", d * d, axis=-1)
    i3 = 1.0 / (r2 * r2 * r2)
    return op("sum", 4.0 * (i3 * i3 - i3))


def student(t: Node) -> Node:
    residual = (op("matmul", constant(t, DATA), cut(t, slice(0, 6))) - constant(t, LABELS)) * op("exp", -cut(t, 6))
    return op("sum", op("log1p", op("square", residual)))


def mixed_gather(w: Node) -> Node:
    return op("sum", op("sin", op("matmul", constant(w, DATA[:4]), w)) * op("take", w, np.array([0, 2, 2, 5])))


def hidden_layer(t: Node) -> Node:
    inner = op("reshape", cut(t, slice(0, 48)), shape=(6, 8))
    predicted = op("matmul", op("tanh", op("matmul", constant(t, DATA), inner)), cut(t, slice(48, None)))
    return op("sum", op("square", constant(t, LABELS) - predicted))


def cross_entropy(w: Node) -> Node:
    z = op("matmul", constant(w, DATA[:5]), w)
    return op("sum", op("log", op("sum", op("exp", z), axis=1)) - op("squeeze", cut(z, slice(None), 1), axis=1))


def jax_functions() -> dict[str, Callable[..., Any]]:
    jax = pytest.importorskip("jax", reason="JAX is the oracle here")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def jax_lj(p: Any) -> Any:
        d = p[FIRST] - p[SECOND]
        r2 = jnp.sum(d * d, -1)
        return jnp.sum(4 * (r2**-6.0 - r2**-3.0))

    return {
        "rosenbrock": lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        "logistic": lambda w: jnp.sum(jax.nn.softplus(DATA @ w) - LABELS * (DATA @ w)) + 0.5 * jnp.sum(w**2),
        "pairwise": lambda p: jnp.sum(jnp.sqrt(jnp.sum((p[:, None] - p[None]) ** 2, -1) + 0.1)),
        "lennard-jones": jax_lj,
        "student": lambda t: jnp.sum(jnp.log1p(((DATA @ t[:6] - LABELS) * jnp.exp(-t[6:7])) ** 2)),
        "mixed gather": lambda w: jnp.sum(jnp.sin(DATA[:4] @ w) * w[np.array([0, 2, 2, 5])]),
        "root mean square": lambda x: jnp.sqrt(jnp.mean(x * x)),
        "log-sum-exp": lambda x: jnp.log(jnp.sum(jnp.exp(x))),
        "variance": lambda x: jnp.mean((x - jnp.mean(x)) ** 2),
        "broadcast back": lambda x: jnp.mean(jnp.sin(x - jnp.mean(x)) * x) * jnp.sum(x),
        "softmax": lambda x: -jnp.log((jnp.exp(x) / jnp.sum(jnp.exp(x)))[2]),
        "quadratic": lambda x: jnp.sum((DATA @ x) ** 2),
        "reversed": lambda x: jnp.sum(jnp.exp(x * x[::-1])),
        "transposed": lambda x: jnp.sum(jnp.sin(x * x.T)),
        "repeated gather": lambda x: jnp.sum(jnp.sin(x[np.array([0, 0, 1, -1])])),
        "first times sum": lambda x: x[0] * jnp.sum(x) * jnp.sum(jnp.exp(x)),
        "scalar": lambda x: jnp.exp(x) * x,
        "quadratic form": lambda x: x @ SQUARE @ x + jnp.dot(x, x) ** 2,
        "factorization": lambda u: jnp.sum((TARGET - u @ FACTOR.T) ** 2),
        "softmax rows of data": lambda w: jnp.sum(jnp.sin(DATA @ w) * jnp.cos(DATA @ w)),
        "row-wise log-sum-exp": lambda x: jnp.sum(jnp.log(jnp.sum(jnp.exp(x), axis=1)) * LABELS[:3]),
        "row-wise variance": lambda x: jnp.sum(jnp.sqrt(jnp.mean((x - jnp.mean(x, 1, keepdims=True)) ** 2, axis=1))),
        "one hidden layer": lambda t: jnp.sum((LABELS - jnp.tanh(DATA @ t[:48].reshape(6, 8)) @ t[48:]) ** 2),
        "product of variables": lambda x: jnp.sum(jnp.sin(x.reshape(2, 3) @ x.reshape(3, 2))),
        "cross entropy": lambda w: jnp.sum(jnp.log(jnp.sum(jnp.exp(DATA[:5] @ w), axis=1)) - (DATA[:5] @ w)[:, 1]),
        "matrix and gather": lambda u: jnp.sum((TARGET - u @ FACTOR.T) * u[:, :1] ** 2),
    }


COVERED: dict[str, tuple[tuple[int, ...], Callable[[Node], Node]]] = {
    "rosenbrock": ((10,), rosenbrock),
    "logistic": ((6,), logistic),
    "pairwise": ((7, 3), pairwise),
    "lennard-jones": ((7, 3), lennard_jones),
    "student": ((7,), student),
    "mixed gather": ((6,), mixed_gather),
    "root mean square": ((6,), lambda x: op("sqrt", op("mean", x * x))),
    "log-sum-exp": ((6,), lambda x: op("log", op("sum", op("exp", x)))),
    "variance": ((6,), lambda x: op("mean", op("square", x - op("mean", x)))),
    "broadcast back": ((6,), lambda x: op("mean", op("sin", x - op("mean", x)) * x) * op("sum", x)),
    "softmax": ((6,), lambda x: -op("log", op("sum", cut(op("exp", x) / op("sum", op("exp", x)), 2)))),
    "quadratic": ((6,), lambda x: op("sum", op("square", op("matmul", constant(x, DATA), x)))),
    "reversed": ((5,), lambda x: op("sum", op("exp", x * op("flip", x)))),
    "transposed": ((3, 3), lambda x: op("sum", op("sin", x * op("transpose", x)))),
    "repeated gather": ((4,), lambda x: op("sum", op("sin", op("take", x, np.array([0, 0, 1, -1]))))),
    "first times sum": ((5,), lambda x: op("reshape", cut(x, 0), shape=()) * op("sum", x) * op("sum", op("exp", x))),
    "scalar": ((), lambda x: op("exp", x) * x),
    "quadratic form": ((6,), lambda x: op("dot", x, op("dot", constant(x, SQUARE), x)) + op("square", op("dot", x, x))),
    "factorization": ((5, 2), lambda u: op("sum", op("square", factored(u)))),
    "softmax rows of data": ((6, 3), lambda w: op("sum", op("sin", op("matmul", constant(w, DATA), w))
                                                  * op("cos", op("matmul", constant(w, DATA), w)))),
    "row-wise log-sum-exp": ((3, 6), lambda x: op("sum", op("log", op("sum", op("exp", x), axis=1))
                                                  * constant(x, LABELS[:3]))),
    "row-wise variance": ((3, 6), lambda x: op("sum", op("sqrt", op("mean", op("square", x - op(
        "mean", x, axis=1, keepdims=True)), axis=1)))),
    "one hidden layer": ((56,), hidden_layer),
    "cross entropy": ((6, 4), cross_entropy),
    "product of variables": ((6,), lambda x: op("sum", op("sin", op("matmul", op("reshape", x, shape=(2, 3)),
                                                                    op("reshape", x, shape=(3, 2)))))),
    "matrix and gather": ((5, 2), lambda u: op("sum", factored(u) * op("square", cut(u, slice(None), 0)))),
}


@pytest.mark.parametrize("name", COVERED)
def test_covered_functions_against_jax(name: str) -> None:
    shape, f = COVERED[name]
    x = RNG.normal(size=shape)
    result = compute(graph_of(f, shape), "hessian", [x])
    assert result.stats["strategy"] == "direct-assembly"
    jax_function = jax_functions()[name]
    import jax

    wanted = np.asarray(jax.hessian(jax_function)(x))
    assert result.value.shape == wanted.shape
    np.testing.assert_allclose(result.value, wanted, rtol=1e-12, atol=1e-13 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("name", COVERED)
@pytest.mark.parametrize("api", ["functional", "func"])
def test_covered_functions_against_the_sweep(name: str, api: str) -> None:
    shape, f = COVERED[name]
    x = RNG.normal(size=shape)
    graph = graph_of(f, shape)
    direct, swept = (
        compute(graph, "hessian", [x], options=Options(api=api, strategy=s)) for s in ("auto", "forward-over-reverse")
    )
    assert direct.value.shape == swept.value.shape
    np.testing.assert_allclose(direct.value, swept.value, rtol=1e-11, atol=1e-12)


def chosen(x: Node) -> Node:
    return op("take", x, np.array([1, 3, 0, 2, 1]))


# what reads the places of H from tables of offsets in an order, or of a number of axes, of its own
TABLED: dict[str, Callable[[Node], Node]] = {
    "sums of single elements": lambda x: op("sum", chosen(x) * op("sum", op("square", chosen(x)))),
    "softmax of a gather": lambda x: op("sum", op("square", op("softmax", op("sin", chosen(x))))),
    "a gather and its transpose": lambda x: op("sum", op("square", op("sin", op("reshape", op(
        "take", x, np.array([1, 0, 1, 1])), shape=(2, 2))) + op("cos", op("permute_dims", op("reshape", op(
            "take", x, np.array([1, 0, 1, 1])), shape=(2, 2)))))),
}


@pytest.mark.parametrize("name", TABLED)
@pytest.mark.parametrize("layout", ["dense", "csr", "packed"])
def test_places_from_tables(name: str, layout: str) -> None:
    graph, x = graph_of(TABLED[name], (4,)), RNG.normal(size=4)
    direct = compute(graph, "hessian", [x], options=Options(layout=layout))
    swept = compute(graph, "hessian", [x], options=Options(strategy="reverse-over-reverse")).value
    assert direct.stats["strategy"] == "direct-assembly"
    wanted = swept[np.triu_indices(4)] if layout == "packed" else swept
    found = direct.value.to_dense() if layout == "csr" else direct.value
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["power", "divide", "atan2", "xlogy", "hypot"])
def test_an_operand_that_stands_twice(name: str) -> None:
    """d2 f(x, x) = f_aa + 2 f_ab + f_bb."""
    graph, x = graph_of(lambda x: op("sum", op(name, op("exp", x), op("exp", x))), (3,)), RNG.normal(size=3)
    direct, swept = (compute(graph, "hessian", [x], options=Options(strategy=s))
                     for s in ("auto", "forward-over-reverse"))
    assert direct.stats["strategy"] == "direct-assembly"
    np.testing.assert_allclose(direct.value, swept.value, rtol=1e-12, atol=1e-12)


def test_several_inputs_and_data_as_argument() -> None:
    def f(w: Node, b: Node, data: Node) -> Node:
        return op("sum", op("sin", op("matmul", data, w) * op("exp", b)))

    graph = graph_of(f, (6,), (1,), (30, 6))
    inputs = [RNG.normal(size=6), RNG.normal(size=1), DATA]
    direct, swept = (compute(graph, "hessian", inputs, options=Options(argnums=(0, 1), strategy=s))
                     for s in ("auto", "reverse-over-reverse"))
    assert direct.stats["strategy"] == "direct-assembly"
    for i in range(2):
        for j in range(2):
            np.testing.assert_allclose(direct.value[i][j], swept.value[i][j], rtol=1e-10, atol=1e-11)


THROUGH_OPAQUE: dict[str, tuple[tuple[int, ...], Callable[[Node], Node]]] = {
    "more rows than inputs": ((4,), lambda x: op("sum", op("log", op("sum", op("exp", op(
        "matmul", constant(x, DATA[:, :1]), op("reshape", x, shape=(1, 4)))), axis=1)))),
    "largest element": ((5,), lambda x: op("square", op("max", x))),
}


@pytest.mark.parametrize("name", THROUGH_OPAQUE)
def test_what_cannot_be_taken_apart_is_taken_whole(name: str) -> None:
    shape, f = THROUGH_OPAQUE[name]
    graph, x = graph_of(f, shape), RNG.normal(size=shape)
    options = [Options(strategy=s) for s in ("auto", "reverse-over-reverse")]
    direct, swept = (compute(graph, "hessian", [x], options=o) for o in options)
    assert direct.stats["strategy"] == "direct-assembly"
    np.testing.assert_allclose(direct.value, swept.value, rtol=1e-10, atol=1e-11)


def three_layers(x: Node) -> Node:
    inner = op("tanh", op("matmul", op("tanh", op("reshape", x, shape=(3, 3))), constant(x, DATA[:3, :3])))
    return op("sum", op("tanh", op("matmul", inner, constant(x, DATA[3:6, :3]))))


def test_what_is_not_covered_is_swept() -> None:
    assert prepare(graph_of(three_layers, (9,)), "hessian").plan.strategy == "forward-over-reverse"


def test_random_expressions_agree_with_the_sweep() -> None:
    rng = np.random.default_rng(11)
    unary = ["sin", "tanh", "exp", "square", "sigmoid", "softplus", "negative"]
    binary = ["add", "subtract", "multiply", "maximum"]

    def leaf(x: Node) -> Node:
        kind = rng.integers(5)
        if kind == 0:
            start = int(rng.integers(2))
            return cut(x, slice(start, start + 5, 2), slice(0, 3))
        if kind == 1:
            return op("broadcast_to", cut(x, int(rng.integers(6)), slice(0, 3)), shape=(3, 3))
        if kind == 2:
            return op("take", op("take", x, rng.integers(-6, 6, size=3)), rng.integers(0, 4, size=3), axis=1)
        if kind == 3:
            return op("transpose", cut(x, slice(0, 3), slice(1, 4)))
        return op("broadcast_to", op("mean", op("square", x)), shape=(3, 3))

    covered = 0
    for _ in range(60):

        def f(x: Node) -> Node:
            pool = [leaf(x) for _ in range(3)]
            for _ in range(6):
                a, b, c = (pool[rng.integers(len(pool))] for _ in range(3))
                choices = [
                    op(unary[rng.integers(len(unary))], a),
                    op(binary[rng.integers(len(binary))], a, b),
                    op("divide", a, 2.0 + op("square", b)),
                    op("where", c > 0.3, a, b),
                ]
                pool.append(choices[rng.integers(len(choices))])
            return op("sum", op("tanh", pool[-1])) + op("sum", pool[-2] * 0.1)

        graph = graph_of(f, (6, 4))
        x = rng.normal(size=(6, 4))
        x[2:5] *= 0.5
        direct = compute(graph, "hessian", [x])
        swept = compute(graph, "hessian", [x], options=Options(strategy="forward-over-reverse"))
        covered += direct.stats["strategy"] == "direct-assembly"
        scale = max(1.0, np.abs(swept.value).max())
        np.testing.assert_allclose(direct.value, swept.value, rtol=1e-9, atol=1e-11 * scale)
    assert covered >= 40


def test_structural_zeros_stay_zero_at_infinities() -> None:
    # the sweep multiplies the infinite second derivative at x_0 = 0 with seeds that are 0 there
    graph = graph_of(lambda x: op("sum", op("sqrt", x)), (2,))
    value = compute(graph, "hessian", [np.array([0.0, 4.0])]).value
    np.testing.assert_array_equal(value, [[-np.inf, 0.0], [0.0, -0.03125]])


def test_the_branch_not_taken_contributes_nothing() -> None:
    graph = graph_of(lambda x: op("sum", op("where", x > 0.0, op("log", x) * op("sqrt", x), x * x)), (3,))
    value = compute(graph, "hessian", [np.array([0.0, -1.0, 4.0])]).value
    assert value[0, 0] == value[1, 1] == 2.0
    # (ln x sqrt x)'' = -ln x / (4 x^1.5)
    np.testing.assert_allclose(value[2, 2], -np.log(4.0) / 32.0, rtol=1e-14)


def test_a_branch_not_taken_stays_out_of_reductions() -> None:
    # f = m sum_{x > 0} ln x with m = mean(x): H_ij = (1/x_i + 1/x_j) / n - m [i = j] / x_i^2, without terms of x <= 0
    graph = graph_of(
        lambda x: op("sum", op("where", x > 0.0, op("log", x) * op("mean", x), 0.0)), (5,))
    x = np.array([0.0, -1.0, 2.0, 4.0, 1.0])
    result = compute(graph, "hessian", [x])
    inverse = np.array([0.0, 0.0, 0.5, 0.25, 1.0])
    wanted = (inverse[:, None] + inverse) / 5 - np.diag(x.mean() * inverse**2)
    assert result.stats["strategy"] == "direct-assembly"
    np.testing.assert_allclose(result.value, wanted, rtol=1e-14, atol=1e-15)


def test_a_reduction_of_a_branch_not_taken_is_not_looked_at() -> None:
    # r = row sums of sqrt x; the first row is 0, where dr/dx is infinite and ln r is not taken
    def f(x: Node) -> Node:
        r = op("sum", op("sqrt", x), axis=1)
        return op("sum", op("where", r > 0.0, op("log", r), 0.0))

    x = RNG.uniform(0.5, 2.0, size=(3, 6))
    x[0] = 0.0
    result = compute(graph_of(f, (3, 6)), "hessian", [x])
    live = compute(graph_of(f, (2, 6)), "hessian", [x[1:]], options=Options(strategy="forward-over-reverse"))
    assert result.stats["strategy"] == "direct-assembly"
    np.testing.assert_allclose(result.value[1:, :, 1:, :], live.value, rtol=1e-12, atol=1e-14)
    assert not result.value[0].any()
    assert not result.value[:, :, 0].any()


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_dtype_is_kept(dtype: Any) -> None:
    graph = graph_of(rosenbrock, (5,), dtypes=[dtype])
    assert compute(graph, "hessian", [np.ones(5, dtype)]).value.dtype == dtype


def test_a_chunk_cap_is_kept_without_chunks() -> None:
    stats = compute(graph_of(rosenbrock, (5,)), "hessian", [np.ones(5)], options=Options(chunk_size=1)).stats
    assert stats["strategy"] == "direct-assembly"
    assert stats["chunks"] == 0


def test_memory_is_that_of_the_result() -> None:
    plan = prepare(graph_of(rosenbrock, (1000,)), "hessian").plan
    assert plan.result_bytes == 8_000_000
    assert plan.predicted_peak_bytes < 1.02 * plan.result_bytes


def test_a_budget_that_only_a_sweep_meets() -> None:
    graph = graph_of(pairwise, (7, 3))
    direct = prepare(graph, "hessian").plan
    swept = prepare(graph, "hessian", Options(strategy="forward-over-reverse", chunk_size=1)).plan
    budget = (direct.predicted_peak_bytes + swept.predicted_peak_bytes) // 2
    assert swept.predicted_peak_bytes < direct.predicted_peak_bytes
    assert prepare(graph, "hessian", Options(max_memory_bytes=budget)).plan.strategy == "forward-over-reverse"


def test_flops_count_the_products_of_matrix_images() -> None:
    # X' diag(h) X: one multiply-add for each of 30 rows and 6 x 6 entries
    plan = prepare(graph_of(logistic, (6,)), "hessian").plan
    assert 2 * 30 * 6 * 6 <= plan.flops <= 2 * 30 * 6 * 6 + 30 * 60
