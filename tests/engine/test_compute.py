"""The pipeline: every operation, strategy, chunk and convention against closed forms and JAX."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.compute import Options, compute, guards_hold, prepare
from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.errors import HesseError
from hesse_engine.ir.graph import FLOAT32, FLOAT64, INT64, Graph, Node
from hesse_engine.options import HESSIAN_STRATEGIES, JACOBIAN_STRATEGIES

RNG = np.random.default_rng(3)
A = RNG.normal(size=(3, 4))
B = RNG.normal(size=(4, 2))


def coupled(x: Node, y: Node) -> Node:
    return op("sum", op("tanh", op("matmul", x, y))) * op("exp", op("sum", y))


def coupled_hessian() -> list[list[Any]]:
    """The blocks [i][j] of `coupled`, by JAX."""
    jax = pytest.importorskip("jax", reason="JAX is the oracle here")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    blocks = jax.hessian(lambda x, y: jnp.sum(jnp.tanh(x @ y)) * jnp.exp(jnp.sum(y)), argnums=(0, 1))(A, B)
    return [[np.asarray(b) for b in row] for row in blocks]


@pytest.fixture(scope="module")
def expected() -> list[list[Any]]:
    return coupled_hessian()


@pytest.mark.parametrize("strategy", ["auto", *HESSIAN_STRATEGIES])
@pytest.mark.parametrize("api", ["functional", "func"])
@pytest.mark.parametrize("chunk_size", [None, 1, 3, 20, 1000])
@pytest.mark.parametrize("preallocate", [True, False])
def test_every_way_to_a_hessian(
    strategy: str, api: str, chunk_size: int | None, preallocate: bool, expected: list[list[Any]]
) -> None:
    graph = graph_of(coupled, A.shape, B.shape)
    options = Options(api=api, argnums=(0, 1), strategy=strategy, chunk_size=chunk_size, preallocate=preallocate)
    result = compute(graph, "hessian", [A, B], options=options)
    for i, j in itertools.product(range(2), range(2)):
        np.testing.assert_allclose(result.value[i][j], expected[i][j], rtol=1e-11, atol=1e-11)
    assert result.stats["strategy"] == ("direct-assembly" if strategy == "auto" else strategy)
    assert result.stats["chunk_size"] <= (20 if chunk_size is None else min(chunk_size, 20))
    if strategy != "auto":  # which needs no chunks here, so any cap is kept
        assert result.stats["chunks"] == -(-20 // result.stats["chunk_size"])


def test_preallocated_and_concatenated_are_the_same_bits() -> None:
    graph = graph_of(coupled, A.shape, B.shape)
    swept = "forward-over-reverse"
    blocks = [compute(graph, "hessian", [A, B], options=Options(strategy=swept, chunk_size=3, preallocate=p)).value
              for p in (True, False)]
    for i, j in itertools.product(range(2), range(2)):
        assert blocks[0][i][j].tobytes() == blocks[1][i][j].tobytes()


def test_preallocation_lowers_the_predicted_peak() -> None:
    graph = graph_of(lambda x: op("tanh", x) * 2.0, (512,))
    kept, joined = (
        prepare(graph, "jacobian", Options(chunk_size=64, preallocate=p, strategy="reverse")).plan
        for p in (True, False)
    )
    assert kept.predicted_peak_bytes < joined.predicted_peak_bytes


@pytest.mark.parametrize("mode", ["auto", *JACOBIAN_STRATEGIES])
@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_jacobian_of_two_outputs(mode: str, chunk_size: int | None) -> None:
    graph = graph_of(lambda x, y: (op("sin", x) * y, op("sum", x * y)), (3,), (3,))
    x, y = RNG.normal(size=3), RNG.normal(size=3)
    result = compute(graph, "jacobian", [x, y], options=Options(strategy=mode, chunk_size=chunk_size))
    (by_x, by_y), (sum_x, sum_y) = result.value
    np.testing.assert_allclose(by_x, np.diag(np.cos(x) * y), rtol=1e-14)
    np.testing.assert_allclose(by_y, np.diag(np.sin(x)), rtol=1e-14)
    np.testing.assert_allclose(sum_x, y, rtol=1e-14)
    np.testing.assert_allclose(sum_y, x, rtol=1e-14)


def test_products_agree_with_the_matrix(expected: list[list[Any]]) -> None:
    graph = graph_of(coupled, A.shape, B.shape)
    v = [RNG.normal(size=A.shape), RNG.normal(size=B.shape)]
    wanted = [sum(np.tensordot(expected[i][j], v[j], 2) for j in range(2)) for i in range(2)]
    value = compute(graph, "value", [A, B]).value
    for name in ("hvp", "vhp"):
        result = compute(graph, name, [A, B], v)
        np.testing.assert_allclose(result.output, value, rtol=1e-15)
        for i in range(2):
            np.testing.assert_allclose(result.value[i], wanted[i], rtol=1e-11, atol=1e-11)


def test_dot_product_identity() -> None:
    graph = graph_of(lambda x: op("tanh", op("matmul", x.builder.constant(A), x)), (4,))
    x, v, u = RNG.normal(size=4), RNG.normal(size=4), RNG.normal(size=3)
    forward = compute(graph, "jvp", [x], [v])
    backward = compute(graph, "vjp", [x], [u])
    np.testing.assert_allclose(u @ forward.value, v @ backward.value, rtol=1e-13)
    np.testing.assert_allclose(forward.output, np.tanh(A @ x), rtol=1e-15)


def test_argnums_decide_nesting() -> None:
    graph = graph_of(lambda x, y: op("sum", x * y * y), (2,), (2,))
    inputs = [np.ones(2), np.ones(2)]
    grad = {n: compute(graph, "grad", inputs, options=Options(argnums=n)).value for n in (1, (1,), (0, 1), -2)}
    assert isinstance(grad[1], np.ndarray)
    assert isinstance(grad[1,], list)
    assert len(grad[0, 1]) == 2
    np.testing.assert_array_equal(grad[-2], np.ones(2))
    assert isinstance(compute(graph, "hessian", inputs, options=Options(argnums=1)).value, np.ndarray)
    assert isinstance(compute(graph, "hessian", inputs, options=Options(api="func")).value, np.ndarray)
    assert isinstance(compute(graph, "hessian", inputs).value[0], list)


@pytest.mark.parametrize(("api", "shape", "wanted"), [
    ("functional", (1,), (1, 1)), ("func", (1,), (1, 1, 1)), ("functional", (1, 1), (1, 1, 1, 1)),
])
def test_one_element_outputs(api: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    graph = graph_of(lambda x: op("power", x, 3) + 4.0 * x - 10.0, shape)
    value = compute(graph, "hessian", [np.full(shape, 2.0)], options=Options(api=api)).value
    assert value.shape == wanted
    assert float(value.reshape(())) == 12.0


def test_func_hessian_of_a_vector_function() -> None:
    graph = graph_of(lambda x: op("sin", x), (3,))
    x = RNG.normal(size=3)
    value = compute(graph, "hessian", [x], options=Options(api="func")).value
    wanted = np.zeros((3, 3, 3))
    wanted[range(3), range(3), range(3)] = -np.sin(x)
    np.testing.assert_allclose(value, wanted, rtol=1e-15)


def test_block_dtypes_of_the_two_conventions() -> None:
    graph = graph_of(lambda x, y: op("sum", x * y), (2,), (3, 2), dtypes=[FLOAT32, FLOAT64])
    inputs = [np.ones(2, np.float32), np.ones((3, 2))]
    functional = compute(graph, "hessian", inputs, options=Options(argnums=(0, 1))).value
    func = compute(graph, "hessian", inputs, options=Options(api="func", argnums=(0, 1))).value
    assert [[str(b.dtype) for b in row] for row in functional] == [["float32", "float64"]] * 2
    assert [[str(b.dtype) for b in row] for row in func] == [["float32"] * 2, ["float64"] * 2]


def test_float32_stays_float32() -> None:
    graph = graph_of(lambda x: op("sum", op("exp", x) * 2.0), (3,), dtypes=[FLOAT32])
    x = np.array([0.1, 0.2, 0.3], np.float32)
    value = compute(graph, "hessian", [x]).value
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, np.diag(2 * np.exp(x)), rtol=1e-6)


ZERO = {
    "times zero": lambda x: op("sum", x) * 0.0 + 1.0,
    "linear": lambda x: op("sum", 3.0 * x),
    "constant": lambda x: x.builder.full((), 2.0, FLOAT64),
}


@pytest.mark.parametrize("f", ZERO.values(), ids=ZERO.keys())
def test_zero_hessians(f: Any) -> None:
    value = compute(graph_of(f, (3,)), "hessian", [np.ones(3)]).value
    np.testing.assert_array_equal(value, np.zeros((3, 3)))


def test_empty_inputs() -> None:
    graph = graph_of(lambda x: op("sum", op("square", x)), (0,))
    assert compute(graph, "hessian", [np.ones(0)]).value.shape == (0, 0)
    assert compute(graph, "grad", [np.ones(0)]).value.shape == (0,)


def test_auxiliary_outputs_are_values() -> None:
    graph = graph_of(lambda x: (op("sum", op("square", x)), op("exp", x)), (2,))
    result = compute(graph, "hessian", [np.zeros(2)], options=Options(aux=1))
    np.testing.assert_array_equal(result.value, 2 * np.eye(2))
    np.testing.assert_array_equal(result.aux[0], np.ones(2))


def test_results_belong_to_the_caller() -> None:
    graph = graph_of(lambda x: (x, op("reshape", x, shape=(2, 1))), (2,))
    x = np.ones(2)
    prepared = prepare(graph, "value")
    first = prepared([x]).value
    for array in first:
        array[...] = 7.0
    np.testing.assert_array_equal(x, np.ones(2))
    np.testing.assert_array_equal(prepared([x]).value[1], np.ones((2, 1)))


def test_guards() -> None:
    graph = graph_of(lambda x: op("square", x), ())
    guarded = Graph(graph.inputs, graph.outputs, ((graph.inputs[0] > 0.0, True),))
    assert guards_hold(guarded, [np.array(1.0)])
    assert not guards_hold(guarded, [np.array(-1.0)])


ROSENBROCK = graph_of(
    lambda x: op("sum", 100.0 * op("square", op("slice", x, start=(1,), count=(99,)) - op(
        "square", op("slice", x, start=(0,), count=(99,))))), (100,))


def test_memory_budget_chooses_smaller_chunks() -> None:
    sweep = "forward-over-reverse"
    free = prepare(ROSENBROCK, "hessian", Options(strategy=sweep)).plan
    result = 100 * 100 * 8
    assert free.result_bytes == result
    budget = result + (free.predicted_peak_bytes - result) // 4
    tight = prepare(ROSENBROCK, "hessian", Options(strategy=sweep, max_memory_bytes=budget)).plan
    assert tight.chunk_size < free.chunk_size
    assert tight.predicted_peak_bytes <= budget
    x = RNG.normal(size=100)
    whole, parts = (compute(ROSENBROCK, "hessian", [x], options=Options(strategy=sweep, max_memory_bytes=b)).value
                    for b in (None, tight.predicted_peak_bytes))
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("budget", [0, 1000, 80_000])
def test_what_cannot_fit_is_refused(budget: int) -> None:
    with pytest.raises(HesseError, match="nothing was allocated") as caught:
        prepare(ROSENBROCK, "hessian", Options(max_memory_bytes=budget))
    assert caught.value.code == "over-memory-budget"
    assert isinstance(caught.value, MemoryError)


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("hessian", {"chunk_size": 0}, "bad-chunk-size"),
    ("hessian", {"chunk_size": -1}, "bad-chunk-size"),
    ("hessian", {"chunk_size": 1.5}, "bad-chunk-size"),
    ("hessian", {"chunk_size": True}, "bad-chunk-size"),
    ("hessian", {"device": "cuda"}, "device-absent"),
    ("hessian", {"device": "cuda:0"}, "device-absent"),
    ("hessian", {"device": "cpu:1"}, "device-absent"),
    ("hessian", {"device": "abacus"}, "bad-device"),
    ("hessian", {"device": 3}, "bad-device"),
    ("hessian", {"threads": 0}, "bad-option"),
    ("hessian", {"threads": "2"}, "bad-option"),
    ("hessian", {"strategy": "sideways"}, "bad-option"),
    ("hessian", {"layout": "csr5"}, "bad-layout"),
    ("hessian", {"api": "torch"}, "bad-option"),
    ("hessian", {"tier": "gpu"}, "bad-option"),
    ("hessian", {"aux": 1}, "bad-option"),
    ("hessian", {"max_memory_bytes": -1}, "bad-option"),
    ("hessian", {"strict": "yes"}, "bad-option"),
    ("hessian", {"argnums": ()}, "bad-argnums"),
    ("hessian", {"argnums": 3}, "bad-argnums"),
    ("hessian", {"argnums": (0, 0)}, "bad-argnums"),
    ("hessian", {"argnums": (0, -2)}, "bad-argnums"),
    ("hessian", {"argnums": 1.0}, "argnums-type"),
    ("laplace", {}, "unknown-operation"),
]


@pytest.mark.parametrize(("operation", "options", "code"), REFUSALS)
def test_refused_options(operation: str, options: dict[str, Any], code: str) -> None:
    graph = graph_of(lambda x, y: op("sum", x * y), (2,), (2,))
    with pytest.raises(HesseError) as caught:
        prepare(graph, operation, Options(**options))
    assert caught.value.code == code


@pytest.mark.parametrize(("api", "operation", "code"), [
    ("functional", "hessian", "not-scalar"), ("functional", "hvp", "not-scalar"), ("functional", "vhp", "not-scalar"),
    ("func", "grad", "not-scalar"),
])
def test_functions_that_are_not_scalar(api: str, operation: str, code: str) -> None:
    graph = graph_of(lambda x: op("sin", x), (2,))
    with pytest.raises(RuntimeError) as caught:
        prepare(graph, operation, Options(api=api))
    assert isinstance(caught.value, HesseError)
    assert caught.value.code == code


def test_integer_inputs_are_not_differentiated() -> None:
    graph = graph_of(lambda x, k: op("sum", x * k), (2,), (2,), dtypes=[FLOAT64, INT64])
    inputs = [np.ones(2), np.array([2, 3])]
    with pytest.raises(RuntimeError, match="floating point"):
        compute(graph, "hessian", inputs)
    np.testing.assert_array_equal(compute(graph, "grad", inputs, options=Options(argnums=0)).value, [2.0, 3.0])


@pytest.mark.parametrize(("inputs", "v", "code"), [
    ([np.ones(3)], None, "wrong-inputs"), ([np.ones(2, np.float32)], None, "wrong-inputs"), ([], None, "wrong-inputs"),
    ([np.ones(2)], None, "bad-v"), ([np.ones(2)], [np.ones(3)], "bad-v"), ([np.ones(2)], [np.ones(2)] * 2, "bad-v"),
    ([np.ones(2)], [np.ones(2) * 1j], "bad-v"),
])
def test_wrong_arguments(inputs: list[Any], v: Any, code: str) -> None:
    graph = graph_of(lambda x: op("sum", op("square", x)), (2,))
    with pytest.raises(HesseError) as caught:
        compute(graph, "hvp", inputs, v)
    assert caught.value.code == code
    np.testing.assert_array_equal(compute(graph, "hvp", [np.ones(2)], [np.ones(2)]).value, [2.0, 2.0])


def test_every_operation_has_a_plan_that_reads_well() -> None:
    graph = graph_of(lambda x: op("sum", op("sin", x)), (5,))
    for name in DERIVATIVES:
        plan = prepare(graph, name).plan
        assert plan.operation == name
        assert name in str(plan)
        assert plan.as_dict()["predicted_peak_bytes"] >= 0
