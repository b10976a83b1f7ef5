"""Graphs and formulas that are nearly right: every op of the table on operands of odd shapes, sizes and dtypes."""

from __future__ import annotations

import random
from typing import Any

from hesse_engine.ir import ops  # noqa: F401  (fills the op table)
from hesse_engine.ir.rows import ROWS, describe

Signature = tuple[list[int], str]
SHAPES: tuple[list[int], ...] = ([2], [3], [2, 2], [3, 3], [2, 3], [1], [], [0], [2, 1], [1, 2, 3], [0, 2])
SUBSCRIPTS = ("ab,bc->ac", "a,a->", "a->a", "ab->ba", "aa->a", "a,b->ab", "ij,j", "...a->...", "abc->", "a,ab,b->")
FORMULAS = (
    "sum({a} * {b})", "sum(({a})**2)", "sum(where({a} > 0, {a}, {b}))", "sum(exp(-({a})**2))", "sum(x[{i}:{j}])",
    "sum(x[{i}] * {a})", "sum(x[::{i}])", "sum(x[[{i}, {j}]])", "sum(({a}) @ ({b}))", "dot({a}, {b})",
    "sum(reshape({a}, ({i}, {j})))", "sum(roll({a}, {i}))", "sum(cumsum({a}, axis={i}))", "sum(sort({a}, axis={i}))",
    "sum(stack([{a}, {b}], axis={i}))", "sum(concatenate([{a}, {b}], axis={i}))", "sum(repeat({a}, {i}, axis={j}))",
    "sum(tile({a}, {i}))", "sum(diff({a}, {i}))", "sum(pad({a}, {i}))", "max({a})", "sum(take({a}, [{i}, {j}]))",
    "sum(softmax({a}, axis={i}))", "sum(clip({a}, {i}, {j}))", "sum({a} % {b})", "sum({a} // {b})",
        "sum(outer({a}, {b}))",
    "sum(moveaxis({a}, {i}, {j}))", "sum(einsum('i,i->', {a}, {b}))", "prod({a})", "sum(flip({a}, {i}))", "norm({a})",
    "sum(diag({a}, {i}))", "sum(inv({a}))", "det({a})", "sum(x.T * {a})", "sum({a}[None, ..., {i}])", "sum(trace({a}))",
    "sum(squeeze({a}, {i}))", "sum(triu({a}, {i}))", "sum(kron({a}, {b}))", "sum(interp({a}, {b}, {b}))",
        "mean({a}, {i})",
    "sum(cross({a}, {b}))", "var({a}, {i})", "sum(searchsorted({a}, {b}))", "sum(convolve({a}, {b}))",
        "sum(polyval({a}, {b}))",
)
LEAVES = ("x", "x", "x", "1.5", "(-2)", "0", "sin(x)", "x[0]", "(x > 0)", "x**2", "1e200", "-x", "[1, 2]", "x.T",
    "None")


def formula(chance: random.Random) -> str:
    """A formula that reads like one."""
    text = chance.choice(FORMULAS)
    for _ in range(chance.randint(0, 2)):
        inner = chance.choice(FORMULAS).removeprefix("sum(")
        text = text.replace("{a}", inner[:-1] if inner.endswith("))") else "{a}", 1)
    while any([hole in text for hole in ("{a}", "{b}", "{i}", "{j}")]):
        for hole in ("{a}", "{b}"):
            text = text.replace(hole, chance.choice(LEAVES), 1)
        for hole in ("{i}", "{j}"):
            text = text.replace(hole, str(chance.choice((0, 1, 2, 3, -1, -2, 7, -9, 100, "1.5", "x", "None"))), 1)
    return text


def request(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """(operation, request) of a graph of a few random nodes."""
    rows = [row for row in describe() if ROWS[row["name"]].kind != "leaf"]
    inputs = [(chance.choice(SHAPES), chance.choice(("float64",) * 5 + ("float32", "int64", "bool"))) for _ in range(3)]
    names = ["x", "a", "b"]
    nodes, known = [], [*names]
    for k in range(chance.randint(1, 5)):
        row = chance.choice(rows)
        arity = row["arity"] if isinstance(row["arity"], int) else chance.randint(0, 3)
        args = [chance.choice([*known, 1.5, -1, 0, {"constant": 0}]) for _ in range(arity)]
        args = [chance.choice(known[-2:]) if j == 0 and chance.random() < 0.6 else a for j, a in enumerate(args)]
        attrs = {name: attribute(name, chance) for name in row["attrs"] if chance.random() < 0.9}
        nodes.append({"id": f"n{k}", "op": row["name"], "args": args, "attrs": attrs})
        known.append(f"n{k}")
    nodes.append({"id": "y", "op": "sum", "args": [known[-1]]})
    document = {"format": "hesse-graph/1", "outputs": ["y"], "nodes": nodes,
                "inputs": [{"name": n, "shape": s, "dtype": t} for n, (s, t) in zip(names, inputs, strict=True)],
                "constants": [{"shape": [2], "dtype": "int64", "data": [chance.randint(-4, 4), 1]}]}
    values = [{"shape": s, "dtype": t, "data": [number(t, chance) for _ in range(_size(s))]} for s, t in inputs]
    made: dict[str, Any] = {"function": {"graph": document}, "inputs": values}
    operation = chance.choice(("value", "value", "grad", "jacobian", "hessian", "hvp", "laplacian"))
    argnums = [k for k, (_, t) in enumerate(inputs) if t.startswith("float")]
    if argnums and operation != "value":
        made["options"] = {"argnums": chance.choice(argnums)}
        shape, dtype = inputs[made["options"]["argnums"]]
        if operation == "hvp":
            made["v"] = [{"shape": shape, "dtype": dtype, "data": [1.0] * _size(shape)}]
    return operation, made


def attribute(name: str, chance: random.Random) -> Any:
    small = chance.choice((0, 0, 1, 1, 2, 3, -1, -2, 5, 10**6))
    if name in ("shape", "start", "step", "count", "axes") or (name == "axis" and chance.random() < 0.2):
        return [chance.choice((0, 1, 2, 3, -1, 6)) for _ in range(chance.randint(0, 3))]
    if name == "subscripts":
        return chance.choice(SUBSCRIPTS)
    if name == "dtype":
        return chance.choice(("float32", "float64", "int64", "bool", "complex64", "object"))
    if name in ("keepdims", "reverse", "descending", "smallest", "right", "lower", "transposed", "is_hermitian"):
        return chance.choice((True, False, False, 1))
    if name == "body":
        return {"format": "hesse-graph/1", "inputs": [{"name": "c", "shape": chance.choice(SHAPES)}],
                "nodes": [{"id": "d", "op": chance.choice(("sin", "sum", "exp")), "args": ["c"]}], "outputs": ["d"]}
    if name in ("exponent", "rtol"):
        return chance.choice((2.0, 0.5, -1.0, 3, 0.0, 1e300, "x"))
    return chance.choice((small, small, small, 1.5, None, "x"))


def number(dtype: str, chance: random.Random) -> Any:
    if dtype == "bool":
        return chance.random() < 0.5
    if dtype == "int64":
        return chance.choice((0, 1, 2, -1, -3, 9, 2**40, -(2**63), 2**63 - 1))
    return chance.choice((0.0, 1.0, -1.0, 0.5, 2.25, -3.5, 1.25, 0.75, 1e-8, 30.0, "NaN",
        "Infinity") if chance.random() < 0.3
                         else (0.3, 0.7, 1.1, 1.9))


def _size(shape: list[int]) -> int:
    size = 1
    for s in shape:
        size *= s
    return size
