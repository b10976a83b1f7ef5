"""Layouts, chosen rows and columns, weights, many vectors, batches of points, `out`, `nonfinite`: against JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.compute import Options, compute, prepare
from hesse_engine.errors import CODES, HesseError
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Graph, Node
from hesse_engine.result import SparseMatrix

RNG = np.random.default_rng(11)
A = RNG.normal(size=(7, 6))
X6, X23, Y3 = RNG.normal(size=6), RNG.normal(size=(2, 3)), RNG.normal(size=3)


def cut(x: Node, start: int, count: int) -> Node:
    return op("slice", x, start=[start], count=[count])


def chain(x: Node) -> Node:
    """Neighbors only: a tridiagonal Hessian."""
    head, tail = cut(x, 0, x.size - 1), cut(x, 1, x.size - 1)
    return op("sum", op("sin", head * tail) + op("exp", 0.5 * head))


def dense(x: Node) -> Node:
    return op("log", op("sum", op("exp", op("matmul", x.builder.constant(A), x))))


def mixed(x: Node, y: Node) -> Node:
    return op("sum", op("sin", x * y) * x) + op("prod", y)


def images(x: Node) -> tuple[Node, ...]:
    return op("sin", op("matmul", x.builder.constant(A), x)), op("sum", x * x * x)


def jax_functions() -> dict[Callable[..., Any], Callable[..., Any]]:
    jax = pytest.importorskip("jax", reason="JAX is the oracle here")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    return {
        chain: lambda x: jnp.sum(jnp.sin(x[:-1] * x[1:]) + jnp.exp(0.5 * x[:-1])),
        dense: lambda x: jnp.log(jnp.sum(jnp.exp(A @ x))),
        mixed: lambda x, y: jnp.sum(jnp.sin(x * y) * x) + jnp.prod(y),
        images: lambda x: (jnp.sin(A @ x), jnp.sum(x**3)),
    }


CASES: list[tuple[Callable[..., Any], list[Any]]] = [(chain, [X6]), (dense, [X6]), (mixed, [X23, Y3])]
IDS = [f.__name__ for f, _ in CASES]
def short(value: Any) -> str | None:
    """The options that differ from their defaults."""
    if not isinstance(value, Options):
        return None
    changed = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
    return " ".join([f"{k}={v}" for k, v in changed.items()]) or "defaults"


OPTIONS = [Options(), Options(strategy="forward-over-reverse"), Options(strategy="reverse-over-reverse"),
           Options(strategy="forward-over-reverse", chunk_size=2), Options(tier="reference")]


def graph_for(f: Callable[..., Any], points: list[Any]) -> Graph:
    return graph_of(f, *[p.shape for p in points])


def full(f: Callable[..., Any], points: list[Any]) -> Any:
    """JAX's Hessian over the concatenated inputs."""
    import jax

    sizes = np.cumsum([p.size for p in points])[:-1]
    reference = jax_functions()[f]

    def flat(z: Any) -> Any:
        return reference(*[p.reshape(q.shape) for p, q in zip(jax.numpy.split(z, sizes), points, strict=True)])

    z = np.concatenate([p.ravel() for p in points])
    return np.asarray(flat(z)), np.asarray(jax.grad(flat)(z)), np.asarray(jax.hessian(flat)(z))


def joined(value: Any) -> Any:
    return np.concatenate([a.ravel() for a in (value if isinstance(value, list) else [value])])


def as_matrix(value: Any, points: list[Any]) -> Any:
    """Blocks as one matrix."""
    if not isinstance(value, list):
        return value.reshape(points[0].size, -1)
    return np.block([[b.reshape(p.size, -1) for b in row] for p, row in zip(points, value, strict=True)])


# ---- layouts -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", OPTIONS, ids=short)
@pytest.mark.parametrize(("f", "points"), CASES, ids=IDS)
def test_every_layout_holds_the_same_hessian(f: Any, points: list[Any], options: Options) -> None:
    graph, (_, _, wanted) = graph_for(f, points), full(f, points)
    n = len(wanted)
    for layout in ("csr", "coo"):
        found = compute(graph, "hessian", points, options=replace(options, layout=layout)).value
        assert isinstance(found, SparseMatrix) and found.layout == layout and found.shape == (n, n)
        np.testing.assert_allclose(found.to_dense(), wanted, rtol=1e-11, atol=1e-12)
        rows = found.row_numbers()
        assert found.indices.dtype == rows.dtype == np.int32
        assert (np.diff(rows.astype(np.int64) * n + found.indices) > 0).all(), "sorted, each entry once"
        if layout == "csr":
            assert found.indptr is not None and found.indptr.dtype == np.int32 and len(found.indptr) == n + 1
            assert found.indptr[-1] == found.nnz == len(found.data)
    packed = compute(graph, "hessian", points, options=replace(options, layout="packed")).value
    np.testing.assert_allclose(packed, wanted[np.triu_indices(n)], rtol=1e-11, atol=1e-12)
    line = compute(graph, "hessian", points, options=replace(options, layout="diag")).value
    np.testing.assert_allclose(joined(line), wanted.diagonal(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=short)
@pytest.mark.parametrize(("f", "points"), CASES, ids=IDS)
def test_what_is_read_from_a_hessian(f: Any, points: list[Any], options: Options) -> None:
    graph, (value, slope, wanted) = graph_for(f, points), full(f, points)
    line = compute(graph, "hessian_diag", points, options=options).value
    parts = line if isinstance(line, list) else [line]
    assert [a.shape for a in parts] == [p.shape for p in points]
    np.testing.assert_allclose(joined(line), wanted.diagonal(), rtol=1e-11, atol=1e-12)
    trace = compute(graph, "laplacian", points, options=options).value
    assert trace.shape == () and trace.dtype == FLOAT64
    np.testing.assert_allclose(trace, wanted.trace(), rtol=1e-11)
    every = compute(graph, "value_grad_hessian", points, options=options)
    np.testing.assert_allclose(every.output, value, rtol=1e-12)
    np.testing.assert_allclose(joined(every.gradient), slope, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(as_matrix(every.value, points), wanted, rtol=1e-11, atol=1e-12)
    sparse = compute(graph, "value_grad_hessian", points, options=replace(options, layout="csr")).value
    np.testing.assert_allclose(sparse.to_dense(), wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("strategy", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("layout", ["csr", "coo"])
def test_sparse_jacobians(layout: str, strategy: str) -> None:
    import jax

    blocks = jax.jacobian(jax_functions()[images])(X6)
    wanted = np.concatenate([np.asarray(b).reshape(-1, 6) for b in blocks])
    found = compute(graph_of(images, (6,)), "jacobian", [X6], options=Options(layout=layout, strategy=strategy)).value
    assert found.shape == (8, 6)
    np.testing.assert_allclose(found.to_dense(), wanted, rtol=1e-12)


def test_the_layout_of_one_precision_is_kept() -> None:
    graph = graph_of(chain, (6,), dtypes=[FLOAT32])
    x = X6.astype(np.float32)
    for layout in ("csr", "diag", "packed"):
        value = compute(graph, "hessian", [x], options=Options(layout=layout)).value
        assert (value.data if layout == "csr" else value).dtype == FLOAT32
    assert compute(graph, "laplacian", [x]).value.dtype == FLOAT32


# ---- rows and columns ----------------------------------------------------------------------------------------------
PICKS = [((0, 3), None), (None, (5, 1, -1)), ((4, 4, 0), (2,)), ((), (1,)), ((2, 0), (0, 2))]


@pytest.mark.parametrize(("rows", "columns"), PICKS)
@pytest.mark.parametrize("options", [*OPTIONS[:2], Options(strategy="reverse-over-reverse")], ids=short)
@pytest.mark.parametrize(("f", "points"), CASES, ids=IDS)
def test_chosen_rows_and_columns(f: Any, points: list[Any], options: Options, rows: Any, columns: Any) -> None:
    graph, (value, _, wanted) = graph_for(f, points), full(f, points)
    n = len(wanted)
    wanted = wanted[np.ix_(list(rows) if rows is not None else range(n), list(columns or range(n)))]
    options = replace(options, rows=rows, columns=columns)
    found = compute(graph, "hessian", points, options=options)
    np.testing.assert_allclose(found.value, wanted, rtol=1e-11, atol=1e-12)
    sparse = compute(graph, "hessian", points, options=replace(options, layout="csr")).value
    np.testing.assert_allclose(sparse.to_dense(), wanted, rtol=1e-11, atol=1e-12)
    every = compute(graph, "value_grad_hessian", points, options=options)
    np.testing.assert_allclose(every.value, wanted, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(every.output, value, rtol=1e-12)


def test_a_part_of_a_sparse_matrix_keeps_its_zeros_out() -> None:
    options = Options(rows=(0, 5, 2), columns=(1, 0), layout="csr")
    found = compute(graph_of(chain, (6,)), "hessian", [X6], options=options).value
    assert found.row_numbers().tolist() == [0, 0, 2] and found.indices.tolist() == [0, 1, 0]


def test_only_what_is_chosen_is_swept() -> None:
    graph = graph_of(dense, (6,))
    assert prepare(graph, "hessian", Options(rows=(2,))).plan.columns == 1
    assert prepare(graph, "hessian", Options(columns=(0, 4))).plan.columns == 2
    assert prepare(graph_of(images, (6,)), "jacobian", Options(rows=(7,))).plan.columns == 1


@pytest.mark.parametrize("strategy", ["auto", "forward", "reverse"])
def test_chosen_rows_of_a_jacobian(strategy: str) -> None:
    import jax

    blocks = jax.jacobian(jax_functions()[images])(X6)
    wanted = np.concatenate([np.asarray(b).reshape(-1, 6) for b in blocks])
    for rows, columns in (((7, 0), None), (None, (3,)), ((1, 2, 5), (4, 0))):
        options = Options(rows=rows, columns=columns, strategy=strategy)
        found = compute(graph_of(images, (6,)), "jacobian", [X6], options=options).value
        np.testing.assert_allclose(found, wanted[np.ix_(rows or range(8), columns or range(6))], rtol=1e-12)


# ---- weights -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", OPTIONS[:4], ids=short)
def test_the_hessian_of_a_lagrangian(options: Options) -> None:
    import jax

    reference, graph = jax_functions()[images], graph_of(images, (6,))
    prepared = prepare(graph, "hessian", replace(options, weighted=True))
    for seed in range(2):
        w = np.random.default_rng(seed).normal(size=7), np.asarray(-0.5 + seed)

        def lagrangian(x: Any, w: Any = w) -> Any:
            y, z = reference(x)
            return w[0] @ y + w[1] * z

        wanted = np.asarray(jax.hessian(lagrangian)(X6))
        np.testing.assert_allclose(prepared([X6], None, w).value, wanted, rtol=1e-11, atol=1e-12)
        line = compute(graph, "hessian_diag", [X6], options=options, weights=w).value
        np.testing.assert_allclose(line, wanted.diagonal(), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(compute(graph, "laplacian", [X6], options=options, weights=w).value, wanted.trace())
        every = compute(graph, "value_grad_hessian", [X6], options=options, weights=w)
        np.testing.assert_allclose(every.output, lagrangian(X6), rtol=1e-12)
        np.testing.assert_allclose(every.gradient, jax.grad(lagrangian)(X6), rtol=1e-11)
        v = np.arange(6.0)
        for name in ("hvp", "vhp"):
            product = compute(graph, name, [X6], [v], options, weights=w)
            np.testing.assert_allclose(product.value, wanted @ v, rtol=1e-11)


# ---- many vectors, many points -------------------------------------------------------------------------------------
@pytest.mark.parametrize("cap", [None, 1, 2])
@pytest.mark.parametrize("name", ["jvp", "vjp", "hvp", "vhp"])
def test_many_vectors_are_each_their_own_product(name: str, cap: int | None) -> None:
    f, points = (images, [X6]) if name in ("jvp", "vjp") else (mixed, [X23, Y3])
    graph = graph_for(f, points)
    like = [np.zeros(7), np.zeros(())] if name == "vjp" else points
    v = [RNG.normal(size=(5, *p.shape)) for p in like]
    many = compute(graph, name, points, v, Options(tangents=5, chunk_size=cap))
    for k in range(5):
        one = compute(graph, name, points, [a[k] for a in v])
        for a, b in zip(many.value if isinstance(many.value, list) else [many.value],
                        one.value if isinstance(one.value, list) else [one.value], strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(joined(many.output), joined(one.output))
    assert many.stats["chunk_size"] <= (cap or 5)


@pytest.mark.parametrize("name", ["value", "grad", "jacobian", "hessian", "hessian_diag", "laplacian",
                                  "value_grad_hessian", "jvp", "vjp", "hvp", "vhp"])
@pytest.mark.parametrize("cap", [None, 3])
@pytest.mark.parametrize(("f", "points"), [*CASES, (images, [X6])], ids=[*IDS, "images"])
def test_a_batch_is_every_point(f: Any, points: list[Any], cap: int | None, name: str) -> None:
    graph = graph_for(f, points)
    is_second = name in ("hessian", "hessian_diag", "laplacian", "value_grad_hessian", "hvp", "vhp")
    if f is images and name == "grad":
        pytest.skip("needs a scalar")
    count = 4
    batch = [np.stack([p + 0.1 * k for k in range(count)]) for p in points]
    rng = np.random.default_rng(1)
    v = w = None
    if name in ("jvp", "hvp", "vhp"):
        v = [rng.normal(size=(count, *p.shape)) for p in points]
    elif name == "vjp":
        v = [rng.normal(size=(count, *y.shape)) for y in graph.outputs]
    if f is images and is_second:
        w = [rng.normal(size=(count, 7)), rng.normal(size=count)]
    found = compute(graph, name, batch, v, Options(batch=count, chunk_size=cap), weights=w)
    for k in range(count):
        one = compute(graph, name, [b[k] for b in batch], None if v is None else [a[k] for a in v],
                      weights=None if w is None else [a[k] for a in w])
        for a, b in ((found.value, one.value), (found.output, one.output), (found.gradient, one.gradient)):
            _same_at(a, b, k)


def _same_at(many: Any, one: Any, k: int) -> None:
    if isinstance(one, list):
        for a, b in zip(many, one, strict=True):
            _same_at(a, b, k)
    elif one is not None:
        assert many[k].shape == one.shape
        np.testing.assert_allclose(many[k], one, rtol=1e-11, atol=1e-13)


def test_many_vectors_at_many_points() -> None:
    graph, x = graph_of(chain, (6,)), np.stack([X6, 2 * X6])
    v = RNG.normal(size=(2, 3, 6))
    found = compute(graph, "hvp", [x], [v], Options(batch=2, tangents=3)).value
    for b in range(2):
        for k in range(3):
            np.testing.assert_allclose(found[b, k], compute(graph, "hvp", [x[b]], [v[b, k]]).value, rtol=1e-12)


def test_a_batch_of_none() -> None:
    found = compute(graph_of(chain, (6,)), "hessian", [np.zeros((0, 6))], options=Options(batch=0)).value
    assert found.shape == (0, 6, 6)


# ---- out -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", OPTIONS, ids=short)
@pytest.mark.parametrize("name", ["value", "grad", "hessian", "hessian_diag", "jacobian", "laplacian"])
def test_results_are_written_where_they_are_wanted(name: str, options: Options) -> None:
    graph = graph_of(dense, (6,))
    if name == "jacobian":
        options = replace(options, strategy="auto")
    wanted = compute(graph, name, [X6], options=options).value
    out = np.full(wanted.shape, np.nan)
    found = compute(graph, name, [X6], options=options, out=out).value
    assert np.shares_memory(found, out)
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("options", OPTIONS[:2], ids=short)
def test_values_are_refreshed_on_a_known_pattern(options: Options) -> None:
    prepared = prepare(graph_of(chain, (6,)), "hessian", replace(options, layout="csr"))
    first = prepared([X6]).value
    data = np.empty_like(first.data)
    second = prepared([2 * X6], out=data).value
    assert second.data is data or np.shares_memory(second.data, data)
    np.testing.assert_array_equal(data, prepared([2 * X6]).value.data)
    np.testing.assert_array_equal(second.indices, first.indices)


def test_several_inputs_are_written_into_as_many_arrays() -> None:
    graph = graph_of(mixed, (2, 3), (3,))
    wanted = compute(graph, "hessian", [X23, Y3]).value
    out = [[np.empty_like(b) for b in row] for row in wanted]
    compute(graph, "hessian", [X23, Y3], out=out)
    for row, found in zip(wanted, out, strict=True):
        for a, b in zip(row, found, strict=True):
            np.testing.assert_array_equal(a, b)


def _read_only() -> Any:
    array = np.empty((6, 6))
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "out", [np.empty((6, 5)), np.empty((6, 6), np.float32), np.empty((6, 6), order="F"), _read_only(), [1.0], "out",
            np.empty((6, 12))[:, ::2]], ids=["shape", "dtype", "order", "read-only", "list", "text", "strided"]
)
@pytest.mark.parametrize("options", OPTIONS[:2], ids=short)
def test_an_out_that_does_not_fit_is_refused(out: Any, options: Options) -> None:
    with pytest.raises(ValueError) as caught:
        compute(graph_of(dense, (6,)), "hessian", [X6], options=options, out=out)
    assert caught.value.code == "bad-out"  # type: ignore[attr-defined]


# ---- nonfinite -----------------------------------------------------------------------------------------------------
ERROR = Options(nonfinite="error")


def root(x: Node) -> Node:
    return op("sum", op("sqrt", x + x))


def logs(x: Node) -> Node:
    return op("sum", op("log", x) + 1.0)


@pytest.mark.parametrize(
    ("f", "x", "node", "text"),
    [
        (logs, [1.0, 0.0, 2.0], "n0", r"n0 \(log\) is -Infinity at index \[1\]"),
        (root, [1.0, 0.0, 2.0], "n1", r"derivative of node n1 \(sqrt\) is not, at index \[1\]"),
        (logs, [1.0, np.nan, 2.0], "x0", r"input 'x0' is NaN at index \[1\]"),
        (logs, [1.0, 2.0, np.inf], "x0", r"input 'x0' is Infinity at index \[2\]"),
    ],
)
@pytest.mark.parametrize("operation", ["hessian", "grad", "hessian_diag", "laplacian", "value_grad_hessian"])
def test_the_node_that_is_not_finite_is_named(f: Any, x: Any, node: str, text: str, operation: str) -> None:
    graph = graph_of(f, (3,))
    if x[2] == np.inf:
        operation = "value"  # the derivatives are zero there
    compute(graph, operation, [np.array(x)])
    with pytest.raises(RuntimeError, match=text) as caught:
        compute(graph, operation, [np.array(x)], options=ERROR)
    assert (caught.value.code, caught.value.node) == ("nonfinite-result", node)  # type: ignore[attr-defined]


def test_a_batch_names_the_point() -> None:
    x = np.ones((4, 3))
    x[2, 1] = 0.0
    with pytest.raises(RuntimeError, match=r"point 2: node n0 \(log\) is -Infinity at index \[1\]"):
        compute(graph_of(logs, (3,)), "hessian", [x], options=replace(ERROR, batch=4))


def test_finite_results_pass() -> None:
    assert compute(graph_of(logs, (3,)), "hessian", [np.ones(3)], options=ERROR).value.shape == (3, 3)
    huge = compute(graph_of(lambda x: op("sum", x * 1e308), (3,)), "grad", [np.ones(3)], options=ERROR).value
    np.testing.assert_array_equal(huge, np.full(3, 1e308))  # whose sum is infinite


# ---- what cannot be done -------------------------------------------------------------------------------------------
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("value", {"layout": "csr"}, "bad-layout"),
    ("grad", {"layout": "packed"}, "bad-layout"),
    ("jacobian", {"layout": "diag"}, "bad-layout"),
    ("jacobian", {"layout": "packed"}, "bad-layout"),
    ("hvp", {"layout": "coo"}, "bad-layout"),
    ("hessian_diag", {"layout": "csr"}, "bad-layout"),
    ("hessian", {"layout": "bsr"}, "bad-layout"),
    ("hessian", {"layout": None}, "bad-layout"),
    ("hessian", {"layout": "diag", "rows": (0,)}, "bad-layout"),
    ("hessian", {"layout": "csr", "batch": 2}, "bad-layout"),
    ("hessian", {"rows": (6,)}, "bad-rows"),
    ("hessian", {"columns": (-7,)}, "bad-columns"),
    ("hessian", {"rows": (0.5,)}, "bad-option"),
    ("hessian", {"rows": 1}, "bad-option"),
    ("grad", {"rows": (0,)}, "bad-option"),
    ("hessian", {"tangents": 2}, "bad-option"),
    ("hvp", {"tangents": 0}, "bad-option"),
    ("hessian", {"batch": -1}, "bad-option"),
    ("hessian", {"batch": True}, "bad-option"),
    ("jacobian", {"weighted": True}, "bad-weights"),
    ("hessian", {"nonfinite": "warn"}, "bad-option"),
    ("hessian", {"chunk_size": 0}, "bad-chunk-size"),
    ("hessian", {"chunk_size": 2.0}, "bad-chunk-size"),
    ("hessian", {"chunk_size": True}, "bad-chunk-size"),
    ("hessian", {"device": "cuda"}, "device-absent"),
]


@pytest.mark.parametrize(("operation", "options", "code"), REFUSED, ids=str)
def test_what_cannot_be_done_is_said_before_anything_is_derived(
    operation: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(HesseError) as caught:
        prepare(graph_of(chain, (6,)), operation, Options(**options))
    assert caught.value.code == code and type(caught.value) is CODES[code]


def test_a_layout_of_several_scalars_is_refused() -> None:
    for api in ("functional", "func"):
        with pytest.raises(ValueError, match="Weights make one scalar"):
            prepare(graph_of(images, (6,)), "hessian", Options(layout="csr", api=api))


@pytest.mark.parametrize(
    "weights", [None, [], [np.ones(7)], [np.ones(6), np.ones(())], [np.ones(7), np.ones(1)],
                [np.ones(7), np.ones((), complex)]], ids=str
)
def test_weights_that_do_not_fit_are_refused(weights: Any) -> None:
    prepared = prepare(graph_of(images, (6,)), "hessian", Options(weighted=True))
    with pytest.raises(ValueError) as caught:
        prepared([X6], None, weights)
    assert caught.value.code == "bad-weights"  # type: ignore[attr-defined]


def test_the_budget_counts_what_a_layout_needs() -> None:
    graph = graph_of(dense, (6,))
    with pytest.raises(MemoryError):
        prepare(graph, "hessian", Options(layout="packed", strategy="forward-over-reverse", max_memory_bytes=300))
    with pytest.raises(MemoryError):
        prepare(graph, "hessian", Options(batch=1000, max_memory_bytes=1000))
