"""Every row of the table: its value against the definition, special values, shapes and dtypes, accuracy in ulp."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import reference
from hesse_engine.ir.graph import BOOL, FLOAT32, FLOAT64, Array, Builder, Node, apply
from hesse_engine.ir.rows import ROWS
from hesse_engine.transforms.jvp import push_forward
from op_cases import Case
from op_cases_arrays import CASES
from op_cases_special import SPECIAL_VALUES
from oracles import MP, exact, rounded, ulps

TOLERANCE = {"float64": 4e-15, "float32": 3e-6}
ALL = [(name, k) for name, cases in CASES.items() for k in range(len(cases))]


def built(name: str, case: Case, dtype: str) -> tuple[Node, dict[Node, Array]]:
    """The op on fresh inputs, and their values."""
    builder = Builder()
    values: dict[Node, Array] = {}
    operands = []
    for k, array in enumerate(case.cast(dtype)):
        node = builder.constant(array) if k in case.constant else builder.input(f"x{k}", array.shape, array.dtype)
        operands.append(node)
        if k not in case.constant:
            values[node] = array
    return apply(name, *operands, **case.attributes(dtype)), values


def test_every_row_has_cases() -> None:
    rows = {name for name, row in ROWS.load().items() if row.kind != "leaf"}
    assert set(CASES) == rows


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "index"), ALL)
def test_value(name: str, index: int, dtype: str) -> None:
    case = CASES[name][index]
    if dtype not in case.dtypes:
        return
    y, values = built(name, case, dtype)
    (got,) = reference.run([y], values)
    wanted = rounded(case.reference(*[exact(a) for a in case.operands]))
    assert got.shape == y.shape == wanted.shape
    assert got.dtype == y.dtype
    assert not wanted.size or (got.dtype.kind == "f") == (wanted.dtype.kind == "f")
    tolerance = TOLERANCE["float32" if got.dtype == FLOAT32 else "float64"]
    scale = float(np.max(np.abs(wanted), initial=0.0)) if got.dtype.kind == "f" else 0.0
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)


# ---- dtypes --------------------------------------------------------------------------------------------------------
# (op, dtypes of the operands, attrs, dtype of the result as a NumPy graph, as a torch graph)
DTYPES: list[tuple[str, tuple[str, ...], dict[str, Any], str, str]] = [
    ("add", ("float32", "float64"), {}, "float64", "float64"),
    ("add", ("int64", "float32"), {}, "float64", "float32"),
    ("add", ("int8", "int32"), {}, "int32", "int32"),
    ("add", ("bool", "int8"), {}, "int8", "int8"),
    ("multiply", ("bool", "bool"), {}, "bool", "bool"),
    ("divide", ("int64", "int64"), {}, "float64", "float32"),
    ("exp", ("int32",), {}, "float64", "float32"),
    ("sqrt", ("bool",), {}, "float64", "float32"),
    ("exp", ("float32",), {}, "float32", "float32"),
    ("sign", ("int32",), {}, "int32", "int32"),
    ("less", ("float32", "float64"), {}, "bool", "bool"),
    ("where", ("bool", "float32", "float64"), {}, "float64", "float64"),
    ("maximum", ("float32", "int64"), {}, "float64", "float32"),
    ("matmul", ("float32", "float64"), {}, "float64", "float64"),
    ("concat", ("float32", "float64"), {}, "float64", "float64"),
    ("mean", ("int64",), {}, "float64", "float32"),
    ("mean", ("float32",), {}, "float32", "float32"),
    ("power_scalar", ("int64",), {"exponent": 2}, "int64", "int64"),
    ("power_scalar", ("int64",), {"exponent": -1}, "float64", "float32"),
    ("power_scalar", ("float32",), {"exponent": 3.5}, "float32", "float32"),
    ("sum", ("bool",), {}, "int64", "int64"),
    ("sum", ("float32",), {}, "float32", "float32"),
    ("max", ("int8",), {}, "int8", "int8"),
    ("argmax", ("float32",), {}, "int64", "int64"),
]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(("name", "kinds", "attrs", "numpy", "torch"), DTYPES)
def test_dtype_of_the_result(
    name: str, kinds: tuple[str, ...], attrs: dict[str, Any], numpy: str, torch: str, library: str
) -> None:
    builder = Builder(library=library)
    inputs = [builder.input(f"x{k}", (2, 2), np.dtype(d)) for k, d in enumerate(kinds)]
    y = apply(name, *inputs, **attrs)
    assert y.dtype == (numpy if library == "numpy" else torch)
    (got,) = reference.run([y], {n: np.ones(n.shape, n.dtype) for n in inputs})
    assert got.dtype == y.dtype


def test_scalars_adopt_the_dtype_of_the_node() -> None:
    x = Builder().input("x", (2,), FLOAT32)
    for y in (x + 1.5, 2 * x, True + x, x / 3, apply("maximum", x, 0), apply("power", 2.0, x), x > 1):
        assert y.dtype == (BOOL if y.op == "greater" else FLOAT32)
    k = Builder().input("k", (2,), np.dtype(np.int32))
    assert (k + 1).dtype == np.int32
    assert (k + 1.5).dtype == FLOAT64


# ---- special values ------------------------------------------------------------------------------------------------
INF, NAN, BIG, TINY = math.inf, math.nan, 1.7e308, 5e-324
# op -> (operands, result); signs of zero count
SPECIAL: dict[str, list[tuple[tuple[float, ...], float]]] = {
    **SPECIAL_VALUES,
    "add": [((INF, -INF), NAN), ((-0.0, -0.0), -0.0), ((-0.0, 0.0), 0.0), ((BIG, BIG), INF), ((NAN, 1.0), NAN)],
    "subtract": [((INF, INF), NAN), ((0.0, 0.0), 0.0), ((-0.0, 0.0), -0.0), ((TINY, TINY), 0.0)],
    "multiply": [((0.0, INF), NAN), ((-1.0, 0.0), -0.0), ((BIG, 10.0), INF), ((TINY, 0.5), 0.0), ((NAN, 0.0), NAN)],
    "divide": [((1.0, 0.0), INF), ((1.0, -0.0), -INF), ((0.0, 0.0), NAN), ((INF, INF), NAN), ((1.0, -INF), -0.0)],
    "negative": [((0.0,), -0.0), ((INF,), -INF), ((NAN,), NAN)],
    "square": [((-0.0,), 0.0), ((-INF,), INF), ((1e200,), INF)],
    "sqrt": [((0.0,), 0.0), ((-0.0,), -0.0), ((INF,), INF), ((-1.0,), NAN), ((TINY,), 2.2227587494850775e-162)],
    "exp": [((INF,), INF), ((-INF,), 0.0), ((710.0,), INF), ((-746.0,), 0.0), ((NAN,), NAN)],
    "expm1": [((-INF,), -1.0), ((INF,), INF), ((-0.0,), -0.0), ((TINY,), TINY)],
    "log": [((0.0,), -INF), ((-0.0,), -INF), ((INF,), INF), ((-1.0,), NAN), ((1.0,), 0.0)],
    "log1p": [((-1.0,), -INF), ((-2.0,), NAN), ((-0.0,), -0.0), ((INF,), INF), ((TINY,), TINY)],
    "sin": [((INF,), NAN), ((-0.0,), -0.0), ((NAN,), NAN)],
    "cos": [((-INF,), NAN), ((0.0,), 1.0)],
    "tan": [((INF,), NAN), ((-0.0,), -0.0)],
    "tanh": [((INF,), 1.0), ((-INF,), -1.0), ((-0.0,), -0.0), ((NAN,), NAN), ((TINY,), TINY)],
    "sech_squared": [((INF,), 0.0), ((-INF,), 0.0), ((0.0,), 1.0), ((400.0,), 0.0), ((NAN,), NAN)],
    "sigmoid": [((INF,), 1.0), ((-INF,), 0.0), ((0.0,), 0.5), ((-800.0,), 0.0), ((800.0,), 1.0), ((NAN,), NAN)],
    "softplus": [((INF,), INF), ((-INF,), 0.0), ((800.0,), 800.0), ((-800.0,), 0.0), ((NAN,), NAN)],
    "abs": [((-0.0,), 0.0), ((-INF,), INF), ((NAN,), NAN)],
    "sign": [((-0.0,), 0.0), ((-TINY,), -1.0), ((INF,), 1.0), ((NAN,), NAN)],
    "maximum": [((NAN, 1.0), NAN), ((1.0, NAN), NAN), ((-INF, 1.0), 1.0), ((INF, 1.0), INF)],
    "minimum": [((NAN, 1.0), NAN), ((1.0, NAN), NAN), ((-INF, 1.0), -INF), ((INF, 1.0), 1.0)],
    "clip": [((NAN, 0.0, 1.0), NAN), ((INF, 0.0, 1.0), 1.0), ((-INF, 0.0, 1.0), 0.0), ((0.5, 2.0, 1.0), 1.0),
             ((0.5, NAN, 1.0), NAN), ((0.5, 0.0, NAN), NAN), ((3.0, -INF, INF), 3.0)],
    "power": [((0.0, 0.0), 1.0), ((NAN, 0.0), 1.0), ((1.0, NAN), 1.0), ((-1.0, 0.5), NAN), ((0.0, -1.0), INF),
              ((-0.0, -1.0), -INF), ((-0.0, 3.0), -0.0), ((-8.0, 3.0), -512.0), ((INF, -1.0), 0.0), ((0.5, INF), 0.0)],
    "equal": [((NAN, NAN), 0.0), ((0.0, -0.0), 1.0), ((INF, INF), 1.0)],
    "not_equal": [((NAN, NAN), 1.0), ((0.0, -0.0), 0.0)],
    "less": [((NAN, 1.0), 0.0), ((-0.0, 0.0), 0.0), ((-INF, INF), 1.0)],
    "less_equal": [((NAN, NAN), 0.0), ((0.0, -0.0), 1.0)],
    "greater": [((NAN, 1.0), 0.0), ((INF, BIG), 1.0)],
    "greater_equal": [((NAN, NAN), 0.0), ((-0.0, 0.0), 1.0)],
    "logical_and": [((NAN, 1.0), 1.0), ((0.0, NAN), 0.0), ((-0.0, 1.0), 0.0)],
    "logical_or": [((NAN, 0.0), 1.0), ((-0.0, 0.0), 0.0)],
    "logical_xor": [((NAN, 1.0), 0.0), ((-0.0, 2.0), 1.0)],
    "logical_not": [((NAN,), 0.0), ((-0.0,), 1.0)],
    "stop_gradient": [((-0.0,), -0.0), ((NAN,), NAN)],
    "exp2": [((INF,), INF), ((-INF,), 0.0), ((1024.0,), INF), ((-3.0,), 0.125), ((NAN,), NAN)],
    "log2": [((0.0,), -INF), ((INF,), INF), ((-1.0,), NAN), ((8.0,), 3.0)],
    "log10": [((0.0,), -INF), ((INF,), INF), ((-1.0,), NAN), ((1.0,), 0.0)],
    "rsqrt": [((0.0,), INF), ((-0.0,), -INF), ((INF,), 0.0), ((-1.0,), NAN), ((4.0,), 0.5)],
    "cbrt": [((-0.0,), -0.0), ((-INF,), -INF), ((-8.0,), -2.0), ((NAN,), NAN)],
    "asin": [((-0.0,), -0.0), ((1.5,), NAN), ((TINY,), TINY)],
    "acos": [((1.0,), 0.0), ((-1.5,), NAN)],
    "sec_asin": [((1.0,), INF), ((-1.0,), INF), ((2.0,), NAN), ((0.0,), 1.0)],
    "atan": [((-0.0,), -0.0), ((NAN,), NAN), ((TINY,), TINY)],
    "lorentzian": [((INF,), 0.0), ((-INF,), 0.0), ((0.0,), 1.0), ((1e200,), 0.0)],
    "sinh": [((-0.0,), -0.0), ((-INF,), -INF), ((720.0,), INF), ((TINY,), TINY)],
    "cosh": [((-INF,), INF), ((0.0,), 1.0), ((720.0,), INF)],
    "asinh": [((-0.0,), -0.0), ((-INF,), -INF), ((TINY,), TINY)],
    "cos_atan": [((INF,), 0.0), ((0.0,), 1.0), ((1e200,), 1e-200)],
    "acosh": [((1.0,), 0.0), ((INF,), INF), ((0.5,), NAN)],
    "csch_acosh": [((1.0,), INF), ((INF,), 0.0), ((0.5,), NAN), ((-2.0,), NAN), ((1e200,), 1e-200)],
    "atanh": [((1.0,), INF), ((-1.0,), -INF), ((2.0,), NAN), ((-0.0,), -0.0)],
    "hypot": [((0.0, 0.0), 0.0), ((1e200, 0.0), 1e200), ((INF, NAN), INF), ((0.0, -4.0), 4.0)],
    "unit": [((0.0, 0.0), 0.0), ((3e200, 4e200), 0.6), ((-0.0, 2.0), -0.0), ((-2.0, 0.0), -1.0), ((NAN, 1.0), NAN)],
    "atan2": [((0.0, 0.0), 0.0), ((-0.0, 1.0), -0.0), ((0.0, INF), 0.0), ((NAN, 1.0), NAN)],
    "inversion": [((0.0, 0.0), 0.0), ((2.0, 0.0), 0.5), ((1e200, 0.0), 1e-200), ((NAN, 1.0), NAN)],
    "xlogy": [((0.0, 0.0), 0.0), ((0.0, -1.0), 0.0), ((0.0, INF), 0.0), ((0.0, NAN), NAN), ((1.0, 0.0), -INF),
              ((NAN, 1.0), NAN)],
    "xlog1py": [((0.0, -1.0), 0.0), ((0.0, -3.0), 0.0), ((0.0, NAN), NAN), ((1.0, -1.0), -INF), ((2.0, 0.0), 0.0)],
    "logaddexp": [((-INF, -INF), -INF), ((INF, INF), INF), ((-INF, 1.0), 1.0), ((INF, -INF), INF), ((NAN, 1.0), NAN)],
    "logaddexp2": [((-INF, -INF), -INF), ((INF, INF), INF), ((-INF, 1.0), 1.0), ((1.0, 1.0), 2.0), ((NAN, 1.0), NAN)],
    "sinc": [((0.0,), 1.0), ((-0.0,), 1.0), ((INF,), NAN), ((NAN,), NAN), ((TINY,), 1.0)],
    "floor": [((-0.0,), -0.0), ((-INF,), -INF), ((-0.5,), -1.0), ((NAN,), NAN)],
    "ceil": [((-0.5,), -0.0), ((INF,), INF), ((0.5,), 1.0), ((NAN,), NAN)],
    "trunc": [((-0.5,), -0.0), ((INF,), INF), ((-1.5,), -1.0), ((NAN,), NAN)],
    "round": [((0.5,), 0.0), ((-0.5,), -0.0), ((1.5,), 2.0), ((2.5,), 2.0), ((INF,), INF), ((NAN,), NAN)],
    "floor_divide": [((1.0, 0.0), INF), ((0.0, 0.0), NAN), ((-1.0, INF), -1.0), ((1.0, INF), 0.0), ((7.0, -2.0), -4.0),
                     ((-0.0, 2.0), -0.0)],
    "remainder": [((1.0, 0.0), NAN), ((-1.0, 3.0), 2.0), ((1.0, -3.0), -2.0), ((6.0, -3.0), -0.0), ((INF, 2.0), NAN),
                  ((1.0, INF), 1.0), ((-0.0, 2.0), 0.0)],
    "fmod": [((1.0, 0.0), NAN), ((-1.0, 3.0), -1.0), ((-6.0, 3.0), -0.0), ((INF, 2.0), NAN), ((1.0, INF), 1.0)],
    "copysign": [((1.0, -0.0), -1.0), ((-2.0, 0.0), 2.0), ((0.0, -1.0), -0.0), ((INF, -1.0), -INF)],
    "nextafter": [((0.0, 0.0), 0.0), ((NAN, 1.0), NAN), ((INF, INF), INF)],
    "fmax": [((NAN, 1.0), 1.0), ((1.0, NAN), 1.0), ((NAN, NAN), NAN), ((-INF, 1.0), 1.0)],
    "fmin": [((NAN, 1.0), 1.0), ((1.0, NAN), 1.0), ((NAN, NAN), NAN), ((-INF, 1.0), -INF)],
    "isnan": [((NAN,), 1.0), ((INF,), 0.0), ((1.0,), 0.0)],
    "isinf": [((NAN,), 0.0), ((-INF,), 1.0), ((BIG,), 0.0)],
    "isfinite": [((NAN,), 0.0), ((-INF,), 0.0), ((BIG,), 1.0)],
    "signbit": [((-0.0,), 1.0), ((0.0,), 0.0), ((-INF,), 1.0), ((2.0,), 0.0)],
}
WHOLE: dict[str, tuple[list[float], float]] = {
    "sum": ([BIG, BIG, -BIG], INF), "mean": ([INF, -INF], NAN), "prod": ([0.0, INF], NAN), "max": ([1.0, NAN], NAN),
    "min": ([NAN, 1.0], NAN), "argmax": ([1.0, NAN, INF, NAN], 1.0), "argmin": ([1.0, NAN, -INF], 1.0),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, dtype: str) -> None:
    for operands, wanted in SPECIAL[name]:
        if dtype == "float32" and any([0 < abs(v) < 1e-300 or 1e38 < abs(v) < INF for v in operands]):
            continue
        builder = Builder()
        inputs = [builder.input(f"x{k}", (1,), np.dtype(dtype)) for k in range(len(operands))]
        (got,) = reference.run([apply(name, *inputs)], {n: np.array([v], dtype) for n,
                                                        v in zip(inputs, operands, strict=True)})
        value = float(got[0])
        assert value == wanted or (math.isnan(value) and math.isnan(wanted)), (operands, value)
        assert math.copysign(1.0, value) == math.copysign(1.0, wanted) or math.isnan(wanted), (operands, value)


@pytest.mark.parametrize("name", WHOLE)
def test_special_values_of_reductions(name: str) -> None:
    values, wanted = WHOLE[name]
    x = Builder().input("x", (len(values),), FLOAT64)
    (got,) = reference.run([apply(name, x)], {x: np.array(values)})
    np.testing.assert_equal(float(got), wanted)


def test_every_pointwise_row_has_special_values() -> None:
    rows = {r.name for r in ROWS.load().values()
            if r.kind == "pointwise" and r.vm is not None and (not r.attrs or r.name in SPECIAL)}
    assert rows - set(SPECIAL) == set()


# ---- accuracy ------------------------------------------------------------------------------------------------------
Function = Callable[[Any], Any]
TAILS = np.geomspace(1e-300, 1e300, 61)
MIDDLE = np.concatenate([np.geomspace(1e-20, 0.1, 30), np.linspace(0.11, 30.0, 120)])
SIGNED = np.concatenate([-MIDDLE, MIDDLE])
EDGE = np.concatenate([MIDDLE, np.array([40.0, 88.0, 300.0, 690.0])])
BOTH_EDGES = np.concatenate([-EDGE, EDGE])
NEAR_MINUS_ONE = -1.0 + np.geomspace(2e-7, 0.5, 15)

# op -> value, derivative, points, largest error in ulp of the value and of the derivative (float64)
ACCURACY: dict[str, tuple[Function, Function, Array, float, float]] = {
    "sqrt": (MP.sqrt, lambda x: 0.5 / MP.sqrt(x), TAILS, 0.5, 1.5),
    "square": (lambda x: x * x, lambda x: 2 * x, np.concatenate([-TAILS[20:41], TAILS[20:41]]), 0.5, 0.0),
    "exp": (MP.exp, MP.exp, BOTH_EDGES, 1.0, 1.0),
    "expm1": (MP.expm1, MP.exp, BOTH_EDGES, 1.0, 1.0),
    "log": (MP.log, lambda x: 1 / x, TAILS, 1.0, 0.5),
    "log1p": (MP.log1p, lambda x: 1 / (1 + x), np.concatenate([TAILS, NEAR_MINUS_ONE]), 1.0, 1.5),
    "sin": (MP.sin, MP.cos, SIGNED, 1.0, 1.0),
    "cos": (MP.cos, lambda x: -MP.sin(x), SIGNED, 1.0, 1.0),
    "tan": (MP.tan, lambda x: MP.sec(x) ** 2, SIGNED, 1.0, 2.5),
    "tanh": (MP.tanh, lambda x: MP.sech(x) ** 2, BOTH_EDGES[np.abs(BOTH_EDGES) < 350], 1.5, 4.0),
    "sech_squared": (lambda x: MP.sech(x) ** 2, lambda x: -2 * MP.tanh(x) * MP.sech(x) ** 2,
                     BOTH_EDGES[np.abs(BOTH_EDGES) < 350], 4.0, 5.5),
    "sigmoid": (lambda x: 1 / (1 + MP.exp(-x)), lambda x: 1 / (2 + MP.exp(-x) + MP.exp(x)), BOTH_EDGES, 3.0, 5.0),
    "softplus": (lambda x: MP.log1p(MP.exp(x)), lambda x: 1 / (1 + MP.exp(-x)), BOTH_EDGES, 2.5, 3.0),
}


def value_and_derivative(name: str, points: Array, **attrs: Any) -> list[Array]:
    x = Builder().input("x", points.shape, points.dtype)
    y = apply(name, x, **attrs)
    (dy,) = push_forward([y], {x: x.builder.full(x.shape, 1.0, x.dtype)})
    assert dy is not None
    return reference.run([y, dy], {x: points})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_of_value_and_derivative(name: str, dtype: str) -> None:
    value, derivative, points, *bounds = ACCURACY[name]
    limits = np.finfo(dtype)
    points = points[(np.abs(points) > float(limits.tiny)) & (np.abs(points) < float(limits.max))].astype(dtype)
    for got, f, bound in zip(value_and_derivative(name, points), (value, derivative), bounds, strict=True):
        wanted = [f(MP.mpf(float(p))) for p in points]
        usable = np.array([float(limits.tiny) < abs(w) < float(limits.max) for w in wanted])
        error = ulps(got[usable], [w for w, u in zip(wanted, usable, strict=True) if u])
        # NumPy's float32 kernels are allowed up to 4 ulp, its float64 ones are within 1
        assert np.max(error) <= (bound if dtype == "float64" else 2 * bound + 2.0), points[usable][np.argmax(error)]


@pytest.mark.parametrize("exponent", [-3.0, -1.0, -0.5, 0.25, 1.5, 3.0, 10.0])
def test_accuracy_of_powers(exponent: float) -> None:
    points = np.geomspace(1e-20, 1e20, 81)
    p = MP.mpf(exponent)
    got = value_and_derivative("power_scalar", points, exponent=exponent)
    for found, f in zip(got, (lambda x: x**p, lambda x: p * x ** (p - 1)), strict=True):
        assert np.max(ulps(found, [f(MP.mpf(float(v))) for v in points])) <= 2.5
