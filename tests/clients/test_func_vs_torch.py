"""`hesse.func` against `torch.func`: arguments and outputs of every nesting, dims, errors, transforms of transforms.

A case is written once, as a function of the module, and run with torch's and with ours on the same tensors.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.func

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch import func as torch_func  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")

F64 = {"dtype": torch.float64}
X = torch.tensor([0.3, -1.2, 2.0], **F64)
Y = torch.tensor([1.5, 0.4, -0.7], **F64)
M = torch.linspace(-1.0, 1.0, 6, **F64).reshape(2, 3)
SCALAR = torch.tensor(0.7, **F64)
SINGLE = torch.tensor([0.5, -0.25, 1.0])
BATCH = torch.linspace(-2.0, 2.0, 12, **F64).reshape(4, 3)
CUBE = torch.linspace(-1.0, 1.0, 24, **F64).reshape(4, 2, 3)
INTEGER = torch.tensor([1, 2, 3])
Point = namedtuple("Point", "a b")
Case = Callable[[Any], Any]


def cube(x: Any) -> Any:
    return (x**3).sum()


def mixed(x: Any, y: Any) -> Any:
    return (x**2 * y).sum() + y.exp().sum()


def of_dict(p: Any) -> Any:
    return (p["w"] ** 2 * p["b"]).sum() + p["b"].sin()


def several(x: Any, y: Any) -> Any:
    return {"product": x * y, "pair": (x.sum(), [y.cos()])}


DICT = {"w": X, "b": SCALAR}
ORDERED = OrderedDict([("w", X), ("b", SCALAR)])

VALUES: dict[str, Case] = {
    # ---- arguments and outputs of every nesting
    "grad of an OrderedDict": lambda f: f.grad(of_dict)(ORDERED),
    "grad of a list of dicts": lambda f: f.grad(lambda p: of_dict(p[0]) * p[1]["s"])([DICT, {"s": SCALAR}]),
    "grad of a namedtuple in a dict": lambda f: f.grad(lambda p: (p["q"].a * p["q"].b ** 2).sum())({"q": Point(X, Y)}),
    "grad, argnums in another order, trees": lambda f: f.grad(
        lambda x, p, y: of_dict(p) * (x * y).sum(), argnums=(-2, 0))(X, DICT, Y),
    "grad, None elsewhere": lambda f: f.grad(lambda x, n: cube(x))(X, None),
    "grad, an empty dict elsewhere": lambda f: f.grad(lambda x, n: cube(x))(X, {}),
    "grad, aux in a namedtuple": lambda f: f.grad(lambda x: (cube(x), Point(x.sin(), (x, x.sum()))), has_aux=True)(X),
    "grad, empty aux": lambda f: f.grad(lambda x: (cube(x), ()), has_aux=True)(X),
    "grad_and_value of a dict": lambda f: f.grad_and_value(of_dict)(DICT),
    "grad_and_value, argnums and aux": lambda f: f.grad_and_value(
        lambda x, y: (mixed(x, y), {"x": x}), argnums=(1,), has_aux=True)(X, Y),
    "jacrev of several": lambda f: f.jacrev(several, argnums=(0, 1))(X, Y),
    "jacfwd of several": lambda f: f.jacfwd(several, argnums=(1, 0))(X, Y),
    "jacrev of a namedtuple out": lambda f: f.jacrev(lambda x: Point(x.sin(), x.sum()))(X),
    "jacfwd of an OrderedDict out": lambda f: f.jacfwd(lambda x: OrderedDict([("b", x.sin()), ("a", x.sum())]))(X),
    "jacrev, negative argnums in a tuple": lambda f: f.jacrev(several, argnums=(-1,))(X, Y),
    "jacrev of a dict in and out": lambda f: f.jacrev(lambda p: {"o": p["w"] * p["b"]})(DICT),
    "jacrev, mixed dtypes": lambda f: f.jacrev(lambda x, y: x * y, argnums=(0, 1))(X, SINGLE),
    "jacrev, aux and chunks": lambda f: f.jacrev(
        lambda m: (m.sin(), {"m": m.sum()}), has_aux=True, chunk_size=4)(M),
    "jacrev of a matrix, chunks, copied": lambda f: f.jacrev(
        lambda m: (m.sin(), m.sum(0)), chunk_size=2, _preallocate_and_copy=True)(M),
    "jacrev of float32": lambda f: f.jacrev(lambda x: x.sin() * x)(SINGLE),
    "jacfwd of a scalar": lambda f: f.jacfwd(lambda x: x**3)(SCALAR),
    "hessian of a namedtuple": lambda f: f.hessian(lambda p: (p.a**2 * p.b).sum())(Point(X, Y)),
    "hessian of several": lambda f: f.hessian(several, argnums=(0, 1))(X, Y),
    "hessian of a dict, argnums tuple": lambda f: f.hessian(lambda p, y: of_dict(p) * y.sum(), argnums=(0, 1))(DICT, Y),
    "jvp of trees": lambda f: f.jvp(lambda p, y: {"o": p["w"] * y, "s": p["b"].sin()}, (DICT, X), (DICT, Y)),
    "jvp, aux": lambda f: f.jvp(lambda x: ({"y": x.sin()}, [x, x.sum()]), (X,), (Y,), has_aux=True),
    "vjp of trees": lambda f: f.vjp(several, X, Y)[1]({"product": Y, "pair": (SCALAR, [X])}),
    "vjp twice": lambda f: [f.vjp(lambda x: x.sin(), X)[1](v) for v in (X, Y)],
    # ---- linearize
    "linearize": lambda f: f.linearize(lambda x: x.sin() * x, X)[1](Y),
    "linearize, output": lambda f: f.linearize(several, X, Y)[0],
    "linearize of several": lambda f: f.linearize(several, X, Y)[1](Y, X),
    "linearize of a dict": lambda f: f.linearize(of_dict, DICT)[1]({"w": Y, "b": SCALAR}),
    "linearize, many products": lambda f: [f.linearize(cube, X)[1](v) for v in (X, Y)],
    "linearize of a linear function": lambda f: f.linearize(lambda x: x * 2.0, X)[1](Y),
    "linearize, a matrix": lambda f: f.linearize(lambda m: m.T @ m, M)[1](M + 1.0),
    "vmap of a linear map": lambda f: f.vmap(f.linearize(lambda x: x.sin(), X)[1])(BATCH),
    # ---- vmap
    "vmap, nested in_dims": lambda f: f.vmap(
        lambda p, y: p["a"][0] * y + p["a"][1].sum(), in_dims=({"a": (1, None)}, 0))({"a": (BATCH.T, X)}, BATCH),
    "vmap, namedtuple in": lambda f: f.vmap(lambda p: p.a * p.b, in_dims=(Point(0, 1),))(Point(BATCH, BATCH.T)),
    "vmap, in_dims prefix of a tree": lambda f: f.vmap(
        lambda p, y: p[0] + p[1] + y, in_dims=(0, None))((BATCH, BATCH), X),
    "vmap, out_dims nested": lambda f: f.vmap(
        lambda x: {"a": x, "b": (x.sum(), x * 2)}, out_dims={"a": 1, "b": (0, -1)})(BATCH),
    "vmap, out_dims prefix": lambda f: f.vmap(lambda x: ({"a": x}, [x * 2]), out_dims=(1, 0))(BATCH),
    "vmap, namedtuple out": lambda f: f.vmap(lambda x: Point(x, x.sum()))(BATCH),
    "vmap of three axes": lambda f: f.vmap(lambda m: m.T @ m, in_dims=1, out_dims=2)(CUBE),
    "vmap, None in, None out": lambda f: f.vmap(
        lambda p, n: (p, n), in_dims=(0, None), out_dims=(0, None))(BATCH, None),
    "vmap in chunks, nested": lambda f: f.vmap(
        lambda p: {"s": p["x"].sin(), "t": p["x"].sum()}, chunk_size=3)({"x": BATCH}),
    "vmap, empty batch, nested": lambda f: f.vmap(lambda x: (x.sum(), x))(BATCH[:0]),
    "vmap of integers": lambda f: f.vmap(lambda k: k * 2)(INTEGER),
    "vmap, an inner array": lambda f: f.vmap(lambda x: torch.outer(x, Y))(BATCH),
    # ---- transforms of transforms
    "vmap(grad(vmap))": lambda f: f.vmap(f.grad(lambda m: f.vmap(cube)(m).sin().sum()))(CUBE),
    "jacfwd(vmap)": lambda f: f.jacfwd(f.vmap(lambda x: x.sin() * x.sum()))(BATCH[:2]),
    "vmap(hessian), two arguments": lambda f: f.vmap(f.hessian(mixed, argnums=(0, 1)), in_dims=(0, None))(BATCH, Y),
    "hessian(vmap)": lambda f: f.hessian(lambda b: f.vmap(cube)(b).prod())(BATCH[:2]),
    "vmap(jacrev), chunks": lambda f: f.vmap(f.jacrev(lambda x: x.sin() * x.sum(), chunk_size=2))(BATCH),
    "vmap(jvp)": lambda f: f.vmap(lambda v: f.jvp(cube, (X,), (v,))[1])(BATCH),
    "vmap(vjp)": lambda f: f.vmap(lambda x, v: f.vjp(lambda z: z.sin(), x)[1](v)[0])(BATCH, BATCH),
    "vmap(vmap(grad))": lambda f: f.vmap(f.vmap(f.grad(cube)))(CUBE),
    "vmap over two axes": lambda f: f.vmap(f.vmap(lambda x: x**2, in_dims=1, out_dims=1), in_dims=2, out_dims=0)(CUBE),
    "outer product of batches": lambda f: f.vmap(
        f.vmap(lambda a, b: (a * b).sum(), in_dims=(None, 0)), in_dims=(0, None))(BATCH, BATCH),
    "grad(grad(grad))": lambda f: f.grad(f.grad(f.grad(lambda x: x**5)))(SCALAR),
    "jacrev(hessian)": lambda f: f.jacrev(f.hessian(lambda x: (x**4).sum() * x.sum()))(X),
    "hessian of a jvp": lambda f: f.hessian(lambda x: f.jvp(lambda z: (z**4).sum(), (x,), (Y,))[1])(X),
    "grad of a vjp": lambda f: f.grad(lambda v: (f.vjp(lambda z: z.sin(), X)[1](v)[0] ** 2).sum())(Y),
    "jvp of a jvp": lambda f: f.jvp(lambda x: f.jvp(cube, (x,), (Y,))[1], (X,), (Y,)),
    "jacfwd(grad)": lambda f: f.jacfwd(f.grad(of_dict))(DICT),
    "grad of a trace of a hessian": lambda f: f.grad(lambda x: torch.trace(f.hessian(lambda z: (z**4).sum())(x)))(X),
    "vmap of a hessian's product": lambda f: f.vmap(
        lambda v: f.jvp(f.grad(lambda z: (z**4).sum() * z.sum()), (X,), (v,))[1])(torch.eye(3, **F64)),
    "functionalize": lambda f: f.functionalize(lambda x: x.sin() + 1.0)(X),
    "functionalize inside vmap": lambda f: f.vmap(f.functionalize(lambda x: x.sin().sum()))(BATCH),
}

ERRORS: dict[str, Case] = {
    "argnums a bool": lambda f: f.grad(cube, argnums="x")(X),
    "argnums twice, one negative": lambda f: f.grad(mixed, argnums=(0, -2))(X, Y),
    "argnums beyond, in a tuple": lambda f: f.jacrev(mixed, argnums=(0, 2))(X, Y),
    "a tensor in a dict is none": lambda f: f.grad(lambda p: p["w"].sum())({"w": X, "n": None}),
    "a number in a list": lambda f: f.jacrev(lambda p: p[0].sum())([X, 1.0]),
    "linearize of integers": lambda f: f.linearize(lambda x: x, INTEGER),
    "linearize, another shape": lambda f: f.linearize(cube, X)[1](torch.ones(4, **F64)),
    "linearize, another dtype": lambda f: f.linearize(cube, X)[1](SINGLE),
    "linearize, another nesting": lambda f: f.linearize(cube, X)[1]((X,)),
    "functionalize, remove": lambda f: f.functionalize(cube, remove="views")(X),
    "vmap, in_dims of another nesting": lambda f: f.vmap(of_dict, in_dims=({"w": 0},))(DICT),
    "vmap, in_dims a float": lambda f: f.vmap(cube, in_dims=1.0)(BATCH),
    "vmap, negative in_dims too small": lambda f: f.vmap(cube, in_dims=-3)(BATCH),
    "vmap over None": lambda f: f.vmap(lambda p: p["a"], in_dims=0)({"a": BATCH, "b": None}),
    "vmap, None out": lambda f: f.vmap(lambda x: (x, None))(BATCH),
    "vmap, sizes differ in a tree": lambda f: f.vmap(lambda p: p[0].sum() + p[1].sum())((BATCH, BATCH.T)),
    "vmap, out_dims a float in a tuple": lambda f: f.vmap(lambda x: (x, x), out_dims=(0, 1.5))(BATCH),
    "vmap, a None out_dim of what is mapped": lambda f: f.vmap(lambda x: (x, x), out_dims=(0, None))(BATCH),
    "vmap, string output": lambda f: f.vmap(lambda x: "x")(BATCH),
    "vmap, a branch inside grad": lambda f: f.vmap(f.grad(lambda x: cube(x) if x[0] > 0 else x.sum()))(BATCH),
    "vmap, an item inside vmap": lambda f: f.vmap(f.vmap(lambda x: x * x.item()))(BATCH),
}
# what ours must begin with where a text differs on purpose: structures in our own notation, no address for issues
TEXTS = {
    "linearize, another nesting": "Expected the tangents ((*,),) to have the same argspec as the primals (*,)",
    "vmap, in_dims of another nesting":
        "vmap(of_dict, in_dims=({'w': 0},), ...)(<inputs>): in_dims is not compatible with the structure of `inputs`.",
    "vmap, a branch inside grad":
        "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support "
        "that yet, please",
    "vmap, an item inside vmap":
        "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a "
        "Tensor, please try to rewrite what you're doing with other operations.",
}
BUILTIN = (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AssertionError)


def check_same(ours: Any, theirs: Any, tolerance: float) -> None:
    """Equal trees of tensors: types of containers, shapes, dtypes, values."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, torch.Tensor):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs.detach(), rtol=tolerance, atol=tolerance)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            check_same(ours[key], theirs[key], tolerance)
    elif isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            check_same(a, b, tolerance)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", VALUES)
def test_value(name: str) -> None:
    case = VALUES[name]
    is_single = "float32" in name or "mixed" in name
    check_same(case(hesse.func), case(torch_func), 1e-6 if is_single else 1e-10)


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    case = ERRORS[name]
    with pytest.raises(BUILTIN) as theirs:
        case(torch_func)
    with pytest.raises(hesse.HesseError) as ours:
        case(hesse.func)
    assert isinstance(ours.value, type(theirs.value))
    assert str(ours.value).startswith(TEXTS.get(name, str(theirs.value)))


# ---- what torch has no counterpart for -------------------------------------------------------------------------------
def test_a_function_inside_transforms() -> None:
    g = hesse.function(lambda x: (x**3).sum() * x[0])
    for found in (hesse.func.hessian(g)(X), g.hessian(X)):
        check_same(found, torch_func.hessian(lambda x: (x**3).sum() * x[0])(X), 1e-10)
    check_same(hesse.func.vmap(g.grad)(BATCH), torch_func.vmap(torch_func.grad(lambda x: (x**3).sum() * x[0]))(BATCH),
               1e-10)


def test_transforms_inside_a_function() -> None:
    g = hesse.function(lambda x: (hesse.func.grad(cube)(x) ** 2).sum() + hesse.func.vmap(lambda z: z**4)(x).sum())
    check_same(g.hessian(X), torch_func.hessian(lambda x: 9 * (x**4).sum() + (x**4).sum())(X), 1e-10)


def test_loops_inside_transforms() -> None:
    def rolled(x: Any) -> Any:
        return hesse.fori_loop(0, 4, lambda i, c: c.sin() * x, x).sum()

    def unrolled(x: Any) -> Any:
        c = x
        for _ in range(4):
            c = c.sin() * x
        return c.sum()

    check_same(hesse.func.hessian(rolled)(X), torch_func.hessian(unrolled)(X), 1e-10)
    check_same(hesse.func.jacfwd(hesse.func.grad(rolled))(X), torch_func.hessian(unrolled)(X), 1e-10)
    each = torch_func.vmap(torch_func.grad(unrolled))(BATCH)
    check_same(hesse.func.vmap(hesse.func.grad(rolled))(BATCH), each, 1e-10)


def test_the_point_of_a_linear_map_is_held() -> None:
    x = np.array([0.3, -1.2])
    y, jvp_fn = hesse.func.linearize(lambda z: np.sin(z) * z, x)
    at = x.copy()
    x[:] = 100.0
    v = np.array([1.0, 2.0])
    np.testing.assert_allclose(jvp_fn(v), (np.cos(at) * at + np.sin(at)) * v, rtol=1e-14)
    np.testing.assert_allclose(y, np.sin(at) * at, rtol=1e-14)


def test_a_linear_map_inside_grad_keeps_the_derivative_in_the_point() -> None:
    # d/dx (cos(x) x) = cos(x) - x sin(x); torch folds cos(x) into a constant and gives zeros
    found = hesse.func.grad(lambda x: hesse.func.linearize(np.sin, x)[1](x).sum())(np.array([0.3, -1.2]))
    x = np.array([0.3, -1.2])
    np.testing.assert_allclose(found, np.cos(x) - x * np.sin(x), rtol=1e-14)


def test_where_torch_is_wrong_or_refuses() -> None:
    # jacfwd with a bare negative argnum gives zeros in torch 2.13, with a tuple the Jacobian
    check_same(hesse.func.jacfwd(several, argnums=-1)(X, Y)["product"], torch.diag(X), 1e-12)
    assert not torch_func.jacfwd(several, argnums=-1)(X, Y)["product"].any()
    # linearize inside vmap has no batching rule there
    found = hesse.func.vmap(lambda x: hesse.func.linearize(lambda z: z.sin(), x)[1](Y))(BATCH)
    check_same(found, BATCH.cos() * Y, 1e-12)
