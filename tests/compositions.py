"""Random compositions of rows: every op of the table, fed by its own sample operands moved a little by the input.

    z_0 = x,    z_(k+1) = [z_k, tanh(some elements of op_k(a_k + 0.05 sin(some elements of z_k)))]
    f(x) = sum w z_K^2 + product of two elements

The operands stay where the op is defined, and each op's output moves the operands of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.errors import HesseError
from hesse_engine.ir.graph import FLOAT64, Array, Builder, Graph, Node, apply
from op_cases import Case
from op_cases_arrays import CASES

VARIABLES = 4
STEP = 0.05  # how far an operand is moved
PICKED = 4  # elements of an output that go on
TWICE = 0.3  # how often an operand stands in the place of the next one too, if that has its shape
OF_A_FACTOR = ("cholesky_inv", "cholesky_logdet", "cholesky_solve")  # their second operand is the first one's factor


@dataclass(frozen=True)
class Composition:
    graph: Graph
    point: Array
    direction: Array
    ops: tuple[str, ...]


def usable(case: Case) -> bool:
    return "float64" in case.dtypes and all(a.size <= 400 for a in case.operands)


NAMES = sorted(name for name, cases in CASES.items() if any(map(usable, cases)))


def composition(first: str, seed: int, length: int = 3) -> Composition:
    """`first`, then random ops, each fed by what came before."""
    rng = np.random.default_rng([seed, *map(ord, first)])
    builder = Builder()
    x = builder.input("x", (VARIABLES,), FLOAT64)
    ops = (first, *rng.choice(NAMES, length - 1).tolist())
    state = x
    for name in ops:
        fitting = [c for c in CASES[name] if usable(c)]
        found = applied(name, fitting[int(rng.integers(len(fitting)))], state, rng)
        if found is not None:
            state = apply("concat", state, found, axis=0)
    w = builder.constant(rng.uniform(0.5, 1.5, state.shape))
    ends = apply("take", state, builder.constant(rng.integers(0, state.size, 2)), axis=0)
    f = apply("sum", w * apply("square", state)) + apply("prod", ends)
    return Composition(Graph((x,), (f,)), rng.uniform(-1.0, 1.0, VARIABLES), rng.uniform(-1.0, 1.0, VARIABLES), ops)


def picked(vector: Node, count: int, rng: np.random.Generator) -> Node:
    return apply("take", vector, vector.builder.constant(rng.integers(0, vector.size, count)), axis=0)


def moved(array: Array, state: Node, rng: np.random.Generator) -> Node:
    """`array` with the state in it; matrices stay symmetric where they were."""
    builder = state.builder
    shift = STEP * apply("reshape", apply("sin", picked(state, array.size, rng)), shape=array.shape)
    is_square = array.ndim >= 2 and array.shape[-1] == array.shape[-2]
    if is_square and np.array_equal(array, np.swapaxes(array, -1, -2)):
        axes = (*range(array.ndim - 2), array.ndim - 1, array.ndim - 2)
        shift = 0.5 * (shift + apply("permute_dims", shift, axes=axes))
    return builder.constant(array) + shift


def applied(name: str, case: Case, state: Node, rng: np.random.Generator) -> Node | None:
    """Some elements of the op's output, as bounded numbers; None where it is empty."""
    builder = state.builder
    operands: list[Any] = [
        moved(a, state, rng) if a.dtype.kind == "f" and a.size and k not in case.constant else builder.constant(a)
        for k, a in enumerate(case.operands)
    ]
    for k in range(1, len(operands)):
        before, now = case.operands[k - 1:k + 1]
        if before.shape == now.shape and before.dtype == now.dtype and rng.random() < TWICE:
            operands[k] = operands[k - 1]
    if name in OF_A_FACTOR:
        operands[1] = apply("cholesky", operands[0])
    try:
        y = apply(name, *operands, **case.attributes("float64"))
    except HesseError as error:  # an op that reads its operand as a value, or checks it
        raise AssertionError(f"{name} refuses its own sample") from error
    if not y.size:
        return None
    chosen = picked(apply("reshape", y, shape=(-1,)), PICKED, rng)
    if chosen.dtype.kind == "b":
        return apply("where", chosen, picked(state, PICKED, rng), 0.25)
    if not chosen.is_floating:
        chosen = apply("convert", chosen, dtype="float64")
    return apply("tanh", 0.5 * chosen)
