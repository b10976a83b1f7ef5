"""Hostile graphs, formulas, options, vectors and ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostile_row import CANARY, GOOD, Family, Row, call, formula, graph, node, summed

_graph, _bomb, _formula = Family("graph"), Family("bomb"), Family("formula")
_option, _vector, _id = Family("option"), Family("vector"), Family("id")
SIZE = "413 too-many-elements"
LOOSE = "422 graph-format | 422 bad-attribute | 422 dangling-id | 422 wrong-arity"


def _large(*shape: int) -> list[dict[str, Any]]:
    return [{"name": "x", "shape": list(shape)}]


def _chain(count: int, made: Callable[[int, str], dict[str, Any]], start: str = "x") -> list[dict[str, Any]]:
    """count nodes, each made of the one before, and y = their sum."""
    nodes, last = [], start
    for k in range(count):
        nodes.append(made(k, last))
        last = nodes[-1]["id"]
    return [*nodes, node("y", "sum", last)]


def _scan(length: Any, body: Any = None, **members: Any) -> dict[str, Any]:
    """A loop from the scalar s."""
    step = {"format": "hesse-graph/1", "inputs": [{"name": "c", "shape": []}],
            "nodes": [node("d", "sin", "c")], "outputs": ["d"]}
    loop = node("u", "scan", "s", body=step if body is None else body, constants=0, length=length, reverse=False)
    return graph([node("s", "sum", "x"), {**loop, **members}, node("y", "sum", "u")])


def _loops(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"format": "hesse-graph/1", "inputs": [{"name": "c", "shape": []}],
                             "nodes": [node("d", "sin", "c")], "outputs": ["d"]}
    for _ in range(depth):
        nodes = [node("l", "scan", "c", body=inner, constants=0, length=1000, reverse=False), node("d", "sum", "l")]
        inner = {**inner, "nodes": nodes}
    return inner


GRAPH_ROWS: list[Row] = [
    _graph.row("a list", call({"graph": [CANARY]}), "422 graph-format"),
    _graph.row("null", call({"graph": None}), "422 graph-format"),
    _graph.row("other format", graph([], format="hesse-graph/99"), "422 graph-format"),
    _graph.row("unknown member", graph([], **{CANARY: 1}), "422 graph-format"),
    _graph.row("nodes null", graph(None), "422 graph-format"),
    _graph.row("nodes of strings", graph([CANARY, CANARY]), "422 graph-format"),
    _graph.row("nodes of lists", graph([[CANARY]]), "422 graph-format"),
    _graph.row("node without id", graph([{"op": "sum", "args": ["x"]}]), "422 graph-format"),
    _graph.row("node without op", graph([{"id": "y", "args": ["x"]}]), "422 unknown-op"),
    _graph.row("self reference", graph([node("y", "sum", "y")]), "422 graph-cycle"),
    _graph.row("cycle of two", graph([node("a", "sin", "b"), node("b", "sin", "a"), node("y", "sum", "b")]),
               "422 graph-cycle"),
    _graph.row("cycle of 90k", lambda: graph([node(f"n{k}", "sin", f"n{(k + 1) % 90_000}") for k in range(90_000)],
                                             outputs=["n0"]), "422 graph-cycle"),
    _graph.row("cycle beside the output", graph([node("y", "sum", "x"), node("a", "sin", "a")]), "422 graph-cycle"),
    _graph.row("dangling argument", graph([node("y", "sum", CANARY)]), "422 dangling-id"),
    _graph.row("dangling output", graph([node("y", "sum", "x")], outputs=[CANARY]), "422 dangling-id"),
    *[_graph.row(f"constant {str(k)[:9]}", graph([node("y", "sum", {"constant": k})], constants=[[1.0]]), LOOSE)
      for k in (1, -1, 10**30, True, 0.0, CANARY, None)],
    _graph.row("reference with more", graph([node("y", "sum", {"constant": 0, CANARY: 1})], constants=[[1.0]]), LOOSE),
    _graph.row("duplicate id", graph([node("y", "sum", "x"), node("y", "sum", "x")]), "422 duplicate-id"),
    _graph.row("id of an input", graph([node("x", "sin", "x")]), "422 duplicate-id"),
    *[_graph.row(f"id {i[:12]!r}", graph([node(i, "sum", "x")], outputs=[i]), "422 graph-format")
      for i in ("", " ", "../y", "a b", "y\x00", "ü", "1y", "y" * 129, "y\n", f"<script>{CANARY}</script>")],
    _graph.row("id of 10 MB", lambda: graph([node("y" * 10_000_000, "sum", "x")]), "422 graph-format"),
    _graph.row("outputs null", graph([node("y", "sum", "x")], outputs=None), "422 graph-format"),
    _graph.row("no outputs", graph([node("y", "sum", "x")], outputs=[]), "422 no-outputs"),
    _graph.row("output a number", graph([node("y", "sum", "x")], outputs=[3]), "422 graph-format"),
    _graph.row("500k outputs", lambda: graph([node("y", "sum", "x")], outputs=["y"] * 500_000),
               "422 not-scalar | 422 not-single | 413 too-many-nodes"),
    _graph.row("2000 inputs", graph([], inputs=[{"name": f"x{k}", "shape": [1]} for k in range(2000)]),
               "422 graph-format"),
    _graph.row("input of negative shape", graph([node("y", "sum", "x")], _large(-1)), "422 bad-tensor"),
    _graph.row("input of rank 1000", graph([node("y", "sum", "x")], _large(*[1] * 1000)), "413 rank-too-high"),
    _graph.row("input of 1e12 elements", graph([node("y", "sum", "x")], _large(10**6, 10**6)), SIZE),
    _graph.row("input of 2^64 elements", graph([node("y", "sum", "x")], _large(1 << 32, 1 << 32)), SIZE),
    _graph.row("input of length 2^63, and none", graph([node("y", "sum", "x")], _large(1 << 63, 0), at=[[]]),
               f"{SIZE} | 422 wrong-inputs | 422 bad-tensor"),
    _graph.row("input with other members", graph([node("y", "sum", "x")], [{"name": "x", "shape": [2], CANARY: 1}]),
               "422 graph-format"),
    *[_graph.row(f"op {str(o)[:12]}", graph([{"id": "y", "op": o, "args": ["x"]}]), "422 unknown-op")
      for o in (CANARY, "", None, 7, ["sum"], {"sum": 1}, "SUM", "sum ", "__import__", "input", "constant", "eval")],
    _graph.row("too few operands", graph(summed("add", "x")), "422 wrong-arity"),
    _graph.row("no operands", graph(summed("sin")), "422 wrong-arity"),
    _graph.row("no operands, any number allowed", graph(summed("concat", axis=0)), LOOSE + " | 422 shape-mismatch"),
    _graph.row("100k operands", lambda: graph(summed("sin", *["x"] * 100_000)), "422 wrong-arity"),
    _graph.row("args an object", graph([{"id": "y", "op": "sum", "args": {CANARY: 1}}]), "422 graph-format"),
    _graph.row("args null", graph([{"id": "y", "op": "sum", "args": None}]), "422 graph-format"),
    _graph.row("argument null", graph([node("y", "sum", None)]), "422 graph-format"),
    _graph.row("argument a boolean", graph([node("y", "sum", True)]), "422 graph-format"),
    _graph.row("literal of 400 digits", graph(summed("multiply", "x", int("9" * 400))), "422 constant-overflow"),
    _graph.row("attrs a list", graph([{"id": "y", "op": "sum", "args": ["x"], "attrs": [CANARY]}]), "422 graph-format"),
    *[_graph.row(f"axis {str(a)[:14]}", graph([node("y", "sum", "x", axis=a)]), "422 bad-attribute")
      for a in (7, -3, 1.5, CANARY, [0, 0], [0.5], [[0]], {CANARY: 1}, True, 10**30, [1 << 61])],
    _graph.row("axis of 70k entries", graph([node("y", "sum", "x", axis=[0] * 70_000)]), "413 attribute-too-large"),
    _graph.row("attribute of 1 MB", graph(summed("einsum", "x", subscripts="a" * 1_000_000)),
               "413 attribute-too-large"),
    _graph.row("unknown attribute", graph([node("y", "sum", "x", **{CANARY: 1})]), "422 bad-attribute"),
    *[_graph.row(f"reshape to {str(s)[:16]}", graph(summed("reshape", "x", shape=s)),
                 f"422 shape-mismatch | 422 bad-attribute | {SIZE} | 413 rank-too-high")
      for s in ([3], [-2], [-1, -1], [0, -1], [1 << 61, 8], [2] + [1] * 40, 2.5, None, CANARY, [True, 2])],
    _graph.row("guard of no boolean", graph([node("y", "sum", "x")], guards=[{"node": "y", "value": True}]),
               "422 dtype-mismatch"),
    *[_graph.row(f"guard {str(g)[:20]}", graph([node("y", "sum", "x")], guards=[g]), LOOSE)
      for g in (7, None, CANARY, {}, {"node": "y"}, {"node": CANARY, "value": True}, {"node": "y", "value": 1})],
    _graph.row("guards an object", graph([node("y", "sum", "x")], guards={CANARY: 1}), "422 graph-format"),
    _graph.row("guard that fails", graph([node("y", "sum", "x"), node("c", "greater", "y", 1e9)],
                                         guards=[{"node": "c", "value": True}]), "409 graph-point-specific"),
    *[_graph.row(f"constant index {i}", graph(summed("take", "x", {"constant": 0}, axis=0), constants=[
        {"shape": [1], "dtype": "int64", "data": [i]}]), "422 index-out-of-range")
      for i in (2, -3, 1 << 40, -(1 << 63), (1 << 63) - 1)],
    *[_graph.row(f"computed index {i} of {op}", graph(
        summed(op, "x", "i", axis=0, **more), [{"name": "x", "shape": [2]}, {"name": "i", "shape": [2],
                                                                            "dtype": "int64"}],
        at=[[1.0, 2.0], {"dtype": "int64", "data": [0, i]}]), "422 index-out-of-range", path="/v1/value")
      for op, more in (("take", {}), ("take_along", {}), ("scatter_add", {"size": 2}), ("add_along", {"size": 2}))
      for i in (2, -3, 1 << 40, (1 << 63) - 1)],
    _graph.row("zero-size axis", graph([node("y", "sum", "x")], _large(0), at=[[]]), "200"),
    _graph.row("maximum of nothing", graph([node("y", "max", "x")], _large(0), at=[[]]),
               "422 shape-mismatch | 422 bad-attribute"),
    _graph.row("inverse of a singular matrix", graph(
        [node("m", "outer", "x", "x"), node("i", "inv", "m"), node("y", "sum", "i")]), "422 singular-matrix | 200"),
    _graph.row("100k nodes out of use", lambda: graph(
        [*[node(f"n{k}", "sin", "x") for k in range(99_999)], node("y", "sum", "x")]), "200 | 413 too-many-nodes"),
    _graph.row("100 001 nodes", lambda: graph([node(f"n{k}", "sin", "x") for k in range(100_001)]),
               "413 too-many-nodes"),
    _graph.row("on register", {"function": graph([node("y", "sum", "y")])["function"]}, "422 graph-cycle",
               path="/v1/functions", method="PUT"),
    _graph.row("on plan", {"operation": "hessian", "function": graph([node("y", "sum", "y")])["function"]},
               "422 graph-cycle", path="/v1/plan"),
]

BUDGET = "413 over-memory-budget | 413 too-many-elements"
BOMB_ROWS: list[Row] = [
    _bomb.row("broadcast to 1e12", graph(summed("broadcast_to", "x", shape=[10**6, 10**6, 2])), SIZE),
    _bomb.row("broadcast by addition", graph(
        [node("r", "reshape", "x", shape=[1, 1_000_000]), node("c", "reshape", "x", shape=[1_000_000, 1]),
         node("u", "add", "r", "c"), node("y", "sum", "u")], _large(1_000_000), at=[[1.0]]),
             f"{SIZE} | 422 wrong-inputs"),
    _bomb.row("outer product", graph(summed("outer", "x", "x"), _large(1_000_000), at=[[1.0]]), SIZE),
    _bomb.row("einsum to 1e12", graph(summed("einsum", "x", "x", subscripts="a,b->ab"), _large(1_000_000), at=[[1.0]]),
              SIZE),
    _bomb.row("einsum of 26 letters", graph(summed("einsum", *["x"] * 26, subscripts=",".join(
        "abcdefghijklmnopqrstuvwxyz") + "->abcdefghijklmnopqrstuvwxyz"), _large(100), at=[[1.0] * 100]),
              f"{SIZE} | 413 rank-too-high"),
    *[_bomb.row(f"subscripts {s[:12]!r}", graph(summed("einsum", "x", subscripts=s)), LOOSE + " | 422 shape-mismatch")
      for s in ("", "->", "a->b", "a->aa", "..a", "a,b->", "é->é", "a->a->a", "a" * 60_000, CANARY)],
    _bomb.row("unslice to 1e12", graph(summed("unslice", "x", shape=[10**12], start=[0])), SIZE),
    _bomb.row("scatter to 1e12", graph(summed("scatter_add", "x", {"constant": 0}, axis=0, size=10**12), constants=[
        {"shape": [2], "dtype": "int64", "data": [0, 1]}]), SIZE),
    _bomb.row("slice of 1e12", graph(summed("slice", "x", start=[0], step=[0], count=[10**12])),
              f"{SIZE} | 422 bad-attribute | 422 index-out-of-range | 422 shape-mismatch"),
    _bomb.row("zeros of 1e12", graph([node("u", "zeros", shape=[10**12], dtype="float64"), node("y", "sum", "u")]),
              SIZE),
    _bomb.row("windows of 2.5e9", lambda: graph(summed("windows", "x", axis=0, size=50_000), _large(100_000),
                                                at=[[1.0] * 100_000]), BUDGET),
    _bomb.row("stack of 1e5", lambda: graph(summed("stack", *["x"] * 100_000, axis=0), _large(10_000),
                                            at=[[1.0] * 10_000]), BUDGET),
    _bomb.row("concat doubled 40 times", graph(_chain(40, lambda k, a: node(f"n{k}", "concat", a, a, axis=0))), SIZE),
    _bomb.row("2^60 paths", graph(_chain(60, lambda k, a: node(f"n{k}", "add", a, a))), "200"),
    _bomb.row("2^60 products", graph(_chain(60, lambda k, a: node(f"n{k}", "multiply", a, a))), "200"),
    _bomb.row("squares of matrices", graph(
        [node("m", "outer", "x", "x"), *_chain(60, lambda k, a: node(f"n{k}", "matmul", a, a), "m")]), "200"),
    _bomb.row("2k nodes deep", lambda: graph(_chain(2_000, lambda k, a: node(f"n{k}", "sin", a))),
              "200 | 413 too-many-nodes"),
    _bomb.row("90k nodes deep", lambda: graph(_chain(90_000, lambda k, a: node(f"n{k}", "tanh", a))),
              "413 too-many-nodes"),
    _bomb.row("5k users of one node", lambda: graph(
        [*[node(f"n{k}", "multiply", "x", k + 0.5) for k in range(5_000)],
         node("u", "stack", *[f"n{k}" for k in range(5_000)], axis=0), node("y", "sum", "u")]),
              "200 | 413 too-many-nodes"),
    _bomb.row("dense Hessian of 1e5", lambda: formula("sum(x)**4", [1.0] * 100_000), "413 over-memory-budget"),
    _bomb.row("Jacobian of 1e5", lambda: formula("x * sum(x)", [1.0] * 100_000), "413 over-memory-budget",
              path="/v1/jacobian"),
    _bomb.row("100k constants", lambda: graph([node("y", "sum", "x")], constants=[[1.0]] * 100_000), "200"),
    *[_bomb.row(f"loop of {str(n)[:8]} steps", _scan(n), a) for n, a in (
        (10**12, "413 too-many-steps"), (-1, "413 too-many-steps"), (10**30, "422 bad-attribute"),
        (1.5, "422 bad-attribute"), (CANARY, "422 bad-attribute"), (None, "422 bad-attribute"),
        ((1 << 28) - 1, f"{BUDGET} | 413 too-many-elements"))],
    *[_bomb.row(f"loop with body {str(b)[:20]}", _scan(3, b), a) for b, a in (
        (CANARY, "422 bad-attribute"), (7, "422 bad-attribute"), ([], "422 bad-attribute"),
        ({CANARY: 1}, "422 graph-format"))],
    _bomb.row("loop, carry of another shape", _scan(3, {
        "format": "hesse-graph/1", "inputs": [{"name": "c", "shape": [3]}], "nodes": [], "outputs": ["c"]}),
              "422 shape-mismatch"),
    _bomb.row("loops 9 deep", _scan(3, _loops(9)), "413 too-many-nodes"),
    _bomb.row("loops 8 deep, 1e24 steps", _scan(3, _loops(7)), "413 too-many-elements"),
    _bomb.row("polygamma of order 1e9", graph(summed("polygamma", "x", n=10**9)), "422 bad-attribute | 200"),
    _bomb.row("bessel of order 1e9", graph(summed("bessel_i", "x", n=10**9)), "422 bad-attribute | 200"),
]

SYNTAX, NAME = "422 expression-syntax", "422 unknown-name"
FORMULA_ROWS: list[Row] = [
    *[_formula.row(t[:40].encode("unicode_escape").decode(), formula(t), a) for t, a in (
        ("sum(x", SYNTAX), ("sum x)", SYNTAX + " | " + NAME), ("sum(x))", SYNTAX), ("x x", SYNTAX), ("",
            "422 bad-request"),
        (" ", SYNTAX), ("*", SYNTAX), ("x +", SYNTAX), ("sum(x);", SYNTAX), ("x = 3", SYNTAX), ("x := 3", SYNTAX),
        ("sum(x) # " + CANARY, SYNTAX), ("sum(x) // ", SYNTAX), ("'''" + CANARY, SYNTAX), ("\\" + CANARY, SYNTAX),
        ("`id`", SYNTAX), ("$(id)", SYNTAX), ("{x}", SYNTAX), ("x!", SYNTAX), ("x?", SYNTAX), ("sum(x)\x00", SYNTAX),
        ("sum(x)\u200b", SYNTAX), ("sum(x)\u2028", SYNTAX), ("sum(x)\ufeff", SYNTAX), ("\u202esum(x)", SYNTAX),
        ("sum(x\u00a0+ 1)", SYNTAX), ("sum(x) \u2212 1", SYNTAX), ("sum(x\u00b2)", SYNTAX + " | " + NAME),
            ("\U0001f600", SYNTAX),
        ("sum(\u0445)", NAME), ("\uff53\uff55\uff4d(x)", NAME), ("lambda: x", SYNTAX + " | " + NAME),
        (f"__import__('{CANARY}')", NAME), ("eval('1')", NAME), ("exec('1')", NAME), ("open('/etc/passwd')", NAME),
        ("x.__class__", NAME), ("x.__class__.__mro__[1].__subclasses__()", NAME), ("np.__dict__", NAME),
        ("np.load('/etc/passwd')", NAME), ("np.fromfile('/etc/passwd')", NAME), ("np.lib.npyio", NAME),
        ("np.ctypeslib", NAME), ("x.tofile('/tmp/a')", NAME), ("x.data", NAME), ("x.ctypes", NAME), ("().__class__",
            NAME),
        ("''.__class__", NAME), ("'{0.__class__}'.format(x)", NAME), ("getattr(x, 'T')", NAME), ("globals()", NAME),
        ("sum(zebra)", NAME), ("zebra(x)", NAME), ("sum(x) if x else 0", SYNTAX + " | " + NAME),
        ("[x for x in x]", SYNTAX + " | " + NAME), ("sum(x)\nimport os", SYNTAX + " | " + NAME),
        ("f'{x}'", SYNTAX + " | " + NAME), ("b'a'", SYNTAX + " | " + NAME), ("x.sum", "422 unknown-name | " + SYNTAX),
        ("1e999 * sum(x)", "422 constant-overflow"), ("sum(x) * 9**9**9", "422 constant-overflow"),
        ("sum(x) * 9.9**9**9**9", "422 constant-overflow"), ("sum(x * 2**10000)", "422 constant-overflow"),
        ("sum(x) * " + "9" * 400, "422 constant-overflow"), ("sum(x) / 0", "200 | 422 constant-overflow"),
        ("x[99]", "422 index-out-of-range"), ("x[-99]", "422 index-out-of-range"), ("x[0.5]", "422 bad-type"),
        ("x[" + "9" * 30 + "]", "422 index-out-of-range | 422 bad-type"), ("sum(x[::0])", "422 bad-attribute"),
        ("x[0, 0, 0]", "422 index-out-of-range"), ("x[[0, 99]]", "422 index-out-of-range"),
        ("sum(x[..., ...])", "422 bad-attribute | 422 index-out-of-range"), ("x[x]", "422 bad-type"),
        ("sum(zeros(1000000000000))", NAME), ("sum(input(x))", NAME), ("sum(constant(1))", NAME),
        ("sum(eye(1000000))", NAME), ("sum(repeat(x, 10**12))", SIZE), ("sum(tile(x, 10**12))", SIZE),
        ("sum(tile(x, (10**6, 10**6)))", SIZE), ("sum(pad(x, 10**12))", SIZE), ("sum(linspace(0, 1, 10**12))", SIZE),
        ("sum(arange(10**12))", NAME), ("sum(broadcast_to(x, (10**6, 10**6, 2)))", SIZE),
        ("sum(vander(x, 10**12))", "413 too-many-nodes"), ("sum(diag(repeat(x, 10**6)))", SIZE),
        ("sum(repeat(x, -1))", "422 bad-attribute"),
        ("sum(zeros(-1))", NAME), ("sum(reshape(x, (-5,)))", "422 shape-mismatch | 422 bad-attribute"),
        ("sum(matrix_power(diag(x), 10**12))", NAME),
        ("sum(roll(x, 10**30))", "200 | 422 bad-attribute"), ("sum(diff(x, 10**9))", "422 bad-attribute | 422 "
                                                                                      "shape-mismatch | 200"),
    )],
    _formula.row("30k open parentheses", formula("(" * 30_000), SYNTAX),
    _formula.row("30k pairs of parentheses", formula("sum(" + "(" * 30_000 + "x" + ")" * 30_000 + ")"), "200"),
    _formula.row("5k nested calls", formula("sum(" + "sin(" * 5_000 + "x" + ")" * 5_000 + ")"),
        "200 | 413 too-many-nodes"),
    _formula.row("60k minus signs", formula("sum(" + "-" * 60_000 + "x)"), "200"),
    _formula.row("30k powers", formula("sum(x" + "**1" * 20_000 + ")"), "200 | 422 constant-overflow"),
    _formula.row("a tower of twos", formula("sum(x" + "**2" * 20_000 + ")"), "422 constant-overflow"),
    _formula.row("20k open lists", formula("[" * 20_000), SYNTAX),
    _formula.row("20k closed lists", formula("[" * 20_000 + "x" + "]" * 20_000), "413 rank-too-high | 422 bad-type | "
                 "422 bad-tensor | 422 expression-syntax"),
    _formula.row("30k indices", formula("x" + "[0:]" * 16_000), "422 not-scalar"),
    _formula.row("64k name", formula("z" * 65_000), NAME),
    _formula.row("64k name of a function", formula("z" * 65_000 + "(x)"), NAME),
    _formula.row("64k string", formula(f"sum(x, '{CANARY * 4000}')"), "422 bad-attribute | 422 bad-type"),
    _formula.row("64k digits", formula("sum(x*" + "9" * 65_000 + ")"), "422 constant-overflow"),
    _formula.row("64k dots", formula("." * 65_000), SYNTAX),
    _formula.row("64k spaces", formula(" " * 65_000), SYNTAX),
    _formula.row("too long", formula("x+" * 40_000 + "x"), "422 bad-request"),
    _formula.row("30k terms", formula("sum(" + "x+" * 30_000 + "x)"), "200 | 413 too-many-nodes"),
    _formula.row("names 4 times too many", call({"expression": "sum(x)", "inputs": ["x", "y", "z", "w"]}),
                 "422 wrong-inputs"),
    _formula.row("a name twice", call({"expression": "sum(x)", "inputs": ["x", "x"]}, [[1.0], [1.0]]),
                 "422 duplicate-id"),
    *[_formula.row(f"input named {n[:14]!r}", call({"expression": "1", "inputs": [n]}), "422 bad-request")
      for n in ("", "x y", "__import__('os')", "../x", "x" * 129, "x\x00", "é", f"{CANARY} ")],
    _formula.row("input named sum", call({"expression": "sum(sum)", "inputs": ["sum"]}), "200 | " + SYNTAX),
    _formula.row("input with a point", call({"expression": "sum(a.b)", "inputs": ["a.b"]}),
        "422 graph-format | " + NAME),
]

O = "422 bad-option"  # noqa: E741
R = "422 bad-request"
_VALUES: dict[str, tuple[tuple[Any, str], ...]] = {
    "api": ((CANARY, O), (7, R), (None, R), ("", O)),
    "argnums": ((9, "422 bad-argnums"), (-9, "422 bad-argnums"), ([], "422 bad-argnums"), ([0, 0], "422 bad-argnums"),
                (10**30, f"422 bad-argnums | {R}"), (0.5, R), (True, R), (CANARY, R), ([[0]], R),
                ([0] * 100_000, "422 bad-argnums")),
    "chunk_size": ((0, "422 bad-chunk-size"), (-1, "422 bad-chunk-size"), (1.5, R), (True, R), (CANARY, R),
                   (10**30, f"200 | {R} | 422 bad-chunk-size")),
    "preallocate": ((1, R), (CANARY, R), (None, R)),
    "device": ((CANARY, "422 bad-device"), ("cuda:0", "422 device-absent"), ("cpu:99", "422 device-absent"), (0, R),
               ("x" * 100, R), ("../cpu", "422 bad-device"), ("cpu:" + "9" * 50, "422 device-absent | 422 bad-device"),
               ("cpu\x00", "422 bad-device")),
    "threads": ((0, O), (-1, O), (10**6, O), (10**30, f"{O} | {R}"), (1.5, R), (CANARY, R)),
    "strategy": ((CANARY, O), ("backward", O), (3, R)),
    "layout": ((CANARY, "422 bad-layout"), ("npz", "422 bad-layout"), (3, R)),
    "rows": (([9], "422 bad-rows"), ([-9], "422 bad-rows"), ([0.5], R), ("0", R), ([10**30], f"422 bad-rows | {R}")),
    "columns": (([9], "422 bad-columns"), ([CANARY], R), ([[0]], R), ({"0": 1}, R)),
    "batched": ((1, R), (CANARY, R), (True, "422 wrong-inputs | 422 bad-option | 422 not-scalar | 200")),
    "many": ((True, "422 bad-v"), (CANARY, R)),
    "max_memory_bytes": ((0, "413 over-memory-budget"), (-1, O), (1.5, R), (10**30, f"200 | {R}")),
    "strict": ((1, R), (CANARY, R)),
    "aux": ((-1, O), (1, O), (10**30, f"{O} | {R}"), (0.5, R)),
    "nonfinite": ((CANARY, O), (True, R)),
    "tier": ((CANARY, O), ("gpu", O), (0, R)),
    "deadline_s": ((0, R), (-1, R), (CANARY, R), (True, R), ("Infinity", R), (10**400, R)),
    f"{CANARY} ": ((1, R),),
    "__class__": ((1, R),),
}
OPTION_ROWS: list[Row] = [
    *[_option.row(f"{name} {str(value)[:16]}", {**GOOD, "options": {name: value}}, answers)
      for name, values in _VALUES.items() for value, answers in values],
    _option.row("a list", {**GOOD, "options": [CANARY]}, R),
    _option.row("null", {**GOOD, "options": None}, R),
    _option.row("2M rows", lambda: {**GOOD, "options": {"rows": [0] * 2_000_000}}, R),
    _option.row("deadline 1e999",
        b'{"function":{"expression":"sum(x)"},"inputs":[[1.0]],"options":{"deadline_s":1e999}}',
                R),
]

V = "422 bad-v"
VECTOR_ROWS: list[Row] = [
    *[_vector.row(f"v {str(v)[:18]}", {**GOOD, "v": v}, answers, path="/v1/hvp") for v, answers in (
        (None, V), ([[1.0]], V), ([[1.0] * 3], V), ([], V), ([[]], V), ([[1.0, 2.0]] * 2, V), ([[[1.0, 2.0]]], V),
        (1.0, V), (CANARY, "422 bad-tensor"), ({CANARY: 1}, "422 bad-tensor"), ([CANARY], "422 bad-tensor"),
        ([["NaN", "x"]], "422 bad-tensor"), ([None], "422 bad-tensor"), (True, "422 bad-tensor"),
        ([{"data": [1, 2], "dtype": "int64"}], f"{V} | 200"), ([{"data": [1.0, 2.0], "dtype": "float32"}],
            f"{V} | 200"),
        ([{"shape": [10**12], "data": [1.0]}], SIZE))],
    _vector.row("v where none belongs", {**GOOD, "v": [[1.0, 2.0]]}, V),
    _vector.row("1M vectors", lambda: {**GOOD, "v": [[1.0, 2.0]] * 1_000_000}, V, path="/v1/hvp"),
    _vector.row("many without an axis", {**GOOD, "v": [[1.0, 2.0]], "options": {"many": True}}, V, path="/v1/hvp"),
    *[_vector.row(f"weights {str(w)[:18]}", {**GOOD, "weights": w}, answers) for w, answers in (
        ([], "422 bad-weights"), ([[1.0, 2.0, 3.0]], "422 bad-weights"), (CANARY, "422 bad-tensor"),
        ([1.0] * 5, "422 bad-weights"), ([{"data": [1], "dtype": "int64"}], "422 bad-weights"))],
]

UNKNOWN = "404 unknown-function"
ID_ROWS: list[Row] = [
    *[_id.row(f"call by {str(i)[:16]}", call({"id": i}), answers) for i, answers in (
        ("0" * 64, UNKNOWN), ("0" * 63, R), ("0" * 65, R), ("A" * 64, R), ("../" * 20, R), (CANARY, R), ("", R), (7, R),
        (None, R), (["0" * 64], R), ("0" * 64 + "\n", R), ("%00" * 20, R), ("0" * 100_000, R), ("' OR 1=1 --", R),
        ("٠" * 64, R))],
    *[_id.bare(f"{method} {i[:24]}", method, f"/v1/functions/{i}", answers)
      for method in ("GET", "DELETE") for i, answers in (
        ("0" * 64, UNKNOWN), (CANARY, UNKNOWN), ("../functions", f"{UNKNOWN} | 404 not-found"), ("%2e%2e", UNKNOWN),
        ("%2e%2e%2fetc%2fpasswd", f"{UNKNOWN} | 404 not-found"), ("%00", UNKNOWN), ("A" * 64, UNKNOWN),
        ("0" * 20_000, UNKNOWN), ("%ff%fe", UNKNOWN), ("'%20OR%201=1--", UNKNOWN), ("%ed%a0%80", UNKNOWN),
        (f"{'0' * 64}?a={CANARY}", UNKNOWN), (f"{'0' * 64}%3Fa=1", UNKNOWN))],
    *[_id.bare(f"path {p[:20]}", "GET", p, "404 not-found | 405 method-not-allowed") for p in (
        "//", "/v1", "/v1/", "/V1/ops", "/v1/ops/", "/v1//ops", "/v1/./ops", "/v1/../livez", "/..%2f..%2fetc/passwd",
        "/.git/config", "/.env", f"/{CANARY}", "/docs", "/redoc", "/v1/functions/", "/v1/functions/a/b", "/static/x",
        "/" + "a" * 30_000)],
    *[_id.row(f"operation {p[:16]}", GOOD, "404 unknown-operation | 404 not-found | 405 method-not-allowed",
              path=f"/v1/{p}") for p in (CANARY, "HESSIAN", "hessian/", "%68essian%00", "__init__", "..",
                  "hessian;a=1")],
    _id.row("query on a call", GOOD, "200", path=f"/v1/hessian?a={CANARY}&%00=%ff&&=="),
]

ROWS = [*GRAPH_ROWS, *BOMB_ROWS, *FORMULA_ROWS, *OPTION_ROWS, *VECTOR_ROWS, *ID_ROWS]
