"""Kinks: torch's forward-over-reverse subgradients, the right value where it is wrong, no NaN from a dead branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import reference
from hesse_engine.ir.graph import Builder, Node, apply
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient
from oracles import peer
from orders import HESSIANS, columns, fresh

INF, NAN = np.inf, np.nan
Function = Callable[[Node], Node]


@dataclass(frozen=True)
class Kink:
    """A scalar function of a vector; its gradient and Hessian at a point; it in torch, where torch agrees."""

    f: Function
    point: Sequence[float]
    gradient: Sequence[float]
    hessian: Sequence[Sequence[float]]
    torch: str | None = None


def op(name: str, *args: Any, **attrs: Any) -> Node:
    return apply(name, *args, **attrs)


def total(name: str, **attrs: Any) -> Function:
    return lambda x: op("sum", op(name, x, **attrs))


def at(x: Node, k: int) -> Node:
    return op("take", x, x.builder.constant(k))


def of_two(name: str) -> Function:
    return lambda x: op(name, at(x, 0), at(x, 1))


def of_three(name: str) -> Function:
    return lambda x: op(name, at(x, 0), at(x, 1), at(x, 2))


def power(exponent: float) -> Function:
    return lambda x: op("sum", op("power", x, exponent))


def flat_of(n: int) -> list[list[float]]:
    return [[0.0] * n for _ in range(n)]


KINKS: dict[str, Kink] = {
    "abs at 0": Kink(total("abs"), [0.0, 2.0, -2.0], [0, 1, -1], flat_of(3), "x.abs().sum()"),
    "x |x| at 0": Kink(lambda x: op("sum", x * op("abs", x)), [0.0], [0], [[0]], "(x * x.abs()).sum()"),
    "sign at 0": Kink(total("sign"), [0.0], [0], [[0]], "x.sign().sum()"),
    "sqrt at 0": Kink(total("sqrt"), [0.0], [INF], [[-INF]], "x.sqrt().sum()"),
    "log1p at -1": Kink(total("log1p"), [-1.0], [INF], [[-INF]], "x.log1p().sum()"),
    "maximum at a tie": Kink(of_two("maximum"), [1.0, 1.0], [0.5, 0.5], flat_of(2), "torch.maximum(x[0], x[1])"),
    "minimum at a tie": Kink(of_two("minimum"), [1.0, 1.0], [0.5, 0.5], flat_of(2), "torch.minimum(x[0], x[1])"),
    "maximum(x^2, y) at a tie": Kink(lambda x: op("maximum", op("square", at(x, 0)), at(x, 1)), [1.0, 1.0], [1, 0.5],
                                     [[1, 0], [0, 0]], "torch.maximum(x[0]**2, x[1])"),
    "maximum(x, 0) at 0": Kink(lambda x: op("sum", op("maximum", x, 0.0)), [0.0], [0.5], [[0]],
                               "torch.maximum(x, torch.zeros_like(x)).sum()"),
    "maximum beside a tie": Kink(of_two("maximum"), [2.0, 1.0], [1, 0], flat_of(2), "torch.maximum(x[0], x[1])"),
    "clip on its bounds": Kink(lambda x: op("sum", op("clip", x, -1.0, 1.0)), [-1.0, 1.0, 0.5, 2.0, -2.0],
                               [1, 1, 1, 0, 0], flat_of(5), "x.clamp(-1, 1).sum()"),
    "clip^2 on a bound": Kink(lambda x: op("sum", op("square", op("clip", x, -1.0, 1.0))), [1.0], [2], [[2]],
                              "(x.clamp(-1, 1)**2).sum()"),
    "clip at low": Kink(of_three("clip"), [1.0, 1.0, 2.0], [1, 0, 0], flat_of(3), "torch.clamp(x[0], x[1], x[2])"),
    "clip below": Kink(of_three("clip"), [0.0, 1.0, 2.0], [0, 1, 0], flat_of(3), "torch.clamp(x[0], x[1], x[2])"),
    "clip above": Kink(of_three("clip"), [3.0, 1.0, 2.0], [0, 0, 1], flat_of(3), "torch.clamp(x[0], x[1], x[2])"),
    "clip with low > high": Kink(of_three("clip"), [1.0, 2.0, 0.0], [0, 0, 1], flat_of(3),
                                 "torch.clamp(x[0], x[1], x[2])"),
    "clip with low = high = x": Kink(of_three("clip"), [1.0, 1.0, 1.0], [1, 0, 0], flat_of(3),
                                     "torch.clamp(x[0], x[1], x[2])"),
    # below equal bounds the value is the upper one, min(max(x, low), high); torch gives nobody the derivative
    "clip below low = high": Kink(of_three("clip"), [0.0, 1.0, 1.0], [0, 0, 1], flat_of(3)),
    "x^y at (0, 0)": Kink(of_two("power"), [0.0, 0.0], [0, 0], flat_of(2), "x[0]**x[1]"),
    "x^y at (0, 1)": Kink(of_two("power"), [0.0, 1.0], [1, 0], [[0, 1], [0, 0]], "x[0]**x[1]"),
    "x^y at (0, 2)": Kink(of_two("power"), [0.0, 2.0], [0, 0], [[2, 0], [0, 0]], "x[0]**x[1]"),
    "x^y at (0, 3)": Kink(of_two("power"), [0.0, 3.0], [0, 0], flat_of(2), "x[0]**x[1]"),
    "x^y at (-1, 2)": Kink(of_two("power"), [-1.0, 2.0], [-2, NAN], [[NAN, NAN], [NAN, NAN]], "x[0]**x[1]"),
    "x^1.0 at 0": Kink(power(1.0), [0.0], [1], [[0]], "(x**1.0).sum()"),
    "x^0.0 at 0": Kink(power(0.0), [0.0], [0], [[0]], "(x**0.0).sum()"),
    "x^2.0 at 0": Kink(power(2.0), [0.0], [0], [[2]], "(x**2.0).sum()"),
    "x^3 at 0": Kink(power(3), [0.0], [0], [[0]], "(x**3).sum()"),
    "x^1.5 at 0": Kink(power(1.5), [0.0], [0], [[INF]], "(x**1.5).sum()"),
    "x^2.5 at 0": Kink(power(2.5), [0.0], [0], [[0]], "(x**2.5).sum()"),
    "1/x at 0": Kink(power(-1), [0.0], [-INF], [[INF]], "(x**-1.0).sum()"),
    "2^x": Kink(lambda x: op("sum", op("power", 2.0, x)), [0.0], [np.log(2)], [[np.log(2) ** 2]], "(2.0**x).sum()"),
    "0^x": Kink(lambda x: op("sum", op("power", 0.0, x)), [0.0, 1.0], [0, 0], flat_of(2), "(0.0**x).sum()"),
    "prod with one zero": Kink(total("prod"), [0.0, 2.0, 3.0], [6, 0, 0], [[0, 3, 2], [3, 0, 0], [2, 0, 0]],
                               "x.prod()"),
    "prod with two zeros": Kink(total("prod"), [0.0, 0.0, 3.0, 2.0], [0] * 4,
                                [[0, 6, 0, 0], [6, 0, 0, 0], [0] * 4, [0] * 4],
                                "x.prod()"),
    "prod with three zeros": Kink(total("prod"), [0.0, 0.0, 0.0, 2.0, 5.0], [0] * 5, flat_of(5), "x.prod()"),
    "max with ties": Kink(total("max"), [1.0, 1.0, 0.0], [0.5, 0.5, 0], flat_of(3), "x.amax()"),
    "min with ties": Kink(total("min"), [1.0, 1.0, 1.0, 2.0], [1 / 3] * 3 + [0], flat_of(4), "x.amin()"),
    "max(x^2) with a tie": Kink(lambda x: op("max", op("square", x)), [1.0, -1.0, 0.0], [1, -1, 0],
                                [[1, 0, 0], [0, 1, 0], [0, 0, 0]], "(x**2).amax()"),
    "tanh far out": Kink(total("tanh"), [800.0, -INF], [0, 0], flat_of(2), "torch.tanh(x).sum()"),
    "sigmoid far out": Kink(total("sigmoid"), [800.0, -INF], [0, 0], flat_of(2), "torch.sigmoid(x).sum()"),
    "hypot at (0, 0)": Kink(of_two("hypot"), [0.0, 0.0], [0, 0], flat_of(2)),  # torch: NaN
    "atan2 at (0, 0)": Kink(of_two("atan2"), [0.0, 0.0], [0, 0], flat_of(2), "torch.atan2(x[0], x[1])"),
    "atan2 on the axis": Kink(of_two("atan2"), [0.0, 2.0], [0.5, 0], [[0, -0.25], [-0.25, 0]],
                              "torch.atan2(x[0], x[1])"),
    "sinc at 0": Kink(total("sinc"), [0.0], [0], [[-np.pi**2 / 3]]),  # torch: 0
    "copysign at 0": Kink(of_two("copysign"), [0.0, -1.0], [0, 0], flat_of(2), "torch.copysign(x[0], x[1])"),
    "copysign": Kink(of_two("copysign"), [2.0, -1.0], [-1, 0], flat_of(2), "torch.copysign(x[0], x[1])"),
    "remainder at a jump": Kink(of_two("remainder"), [6.0, 3.0], [1, -2], flat_of(2), "torch.remainder(x[0], x[1])"),
    "remainder below 0": Kink(of_two("remainder"), [-6.5, 3.0], [1, 3], flat_of(2), "torch.remainder(x[0], x[1])"),
    "fmod at a jump": Kink(of_two("fmod"), [-6.0, 3.0], [1, 2], flat_of(2), "torch.fmod(x[0], x[1])"),
    "floor at an integer": Kink(total("floor"), [1.0, 1.5], [0, 0], flat_of(2), "torch.floor(x).sum()"),
    "round at a half": Kink(total("round"), [0.5, 1.5], [0, 0], flat_of(2), "torch.round(x).sum()"),
    "xlogy at (0, 0)": Kink(of_two("xlogy"), [0.0, 0.0], [0, 0], flat_of(2)),  # torch: NaN in the second operand
    "x log x at 0": Kink(lambda x: op("sum", op("xlogy", x, x)), [0.0], [0], [[0]]),  # torch: NaN
    "xlogy at (0, 2)": Kink(of_two("xlogy"), [0.0, 2.0], [np.log(2), 0], [[0, 0.5], [0.5, 0]],
                            "torch.xlogy(x[0], x[1])"),
    "xlog1py at (0, -1)": Kink(of_two("xlog1py"), [0.0, -1.0], [0, 0], flat_of(2)),
    "fmax at a tie": Kink(of_two("fmax"), [1.0, 1.0], [1, 0], flat_of(2), "torch.fmax(x[0], x[1])"),
    "fmin at a tie": Kink(of_two("fmin"), [1.0, 1.0], [1, 0], flat_of(2), "torch.fmin(x[0], x[1])"),
    "fmax beside NaN": Kink(of_two("fmax"), [1.0, NAN], [1, 0], flat_of(2), "torch.fmax(x[0], x[1])"),
    "asin at 1": Kink(total("asin"), [1.0], [INF], [[INF]], "torch.asin(x).sum()"),
    "acosh at 1": Kink(total("acosh"), [1.0], [INF], [[-INF]], "torch.acosh(x).sum()"),
    "atanh at 1": Kink(total("atanh"), [1.0], [INF], [[INF]]),
    "rsqrt at 0": Kink(total("rsqrt"), [0.0], [-INF], [[INF]], "torch.rsqrt(x).sum()"),
    "cbrt at 0": Kink(total("cbrt"), [0.0], [INF], [[-INF]]),
    "logaddexp of -inf": Kink(of_two("logaddexp"), [-INF, -INF], [0.5, 0.5], flat_of(2)),
    "logaddexp at a tie": Kink(of_two("logaddexp"), [1.0, 1.0], [0.5, 0.5], [[0.25, -0.25], [-0.25, 0.25]],
                               "torch.logaddexp(x[0], x[1])"),
    "softplus at 0": Kink(total("softplus"), [0.0], [0.5], [[0.25]], "torch.nn.functional.softplus(x).sum()"),
    "detach": Kink(lambda x: op("sum", op("stop_gradient", x) * x), [3.0], [3], [[0]], "(x.detach() * x).sum()"),
}


def evaluated(f: Function, point: Sequence[float]) -> tuple[Node, Node, dict[Node, Any]]:
    x = Builder().input("x", (len(point),), np.dtype(np.float64))
    return f(x), x, {x: np.array(point, np.float64)}


def gradients(f: Function, point: Sequence[float]) -> list[Any]:
    """By reverse and by forward mode."""
    y, x, values = evaluated(f, point)
    (t,) = fresh([x], "t")
    (moved,) = push_forward([y], {x: t})
    forward = np.zeros(len(point)) if moved is None else columns([moved], [t], values).ravel()
    return [reference.run(gradient(y, [x]), values)[0], forward]


@pytest.mark.parametrize("name", KINKS)
def test_gradient_at_a_kink(name: str) -> None:
    kink = KINKS[name]
    reverse, forward = gradients(kink.f, kink.point)
    np.testing.assert_allclose(reverse, kink.gradient, rtol=1e-15)
    if len(kink.point) == 1 or np.all(np.isfinite(kink.gradient)):  # along a unit vector the others give 0 * inf
        np.testing.assert_allclose(forward, kink.gradient, rtol=1e-15)


@pytest.mark.parametrize("order", HESSIANS)
@pytest.mark.parametrize("name", KINKS)
def test_hessian_at_a_kink(name: str, order: str) -> None:
    kink = KINKS[name]
    y, x, values = evaluated(kink.f, kink.point)
    # where the mixed derivatives differ, reverse-over-forward is the one that takes them in the other order
    wanted = np.transpose(kink.hessian) if order == "reverse-over-forward" else kink.hessian
    np.testing.assert_allclose(HESSIANS[order](y, [x], values), wanted, rtol=1e-15)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's own, at the first use of its forward mode
@pytest.mark.parametrize("name", [n for n, k in KINKS.items() if k.torch])
def test_torch_agrees(name: str) -> None:
    torch: Any = peer("torch")
    if torch is None:
        pytest.skip("torch is not installed")
    kink = KINKS[name]

    def f(x: Any) -> Any:
        return eval(str(kink.torch), {"torch": torch, "x": x})  # text of the table above

    x = torch.tensor(kink.point, dtype=torch.float64)
    np.testing.assert_allclose(torch.func.jacrev(f)(x).tolist(), kink.gradient, rtol=1e-15)
    hessian = torch.func.hessian(f)(x) + torch.zeros(len(x), len(x), dtype=x.dtype)  # out of torch's ZeroTensor
    np.testing.assert_allclose(hessian.tolist(), kink.hessian, rtol=1e-15)


# ---- no NaN from the branch not taken ------------------------------------------------------------------------------
def masked(inner: Function, outer: Function = lambda y: op("sum", y)) -> Function:
    """outer(where(x > 0, inner(x), 0))"""
    return lambda x: outer(op("where", x > 0.0, inner(x), 0.0))


def scalar_mask(reduce: Function) -> Function:
    """where(min(x) > 0, reduce(x), 0): the mask is a number, what is masked has lost its shape."""
    return lambda x: op("where", op("min", x) > 0.0, reduce(x), 0.0)


def log(x: Node) -> Node:
    return op("log", x)


def matrix(x: Node) -> Node:
    return x.builder.constant(np.arange(1.0, 2 * x.size + 1).reshape(2, x.size))


# At x = (0, 0.5) every function below takes the constant branch for its first element.
DEAD: dict[str, tuple[Function, list[float], list[list[float]]]] = {
    "log": (masked(log), [0, 2], [[0, 0], [0, -4]]),
    "sqrt": (masked(lambda x: op("sqrt", x)), [0, 0.5**0.5], [[0, 0], [0, -(0.5**0.5)]]),
    "1/x": (masked(lambda x: 1.0 / x), [0, -4], [[0, 0], [0, 16]]),
    "x log x": (masked(lambda x: x * log(x)), [0, 1 + np.log(0.5)], [[0, 0], [0, 2]]),
    "x^-0.5": (masked(lambda x: op("power", x, -0.5)), [0, -0.5 * 0.5**-1.5], [[0, 0], [0, 0.75 * 0.5**-2.5]]),
    "log(x^2)": (masked(lambda x: log(op("square", x))), [0, 4], [[0, 0], [0, -8]]),
    "sin(x)/x": (masked(lambda x: op("sin", x) / x), [0, 2 * np.cos(0.5) - 4 * np.sin(0.5)],
                 [[0, 0], [0, 14 * np.sin(0.5) - 8 * np.cos(0.5)]]),
    "log through a square": (masked(log, lambda y: op("sum", op("square", y))), [0, 4 * np.log(0.5)],
                             [[0, 0], [0, 8 - 8 * np.log(0.5)]]),
    "reshape between": (lambda x: op("sum", op("where", op("reshape", x, shape=(2, 1)) > 0.0,
                                               op("reshape", log(x), shape=(2, 1)), 0.0)), [0, 2], [[0, 0], [0, -4]]),
    "broadcast between": (lambda x: op("sum", op("where", op("broadcast_to", x, shape=(3, 2)) > 0.0,
                                                 op("broadcast_to", log(x), shape=(3, 2)), 0.0)), [0, 6],
                                                 [[0, 0], [0, -12]]),
    "permute and slice between": (
        lambda x: op("sum", op("where", op("flip", op("reshape", x, shape=(1, 2)), axis=1) > 0.0,
                               op("flip", op("transpose", op("reshape", log(x), shape=(2, 1))), axis=1), 0.0)),
        [0, 2], [[0, 0], [0, -4]]),
    "concat between": (lambda x: op("sum", op("where", op("concat", x, x) > 0.0, op("concat", log(x), x), 0.0)),
                       [0, 3], [[0, 0], [0, -4]]),
    "take between": (lambda x: op("sum", op("where", op("take", x, [1, 0, 1]) > 0.0, op("take", log(x), [1, 0, 1]),
                                            0.0)),
                     [0, 4], [[0, 0], [0, -8]]),
    "scatter between": (lambda x: op("sum", op("where", op("scatter_add", x, [1, 0], size=2) > 0.0,
                                               op("scatter_add", log(x), [1, 0], size=2), 0.0)), [0, 2],
                                               [[0, 0], [0, -4]]),
    "convert between": (lambda x: op("sum", op("where", x > 0.0, op("convert", log(op("convert", x, dtype="float32")),
                                                                    dtype="float64"), 0.0)), [0, 2], [[0, 0], [0, -4]]),
    "sum between": (scalar_mask(lambda x: op("sum", log(x))), [0, 0], [[0, 0], [0, 0]]),
    "mean between": (scalar_mask(lambda x: op("mean", log(x))), [0, 0], [[0, 0], [0, 0]]),
    "prod between": (scalar_mask(lambda x: op("prod", log(x))), [0, 0], [[0, 0], [0, 0]]),
    "max between": (scalar_mask(lambda x: op("max", log(x))), [0, 0], [[0, 0], [0, 0]]),
    "min between": (scalar_mask(lambda x: op("min", log(x))), [0, 0], [[0, 0], [0, 0]]),
    "dot between": (scalar_mask(lambda x: op("dot", log(x), x)), [0, 0], [[0, 0], [0, 0]]),
    "matmul between": (lambda x: op("sum", op("where", x.builder.constant([False, True]),
                                              op("matmul", matrix(x), op("where", x > 0.0, log(x), 0.0)), 0.0)),
                       [0, 8], [[0, 0], [0, -16]]),
    "matmul of the masked": (scalar_mask(lambda x: op("sum", op("matmul", matrix(x), log(x)))), [0, 0],
                             [[0, 0], [0, 0]]),
    "nested": (lambda x: op("sum", op("where", x > 0.0, op("where", x > 1.0, 1.0 / (x - 0.5), log(x)), 0.0)),
               [0, 2], [[0, 0], [0, -4]]),
    "chained": (masked(lambda x: op("exp", log(op("sqrt", x)))), [0, 0.5**0.5], [[0, 0], [0, -(0.5**0.5)]]),
    "the other branch": (lambda x: op("sum", op("where", x > 0.0, log(x), op("square", x))), [0, 2], [[2, 0], [0, -4]]),
    "beside a use": (lambda x: op("sum", op("where", x > 0.0, log(x), 0.0) + op("square", x)), [0, 3],
                     [[2, 0], [0, -2]]),
}


@pytest.mark.parametrize("name", DEAD)
def test_gradient_beside_a_dead_branch(name: str) -> None:
    f, wanted, _ = DEAD[name]
    for got in gradients(f, [0.0, 0.5]):
        np.testing.assert_allclose(got, wanted, rtol=1e-6 if name.startswith("convert") else 1e-14, atol=0)


@pytest.mark.parametrize("order", HESSIANS)
@pytest.mark.parametrize("name", DEAD)
def test_hessian_beside_a_dead_branch(name: str, order: str) -> None:
    f, _, wanted = DEAD[name]
    y, x, values = evaluated(f, [0.0, 0.5])
    got = HESSIANS[order](y, [x], values)
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if name.startswith("convert") else 1e-13, atol=1e-15)


def test_both_branches_of_a_where_leave_no_mask_behind() -> None:
    """Behind where(c, f(x), g(x)) nothing is known to be zero, so nothing is selected."""
    x = Builder().input("x", (3,), np.dtype(np.float64))
    u = op("sin", x)
    (g,) = gradient(op("sum", op("where", u > 0.0, u, u * 2.0)), [x])
    assert g.op == "multiply"
