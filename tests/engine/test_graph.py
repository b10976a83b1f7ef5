"""The graph: interning, constants kept apart, the numbering invariant, limits, and traversals that do not recurse."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.backend import reference
from hesse_engine.errors import GraphError, HesseError, LimitError
from hesse_engine.ir.check import check
from hesse_engine.ir.graph import (
    BOOL,
    DTYPES,
    FLOAT32,
    FLOAT64,
    INT64,
    Builder,
    Graph,
    Limits,
    Node,
    apply,
    common_builder,
    flat,
    is_zero,
    scalar_value,
)
from hesse_engine.ir.walk import connected, dependents, map_graph, reachable, rebuild, substitute
from hesse_engine.transforms.batch import batch
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient


def pair(shape: tuple[int, ...] = (3,)) -> tuple[Builder, Node, Node]:
    builder = Builder()
    return builder, builder.input("x", shape, FLOAT64), builder.input("y", shape, FLOAT64)


# ---- interning -----------------------------------------------------------------------------------------------------
def test_equal_expressions_are_one_node() -> None:
    _, x, y = pair()
    assert op("sin", x * y) is op("sin", x * y)
    assert op("sum", x, axis=0) is op("sum", x, axis=(-1,)) is op("sum", x)
    assert op("slice", x, start=(2,), step=(-7,), count=(1,)) is op("slice", x, start=(2,), count=(1,))
    assert op("permute_dims", op("reshape", x, shape=(3, 1))) is op("permute_dims", op("reshape", x, shape=(-1, 1)),
                                                                    axes=(1, 0))
    assert op("contract", x, y, subscripts="i,i->") is op("contract", x, y, subscripts="q, q ->")


def test_different_expressions_are_not() -> None:
    _, x, y = pair()
    different = [x - y, y - x, x + y, x * y, x / y, op("power", x, 3), op("power", x, 4), x < y, x <= y,
                 op("convert", x, dtype="float32")]
    assert len(set(different)) == len(different)


def test_inputs_are_never_one_node() -> None:
    builder = Builder()
    assert builder.input("x", (), FLOAT64) is not builder.input("x", (), FLOAT64)


def test_builders_share_nothing() -> None:
    assert Builder().constant(1.0) is not Builder().constant(1.0)


CONSTANTS: list[Any] = [
    0.0, -0.0, 1.0, -1.0, np.nan, np.inf, 5e-324, 1, 0, True, False, np.float32(0.0), np.float32(-0.0), np.float32(1.0),
    np.int32(1), np.int8(1), np.uint8(1), [0.0], [[0.0]], [0.0, 0.0], [0.0, -0.0], np.zeros((0,)), np.zeros((0, 1)),
    np.zeros((1, 0)),
    np.zeros(9), -np.zeros(9), np.zeros((3, 3)), np.zeros(9, np.float32), np.zeros(9, np.int64), np.zeros(9, bool),
    np.zeros(8),
]


def test_constants_are_kept_apart_by_dtype_shape_and_bits() -> None:
    builder = Builder()
    nodes = [builder.constant(c) for c in CONSTANTS]
    assert len(set(nodes)) == len(CONSTANTS)
    again = [builder.constant(c) for c in CONSTANTS]
    assert all(a is b for a, b in zip(nodes, again, strict=True))
    for node, given in zip(nodes, CONSTANTS, strict=True):
        array = np.asarray(given)
        assert node.value is not None
        assert (node.dtype, node.shape) == (array.dtype, array.shape)
        assert node.value.tobytes() == array.tobytes()


def test_operations_on_constants_are_kept_apart_too() -> None:
    _, x, _ = pair()
    assert x + 0.0 is not x + (-0.0)
    assert 1.0 / (x * 0.0) is not 1.0 / (x * -0.0)
    (a,), (b,) = ([n for n in reachable([y]) if n.op == "constant"] for y in (x + 0.0, x + (-0.0)))
    assert np.signbit(b.value) and not np.signbit(a.value)
    full = x.builder.full
    assert len({full((3,), v, d) for v, d in ((0.0, FLOAT64), (-0.0, FLOAT64), (0.0, FLOAT32), (0, INT64),
                                              (False, BOOL))}) == 5


def test_constants_are_read_only_copies() -> None:
    array = np.ones(3)
    node = Builder().constant(array)
    array[0] = 5.0
    assert node.value is not None
    np.testing.assert_array_equal(node.value, np.ones(3))
    with pytest.raises(ValueError, match="read-only"):
        node.value[0] = 2.0
    strided = Builder().constant(np.arange(6.0).reshape(2, 3).T)
    assert strided.value is not None
    assert strided.value.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_foreign_byte_order_is_made_native(dtype: str) -> None:
    given = np.array([1, 0], dtype).astype(np.dtype(dtype).newbyteorder(">"))
    node = Builder().constant(given)
    assert node.value is not None
    assert (node.dtype, node.dtype.isnative) == (np.dtype(dtype), True)
    np.testing.assert_array_equal(node.value, given)


@pytest.mark.parametrize("value", ["text", b"bytes", None, 1j, np.float16(1), np.longdouble(1), np.datetime64(0, "s"),
                                   [1, [2]], 10**400, object()])
def test_what_cannot_be_a_constant(value: Any) -> None:
    with pytest.raises(HesseError) as caught:
        Builder().constant(value)
    assert caught.value.code in ("dtype-mismatch", "bad-tensor", "constant-overflow")


# ---- structural zeros ----------------------------------------------------------------------------------------------
def test_structural_zeros_vanish_where_that_is_exact() -> None:
    builder, x, _ = pair()
    zero = builder.zeros((3,), FLOAT64)
    assert x + zero is x
    assert zero + x is x
    assert x - zero is x
    assert (zero - x).op == "negative"
    for y in (x * zero, zero * x, -zero, op("reshape", zero, shape=(1, 3)), op("sum", zero), op("take", zero, [0, 1]),
              op("concat", zero, zero), op("broadcast_to", zero, shape=(2, 3)),
              op("slice", zero, start=(0,), count=(1,)),
              op("unslice", zero, shape=(9,), start=(0,)), op("permute_dims", op("reshape", zero, shape=(3, 1))),
              op("scatter_add", zero, [0, 0, 0], size=2), op("convert", zero, dtype="float32"), op("dot", zero, x),
              op("where", x > 0.0, zero, zero)):
        assert is_zero(y), y
    plain = builder.constant(np.zeros(3))
    assert (x + plain).op == "add"  # a zero that was given keeps its signs and NaNs
    assert (x * plain).op == "multiply"


def test_scalar_value() -> None:
    builder, x, _ = pair()
    assert scalar_value(builder.full((2, 3), 2.5, FLOAT64)) == 2.5
    assert scalar_value(builder.zeros((2,), FLOAT64)) == 0.0
    assert scalar_value(builder.constant([1.0, 1.0])) is None
    assert scalar_value(x) is None


# ---- numbering -----------------------------------------------------------------------------------------------------
def test_arguments_are_numbered_below_their_node() -> None:
    builder, x, y = pair((4,))
    s = op("sum", op("max", op("stack", op("sin", x) * y, op("power", op("abs", x), y)), axis=0))
    gradients = gradient(s, [x, y])
    batch(gradients, {x: builder.input("b", (4, 2), FLOAT64)}, 2)
    for k, node in enumerate(builder.nodes):
        assert node.number == k
        assert all(a.number < k for a in node.args)
    order = reachable(gradients)
    assert [n.number for n in order] == sorted({n.number for n in order})
    assert set(reachable([s])) <= set(builder.nodes)


def test_traversals() -> None:
    _, x, y = pair()
    a = op("sin", x)
    cut = op("stop_gradient", x)
    index = op("argmax", x)
    taken = op("take", y, index)
    outputs = [a * y, taken, op("where", x > 0.0, y, 1.0), cut]
    order = reachable(outputs)
    assert dependents(order, {x}) >= {a, a * y, index, taken, x}
    assert taken not in connected(order, {x})
    assert outputs[2] not in connected(order, {x})
    assert outputs[2] in connected(order, {y})
    assert common_builder([1.0, y]) is y.builder
    assert flat([x, y, taken]) == 7
    with pytest.raises(TypeError):
        common_builder([1.0])


def test_substitute_and_map_graph() -> None:
    graph = graph_of(lambda x, y: op("sin", x) * y, (3,), (3,))
    x, y = graph.inputs
    (swapped,) = substitute(graph.outputs, {x: y})
    assert swapped is op("sin", y) * y
    assert substitute(graph.outputs, {graph.outputs[0]: x}) == [x]
    assert rebuild(graph.outputs[0], (x, y)) is x * y
    guarded = Graph(graph.inputs, graph.outputs, ((op("sum", x) > 0.0, True),))
    changed = map_graph(guarded, lambda nodes: substitute(nodes, {x: y}))
    assert changed.guards == ((op("sum", y) > 0.0, True),)
    assert changed.outputs == (swapped,)
    assert guarded.names == ("x0", "x1")


def test_the_checker_finds_what_a_builder_would_not_make() -> None:
    builder, x, y = pair()
    check(Graph((x, y), (x * y,)))
    wrong: list[Graph] = [
        Graph((x,), (x * y,)),
        Graph((x, x), (x,)),
        Graph((x, y), (builder.make("sin", (x,), {}, (4,), FLOAT64),)),
        Graph((x, y), (builder.make("cos", (x,), {}, (3,), FLOAT32),)),
        Graph((x, y), (builder.make("no-such-op", (x,), {}, (3,), FLOAT64),)),
        Graph((x, y), (builder.make("mean", (x,), {"axis": (0,), "keepdims": False}, (), FLOAT64),)),
        Graph((x, y), (x,), ((x > 0.0, True),)),
        Graph((x, y), (Builder().constant(1.0),)),
    ]
    for graph in wrong:
        with pytest.raises(GraphError):
            check(graph)


# ---- limits --------------------------------------------------------------------------------------------------------
def test_the_node_limit_counts_nodes_not_uses() -> None:
    builder = Builder(Limits(nodes=4))
    x = builder.input("x", (), FLOAT64)
    y = op("sin", op("cos", x))
    for _ in range(10):
        assert op("sin", op("cos", x)) is y
    z = x + y
    with pytest.raises(LimitError) as caught:
        z * x
    assert caught.value.code == "too-many-nodes"


def test_limits_of_inputs_and_constants() -> None:
    builder = Builder(Limits(rank=2, elements=6, constant_bytes=24))
    builder.constant([1.0, 2.0])
    builder.constant([1.0, 2.0])  # known already: costs nothing
    for make, code in (
        (lambda: builder.input("x", (1, 1, 1), FLOAT64), "rank-too-high"),
        (lambda: builder.input("x", (7,), FLOAT64), "too-many-elements"),
        (lambda: builder.constant([3.0, 4.0]), "too-many-elements"),
    ):
        with pytest.raises(LimitError) as caught:
            make()
        assert caught.value.code == code
    builder.constant(3.0)  # what was refused has used up nothing


# ---- a long chain --------------------------------------------------------------------------------------------------
LENGTH = 100_000


def test_a_chain_of_100_000_nodes_needs_no_recursion() -> None:
    """y_k = sin(y_(k-1)): forward, reverse, batch, substitute and the interpreter, far beyond the recursion limit."""
    builder = Builder(Limits(nodes=40 * LENGTH))
    x = builder.input("x", (2,), FLOAT64)
    y = x
    for _ in range(LENGTH):
        y = op("sin", y)
    point = np.array([0.5, -1.0])
    assert len(reachable([y])) == LENGTH + 1 > sys.getrecursionlimit()
    (g,) = gradient(op("sum", y), [x])
    t = builder.input("t", (2,), FLOAT64)
    (moved,) = push_forward([y], {x: t})
    assert moved is not None
    value, grad, tangent = reference.run([y, g, moved], {x: point, t: np.ones(2)})
    # sin iterated k times is sqrt(3/k) (1 + O(log k / k)), whatever the start
    np.testing.assert_allclose(np.abs(value), np.sqrt(3 / LENGTH), rtol=1e-3)
    np.testing.assert_allclose(grad, tangent, rtol=1e-9)
    wide = builder.input("b", (2, 3), FLOAT64)
    (together,) = batch([y], {x: wide}, 3)
    (many,) = reference.run([together], {wide: np.stack([point] * 3, -1)})
    np.testing.assert_array_equal(many, np.stack([value] * 3, -1))
    (elsewhere,) = substitute([y], {x: t})
    np.testing.assert_array_equal(reference.run([elsewhere], {t: point})[0], value)


def test_a_chain_of_extrema_is_derived_in_linear_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each nonlinear row transposes its own tangent only: the graph behind it is not walked again."""
    walked: list[int] = []

    def counted(outputs: Sequence[Node], **options: Any) -> list[Node]:
        order = reachable(outputs, **options)
        walked.append(len(order))
        return order

    monkeypatch.setattr(sys.modules["hesse_engine.transforms.vjp"], "reachable", counted)
    sizes = []
    for count in (200, 400):
        builder = Builder()
        x = builder.input("x", (3,), FLOAT64)
        y = x
        for k in range(count):
            y = y + apply("max", op("sin", y * float(k)))
        before = len(builder.nodes)
        walked.clear()
        gradient(op("sum", y), [x])
        sizes.append((len(builder.nodes) - before, sum(walked)))
    assert all(large <= 2 * small + 10 for small, large in zip(*sizes, strict=True))
