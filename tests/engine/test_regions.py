"""The cut: what is fused with what, what is a view, what is kept; forms; the order of axes."""

from __future__ import annotations

import numpy as np
import pytest

from hesse_engine.backend.axes import merge, plan_axes
from hesse_engine.backend.memory import place
from hesse_engine.ir.graph import BOOL, FLOAT32, FLOAT64, Builder, Node, apply
from hesse_engine.structure.forms import contiguous, permuted, reshaped
from hesse_engine.structure.regions import Call, Cut, Region
from random_graphs import RandomGraph


def steps(*outputs: Node) -> list[str]:
    """The cut in words: 'region add multiply | sum' or the name of a call."""
    found = []
    for step in Cut(outputs).steps:
        if isinstance(step, Call):
            found.append(step.node.op)
        else:
            words = ["region", *[n.op for n in step.nodes], *["| " + n.op for n in [*step.sums, *step.copies]]]
            found.append(" ".join(words))
    return found


def test_chain_and_its_sum_are_one_region() -> None:
    x = Builder().input("x", (5,), FLOAT64)
    assert steps(apply("sum", apply("sin", x) * x + 2.0)) == ["region sin multiply add | sum"]


def test_slices_of_an_input_are_views() -> None:
    x = Builder().input("x", (5,), FLOAT64)
    low, high = (apply("slice", x, start=(s,), count=(4,)) for s in (0, 1))
    assert steps(high - low) == ["region subtract"]


def test_broadcast_of_a_computed_node_is_computed_once() -> None:
    x = Builder().input("x", (5,), FLOAT64)
    row = apply("broadcast_to", apply("exp", x), shape=(3, 5))
    assert steps(row * 2.0) == ["region exp", "region multiply"]


def test_product_between_regions() -> None:
    builder = Builder()
    x = builder.input("x", (4, 4), FLOAT64)
    y = apply("contract", apply("tanh", x), x, subscripts="ab,bc->ac")
    assert steps(apply("sum", apply("square", y))) == ["region tanh", "contract", "region square | sum"]


def test_comparison_convert_and_where_stay_inside() -> None:
    x = Builder().input("x", (5,), FLOAT64)
    mask = x > 0.0
    assert steps(apply("where", mask, x, 0.0) * apply("convert", mask, dtype=FLOAT64)) == [
        "region greater where convert multiply"
    ]


def test_what_the_vm_cannot_hold_is_a_call() -> None:
    builder = Builder()
    k = builder.input("k", (5,), np.dtype(np.int64))
    b = builder.input("b", (5,), BOOL)
    x = builder.input("x", (5,), FLOAT64)
    assert steps(k + k) == ["add"]
    assert steps(k < 3) == ["less"]
    assert steps(builder.make("add", (b, b), {}, (5,), BOOL)) == ["add"]  # on booleans: or
    assert steps(apply("convert", x, dtype=FLOAT32)) == ["convert"]
    assert steps(apply("convert", b, dtype=np.dtype(np.int64))) == ["convert"]


def test_dtypes_do_not_share_a_region() -> None:
    builder = Builder()
    x, y = builder.input("x", (5,), FLOAT64), builder.input("y", (5,), FLOAT32)
    assert sorted(steps(x * 2.0, y * 2.0)) == ["region multiply", "region multiply"]


def test_reshape_that_no_strides_express_is_a_copy() -> None:
    x = Builder().input("x", (4, 3), FLOAT64)
    flat = apply("reshape", apply("permute_dims", x), shape=(12,))
    assert steps(flat * 2.0) == ["region | reshape", "region multiply"]


def test_transposed_output_is_written_in_place() -> None:
    x = Builder().input("x", (4, 3), FLOAT64)
    cut = Cut([apply("permute_dims", apply("exp", x))])
    assert not cut.copies
    assert list(cut.claims.values()) == [0]


@pytest.mark.parametrize("kind", ["input", "constant", "view", "twice"])
def test_outputs_that_need_a_copy(kind: str) -> None:
    builder = Builder()
    x = builder.input("x", (4,), FLOAT64)
    y = apply("exp", x)
    outputs = {
        "input": [x], "constant": [builder.constant(np.arange(3.0))],
        "view": [apply("slice", y, start=(0,), count=(2,))], "twice": [y, y],
    }[kind]
    assert len(Cut(outputs).copies) == 1


@pytest.mark.parametrize("seed", range(40))
def test_regions_are_convex_and_in_order(seed: int) -> None:
    cut = Cut(RandomGraph(seed, 60, (FLOAT64, FLOAT32)).outputs)
    made: dict[Node, int] = {}
    for at, step in enumerate(cut.steps):
        for node in [step.node] if isinstance(step, Call) else [*step.nodes, *step.sums, *step.copies]:
            assert node not in made
            made[node] = at
    for node, at in made.items():
        for arg in node.args:
            source = arg if arg in made else cut.forms[arg].root
            if source in made:
                step = cut.steps[at]
                is_inside = made[source] == at
                assert made[source] < at or is_inside
                if is_inside:
                    assert isinstance(step, Region)
                    assert source is arg
                    assert source.shape == step.shape
                else:
                    assert source in cut.kept


SHAPES = [
    ((4, 3), (3, 1), (12,), (1,)), ((4, 3), (1, 4), (12,), None), ((4, 3), (0, 1), (2, 2, 3), (0, 0, 1)),
    ((6,), (-1,), (2, 3), (-3, -1)), ((2, 3, 1), (6, 2, 9), (6,), (2,)), ((2, 3), (8, 1), (3, 2), None),
    ((), (), (1, 1), (0, 0)), ((2, 2, 2), (4, 2, 1), (1, 8), (0, 1)), ((0, 3), (3, 1), (3, 0, 2), (0, 0, 0)),
    ((2, 1, 3), (1, 7, 2), (2, 3), (1, 2)),
]


@pytest.mark.parametrize(("old", "strides", "new", "want"), SHAPES)
def test_reshaped(old: tuple[int, ...], strides: tuple[int, ...], new: tuple[int, ...], want: object) -> None:
    found = reshaped(old, strides, new)
    if want is None or 1 not in new:
        assert found == want
        return
    assert found is not None
    assert isinstance(want, tuple)
    long = [k for k, n in enumerate(new) if n != 1]  # the stride of an axis of length 1 means nothing
    assert [found[k] for k in long] == [want[k] for k in long]


def test_permuted_is_row_major_after_the_permutation() -> None:
    strides = permuted((2, 3, 4), (2, 0, 1))
    assert tuple([strides[a] for a in (2, 0, 1)]) == contiguous((4, 2, 3))


def test_axes_merge_where_all_addresses_allow_it() -> None:
    assert merge([(2, (12, 0)), (3, (4, 0)), (4, (1, 1))]) == [(6, (4, 0)), (4, (1, 1))]
    assert merge([(2, (12, 4)), (3, (4, 0)), (4, (1, 1))]) == [(2, (12, 4)), (3, (4, 0)), (4, (1, 1))]


def test_long_axis_goes_inside_and_is_tiled() -> None:
    axes = plan_axes((10_000, 2), [(2, 1), (1, 0)], set(), [], 3)
    assert (axes.inner, axes.outer, axes.is_tiled) == (10_000, (2,), True)
    axes = plan_axes((100, 1000), [(1000, 1), (0, 1)], set(), [], 3)
    assert (axes.inner, axes.outer, axes.is_tiled) == (1000, (100,), False)


@pytest.mark.parametrize("seed", range(20))
def test_live_spans_never_share_memory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    births = np.sort(rng.integers(0, 30, 40))
    spans = [(int(rng.integers(0, 500)), int(b), int(b + rng.integers(0, 6))) for b in births]
    offsets, top = place(spans)
    for i, (size, first, last) in enumerate(spans):
        assert offsets[i] % 64 == 0
        assert offsets[i] + size <= top
        for j, (other, birth, death) in enumerate(spans[:i]):
            is_apart = last < birth or death < first
            assert is_apart or offsets[i] + size <= offsets[j] or offsets[j] + other <= offsets[i]
    assert top < sum(-(-s // 64) * 64 for s, _, _ in spans)
