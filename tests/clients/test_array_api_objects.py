"""hesse.numpy is the array API standard of 2024.12: names, signatures, dtypes, creation, the array object in a trace,
special values."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from array_api import ALL, BOOL, CALLS, FLOATS, GAPS, INTEGERS, REAL, VERSION, lift, lower, named, same, sample
from hesse_engine.errors import ArgumentTypeError, HesseError
from hesse_engine.frontends.trace import Trace, is_tracer
from hesse_engine.ir.rows import ROWS
from tracing import traced


@pytest.fixture(scope="module", autouse=True)
def of_the_standard() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # array-api-strict knows a newer standard, and says so
        strict.set_array_api_strict_flags(api_version=VERSION)
    yield
    strict.reset_array_api_strict_flags()


# ---- names and signatures --------------------------------------------------------------------------------------------
CONSTANTS = ("e", "inf", "nan", "newaxis", "pi", "__array_api_version__", "__array_namespace_info__", "linalg")
DTYPES = (*ALL, "complex64", "complex128")
NEWER = {"isin", "broadcast_shapes"}  # of the standard of 2025.12


def functions_of(space: Any, prefix: str = "") -> dict[str, Any]:
    found = {n: getattr(space, n) for n in (space.__all__ if prefix else dir(space)) if not n.startswith("_")}
    return {prefix + n: inspect.unwrap(f) for n, f in found.items() if inspect.isfunction(inspect.unwrap(f))}


FUNCTIONS = {n: f for n, f in {**functions_of(strict), **functions_of(strict.linalg, "linalg.")}.items()
             if not n.endswith("array_api_strict_flags") and n not in NEWER | {"linalg.eig", "linalg.eigvals"}}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature(name: str) -> None:
    """Names, kinds and defaults of the parameters."""
    wanted = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    got = list(inspect.signature(named(xp, name)).parameters.values())
    assert [(p.name, p.kind) for p in got] == [(p.name, p.kind) for p in wanted]
    for mine, theirs in zip(got, wanted, strict=True):
        # array-api-strict marks what a caller left out by a value of its own; in the standard that is None
        assert mine.default == (None if "UNDEF" in str(theirs.default) else theirs.default), mine.name


def test_every_function_is_there_and_called() -> None:

    assert len([n for n in FUNCTIONS if "." not in n]) >= 130
    here = {"can_cast", "finfo", "iinfo", "isdtype", "result_type", "imag"}
    assert set(FUNCTIONS) <= {c.name for c in CALLS} | {label.split()[0] for label in CREATION} | here
    for name in (*CONSTANTS, *DTYPES):
        assert hasattr(xp, name), name
    assert set(xp.__all__) <= set(dir(xp))
    assert xp.__array_api_version__ == VERSION
    assert (xp.e, xp.pi, xp.inf, xp.newaxis) == (np.e, np.pi, np.inf, None)
    assert np.isnan(xp.nan)


@pytest.mark.parametrize("name", xp.__all__)
def test_every_function_says_what_it_does(name: str) -> None:
    value = getattr(xp, name)
    if inspect.isfunction(value):
        assert value.__name__ in (name, "pow")
        assert value.__doc__


# ---- creation --------------------------------------------------------------------------------------------------------
CREATION: dict[str, Callable[[Any], Any]] = {
    "arange": lambda s: s.arange(4), "arange to": lambda s: s.arange(2, 7, 2),
    "arange down": lambda s: s.arange(3, 0, -1),
    "arange float": lambda s: s.arange(1.0, 2.0, 0.25), "arange dtype": lambda s: s.arange(3, dtype=s.float32),
    "arange of none": lambda s: s.arange(3, 1), "arange int8": lambda s: s.arange(3, dtype=s.int8, device=None),
    "asarray": lambda s: s.asarray([[1, 2], [3, 4]]), "asarray float": lambda s: s.asarray([1, 2.5]),
    "asarray bool": lambda s: s.asarray([True, False]), "asarray scalar": lambda s: s.asarray(2),
    "asarray dtype": lambda s: s.asarray([1, 2], dtype=s.uint8),
    "asarray copy": lambda s: s.asarray(s.ones(2), copy=True),
    "empty": lambda s: s.zeros_like(s.empty((2, 0))), "empty dtype": lambda s: s.zeros_like(s.empty(3, dtype=s.int16)),
    "empty_like": lambda s: s.zeros_like(s.empty_like(s.ones(2, dtype=s.int8))),
    "eye": lambda s: s.eye(3), "eye wide": lambda s: s.eye(2, 4, k=1, dtype=s.int32),
    "eye low": lambda s: s.eye(3, k=-2),
    "full int": lambda s: s.full((2,), 3), "full float": lambda s: s.full(2, 2.5),
    "full bool": lambda s: s.full((), True),
    "full dtype": lambda s: s.full((1, 2), 2, dtype=s.float32), "linspace": lambda s: s.linspace(0, 1, 5),
    "linspace open": lambda s: s.linspace(0.0, 1.0, num=4, endpoint=False),
    "linspace dtype": lambda s: s.linspace(0, 2, 3, dtype=s.float32), "linspace one": lambda s: s.linspace(1, 2, 1),
    "ones": lambda s: s.ones((2, 3)), "ones dtype": lambda s: s.ones(2, dtype=s.bool), "zeros": lambda s: s.zeros(()),
    "zeros dtype": lambda s: s.zeros((2,), dtype=s.uint16), "from_dlpack": lambda s: s.from_dlpack(np.arange(3)),
    "from_dlpack copy": lambda s: s.from_dlpack(np.ones(2), copy=True),
}


@pytest.mark.parametrize("name", CREATION)
def test_creation(name: str) -> None:
    same(CREATION[name](xp), lower(CREATION[name](strict)), name)
    with Trace():  # within a trace, of no traced argument: a constant that takes traced values
        made = CREATION[name](xp)
        assert is_tracer(made)
        same(np.asarray(made), lower(CREATION[name](strict)), name)


@pytest.mark.parametrize("f", [lambda: xp.zeros(2, device="gpu"), lambda: xp.asarray([1], device="cuda:0"),
                               lambda: xp.astype(np.ones(1), xp.int8, device="tpu")])
def test_there_is_no_other_device(f: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="no device"):
        f()


# ---- dtypes ----------------------------------------------------------------------------------------------------------
def test_promotion_of_every_pair_of_dtypes() -> None:
    for a, b in product(ALL, ALL):
        try:
            wanted = strict.result_type(getattr(strict, a), getattr(strict, b))
        except TypeError:
            continue  # left open by the standard
        assert xp.result_type(getattr(xp, a), getattr(xp, b)) == str(wanted).rpartition(".")[2], (a, b)
        sums = traced(lambda x, y: xp.result_type(x, y), np.ones(2, a), np.ones(2, b))
        assert sums == str(wanted).rpartition(".")[2], (a, b)


def test_python_numbers_are_weak() -> None:
    for a in (*INTEGERS, *FLOATS):
        assert xp.result_type(getattr(xp, a), 2) == np.dtype(a)
        assert traced(lambda x: x + 2, np.ones(2, a)).dtype == a
        assert traced(lambda x: 2 * x, np.ones(2, a)).dtype == a
    assert traced(lambda x: x * 2.5, np.ones(2, np.float32)).dtype == np.float32


def test_casts_follow_promotion() -> None:
    for a, b in product((*ALL, "complex64"), ALL):
        assert xp.can_cast(getattr(xp, a), getattr(xp, b)) == strict.can_cast(getattr(strict, a), getattr(strict, b))
    assert xp.can_cast(np.ones(2, np.int8), xp.int16)
    assert type(xp.can_cast(xp.int8, xp.int16)) is bool


def test_limits_are_python_numbers() -> None:
    for name in FLOATS:
        got, wanted = xp.finfo(getattr(xp, name)), strict.finfo(getattr(strict, name))
        for limit in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(got, limit) == getattr(wanted, limit)
            assert type(getattr(got, limit)) is (int if limit == "bits" else float)
        assert got.dtype == name
        assert got.tiny == np.finfo(name).tiny
        assert traced(lambda x: xp.finfo(x).bits, np.ones(2, name)) == got.bits
        assert xp.finfo(np.ones(2, name)) == got
    for name in INTEGERS:
        got, wanted = xp.iinfo(getattr(xp, name)), strict.iinfo(getattr(strict, name))
        assert (got.bits, got.max, got.min, got.dtype) == (wanted.bits, wanted.max, wanted.min, name)
        assert xp.iinfo(np.ones(2, name)).max == wanted.max
        assert traced(lambda x: xp.iinfo(x).max, np.ones(2, name)) == wanted.max


KINDS = ("bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric")


def test_kinds_of_dtypes() -> None:
    for name, kind in product(DTYPES, KINDS):
        assert xp.isdtype(getattr(xp, name), kind) == strict.isdtype(getattr(strict, name), kind)
        assert xp.isdtype(np.dtype(name), (kind, xp.int8)) == strict.isdtype(getattr(strict, name), (kind, strict.int8))
    assert type(xp.isdtype(xp.int8, "integral")) is bool


def test_the_namespace_describes_itself() -> None:
    mine, theirs = xp.__array_namespace_info__(), strict.__array_namespace_info__()
    assert set(mine.capabilities()) == set(theirs.capabilities())
    assert mine.default_device() == "cpu"
    assert mine.devices() == ["cpu"]
    assert {k: str(v) for k, v in mine.default_dtypes().items()} == {
        k: str(v).rpartition(".")[2] for k, v in theirs.default_dtypes().items()}
    for kind in (None, *KINDS, ("bool", "integral")):
        assert set(mine.dtypes(kind=kind)) == set(theirs.dtypes(kind=kind))
        assert all(d == np.dtype(n) for n, d in mine.dtypes(kind=kind, device="cpu").items())
    with pytest.raises(ValueError, match="kind"):
        mine.dtypes(kind="floating")
    xp.zeros((1,) * mine.capabilities()["max dimensions"])


# ---- the array object in a trace -------------------------------------------------------------------------------------
OPERATORS: dict[str, tuple[tuple[str, ...], Callable[[Any, Any], Any]]] = {
    "+": (REAL, lambda a, b: a + b), "-": (REAL, lambda a, b: a - b), "*": (REAL, lambda a, b: a * b),
    "/": (FLOATS, lambda a, b: a / b), "**": (REAL, lambda a, b: a**b), "@": (REAL, lambda a, b: a @ b),
    "<": (REAL, lambda a, b: a < b), "<=": (REAL, lambda a, b: a <= b), ">": (REAL, lambda a, b: a > b),
    ">=": (REAL, lambda a, b: a >= b), "==": (ALL, lambda a, b: a == b), "!=": (ALL, lambda a, b: a != b),
    "&": ((*BOOL, *INTEGERS), lambda a, b: a & b), "|": ((*BOOL, *INTEGERS), lambda a, b: a | b),
    "^": ((*BOOL, *INTEGERS), lambda a, b: a ^ b), "<<": (INTEGERS, lambda a, b: a << b),
    ">>": (INTEGERS, lambda a, b: a >> b),
    "-x": (REAL, lambda a, b: -a), "+x": (REAL, lambda a, b: +a), "abs": (REAL, lambda a, b: abs(a)),
    "~": ((*BOOL, *INTEGERS), lambda a, b: ~a), "mT": (ALL, lambda a, b: a.mT), "T": (ALL, lambda a, b: a.T),
    "to_device": (ALL, lambda a, b: a.to_device("cpu") if hasattr(a, "to_device") else a),
    "[]": (ALL, lambda a, b: a[1, ...]), "[::-1]": (ALL, lambda a, b: a[::-1, None, :1]),
    "+=": (REAL, lambda a, b: _in_place(a, b)), "2 **": (REAL, lambda a, b: 2 ** a), "2 -": (REAL, lambda a, b: 2 - a),
    "3 &": (INTEGERS, lambda a, b: 3 & a), "1 <<": (INTEGERS, lambda a, b: 1 << a),
    "9 >>": (INTEGERS, lambda a, b: 9 >> a),
}


def _in_place(a: Any, b: Any) -> Any:
    a += b
    a *= 2
    return a


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    dtypes, f = OPERATORS[name]
    for dtype in dtypes:
        arrays = sample(dtype, 2, 2, seed=1, low=1), sample(dtype, 2, 2, seed=2, low=1)
        wanted = arrays[0] if name == "to_device" else lower(f(*lift(arrays)))
        same(traced(f, *arrays), wanted, f"{name} {dtype}")


def test_attributes_of_what_is_traced() -> None:
    x = Trace().input(np.ones((2, 3), np.float32), "x")
    assert (x.shape, x.ndim, x.size, x.dtype, x.device) == ((2, 3), 2, 6, np.float32, "cpu")
    for version in (None, "2021.12", "2022.12", "2023.12", VERSION):
        assert x.__array_namespace__(api_version=version) is xp
    with pytest.raises(ArgumentTypeError, match="standard 2025"):
        x.__array_namespace__(api_version="2025.12")
    assert bool(x[0, 0])
    for convert in (float, int, complex, np.from_dlpack, xp.from_dlpack):
        with pytest.raises((ArgumentTypeError, TypeError)):
            convert(x[0, 0])
    with pytest.raises(HesseError):
        x.to_device("gpu")


def test_complex_numbers_stay_numpy_s() -> None:
    z = np.array([1.0 + 2.0j, -3.0j])
    same(xp.imag(z), np.imag(z), "imag")
    assert xp.conj(z)[0] == 1.0 - 2.0j
    with pytest.raises(HesseError):
        traced(lambda x: x * z, np.ones(2))
    with pytest.raises(HesseError):
        traced(lambda x: xp.astype(x, xp.complex128), np.ones(2))


# ---- special values --------------------------------------------------------------------------------------------------
INF, NAN = np.inf, np.nan
# function -> ((operands), result), as the standard's tables have them; the sign of a zero counts
SPECIAL: dict[str, list[tuple[tuple[float, ...], float]]] = {
    "abs": [((-0.0,), 0.0), ((-INF,), INF)], "acos": [((2.0,), NAN), ((1.0,), 0.0)],
    "acosh": [((0.5,), NAN), ((1.0,), 0.0), ((INF,), INF)], "asin": [((-0.0,), -0.0), ((-2.0,), NAN)],
    "asinh": [((-0.0,), -0.0), ((-INF,), -INF)], "atan": [((-0.0,), -0.0), ((INF,), np.pi / 2)],
    "atanh": [((1.0,), INF), ((-1.0,), -INF), ((2.0,), NAN), ((-0.0,), -0.0)],
    "atan2": [((0.0, -0.0), np.pi), ((-0.0, -0.0), -np.pi), ((-0.0, 0.0), -0.0), ((INF, -INF), 3 * np.pi / 4),
              ((1.0, INF), 0.0), ((-1.0, INF), -0.0), ((1.0, -INF), np.pi)],
    "add": [((INF, -INF), NAN), ((-0.0, -0.0), -0.0), ((-0.0, 0.0), 0.0)],
    "ceil": [((-0.5,), -0.0), ((INF,), INF), ((-0.0,), -0.0)], "floor": [((-0.0,), -0.0), ((0.5,), 0.0)],
    "trunc": [((-0.5,), -0.0), ((-INF,), -INF)],
    "round": [((0.5,), 0.0), ((1.5,), 2.0), ((-0.5,), -0.0), ((2.5,), 2.0)],
    "cos": [((-0.0,), 1.0), ((INF,), NAN)], "cosh": [((-INF,), INF), ((-0.0,), 1.0)],
    "copysign": [((1.0, -0.0), -1.0), ((0.0, -2.0), -0.0), ((INF, -1.0), -INF)],
    "divide": [((INF, INF), NAN), ((0.0, -0.0), NAN), ((1.0, -0.0), -INF), ((-0.0, 3.0), -0.0), ((1.0, -INF), -0.0)],
    "exp": [((-INF,), 0.0), ((-0.0,), 1.0)], "expm1": [((-0.0,), -0.0), ((-INF,), -1.0)],
    "floor_divide": [((INF, INF), NAN), ((0.0, 0.0), NAN), ((1.0, 0.0), INF), ((-1.0, 0.0), -INF), ((-0.0, 1.0), -0.0),
                     ((INF, 2.0), INF), ((INF, -2.0), -INF), ((-INF, 2.0), -INF), ((-INF, -2.0), INF),
                     ((1.0, INF), 0.0),
                     ((-1.0, INF), -1.0), ((1.0, -INF), -1.0), ((-1.0, -INF), 0.0)],
    "hypot": [((INF, NAN), INF), ((0.0, -3.0), 3.0)], "isfinite": [((INF,), 0.0), ((NAN,), 0.0), ((-0.0,), 1.0)],
    "log": [((-0.0,), -INF), ((-1.0,), NAN), ((1.0,), 0.0)], "log1p": [((-1.0,), -INF), ((-0.0,), -0.0)],
    "log2": [((0.0,), -INF), ((1.0,), 0.0)], "log10": [((0.0,), -INF), ((-1.0,), NAN)],
    "logaddexp": [((NAN, 1.0), NAN), ((INF, 1.0), INF)], "maximum": [((NAN, 1.0), NAN)], "minimum": [((1.0, NAN), NAN)],
    "multiply": [((INF, 0.0), NAN), ((-1.0, 0.0), -0.0)], "nextafter": [((0.0, -0.0), -0.0), ((-0.0, 0.0), 0.0)],
    "pow": [((1.0, NAN), 1.0), ((NAN, 0.0), 1.0), ((-0.0, -1.0), -INF), ((-0.0, -2.0), INF), ((0.5, INF), 0.0),
            ((-INF, 3.0), -INF), ((-INF, -3.0), -0.0), ((-1.0, INF), 1.0), ((-8.0, 0.5), NAN)],
    "reciprocal": [((INF,), 0.0), ((-0.0,), -INF)],
    "remainder": [((INF, 1.0), NAN), ((-0.0, 1.0), 0.0), ((0.0, -1.0), -0.0), ((1.0, 0.0), NAN), ((1.0, INF), 1.0),
                  ((1.0, -INF), -INF), ((-1.0, INF), INF), ((-1.0, -INF), -1.0)],
    "sign": [((-0.0,), 0.0), ((NAN,), NAN), ((-INF,), -1.0)],
    "signbit": [((-0.0,), 1.0), ((0.0,), 0.0), ((-INF,), 1.0)],
    "sin": [((-0.0,), -0.0), ((INF,), NAN)], "sinh": [((-0.0,), -0.0), ((-INF,), -INF)],
    "sqrt": [((-0.0,), -0.0), ((-1.0,), NAN)], "tan": [((-0.0,), -0.0)], "tanh": [((-INF,), -1.0), ((-0.0,), -0.0)],
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str) -> None:
    for operands, wanted in SPECIAL[name]:
        arrays = [np.array([v]) for v in operands]
        found = [getattr(xp, name)(*arrays)]
        if name not in GAPS:
            y = traced(getattr(xp, name), *arrays)
            if name == "floor_divide" and np.isinf(operands[0]):  # in a trace NumPy's and Python's answer is kept
                assert np.isnan(y[0])
            else:
                found.append(y)
        for y in found:
            np.testing.assert_array_max_ulp(float(y[0]), wanted, maxulp=2)
            assert np.isnan(wanted) or np.signbit(float(y[0])) == np.signbit(wanted), (operands, y)


EMPTY_AND_NAN: list[tuple[str, list[float], float]] = [

    ("sum", [], 0.0), ("prod", [], 1.0), ("mean", [], NAN), ("var", [], NAN), ("std", [], NAN),
    ("sum", [NAN, 1.0], NAN),
    ("prod", [NAN, 0.0], NAN), ("max", [NAN, 1.0], NAN), ("min", [1.0, NAN], NAN), ("mean", [1.0, NAN], NAN),
    ("var", [1.0, NAN], NAN), ("std", [1.0, NAN], NAN), ("any", [NAN], 1.0), ("all", [NAN], 1.0),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "values", "wanted"), EMPTY_AND_NAN)
def test_reductions_of_none_and_of_nan(name: str, values: list[float], wanted: float) -> None:
    f, x = getattr(xp, name), np.array(values)
    np.testing.assert_equal([float(f(x)), float(traced(f, x))], [wanted, wanted])


def test_bits_of_floats_are_refused() -> None:
    for name in ("bitwise_and", "bitwise_left_shift"):
        with pytest.raises(ArgumentTypeError):
            traced(lambda x, n=name: getattr(xp, n)(x, 1), np.ones(2))
        assert ROWS[name].rule is not None
    with pytest.raises(ArgumentTypeError):
        traced(lambda x: ~x, np.ones(2))


def test_a_function_may_read_bits_on_the_way_to_a_derivative() -> None:
    """sum of x_k^2 over even k, which are told by their last bit."""
    def f(x: Any) -> Any:
        k = xp.astype(xp.cumulative_sum(xp.ones_like(x), axis=0), xp.int64) - 1
        return xp.sum(xp.where((k & 1) == 0, x**2, x))

    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(hesse.functional.hessian(f, x), np.diag([2.0, 0.0, 2.0]))
    np.testing.assert_allclose(hesse.func.grad(f)(x), [2.0, 1.0, 6.0])
