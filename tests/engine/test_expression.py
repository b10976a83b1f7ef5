"""Expressions against NumPy evaluating the same text, where every error is, and what must never crash or explode."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hesse_engine.backend.reference import run
from hesse_engine.errors import GraphError, HesseError, IndexRangeError, InputError, LimitError
from hesse_engine.frontends.expression import function_names, parse
from hesse_engine.ir.graph import Limits

VALUES: dict[str, Any] = {
    "x": np.array([0.5, -1.25, 2.0]), "y": np.array([1.5, 0.25, -0.75]),
    "A": np.array([[1.0, 2.0, 3.0], [-4.0, 0.5, 6.0]]),
    "s": np.array(0.75), "n": np.array([2, 0, 1]), "m": np.array([True, False, True]),
    "f": np.array([1.5, 2.5], np.float32),
}
SIGNATURE = [(name, value.shape, value.dtype) for name, value in VALUES.items()]


def value_of(expression: str) -> Any:
    graph = parse(expression, SIGNATURE)
    return run(graph.outputs, {node: VALUES[name] for name, node in zip(graph.names, graph.inputs, strict=True)})[0]


def numpy_of(expression: str) -> Any:
    """NumPy's own answer; the oracle may evaluate Python, the parser may not."""
    names = {name: getattr(np, name) for name in dir(np) if not name.startswith("_")}
    return eval(expression, {**names, "np": np, "linalg": np.linalg, "pi": np.pi, "e": np.e}, dict(VALUES))


PYTHON = """
x + y * 2
-x**2
2**3**2 * x
2**-1 * x
x - y - 1
x / y / 2
-x + +y
(x + 1) * (y - 2)
x * -y
- -x
x**2 + y**2 < 3
(x > 0) & (y > 0)
(x > 0) | (y > 0) ^ (x < y)
~(x > 0) & m
x == x
x != y
1 - (x >= 0.5)
A @ x
x @ x
A @ A.T
A @ x + 1
-A @ x
2 * pi * x
e**x
sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)
sum(x**3 + 4*x - 10)
sin(x) + cos(y) * tanh(s)
exp(-x**2 / 2) / sqrt(2 * pi)
log(x**2 + 1)
log1p(x**2)
expm1(x)
maximum(x, 0)
minimum(x, y)
where(x > 0, x, 0)
where(m, x, y)
clip(x, -1, 1)
abs(x)
sign(x)
square(x)
max(x)
min(A, axis=1)
amax(A, axis=0, keepdims=True)
sum(A, axis=0)
sum(A, axis=(0, 1))
sum(A, 1, keepdims=True)
mean(A, axis=-1)
prod(x)
var(A, axis=0)
std(x, ddof=1)
cumsum(x)
cumprod(A, axis=1)
diff(x)
argmax(x)
any(x > 1)
all(A > -5, axis=1)
dot(A, x)
matmul(A, x)
outer(x, y)
inner(x, y)
vdot(x, y)
einsum('ij,j->i', A, x)
einsum("ij->", A)
tensordot(A, x, axes=1)
tensordot(A, A, ([0, 1], [0, 1]))
kron(x, y)
trace(A @ A.T)
linalg.norm(x)
np.linalg.norm(A, axis=1)
np.sum(np.sin(x))
reshape(A, (3, 2))
reshape(A, -1)
ravel(A)
transpose(A)
A.T
A.T @ A
A.shape[0] * x
A.size * s
A.sum()
A.sum(axis=0)
A.mean(1)
A.reshape(3, 2)
A.transpose(1, 0)
A.max(axis=1)
(x**2).sum()
x.dot(y)
A.T[0]
A[0]
A[-1, 1:]
A[:, 0]
A[..., 0]
A[::-1, ::2]
A[:, ::-1]
A[0, 2:0:-1]
A[None]
A[:, None, 1]
A[[0, 1], [2, 0]]
A[:, [2, 0]]
A[1:]
A[1:,]
A[1][2]
x[n]
x[n % 2 if False else n]
x[-1]
x[len_ if False else 0]
concatenate([x, y])
concatenate((x, [1, 2.5]))
concatenate([A, A], axis=1)
stack([x, y])
stack([x, y], axis=1)
stack([x[0], s, 1.0])
hstack([x, y])
vstack([x, y])
flip(x)
roll(x, 1)
tile(x, 2)
repeat(x, 2)
diag(x)
diag(A)
diagonal(A)
tril(A)
triu(A, 1)
expand_dims(x, 0)
expand_dims(x, axis=-1)
squeeze(A[:1])
squeeze(A[:1], axis=0)
broadcast_to(x, (2, 3))
swapaxes(A, 0, 1)
moveaxis(A, 0, 1)
take(x, [0, 2])
take(A, [0, 2], axis=1)
zeros_like(x)
ones_like(A)
full_like(x, 2.5)
pad(x, 1)
isnan(x)
n + x
n / 2
f * 2
f + 1
sqrt(f)
1e3 * x
.5 * x
5. * x
1.5e-3 * x
x *  ( 1 + 2 )
sqrt(2) * x
sin(1) + x
maximum(1, 2) + x
log(10.0) / x
1 / 3 * x
2**10 * x
2.0**0.5 * x
sum([x, y])
max(stack([x, y]), axis=0)
power(x, 3)
power(2, x)
x**n
reciprocal(x)
logical_and(x > 0, y > 0)
cross(x, y)
trapezoid(x)
polyval([1, 2, 3], x)
select([x > 1, x > 0], [x, 2 * x], 3)
""".strip().splitlines()
PYTHON = [line for line in PYTHON if " if " not in line]


@pytest.mark.parametrize("expression", PYTHON)
def test_expressions_are_numpy_s(expression: str) -> None:
    got, wanted = value_of(expression), np.asarray(numpy_of(expression))
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-15)
    assert got.shape == wanted.shape
    # literals are float64: an integer literal with an integer array gives floats, so only other dtypes are compared
    assert got.dtype == wanted.dtype or wanted.dtype == np.int64


OWN: dict[str, Any] = {
    "3": 3.0, "True": True, "2 < 3": True, "-2**2": -4.0, "7 / 2": 3.5, "2**3**2": 512.0, "~True": False, "pi": np.pi,
    "(1 < 2) & (2 < 1)": False, "n * 2": np.array([4.0, 0.0, 2.0]), "A.shape[1]": 3.0, "x.shape[-1] * 2": 6.0,
    "x.ndim": 1.0,
    "sigmoid(0)": 0.5, "softplus(x)": np.log1p(np.exp(VALUES["x"])), "relu(x)": np.maximum(VALUES["x"], 0),
    "norm(x)": np.linalg.norm(VALUES["x"]),
    "softmax(x, axis=0)": np.exp(VALUES["x"]) / np.exp(VALUES["x"]).sum(),
    "logsumexp(x, axis=0)": np.log(np.exp(VALUES["x"]).sum()),
    "stop_gradient(x)": VALUES["x"], "slice(x, start=(1,), count=(2,))": VALUES["x"][1:],
    "permute_dims(A, axes=(1, 0))": VALUES["A"].T,
    "contract(A, x, subscripts='ab,b->a')": VALUES["A"] @ VALUES["x"],
    "power_scalar(y**2, exponent=1.5)": np.abs(VALUES["y"]) ** 3,
    "convert(n, dtype='float32')": VALUES["n"].astype(np.float32), "sin(x, )": np.sin(VALUES["x"]),
    "x.sin()": np.sin(VALUES["x"]),
    "A.mT": VALUES["A"].T, "( (x) )": VALUES["x"], "concat([x, y])": np.concatenate([VALUES["x"], VALUES["y"]]),
    "sum(3)": 3.0,
    "stack([1, 2])": np.array([1.0, 2.0]), "[1, 2] * [3, 4]": np.array([3.0, 8.0]), "x[\n1]": VALUES["x"][1],
    "scatter_add(x, n, axis=0, size=4)": np.array([-1.25, 2.0, 0.5, 0.0]),
    "f * sqrt(2)": VALUES["f"] * np.float32(np.sqrt(2)),
}


@pytest.mark.parametrize("expression", OWN)
def test_expressions_that_are_not_numpy_s(expression: str) -> None:
    got, wanted = value_of(expression), np.asarray(OWN[expression])
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if wanted.dtype == np.float32 else 1e-13)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape


SYNTAX: list[tuple[str, int, str]] = [
    ("", 0, "a value"), ("x +", 3, "a value"), ("(x", 2, "')' for the bracket at position 0"),
    ("x)", 1, "an operator or the end"),
    ("x y", 2, "an operator or the end"), ("2x", 1, "an operator or the end"), ("x[", 2, "a value"),
    ("x[]", 2, "an index"), ("[x", 2, "']'"),
    ("(x]", 2, "an operator, ',' or ')'"), ("x $ y", 2, "a number, a name or an operator"),
    ("x..y", 2, "the name of a method"),
    ("1 < x < 2", 6, "one comparison"), ("x = 3", 2, "an operator or the end"), ("x, y", 1, "an operator or the end"),
    ("* x", 0, "a value"),
    ("x[1:2:3:4]", 7, "at most two ':'"), ("sum(axis=0, x)", 13, "keywords after a keyword"),
    ("sum(x, axis=0, axis=1)", 15, "each keyword once"),
    ("x(2)", 0, "a function"), ("sum(x,,y)", 6, "a value"), ("x[0,,1]", 4, "a value"), ("(,)", 1, "a value"),
    ("x + ()", 2, "an array or a number"),
    ("x + None", 2, "an array or a number"), ("x + 'a'", 2, "an array or a number"), ("...", 0, "a value"),
    ("x:y", 1, "an operator or the end"),
    ("sum(x", 5, "')'"), ("sum(", 4, "a value"), ("np.", 3, "a name"), ("np.linalg", 9, "'.'"),
    ("x.", 2, "the name of a method"), ("!x", 0, "a number"),
    ("x[1:", 4, "a value"), ("x[(1:2)]", 4, "an operator"), ("lambda: x", 6, "an operator"), ("'abc", 0, "a number"),
    ("x\\", 1, "a number"),
    ("sum(x axis=0)", 6, "an operator, ',' or ')'"), ("[]", 0, "an array or a number"), ("sum(-)", 5, "a value"),
    ("x[-]", 3, "a value"),
]


@pytest.mark.parametrize(("expression", "at", "expected"), SYNTAX, ids=[repr(s) for s, _, _ in SYNTAX])
def test_syntax_errors_say_where_and_what(expression: str, at: int, expected: str) -> None:
    with pytest.raises(GraphError) as caught:
        value_of(expression)
    if expression.startswith("lambda"):
        assert caught.value.code == "unknown-name"
        return
    assert caught.value.code == "expression-syntax"
    assert str(caught.value).startswith(f"At position {at}: expected {expected}"), str(caught.value)


UNKNOWN = {"sine(x)": "sin", "xx + 1": "x", "x.summ()": "sum", "concatentate([x, y])": "concatenate", "x.Q": "T",
    "np.sinn(x)": "sin",
           "nan * x": "x", "inf": "Allowed names", "__import__('os')": "Allowed functions",
           "eval('x')": "Allowed functions",
           "x.__class__": "Allowed attributes", "x.__class__()": "Allowed functions", "fft(x)": "Allowed functions",
           "ndarray(x)": "Allowed"}


@pytest.mark.parametrize("expression", UNKNOWN)
def test_unknown_names_come_with_what_is_close(expression: str) -> None:
    with pytest.raises(GraphError, match=UNKNOWN[expression]) as caught:
        value_of(expression)
    assert caught.value.code == "unknown-name"


OVERFLOWS = ["1e999", "9**9**9**9", "9.9e307 * 10", "1 / 0", "0 / 0", "exp(1000)", "log(0)", "sqrt(-1)", "(-8)**0.5",
    "x * (1e308 + 1e308)", "0**-1",
             "1e308 * stack([10, 1])", "9" * 400, "sum([1e308, 1e308])", "exp(exp(exp(3)))", "10**10**10",
             "log(-1) * x"]


@pytest.mark.parametrize("expression", OVERFLOWS)
def test_constants_that_explode(expression: str) -> None:
    with pytest.raises(InputError) as caught:
        value_of(expression)
    assert caught.value.code == "constant-overflow"


BAD: list[tuple[str, type[HesseError], str]] = [
    ("x + [1, 2]", GraphError, "shape-mismatch"), ("A @ y[:2]", GraphError, "shape-mismatch"),
    ("sum(x, axis=1)", GraphError, "bad-attribute"),
    ("sum(x, axis=0.5)", GraphError, "bad-attribute"), ("reshape(x, (2, 2))", GraphError, "shape-mismatch"),
    ("x[3]", IndexRangeError, "index-out-of-range"),
    ("x[0, 0]", IndexRangeError, "index-out-of-range"), ("sin(x, y)", GraphError, "wrong-arity"),
    ("sum()", GraphError, "wrong-arity"),
    ("broadcast_to(x, (10**9, 10**9, 3))", LimitError, "too-many-elements"),
    ("tile(x, 10**15)", LimitError, "too-many-elements"),
    ("array_split(x, 10**12)", GraphError, "bad-attribute"),
    (f"expand_dims(x, {tuple(range(32))})", LimitError, "rank-too-high"),
    ("repeat(x, 10**15)", LimitError, "too-many-elements"),
    ("repeat(x, [10**12, 1, 1])", LimitError, "too-many-elements"), ("x & y", HesseError, "bad-type"),
    ("x[m > 0]", HesseError, "cut-graph"), ("x[1.5]", HesseError, "bad-type"),
    ("1 & 2", GraphError, "dtype-mismatch"), ("~1", GraphError, "dtype-mismatch"),
    ("2 @ 3", GraphError, "shape-mismatch"), ("einsum('ij,j', A)", GraphError, "wrong-arity"),
    ("sum(x, foo=1)", HesseError, "bad-type"),
    ("take(x, 5)", IndexRangeError, "index-out-of-range"), ("contract(A, x, foo=1)", GraphError, "bad-attribute"),
    ("convert(x, dtype='complex128')", HesseError, "unsupported-complex"),
    ("floor_division(x, 2)", HesseError, "unknown-name"), ("x.shape[4]", GraphError, "expression-syntax"),
    ("x[::0]", GraphError, "bad-attribute"),
    ("convert(x, dtype='no')", GraphError, "bad-attribute"), ("convert(x, dtype='i4,f8')", GraphError, "bad-attribute"),
    ("permute_dims(A, 1)", HesseError, "bad-attribute"), ("contract(A, x)", GraphError, "bad-attribute"),
    ("tril(s)", GraphError, "shape-mismatch"),
    ("norm(x, (1, 2))", HesseError, "bad-type"), ("linspace(s, 1, 10**12)", LimitError, "too-many-elements"),
    ("sign(x > 0)", HesseError, "bad-type"),
    ("pad(A, [[1, 2], [3, 4], [5, 6]])", GraphError, "bad-attribute"), ("delete(x, 7)", GraphError, "bad-attribute"),
    ("split(A, 'a')", GraphError, "bad-attribute"), ("x.rot90()", GraphError, "bad-attribute"),
    ("concatenate([x, A])", GraphError, "shape-mismatch"),
    ("x[10**15]", IndexRangeError, "index-out-of-range"),
]


@pytest.mark.parametrize(("expression", "error", "code"), BAD, ids=[e[:30] for e, _, _ in BAD])
def test_bad_operands_and_attributes(expression: str, error: type[HesseError], code: str) -> None:
    with pytest.raises(error) as caught:
        value_of(expression)
    assert caught.value.code == code


def test_errors_of_rows_name_the_place() -> None:
    with pytest.raises(GraphError) as caught:
        parse("1 + sum(x @ y, axis=3)", [("x", (3,), "float64"), ("y", (3,), "float64")])
    assert caught.value.node == "sum at position 4"


DEEP = {
    "parentheses": ("(" * 100_000 + "x" + ")" * 100_000, lambda x: x), "signs": ("-" * 100_000 + "x", lambda x: x),
    "powers": ("x" + "**1" * 50_000, lambda x: x), "terms": ("+".join(["x"] * 50_000), lambda x: 50_000 * x),
    "calls": ("abs(" * 20_000 + "x" + ")" * 20_000, np.abs), "indices": ("x" + "[:]" * 50_000, lambda x: x),
}


@pytest.mark.parametrize("case", DEEP)
def test_deep_expressions(case: str) -> None:
    expression, f = DEEP[case]
    np.testing.assert_allclose(value_of(expression), f(VALUES["x"]))


@pytest.mark.parametrize("expression", ["(" * 100_000, "[" * 100_000 + "1" + "]" * 100_000, "x[" * 50_000,
                                        "-" * 100_000, "x[" + "[" * 50_000 + "0" + "]" * 50_000 + "]",
                                        "(" * 50_000 + "1," + ")," * 49_999 + ")"])
def test_deep_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(HesseError) as caught:
        value_of(expression)
    assert len(str(caught.value)) < 2_000


def test_limits() -> None:
    with pytest.raises(LimitError) as caught:
        parse(" " * 1_000_001, [])
    assert caught.value.code == "expression-too-long"
    with pytest.raises(LimitError, match="more than 10 nodes"):
        parse("sin(x) + cos(x) * exp(x) - log(x) / sqrt(x) + tan(x)", [("x", (3,), "float64")], limits=Limits(nodes=10))


@pytest.mark.parametrize(("inputs", "code"), [
    ([("x", (3,), "float64"), ("x", (3,), "float64")], "duplicate-id"), ([("1x", (3,), "float64")], "graph-format"),
    ([("x", (-1,), "float64")], "bad-attribute"), ([("x", (3,), "complex128")], "unsupported-complex"),
    ([("x", (3,), "float16")], "bad-attribute"),
])
def test_bad_inputs(inputs: list[tuple[str, Any, Any]], code: str) -> None:
    with pytest.raises(HesseError) as caught:
        parse("x", inputs)
    assert caught.value.code == code


def test_inputs_keep_their_order_and_hide_constants() -> None:
    graph = parse("e * b", [("b", (), "float64"), ("e", (), "float64"), ("unused", (2,), "int64")])
    assert graph.names == ("b", "e", "unused")
    assert run(graph.outputs, {graph.inputs[0]: np.array(3.0), graph.inputs[1]: np.array(5.0)})[0] == 15.0


def test_the_names_that_can_be_called() -> None:
    names = function_names()
    assert {"sin", "sum", "einsum", "concatenate", "norm", "relu", "contract", "where"} <= set(names)
    assert not [n for n in names if "." in n]


ALPHABET = st.sampled_from(["x", "A", "s", "n", "m", "1", "2.5", "+", "-", "*", "/", "**", "@", "(", ")", "[", "]",
    ",", ":", "...", "=", "<", "==", "&", "~",
                            ".", "T", "sum", "(", ")", "axis", "None", "sin(", "stack([", "])", "'ij'", " ", "9**9",
                            "reshape("])


@settings(max_examples=400, deadline=None)
@given(st.lists(ALPHABET, max_size=14).map("".join))
def test_any_text_is_a_graph_or_one_of_our_errors(text: str) -> None:
    with contextlib.suppress(HesseError):
        assert len(parse(text, SIGNATURE).outputs) == 1


@st.composite
def formulas(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0:
        return draw(st.sampled_from(["x", "y", "s", "2", "0.5", "x[0]", "y[::-1]"]))
    a, b = draw(formulas(depth - 1)), draw(formulas(depth - 1))
    return draw(st.sampled_from([f"{a}+{b}", f"{a}-{b}", f"{a}*{b}", f"-{a}", f"({a}-{b})", f"-{a}**2",
    f"sin({a})*{b}", f"{a}-({b})*2",
                                 f"maximum({a},{b})", f"+{a}-+{b}", f"2*-{a}"]))


@settings(max_examples=200, deadline=None)
@given(formulas())
def test_formulas_are_python_s(text: str) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(value_of(text), np.asarray(numpy_of(text), float), rtol=1e-9, atol=1e-9)
