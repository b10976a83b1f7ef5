"""What the rows refuse, each with its code, before a node exists; computed indices when they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import reference
from hesse_engine.errors import CODES, HesseError
from hesse_engine.ir.graph import FLOAT64, Builder, Limits, Node, apply
from hesse_engine.ir.rows import ROWS
from hesse_engine.transforms.batch import batch
from op_cases_arrays import CASES
from op_cases_loops import body, coupled, pair, product


def node(builder: Builder, spec: Any) -> Any:
    """(shape, dtype) as an input; anything else as it is."""
    is_input = isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], str)
    return builder.input("x", spec[0], np.dtype(spec[1])) if is_input else spec


def f(*shape: int) -> tuple[tuple[int, ...], str]:
    return shape, "float64"


def i(*shape: int) -> tuple[tuple[int, ...], str]:
    return shape, "int64"


def b(*shape: int) -> tuple[tuple[int, ...], str]:
    return shape, "bool"


LOOP = body([(2,), (), (2,)], pair)  # one constant, one slice, one carry
LINEAR = body([(2, 2), (), (2,)], product)
GROWING = body([(), (2,)], lambda x, c: [c * x, c])  # two outputs for two inputs, of other shapes
NARROWER = body([(2,)], lambda c: [apply("slice", c, start=(0,), count=(1,))])
COUNTING = body([()], lambda c: [apply("convert", c, dtype="int64")])
SHAPE, ATTRIBUTE, TYPE, DTYPE = "shape-mismatch", "bad-attribute", "bad-type", "dtype-mismatch"
ARITY, INDEX, ELEMENTS = "wrong-arity", "index-out-of-range", "too-many-elements"
OVERFLOW, COMPLEX, TENSOR = "constant-overflow", "unsupported-complex", "bad-tensor"
BAD_BROADCAST: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [((f(2, 3), f(2, 4)), {}, SHAPE),
                                                                    ((f(2), f(3)), {}, SHAPE)]
BAD_LITERALS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((f(2), "a"), {}, DTYPE), ((f(2), None), {}, DTYPE), ((f(2), 10**400), {}, OVERFLOW), ((f(2), 1j), {}, DTYPE),
    ((i(2), 2**70), {}, OVERFLOW), ((f(2), [[1.0], [1.0, 2.0]]), {}, TENSOR),
]
BAD_AXES: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((f(2, 3),), {"axis": 2}, ATTRIBUTE), ((f(2, 3),), {"axis": -3}, ATTRIBUTE), ((f(2, 3),), {"axis": 1.0}, ATTRIBUTE),
    ((f(2, 3),), {"axis": True}, ATTRIBUTE), ((f(2, 3),), {"axis": "0"}, ATTRIBUTE), ((f(),), {"axis": 0}, ATTRIBUTE),
]
BAD_SETS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [*BAD_AXES, ((f(2, 3),), {"axis": (0, -2)}, ATTRIBUTE)]
BAD_SLICES: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((f(3),), {"start": 0, "count": (1,)}, ATTRIBUTE), ((f(3),), {"start": None, "count": (1,)}, ATTRIBUTE),
    ((f(3),), {"start": (0.0,), "count": (1,)}, ATTRIBUTE), ((f(3),), {"start": (0,), "count": (4,)}, INDEX),
    ((f(3),), {"start": (-1,), "count": (1,)}, INDEX), ((f(3),), {"start": (0,), "count": (-1,)}, INDEX),
    ((f(2, 3),), {"start": (0,), "count": (1,)}, ATTRIBUTE), ((f(3),), {"start": (3,), "count": (1,)}, INDEX),
    ((f(3),), {"start": (0,), "step": (0,), "count": (2,)}, ATTRIBUTE),
    ((f(3),), {"start": (0,), "step": (2,), "count": (3,)}, INDEX),
    ((f(3),), {"start": (2,), "step": (-2,), "count": (3,)}, INDEX),
]

# op -> (operands, attrs, code)
BAD: dict[str, list[tuple[tuple[Any, ...], dict[str, Any], str]]] = {
    **{n: [*BAD_BROADCAST, *BAD_LITERALS] for n in ("add", "multiply", "maximum", "minimum", "divide", "equal",
                                                    "less")},
    "power": [*BAD_BROADCAST, *BAD_LITERALS[:4], *BAD_LITERALS[5:]],  # an integer to the power 2**70 is a float
    **{n: [*BAD_BROADCAST, ((b(2), b(2)), {}, DTYPE), ((b(2), True), {}, DTYPE)] for n in ("subtract",)},
    **{n: [((b(2),), {}, DTYPE), ((1.0,), {}, TYPE)] for n in ("negative", "square", "sign")},
    **{n: [((1.0,), {}, TYPE), (("a",), {}, TYPE)] for n in ("exp", "log", "sqrt", "tanh", "abs", "logical_not")},
    "power_scalar": [((f(2),), {"exponent": e}, ATTRIBUTE) for e in (np.nan, "2", None, [2], 10**400)]
    + [((2.0,), {"exponent": 2}, TYPE)],
    "clip": [((f(2), 0.0), {}, ARITY), ((f(2), f(3), 1.0), {}, SHAPE), ((f(2), None, 1.0), {}, DTYPE)],
    "where": [((f(2), f(2), f(2)), {}, DTYPE), ((b(2), f(3), f(2)), {}, SHAPE), ((True, 1.0, 2.0), {}, TYPE),
              ((b(2), "a", f(2)), {}, DTYPE), ((b(2), f(2)), {}, ARITY)],
    "convert": [((f(2),), {"dtype": d}, ATTRIBUTE) for d in ("nope", "object", "S8", 3, None, "float16", "i4,f8")]
    + [((f(2),), {"dtype": "complex128"}, COMPLEX)],
    **dict.fromkeys(("sum", "mean", "prod", "flip"), BAD_SETS),
    **{n: [*BAD_SETS, ((f(0, 2),), {"axis": 0}, SHAPE), ((f(0),), {}, SHAPE)] for n in ("max", "min")},
    **{n: [*BAD_AXES, ((f(2, 3),), {"axis": (0, 1)}, ATTRIBUTE), ((f(0),), {}, SHAPE)] for n in ("argmax", "argmin")},
    "reshape": [((f(2, 3),), {"shape": s}, code) for s, code in (
        ((4,), SHAPE), ((-1, -1), SHAPE), ((-2, -3), SHAPE), ((-1, 4), SHAPE), ((6.0,), ATTRIBUTE), (None, ATTRIBUTE),
        ((6, True), ATTRIBUTE), ((0, -1), SHAPE))],
    "permute_dims": [((f(2, 3),), {"axes": a}, ATTRIBUTE) for a in ((0,), (0, 0), (0, 2), 1, "ab", (0, 1.0))],
    "transpose": [((1.0,), {}, TYPE)],
    "broadcast_to": [((f(3),), {"shape": s}, code) for s, code in (
        ((2,), SHAPE), ((3, 2), SHAPE), ((), SHAPE), ((-1, 3), ATTRIBUTE), ((10**6, 10**7, 3), ELEMENTS),
        ((1,) * 40 + (3,), "rank-too-high"), ((2.0, 3), ATTRIBUTE))],
    "expand_dims": [((f(2),), {"axis": a}, ATTRIBUTE) for a in (2, -3, None, (0, 0), 1.0)],
    "squeeze": [((f(2, 1),), {"axis": 0}, SHAPE), ((f(2, 1),), {"axis": 2}, ATTRIBUTE)],
    "slice": BAD_SLICES,
    "unslice": [((f(3),), {"shape": (3,), "start": (1,)}, INDEX),
                ((f(3),), {"shape": (9,), "start": (0,), "step": (0,)}, ATTRIBUTE),
                ((f(3),), {"shape": (2**50,), "start": (0,)}, ELEMENTS),
                ((f(3),), {"shape": (-3,), "start": (0,)}, ATTRIBUTE),
                ((f(3),), {"shape": (9,), "start": 0}, ATTRIBUTE)],
    "diag": [((f(2, 2, 2),), {}, SHAPE), ((f(),), {}, SHAPE), ((f(3),), {"offset": 1.5}, ATTRIBUTE),
             ((f(3),), {"offset": 10**9}, ELEMENTS)],
    "scan": [
        ((f(2), f(3), f(2)), {"body": LOOP, "constants": 1, "length": n}, code) for n, code in (
            (4, SHAPE), (2.0, ATTRIBUTE), (None, ATTRIBUTE), (-1, "too-many-steps"), (2**40, "too-many-steps"))
    ] + [
        ((f(2), f(3), f(2)), {"body": LOOP, "constants": 1, "length": 3, "reverse": 1}, ATTRIBUTE),
        ((f(2), f(3), f(2)), {"body": LOOP, "constants": 5, "length": 3}, ARITY),
        ((f(2), f(3), f(2)), {"body": LOOP, "constants": -1, "length": 3}, ARITY),
        ((f(2), f(3), f(2)), {"body": None, "length": 3}, ATTRIBUTE), ((f(2),), {"body": LOOP, "length": 3}, ARITY),
        ((f(2), f(3), f(3)), {"body": LOOP, "constants": 1, "length": 3}, SHAPE),
        ((f(3), f(3), f(2)), {"body": LOOP, "constants": 1, "length": 3}, SHAPE),
        ((f(2), i(3), f(2)), {"body": LOOP, "constants": 1, "length": 3}, DTYPE),
        ((f(2), f(3), 1.0), {"body": LOOP, "constants": 1, "length": 3}, TYPE),
        ((f(), f(2)), {"body": GROWING, "length": 3}, SHAPE), ((f(2),), {"body": NARROWER, "length": 3}, SHAPE),
        ((f(),), {"body": COUNTING, "length": 3}, DTYPE),
    ],
    "linear_scan": [
        ((f(2, 2), f(3), f(2)), {"body": LINEAR, "constants": 1, "length": 3}, ARITY),
        ((f(2, 2), f(3), f(2), f(2, 2)), {"body": LINEAR, "constants": 1, "length": 3}, SHAPE),
        ((f(2), f(3), f(2), f(3, 2)), {"body": LOOP, "constants": 1, "length": 3}, ATTRIBUTE),
        ((f(3), f(), f(), f(3), f(3)), {"body": body([(), (), ()], coupled), "length": 3}, ATTRIBUTE),
        ((f(), f(3)), {"body": body([()], lambda d: [d + 1.0]), "length": 3}, ATTRIBUTE),
        ((f(3), f(), f(3)), {"body": body([(), ()], lambda x, d: [x / d]), "length": 3}, ATTRIBUTE),
        ((f(3), f(), f(3)), {"body": body([(), ()], lambda x, d: [x * 1.0]), "length": 3}, ATTRIBUTE),
    ],
    "concat": [((), {}, ARITY), ((f(), f()), {}, ATTRIBUTE), ((f(2, 3), f(3)), {}, SHAPE),
               ((f(2, 3), f(2, 2)), {"axis": 0}, SHAPE),
               ((f(2), f(2)), {"axis": 1}, ATTRIBUTE), ((f(2), 1.0), {}, SHAPE)],
    "stack": [((), {}, ARITY), ((f(2), f(3)), {}, SHAPE), ((f(2), f(2)), {"axis": 2}, ATTRIBUTE)],
    "take": [((f(3), [0, 3]), {}, INDEX), ((f(3), -4), {}, INDEX), ((f(0), [0]), {}, INDEX), ((f(3), 1.5), {}, DTYPE),
             ((f(3), f(3)), {}, DTYPE), ((f(3), b(3)), {}, DTYPE), ((f(3), True), {}, DTYPE),
             ((f(3), [0]), {"axis": 1}, ATTRIBUTE),
             ((f(3), [[0], [1, 2]]), {}, TENSOR), ((1.0, [0]), {}, TYPE), ((f(3), None), {}, DTYPE)],
    "scatter_add": [((f(3), [0, 0, 5]), {"size": 3}, INDEX), ((f(3), [0, 0, -4]), {"size": 3}, INDEX),
                    ((f(3), [0, 0]), {"size": 3}, SHAPE), ((f(3), [0, 0, 0]), {"size": -1}, ATTRIBUTE),
                    ((f(3), [0.0, 0.0, 0.0]), {"size": 1}, DTYPE), ((f(), [0]), {"size": 3}, ATTRIBUTE),
                    ((f(3), [0, 0, 0]), {"size": 2**60}, ELEMENTS), ((f(3), [0, 0, 0]), {"size": 1.0}, ATTRIBUTE)],
    "matmul": [((f(2, 3), f(2, 3)), {}, SHAPE), ((f(2, 3), f()), {}, SHAPE), ((f(2, 2, 3), f(3, 3, 2)), {}, SHAPE),
               ((f(2, 3), 2.0), {}, SHAPE)],
    "dot": [((f(2, 3), f(2, 3)), {}, SHAPE), ((f(2), f(3)), {}, SHAPE)],
    "outer": [((f(2),), {}, ARITY), ((f(2), "a"), {}, DTYPE)],
    "einsum": [((f(2, 3),), {"subscripts": s}, code) for s, code in (
        ("ij,jk", ARITY), ("ij->ii", ATTRIBUTE), ("ij->k", ATTRIBUTE), ("i->i", SHAPE), ("..ij->ij", SHAPE),
        ("i1->i", SHAPE),
        ("ij->i1", ATTRIBUTE), (None, ATTRIBUTE), ("", SHAPE), ("i...j...->ij", ATTRIBUTE), ("ii->i", SHAPE))]
    + [((f(2, 3), f(2, 3)), {"subscripts": "ij,jk->ik"}, SHAPE), ((), {"subscripts": "i"}, ARITY)],
    "contract": [((f(2, 3), f(3, 2)), {"subscripts": s}, code) for s, code in (
        ("ab,bc", ATTRIBUTE), ("ab->a", ATTRIBUTE), ("aa,ab->b", ATTRIBUTE), ("ab,bc->ad", ATTRIBUTE),
        ("ab,bc->aa", ATTRIBUTE),
        ("a,b->ab", SHAPE), (3, ATTRIBUTE), ("ab,ac->bc", SHAPE))],
}
TABLE = [(n, k) for n, cases in BAD.items() for k in range(len(cases))]


@pytest.mark.parametrize(("name", "index"), TABLE)
def test_refusal(name: str, index: int) -> None:
    operands, attrs, code = BAD[name][index]
    builder = Builder()
    with pytest.raises(HesseError) as caught:
        apply(name, *[node(builder, s) for s in operands], **attrs)
    assert caught.value.code == code
    assert type(caught.value) is CODES[code]
    assert all(n.op in ("input", "constant", "reshape", "broadcast_to", "convert") for n in builder.nodes)


@pytest.mark.parametrize("name", sorted(CASES))
def test_one_operand_too_many_or_none(name: str) -> None:
    case, row = CASES[name][0], ROWS[name]
    builder = Builder()
    operands = [builder.input("x", a.shape, a.dtype) for a in case.operands]
    for given in ([], [*operands, operands[0]]):
        if row.arity is None and given:
            continue
        with pytest.raises(HesseError) as caught:
            apply(name, *given, **case.attrs)
        assert caught.value.code == ARITY, (name, len(given))


def test_every_row_refuses_something() -> None:
    sure = {name for name, row in ROWS.load().items() if row.arity is not None or row.kind == "leaf"}
    assert set(ROWS) - sure <= set(BAD)
    assert set(BAD) <= set(CASES)


def test_operands_of_two_graphs_do_not_mix() -> None:
    x, y = (Builder().input("x", (2,), FLOAT64) for _ in range(2))
    with pytest.raises(HesseError) as caught:
        x + y * 1.0
    assert caught.value.code == "dangling-id"


# ---- computed indices ----------------------------------------------------------------------------------------------
GATHERS: dict[str, Callable[[Node, Node], Node]] = {
    "take": lambda x, index: apply("take", x, index, axis=0),
    "scatter_add": lambda x, index: apply("scatter_add", x, index, axis=0, size=3),
}


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "uint64"])
@pytest.mark.parametrize("name", GATHERS)
def test_computed_index_out_of_range(name: str, dtype: str) -> None:
    kinds = np.iinfo(dtype)
    bad = [v for v in (3, -4, 127, 2**62, int(kinds.max), int(kinds.min)) if v != 0 and kinds.min <= v <= kinds.max]
    for value in bad:
        builder = Builder()
        x, index = builder.input("x", (3,), FLOAT64), builder.input("i", (3,), np.dtype(dtype))
        with pytest.raises(HesseError) as caught:
            reference.run([GATHERS[name](x, index)], {x: np.ones(3), index: np.array([0, value, 1], dtype)})
        assert caught.value.code == INDEX


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "uint64"])
@pytest.mark.parametrize("name", GATHERS)
def test_batched_index_out_of_range(name: str, dtype: str) -> None:
    """index * size + b must neither wrap around nor count from the end into a row that exists."""
    size = 4
    kinds = np.iinfo(dtype)
    values = (3, -4, -5, 100, 2**61, 2**62, -(2**61), int(kinds.max), int(kinds.min))
    for value in [v for v in values if v != 0 and kinds.min <= v <= kinds.max]:
        builder = Builder()
        x, index = builder.input("x", (3,), FLOAT64), builder.input("i", (3,), np.dtype(dtype))
        xs, indices = builder.input("xs", (3, size), FLOAT64), builder.input("is", (3, size), index.dtype)
        together = batch([GATHERS[name](x, index)], {x: xs, index: indices}, size)
        given = np.ones((3, size), dtype)
        given[1, 2] = value
        with pytest.raises(HesseError) as caught:
            reference.run(together, {xs: np.ones((3, size)), indices: given})
        assert caught.value.code == INDEX, value


# ---- limits --------------------------------------------------------------------------------------------------------
def test_nothing_of_a_refused_size_is_allocated() -> None:
    builder = Builder(Limits(elements=100, rank=3, nodes=12, constant_bytes=400))
    x = builder.input("x", (10,), FLOAT64)
    refusals: list[tuple[Callable[[], Any], str]] = [
        (lambda: apply("outer", x, apply("concat", x, x)), ELEMENTS),
        (lambda: apply("reshape", x, shape=(1, 1, 1, 10)), "rank-too-high"),
        (lambda: builder.constant(np.ones(51)), ELEMENTS),
        (lambda: builder.zeros((101,), FLOAT64), ELEMENTS),
        (lambda: builder.full((101,), 2.0, FLOAT64), ELEMENTS),
        (lambda: [apply("sin", x * float(k)) for k in range(10)], "too-many-nodes"),
    ]
    for build, code in refusals:
        with pytest.raises(HesseError) as caught:
            build()
        assert caught.value.code == code
    assert len(builder.nodes) == 12
