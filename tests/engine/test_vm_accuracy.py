"""The accuracy that docs/accuracy.md states for each opcode, in ulp, against mpmath: with the vector library, and with
scalar functions as where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import kernels, vecmath
from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.program import build_program
from hesse_engine.backend.vm import load_vm
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Builder, DType, apply
from op_cases_precision import PRECISION
from oracles import MP, ulps

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
COUNT = 400


def stated() -> dict[str, dict[str, float]]:
    """The table of the page: op -> dtype -> largest error in ulp."""
    found: dict[str, dict[str, float]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) >= 3 and cells[0].startswith("`"):
            found[cells[0].strip("`")] = {"float64": float(cells[1]), "float32": float(cells[2])}
    return found


Domain = Callable[[np.random.Generator, DType], tuple[Array, ...]]


def spread(low: float, high: float, signed: bool = True) -> Domain:
    """Magnitudes from `low` to `high`, evenly by exponent."""

    def draw(rng: np.random.Generator, dtype: DType) -> tuple[Array, ...]:
        top = min(high, float(np.finfo(dtype).max) / 8)
        x = np.exp(rng.uniform(np.log(max(low, float(np.finfo(dtype).tiny) * 8)), np.log(top), COUNT))
        return ((x * rng.choice([-1.0, 1.0], COUNT) if signed else x).astype(dtype),)

    return draw


def within(low: float, high: float) -> Domain:
    return lambda rng, dtype: (rng.uniform(low, high, COUNT).astype(dtype),)


def pair(rng: np.random.Generator, dtype: DType) -> tuple[Array, ...]:
    (x,), (y,) = spread(1e-9, 1e9)(rng, dtype), spread(1e-9, 1e9)(rng, dtype)
    return x, y


def base_and_exponent(rng: np.random.Generator, dtype: DType) -> tuple[Array, ...]:
    (x,) = spread(1e-3, 1e3, signed=False)(rng, dtype)
    return x, rng.uniform(-10, 10, COUNT).astype(dtype)


EXP_RANGE = {"float64": 700.0, "float32": 86.0}


def exponents(rng: np.random.Generator, dtype: DType) -> tuple[Array, ...]:
    wide, (near,) = rng.uniform(-1, 1, COUNT) * EXP_RANGE[str(dtype)], spread(1e-12, 1.0)(rng, dtype)
    return (np.where(np.arange(COUNT) % 2 == 0, wide, near).astype(dtype),)


def above_minus_one(rng: np.random.Generator, dtype: DType) -> tuple[Array, ...]:
    (x,) = spread(1e-9, 1e9)(rng, dtype)
    return (np.where(x < -0.9, -x, x),)


Exact = Callable[..., Any]
# op -> the exact function, and where: everything an opcode can be asked for but the extremes, which test_vm has
FUNCTIONS: dict[str, tuple[Exact, Domain]] = {
    "add": (lambda x, y: x + y, pair),
    "subtract": (lambda x, y: x - y, pair),
    "multiply": (lambda x, y: x * y, pair),
    "divide": (lambda x, y: x / y, pair),
    "square": (lambda x: x * x, spread(1e-15, 1e15)),
    "sqrt": (MP.sqrt, spread(1e-300, 1e300, signed=False)),
    "negative": (lambda x: -x, spread(1e-300, 1e300)),
    "abs": (abs, spread(1e-300, 1e300)),
    "sign": (MP.sign, spread(1e-300, 1e300)),
    "stop_gradient": (lambda x: x, spread(1e-300, 1e300)),
    "maximum": (max, pair),
    "minimum": (min, pair),
    "exp": (MP.exp, exponents),
    "expm1": (MP.expm1, exponents),
    "log": (MP.log, spread(1e-300, 1e300, signed=False)),
    "log1p": (MP.log1p, above_minus_one),
    "sin": (MP.sin, spread(1e-9, 1e6)),
    "cos": (MP.cos, spread(1e-9, 1e6)),
    "tan": (MP.tan, spread(1e-9, 1e6)),
    "tanh": (MP.tanh, spread(1e-9, 30.0)),
    "sech_squared": (lambda x: MP.sech(x) ** 2, spread(1e-9, 40.0)),
    "sigmoid": (lambda x: 1 / (1 + MP.exp(-x)), within(-80, 80)),
    "softplus": (lambda x: MP.log1p(MP.exp(x)), within(-80, 80)),
    "power": (lambda x, y: x**y, base_and_exponent),
}
CHOICES = {"clip", "where", "power_scalar"}  # chosen operands, and `power` by another name: below and in test_vm
TRUTHS = {n for n in oc.VM_ROWS if n.startswith("logical")} | {
    "isnan", "isinf", "isfinite", "signbit", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}


@pytest.fixture(params=[True, False], ids=["vector library", "scalar functions"])
def vm(request: pytest.FixtureRequest) -> Iterator[bool]:
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr(vecmath, "available", lambda dtype: ())
            for dtype in ("float64", "float32"):
                kernels.load((dtype,))
                patch.setattr(kernels._SLOTS[dtype], "kernel", scalar_vm(dtype))
        yield request.param


_SCALAR: dict[str, Any] = {}


def scalar_vm(dtype: str) -> Any:
    if dtype not in _SCALAR:
        _SCALAR[dtype] = load_vm(dtype)[0]
    return _SCALAR[dtype]


def largest_error(name: str, dtype: DType, **attrs: Any) -> float:
    function, domain = FUNCTIONS[name if name != "power_scalar" else "power"]
    arrays = domain(np.random.default_rng(11), dtype)
    if name == "power_scalar":
        arrays = (arrays[0],)
        exponent = MP.mpf(attrs["exponent"])
        exact: Exact = lambda x: x**exponent  # noqa: E731
    else:
        exact = function
    builder = Builder()
    inputs = [builder.input(f"x{k}", a.shape, dtype) for k, a in enumerate(arrays)]
    got = build_program(inputs, [apply(name, *inputs, **attrs)], tier="vm").run(arrays)[0]
    wanted = [exact(*[MP.mpf(float(v)) for v in values]) for values in zip(*arrays, strict=True)]
    limits = np.finfo(dtype)
    usable = np.array([w == 0 or float(limits.tiny) < abs(w) < float(limits.max) for w in wanted])
    return float(np.max(ulps(got[usable], [w for w, u in zip(wanted, usable, strict=True) if u])))


@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_opcode_is_as_accurate_as_stated(name: str, dtype: DType, vm: bool) -> None:
    assert largest_error(name, dtype) <= stated()[name][str(dtype)]


@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)
@pytest.mark.parametrize("exponent", [0.5, -0.5, 1.5, 3.0, 4.0, -1.0, -2.0, -3.0, 10.0])
def test_constant_powers_are_as_accurate_as_stated(exponent: float, dtype: DType, vm: bool) -> None:
    assert largest_error("power_scalar", dtype, exponent=exponent) <= stated()["power_scalar"][str(dtype)]


def test_every_opcode_is_stated() -> None:
    assert set(stated()) == set(FUNCTIONS) | {"power_scalar"}
    # what is not here is stated in, and held to, the table of test_precision
    assert set(oc.VM_ROWS) <= set(FUNCTIONS) | CHOICES | TRUTHS | set(PRECISION)


def test_there_is_a_vm_without_the_vector_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vecmath.llvm, "load_library_permanently", _absent)
    assert vecmath.available("float64") == ()


def _absent(name: str) -> None:
    raise RuntimeError(f"{name} is not here")
