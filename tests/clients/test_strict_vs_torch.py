"""`strict=True` beside the installed torch: what is refused, in which words, for every function and every stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import hesse.functional

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch.autograd import functional as torch_functional  # noqa: E402

from torch_points import F64, X, Y, constant, cube  # noqa: E402

OPERATIONS = ("jacobian", "hessian", "vhp", "hvp", "jvp", "vjp")
W = torch.tensor([1.0, 2.0, 3.0], **F64, requires_grad=True)  # closed over: torch counts it as requiring grad
K = W.detach()

ONE: dict[str, Callable[[Any], Any]] = {
    "cube": cube,
    "fourth power": lambda x: (x**4).sum(),
    "squares": lambda x: (x**2).sum(),
    "square": lambda x: x.square().sum(),
    "x * x": lambda x: (x * x).sum(),
    "dot": lambda x: x @ x,
    "linear": lambda x: x.sum(),
    "scaled": lambda x: (2 * x + 1).sum(),
    "constant weights": lambda x: K @ x,
    "constant": constant,
    "times 0": lambda x: (x * 0).sum(),
    "x - x": lambda x: (x - x).sum(),
    "detached": lambda x: (x.detach() ** 2).sum(),
    "detached factor": lambda x: (x.detach() * x).sum(),
    "integers": lambda x: x.to(torch.int64).sum(),
    "float32": lambda x: (x.float() ** 3).sum(),
    "closed over": lambda x: W.sum(),
    "closed over, linear": lambda x: (W * x).sum(),
    "closed over, square": lambda x: (W * x**2).sum(),
    "sin": lambda x: x.sin().sum(),
    "exp": lambda x: x.exp().sum(),
    "mean": lambda x: x.mean(),
    "reciprocal": lambda x: (1 / (x + 9)).sum(),
    "root": lambda x: (x + 5).sqrt().sum(),
    "power 0.5": lambda x: ((x * x + 1) ** 0.5).sum(),
    "norm": lambda x: x.norm(),
    "prod": lambda x: x.prod(),
    "logsumexp": lambda x: x.logsumexp(0),
    "softmax": lambda x: x.softmax(0)[0],
    "max": lambda x: x.max(),
    "clamp": lambda x: x.clamp(0, 1).sum(),
    "where": lambda x: torch.where(x > 0, x, x * 2).sum(),
    "sign": lambda x: x.sign().sum(),
    "two elements": lambda x: x[1] * x[2],
    "one element": lambda x: x[1] ** 3,
    "slice": lambda x: x[1:].exp().sum(),
    "cumsum": lambda x: x.cumsum(0).sum(),
    "outer": lambda x: (x[:, None] * x[None, :]).sum(),
    "view": lambda x: x.view(3, 1).sum(),
    "clone": lambda x: x.clone().sum(),
    "itself": lambda x: x,
    "branch": lambda x: cube(x) if x.sum() > 0 else x.sum(),
    "vector": lambda x: x.sin(),
    "linear vector": lambda x: 2 * x,
    "nonlinear, linear": lambda x: (x.sin(), 2 * x),
    "linear, nonlinear": lambda x: (2 * x, x.sin()),
    "tuple of one": lambda x: (cube(x),),
    "nonlinear, constant": lambda x: (cube(x), constant(x)),
    "None": lambda x: None,
    "empty": lambda x: x[:0],
    "sum of nothing": lambda x: x[:0].sum(),
}
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "product": lambda x, y: (x * y).sum(),
    "the first": lambda x, y: cube(x),
    "the second": lambda x, y: cube(y),
    "separate": lambda x, y: cube(x) + cube(y),
    "separate squares": lambda x, y: (x**2).sum() + (y**2).sum(),
    "linear in the second": lambda x, y: cube(x) + y.sum(),
    "linear in the first": lambda x, y: (x * y**2).sum(),
    "mixed": lambda x, y: (x**3 * y**2).sum(),
    "neither": lambda x, y: constant(x),
    "linear": lambda x, y: (x + y).sum(),
    "second detached": lambda x, y: (x * y.detach()).sum(),
    "closed over": lambda x, y: (W * x).sum(),
    "vector": lambda x, y: x * y,
    "both, the first": lambda x, y: (x * y, x),
    "both, the second": lambda x, y: (x * y, y**2),
    "each": lambda x, y: (x.sin(), y.cos()),
    "nonlinear, linear": lambda x, y: (x * y, 2 * x + y),
    "both, constant": lambda x, y: (x * y, torch.ones(2, **F64)),
}
CASES = [*[(name, f, X) for name, f in ONE.items()], *[(f"{name}, of two", f, (X, Y)) for name, f in TWO.items()]]


def told(functions: Any, operation: str, f: Callable[..., Any], inputs: Any, create_graph: bool) -> str | None:
    """The text of torch's RuntimeError or TypeError; None where there is none."""
    vector = [inputs] if operation in ("vhp", "hvp", "jvp") else []
    if operation == "vjp":
        out = f(*inputs) if isinstance(inputs, tuple) else f(inputs)
        ones = [torch.ones_like(y) for y in (out if isinstance(out, tuple) else [out]) if y is not None]
        vector = [tuple(ones) if isinstance(out, tuple) else ones[0] if ones else None]
    try:
        getattr(functions, operation)(f, inputs, *vector, create_graph=create_graph, strict=True)
    except (RuntimeError, TypeError) as error:
        return f"{'RuntimeError' if isinstance(error, RuntimeError) else 'TypeError'}: {error}"
    return None


@pytest.mark.parametrize("create_graph", [False, True], ids=["plain", "create_graph"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("name", "f", "inputs"), CASES, ids=[c[0] for c in CASES])
def test_strict(name: str, f: Callable[..., Any], inputs: Any, operation: str, create_graph: bool) -> None:
    expected = told(torch_functional, operation, f, inputs, create_graph)
    assert told(hesse.functional, operation, f, inputs, create_graph) == expected


def test_an_entry_that_the_gradient_does_not_depend_on() -> None:
    """The hvp of a function that is linear in one input, with a closed-over tensor as its slope."""
    def f(x: Any, y: Any) -> Any:
        return cube(x) + (W * y).sum()

    expected = told(torch_functional, "hvp", f, (X, Y), False)
    assert expected is not None
    assert "entry 1 in the grad_jacobian" in expected
    assert told(hesse.functional, "hvp", f, (X, Y), False) == expected


def test_strict_without_errors_gives_the_same_values() -> None:
    found = hesse.functional.hessian(lambda x: (W * x**3).sum(), X, strict=True)
    torch.testing.assert_close(found, torch.diag(6 * K * X))
    assert not found.requires_grad
