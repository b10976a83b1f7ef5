"""Every pointwise row of the op table: its value, first and second derivatives against exact ones, by the reference
interpreter and by the VM, in float64 and in float32, over its domain: extremes, denormals, edges and kinks included.

A row is stated in a dict `PRECISION` of its family's module of cases (`op_cases_transcendental`, `op_cases_rounding`,
`op_cases_special`, ...): name -> `precision.Precision(f, points, ulp)`, where `f` is the exact function of mpf
operands, `points` has one array for each operand, and `ulp` bounds the value, the first and the second derivatives,
for all operands. A row without derivatives is checked for its value only. `test_every_pointwise_row_is_stated` fails
where a floating pointwise row has no entry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import reference
from hesse_engine.backend.program import build_program
from hesse_engine.ir.graph import FLOAT32, Array, Builder, Graph, Node, apply
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import reachable
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient
from op_cases_precision import PRECISION
from oracles import MP, ulps
from precision import Precision, derivative

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
# choices and truths, in which nothing is rounded
EXACT_ROWS = {"clip", "stop_gradient"}


def floating_rows() -> set[str]:
    rows = [r for r in ROWS.load().values() if r.kind == "pointwise" and r.vm is not None]  # the others are of integers
    return {r.name for r in rows if r.name not in EXACT_ROWS and not _is_boolean(r.name)}


def _is_boolean(name: str) -> bool:
    row, builder = ROWS[name], Builder()
    return row.arity is not None and not row.attrs and row.build(
        *[builder.input(f"x{k}", (), np.dtype(np.float64)) for k in range(row.arity)]).dtype == np.bool_


def test_every_pointwise_row_is_stated() -> None:
    assert floating_rows() - set(PRECISION) == set()


def test_the_page_states_what_is_held() -> None:
    stated = dict(re.findall(r"^- `(\w+)`: ([^(\n]*[^(\n ])", PAGE.read_text("utf-8"), flags=re.MULTILINE))
    assert stated == {name: ", ".join([f"{u:g}" for u in p.ulp]) for name, p in PRECISION.items()}


# ---- what is compared ------------------------------------------------------------------------------------------------
@cache
def exact(name: str, dtype: str) -> tuple[tuple[Array, ...], dict[tuple[int, ...], tuple[Any, ...]]]:
    """The points in `dtype`, and slots -> the exact value or derivative at each (None where there is none)."""
    stated = PRECISION[name]
    with np.errstate(all="ignore"):
        points = [p.astype(dtype) for p in stated.points]
        usable = np.all([np.isfinite(p) & ((p != 0) | (q == 0))
                         for p, q in zip(points, stated.points, strict=True)], axis=0)
    points = [p[usable] for p in points]
    every = [[float(v) for v in at] for at in zip(*points, strict=True)]
    found = {(): tuple([derivative(stated.f, at, ()) for at in every])}
    # where the value overflows or vanishes, nothing is said about the derivatives
    limits = np.finfo(dtype)
    size, small = MP.mpf(float(limits.max)), MP.mpf(float(limits.smallest_subnormal)) / 2
    within = [v is not None and abs(v) < size and (v == 0 or abs(v) > small) for v in found[()]]
    for slots in partials(name)[1:]:
        found[slots] = tuple([derivative(stated.f, at, slots) if w else None
                              for at, w in zip(every, within, strict=True)])
    return tuple(points), found


def partials(name: str) -> list[tuple[int, ...]]:
    arity = len(PRECISION[name].points)
    every = [(), *[(k,) for k in range(arity)], *combinations_with_replacement(range(arity), 2)]
    return [s for s in every if s in graphs(name, "float64")[1]]


@cache
def graphs(name: str, dtype: str) -> tuple[list[Node], dict[tuple[int, ...], Node]]:
    """The inputs, and slots -> the node of the value or derivative; those that are zero by the rule are left out."""
    stated, builder = PRECISION[name], Builder()
    x = [builder.input(f"x{k}", (len(p),), np.dtype(dtype)) for k, p in enumerate(stated.points)]
    found = {(): apply(name, *x, **stated.attrs)}
    moving = [k for k in range(len(x)) if k not in stated.fixed]
    for k in moving:
        first = along(found[()], x[k])
        if first is None:
            continue
        found[k,] = first
        for j in [j for j in moving if j <= k]:
            second = along(first, x[j])
            if second is not None:
                found[j, k] = second
    return x, found


def along(y: Node, x: Node) -> Node | None:
    """dy / dx of an elementwise y."""
    (moved,) = push_forward([y], {x: x.builder.full(x.shape, 1.0, x.dtype)})
    return None if moved is None or moved.op == "zeros" else moved


def evaluated(name: str, dtype: str, tier: str, points: Sequence[Array]) -> dict[tuple[int, ...], Array]:
    x, found = graphs(name, dtype)
    size = len(PRECISION[name].points[0])
    padded = [np.concatenate([p, np.full(size - len(p), p[0] if len(p) else 1.0, p.dtype)]) for p in points]
    outputs = list(found.values())
    if tier == "reference":
        values = reference.run(outputs, dict(zip(x, padded, strict=True)))
    else:
        values = build_program(x, outputs, tier="vm").run(padded)
    return {s: np.asarray(v)[: len(points[0])] for s, v in zip(found, values, strict=True)}


def worst(got: Array, wanted: Sequence[Any], points: Sequence[Array]) -> tuple[float, list[float]]:
    """The largest error in ulp, and where; beyond the range of the dtype only the range is asked for."""
    limits, size, largest = np.finfo(got.dtype), MP.mpf(float(np.finfo(got.dtype).max)), (0.0, [0.0])
    for k, target in enumerate(wanted):
        if target is None:
            continue
        value = float(got[k])
        if abs(target) >= size:
            error = np.inf if abs(value) < float(limits.max) / 4 else 0.0
        elif abs(target) < MP.mpf(float(limits.tiny)):
            error = 0.0 if abs(value) <= 2 * float(limits.tiny) else np.inf
        else:
            error = float(ulps(got[k:k + 1], [target])[0])
        if error > largest[0]:
            largest = error, [float(p[k]) for p in points]
    return largest


def errors(name: str, dtype: str, tier: str) -> list[tuple[float, list[float]]]:
    """For the value, first and second derivatives: the largest error and where it is."""
    points, wanted = exact(name, dtype)
    found: list[tuple[float, list[float]]] = [(0.0, []), (0.0, []), (0.0, [])]
    for slots, got in evaluated(name, dtype, tier, points).items():
        assert got.dtype == np.dtype(dtype)
        assert dtype == "float32" or sum([w is not None for w in wanted[slots]]) >= len(got) / 3
        found[len(slots)] = max(found[len(slots)], worst(got, wanted[slots], points), key=lambda pair: pair[0])
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("tier", ["reference", "vm"])
@pytest.mark.parametrize("name", PRECISION)
def test_row_is_as_precise_as_stated(name: str, tier: str, dtype: str) -> None:
    stated = PRECISION[name]
    for order, ((error, where), bound) in enumerate(zip(errors(name, dtype, tier), stated.bounds(dtype), strict=True)):
        assert error <= bound + 1e-6, f"derivative {order} of {name} is {error:.3g} ulp off at {where}"


# ---- float32 stays float32 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(PRECISION))
def test_a_single_precision_graph_has_no_double(name: str) -> None:
    """Value, gradient and Hessian-vector graphs of float32 inputs hold floating nodes of float32 only."""
    stated: Precision = PRECISION[name]
    builder = Builder()
    x = [builder.input(f"x{k}", (3,), FLOAT32) for k in range(len(stated.points))]
    y = apply("sum", apply("square", apply(name, *x, **stated.attrs)))
    moving = [n for k, n in enumerate(x) if k not in stated.fixed]
    grads = gradient(y, moving)
    tangents = {n: builder.input(f"t{k}", (3,), FLOAT32) for k, n in enumerate(moving)}
    products = [p for p in push_forward(grads, tangents) if p is not None]
    nodes = reachable([y, *grads, *products])
    assert {n.dtype for n in nodes if n.dtype.kind == "f"} == {FLOAT32}
    assert Graph((*x, *tangents.values()), (y, *grads)).outputs
