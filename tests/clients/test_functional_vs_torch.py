"""`hesse.functional` and `hesse.func` against the installed torch: values, nesting, shapes, dtypes, and errors.

A case is written once, as a function of the two modules, and run with torch's and with ours on the same tensors.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest

import hesse.func
import hesse.functional

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch import func as torch_func  # noqa: E402
from torch.autograd import functional as torch_functional  # noqa: E402

# what torch warns of inside is its own affair
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")

F64 = {"dtype": torch.float64}
X = torch.tensor([0.3, -1.2, 2.0], **F64)
Y = torch.tensor([1.5, 0.4, -0.7], **F64)
M = torch.linspace(-1.0, 1.0, 6, **F64).reshape(2, 3)
ONE = torch.tensor([2.0], **F64)
SCALAR = torch.tensor(0.7, **F64)
SINGLE = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float32)
EMPTY = torch.zeros(0, **F64)
INTEGER = torch.tensor([1, 2, 3])
COMPLEX = torch.tensor([1 + 1j, 2.0], dtype=torch.complex128)
BATCH = torch.linspace(-2.0, 2.0, 12, **F64).reshape(4, 3)
Point = namedtuple("Point", "a b")


def cube(x: Any) -> Any:
    return (x**3).sum()


def mixed(x: Any, y: Any) -> Any:
    return (x**2 * y).sum() + y.exp().sum()


def sine(x: Any) -> Any:
    return x.sin()


def product(x: Any, y: Any) -> Any:
    return x * y, (x + y).sum()


def constant(x: Any) -> Any:
    return torch.tensor(3.0, **F64)


def truncated(x: Any) -> Any:
    return x.to(torch.int64)


Case = Callable[[Any, Any], Any]

# name -> case(torch.autograd.functional, torch.func)
VALUES: dict[str, Case] = {
    # ---- functional.hessian
    "hessian": lambda af, tf: af.hessian(cube, X),
    "hessian of a matrix": lambda af, tf: af.hessian(lambda m: (m**3).sum() * m.sum(), M),
    "hessian of a 0-dim input": lambda af, tf: af.hessian(lambda x: x**4, SCALAR),
    "hessian, one-element output": lambda af, tf: af.hessian(lambda x: x**3 + 4 * x - 10, ONE),
    "hessian, output of shape (1, 1)": lambda af, tf: af.hessian(lambda x: (x**3).sum().reshape(1, 1), X),
    "hessian of two": lambda af, tf: af.hessian(mixed, (X, Y)),
    "hessian of two shapes": lambda af, tf: af.hessian(lambda m, y: ((m @ y) ** 2).sum() + y[0] ** 3, (M, Y)),
    "hessian of a tuple of one": lambda af, tf: af.hessian(cube, (X,)),
    "hessian of a constant": lambda af, tf: af.hessian(constant, X),
    "hessian of a linear function": lambda af, tf: af.hessian(lambda x: x.sum(), X),
    "hessian of an integer output": lambda af, tf: af.hessian(lambda x: truncated(x).sum(), X),
    "hessian, disconnected input": lambda af, tf: af.hessian(lambda x, y: cube(x), (X, Y)),
    "hessian, mixed dtypes": lambda af, tf: af.hessian(mixed, (X, SINGLE)),
    "hessian, float32": lambda af, tf: af.hessian(cube, SINGLE),
    "hessian, vectorize": lambda af, tf: af.hessian(mixed, (X, Y), vectorize=True),
    "hessian, forward": lambda af, tf: af.hessian(
        mixed, (X, Y), vectorize=True, outer_jacobian_strategy="forward-mode"),
    "hessian, strict": lambda af, tf: af.hessian(lambda x, y: (x**3 * y**2).sum(), (X, Y), strict=True),
    "hessian, requires_grad": lambda af, tf: af.hessian(cube, X.clone().requires_grad_()),
    "hessian of a branch": lambda af, tf: af.hessian(lambda x: cube(x) if x.sum() > 0 else x.sum(), X),
    "hessian through detach": lambda af, tf: af.hessian(lambda x: (x**3 * x.detach()).sum(), X),
    # ---- functional.jacobian
    "jacobian": lambda af, tf: af.jacobian(sine, X),
    "jacobian of a scalar": lambda af, tf: af.jacobian(cube, X),
    "jacobian, tuple in": lambda af, tf: af.jacobian(mixed, (X, Y)),
    "jacobian, tuple out": lambda af, tf: af.jacobian(lambda x: (x.sin(), x.sum()), X),
    "jacobian, tuple in and out": lambda af, tf: af.jacobian(product, (X, Y)),
    "jacobian, tuple of one out": lambda af, tf: af.jacobian(lambda x: (x.sin(),), X),
    "jacobian, matrix": lambda af, tf: af.jacobian(lambda m: m.T @ m, M),
    "jacobian, integer output": lambda af, tf: af.jacobian(truncated, X),
    "jacobian, constant": lambda af, tf: af.jacobian(constant, X),
    "jacobian, empty input": lambda af, tf: af.jacobian(cube, EMPTY),
    "jacobian, mixed dtypes": lambda af, tf: af.jacobian(product, (X, SINGLE)),
    "jacobian, forward": lambda af, tf: af.jacobian(sine, X, vectorize=True, strategy="forward-mode"),
    "jacobian, forward, mixed dtypes": lambda af, tf: af.jacobian(
        lambda x, y: x.float() * y, (X, SINGLE), vectorize=True, strategy="forward-mode"),
    "jacobian, forward, integer output": lambda af, tf: af.jacobian(
        truncated, X, vectorize=True, strategy="forward-mode"),
    "jacobian, strict": lambda af, tf: af.jacobian(product, (X, Y), strict=True),
    # ---- functional products
    "vhp": lambda af, tf: af.vhp(cube, X, Y),
    "vhp of two": lambda af, tf: af.vhp(mixed, (X, Y), (Y, X)),
    "vhp, one element, no v": lambda af, tf: af.vhp(lambda x: x**3, ONE),
    "vhp keeps an output of shape (1,)": lambda af, tf: af.vhp(lambda x: (x**3).sum().reshape(1), X, Y),
    "vhp, float32 v": lambda af, tf: af.vhp(cube, X, SINGLE),
    "vhp, integer v": lambda af, tf: af.vhp(cube, X, INTEGER),
    "vhp of a constant": lambda af, tf: af.vhp(constant, X, Y),
    "vhp of a linear function": lambda af, tf: af.vhp(lambda x: x.sum(), X, Y),
    "vhp of an integer output": lambda af, tf: af.vhp(lambda x: truncated(x).sum(), X, Y),
    "vhp, empty": lambda af, tf: af.vhp(cube, EMPTY, EMPTY),
    "vhp of squares, strict, create_graph": lambda af, tf: af.vhp(
        lambda x, y: (x.pow(2) + y**2).sum(), (X, Y), (Y, X), strict=True, create_graph=True),
    "vhp, strict": lambda af, tf: af.vhp(cube, X, Y, strict=True),
    "hvp": lambda af, tf: af.hvp(mixed, (X, Y), (Y, X)),
    "hvp of a constant": lambda af, tf: af.hvp(constant, X, Y),
    "hvp, tuple of one": lambda af, tf: af.hvp(cube, (X,), (Y,)),
    "jvp": lambda af, tf: af.jvp(sine, X, Y),
    "jvp, tuple out": lambda af, tf: af.jvp(product, (X, Y), (Y, X)),
    "jvp, tuple of one out": lambda af, tf: af.jvp(lambda x: (x.sin(),), X, Y),
    "jvp of a constant": lambda af, tf: af.jvp(constant, X, Y),
    "jvp, one element, no v": lambda af, tf: af.jvp(sine, ONE),
    "vjp": lambda af, tf: af.vjp(sine, X, Y),
    "vjp, tuple out": lambda af, tf: af.vjp(product, (X, Y), (X, SCALAR)),
    "vjp, one element, no v": lambda af, tf: af.vjp(cube, X),
    "vjp, integer output": lambda af, tf: af.vjp(truncated, X, INTEGER),
    "vjp, disconnected": lambda af, tf: af.vjp(lambda x, y: x * 2, (X, Y), X),
    # ---- functional, nested
    "third derivative": lambda af, tf: af.jacobian(lambda x: af.hessian(cube, x, create_graph=True), X),
    "hessian of a vhp": lambda af, tf: af.hessian(lambda x: af.vhp(cube, x, Y, create_graph=True)[1].sum(), X),
    "vjp of a jacobian": lambda af, tf: af.vjp(
        lambda x: af.jacobian(sine, x, create_graph=True), X, torch.eye(3, **F64)),
    "closure over an outer variable": lambda af, tf: af.jacobian(
        lambda x: af.jacobian(lambda y: x * y**2, Y, create_graph=True), X),
    # ---- func
    "grad": lambda af, tf: tf.grad(cube)(X),
    "grad, argnums": lambda af, tf: tf.grad(mixed, argnums=1)(X, Y),
    "grad, negative argnums": lambda af, tf: tf.grad(mixed, argnums=-1)(X, Y),
    "grad, tuple argnums": lambda af, tf: tf.grad(mixed, argnums=(1, 0))(X, Y),
    "grad, keyword": lambda af, tf: tf.grad(lambda x, scale: (scale * x**2).sum())(X, scale=Y),
    "grad of a dict": lambda af, tf: tf.grad(lambda p: (p["w"] ** 2).sum() * p["b"])({"w": X, "b": SCALAR}),
    "grad of a namedtuple": lambda af, tf: tf.grad(lambda p: (p.a * p.b**2).sum())(Point(X, Y)),
    "grad, other arguments": lambda af, tf: tf.grad(lambda x, k, rows: (x**k)[rows].sum())(X, 3, torch.tensor([0, 2])),
    "grad, aux": lambda af, tf: tf.grad(lambda x: (cube(x), {"sin": x.sin(), "n": [x]}), has_aux=True)(X),
    "grad of an integer output": lambda af, tf: tf.grad(lambda x: truncated(x).sum())(X),
    "grad of a constant": lambda af, tf: tf.grad(constant)(X),
    "grad_and_value": lambda af, tf: tf.grad_and_value(mixed, argnums=(0, 1))(X, Y),
    "grad_and_value, aux": lambda af, tf: tf.grad_and_value(lambda x: (cube(x), x), has_aux=True)(X),
    "func.hessian": lambda af, tf: tf.hessian(lambda x: x.sin().sum())(X),
    "func.hessian, output of shape (1,)": lambda af, tf: tf.hessian(lambda x: x**3 + 4 * x - 10)(ONE),
    "func.hessian of a vector": lambda af, tf: tf.hessian(sine)(X),
    "func.hessian, tuple argnums": lambda af, tf: tf.hessian(mixed, argnums=(0, 1))(X, Y),
    "func.hessian, mixed dtypes": lambda af, tf: tf.hessian(mixed, argnums=(0, 1))(X, SINGLE),
    "func.hessian, tuple out": lambda af, tf: tf.hessian(product)(X, Y),
    "func.hessian of a dict": lambda af, tf: tf.hessian(lambda p: (p["a"] ** 2 * p["b"]).sum())({"a": X, "b": Y}),
    "func.hessian, empty": lambda af, tf: tf.hessian(cube)(EMPTY),
    "func.hessian of a constant": lambda af, tf: tf.hessian(constant)(X),
    "jacrev": lambda af, tf: tf.jacrev(sine)(X),
    "jacrev, argnums": lambda af, tf: tf.jacrev(product, argnums=(0, 1))(X, Y),
    "jacrev, dict out": lambda af, tf: tf.jacrev(lambda x: {"s": x.sin(), "c": [x.cos(), x.sum()]})(X),
    "jacrev, aux": lambda af, tf: tf.jacrev(lambda x: (x.sin(), (x, [x * 2])), has_aux=True)(X),
    "jacrev, chunks of 2": lambda af, tf: tf.jacrev(lambda m: m.sin(), chunk_size=2)(M),
    "jacrev, chunks of 1": lambda af, tf: tf.jacrev(lambda m: m.sin(), chunk_size=1)(M),
    "jacrev, preallocated": lambda af, tf: tf.jacrev(lambda m: m.sin(), chunk_size=4, _preallocate_and_copy=True)(M),
    "jacrev, empty output": lambda af, tf: tf.jacrev(lambda x: x[:0])(X),
    "jacrev, empty input": lambda af, tf: tf.jacrev(lambda x: x * 2)(EMPTY),
    "jacfwd": lambda af, tf: tf.jacfwd(torch.sin)(X),
    "jacfwd, argnums": lambda af, tf: tf.jacfwd(product, argnums=(1, 0))(X, Y),
    "jacfwd, aux": lambda af, tf: tf.jacfwd(lambda x: (x.sin(), {"x": x}), has_aux=True)(X),
    "jacfwd, integer output": lambda af, tf: tf.jacfwd(truncated)(X),
    "jacfwd of a list": lambda af, tf: tf.jacfwd(lambda p: p[0] * p[1])([X, Y]),
    "jacfwd, mixed dtypes": lambda af, tf: tf.jacfwd(lambda x, y: (x * y, x.float()), argnums=(0, 1))(X, SINGLE),
    "jvp of func": lambda af, tf: tf.jvp(product, (X, Y), (Y, X)),
    "jvp of func, aux": lambda af, tf: tf.jvp(lambda x: (x.sin(), x), (X,), (Y,), has_aux=True),
    "jvp of func, integer output": lambda af, tf: tf.jvp(truncated, (X,), (Y,)),
    "jvp of func, float32 tangent": lambda af, tf: tf.jvp(sine, (X,), (SINGLE,)),
    "vjp of func": lambda af, tf: tf.vjp(product, X, Y)[1]((X, SCALAR)),
    "vjp of func, output": lambda af, tf: tf.vjp(product, X, Y)[0],
    "vjp of func, aux": lambda af, tf: tf.vjp(lambda x: (x.sin(), [x]), X, has_aux=True)[2],
    "vjp of func, dict": lambda af, tf: tf.vjp(lambda p: {"q": p["x"] ** 2}, {"x": X})[1]({"q": Y}),
    # ---- func, nested
    "jacfwd(jacrev)": lambda af, tf: tf.jacfwd(tf.jacrev(mixed, argnums=1), argnums=1)(X, Y),
    "jacrev(jacfwd)": lambda af, tf: tf.jacrev(tf.jacfwd(cube))(X),
    "jacrev(jacrev), other argnums": lambda af, tf: tf.jacrev(tf.jacrev(mixed, argnums=0), argnums=1)(X, Y),
    "jacfwd(jacfwd(jacrev))": lambda af, tf: tf.jacfwd(tf.jacfwd(tf.jacrev(cube)))(X),
    "grad of a norm of a grad": lambda af, tf: tf.grad(lambda x: (tf.grad(cube)(x) ** 2).sum())(X),
    "hvp by jvp of grad": lambda af, tf: tf.jvp(tf.grad(cube), (X,), (Y,)),
    "hvp by grad of jvp": lambda af, tf: tf.grad(lambda x: tf.jvp(cube, (x,), (Y,))[1])(X),
    "vjp inside grad": lambda af, tf: tf.grad(lambda x: (tf.vjp(sine, x)[1](Y)[0] ** 2).sum())(X),
    "functional inside func": lambda af, tf: tf.hessian(lambda x: tf.grad(cube)(x).sum())(X),
    "vmap of a vjp_fn": lambda af, tf: tf.vmap(tf.vjp(sine, X)[1])(torch.eye(3, **F64)),
    "perturbations stay apart": lambda af, tf: tf.grad(lambda x: x * tf.grad(lambda y: x + y)(SCALAR))(SCALAR),
    # ---- vmap
    "vmap": lambda af, tf: tf.vmap(sine)(BATCH),
    "vmap over columns": lambda af, tf: tf.vmap(cube, in_dims=1)(BATCH),
    "vmap, out_dims": lambda af, tf: tf.vmap(sine, out_dims=1)(BATCH),
    "vmap, negative dims": lambda af, tf: tf.vmap(sine, in_dims=-1, out_dims=-1)(BATCH),
    "vmap, one argument not mapped": lambda af, tf: tf.vmap(lambda a, b: a @ b, in_dims=(0, None))(BATCH, X),
    "vmap, nested dims": lambda af, tf: tf.vmap(
        lambda p, y: p["a"] * y + p["b"], in_dims=({"a": 0, "b": None}, 0))({"a": BATCH, "b": X}, BATCH),
    "vmap, tuple out": lambda af, tf: tf.vmap(lambda x: (x.sin(), x.sum()), out_dims=(1, 0))(BATCH),
    "vmap, constant output": lambda af, tf: tf.vmap(lambda x: torch.ones(2))(BATCH),
    "vmap, output without batch": lambda af, tf: tf.vmap(
        lambda x: (x, torch.ones(2)), out_dims=(0, None))(BATCH),
    "vmap, empty batch": lambda af, tf: tf.vmap(sine)(torch.zeros(0, 3, **F64)),
    "vmap in chunks": lambda af, tf: tf.vmap(lambda x: (x.sin(), x.sum()), chunk_size=3)(BATCH),
    "vmap in chunks, out_dims": lambda af, tf: tf.vmap(sine, out_dims=1, chunk_size=3)(BATCH),
    "vmap, keyword": lambda af, tf: tf.vmap(lambda x, scale: x * scale)(BATCH, scale=X),
    "vmap of vmap": lambda af, tf: tf.vmap(tf.vmap(lambda x: x**2))(BATCH),
    "vmap(jacfwd)": lambda af, tf: tf.vmap(tf.jacfwd(torch.sin))(BATCH),
    "vmap(hessian)": lambda af, tf: tf.vmap(tf.hessian(cube))(BATCH),
    "vmap(grad) in chunks": lambda af, tf: tf.vmap(tf.grad(cube), chunk_size=2)(BATCH),
    "jacrev(vmap)": lambda af, tf: tf.jacrev(tf.vmap(cube))(BATCH),
    "jacrev(vmap(jacfwd))": lambda af, tf: tf.jacrev(tf.vmap(tf.jacfwd(cube)))(BATCH[:2]),
    "grad(vmap)": lambda af, tf: tf.grad(lambda b: tf.vmap(cube)(b).sum())(BATCH),
    "per-example gradients": lambda af, tf: tf.vmap(
        tf.grad(lambda w, x, y: ((w * x).sum() - y) ** 2), in_dims=(None, 0, 0))(X, BATCH, torch.arange(4.0, **F64)),
}

ERRORS: dict[str, Case] = {
    # ---- functional
    "non-scalar": lambda af, tf: af.hessian(sine, X),
    "non-scalar, vhp": lambda af, tf: af.vhp(sine, X, X),
    "non-scalar, hvp": lambda af, tf: af.hvp(sine, X, X),
    "tuple output": lambda af, tf: af.hessian(lambda x: (cube(x),), X),
    "tuple output, vhp": lambda af, tf: af.vhp(lambda x: (cube(x),), X, X),
    "float output": lambda af, tf: af.hessian(lambda x: 1.0, X),
    "None output": lambda af, tf: af.jacobian(lambda x: None, X),
    "float in a tuple output": lambda af, tf: af.jacobian(lambda x: (x, 1.0), X),
    "list inputs": lambda af, tf: af.hessian(cube, [1.0, 2.0]),
    "list of tensors": lambda af, tf: af.vhp(cube, [X], X),
    "float input": lambda af, tf: af.jacobian(cube, 1.0),
    "float in a tuple input": lambda af, tf: af.hessian(mixed, (X, 1.0)),
    "integer input": lambda af, tf: af.hessian(cube, INTEGER),
    "integer input, jvp": lambda af, tf: af.jvp(cube, INTEGER, INTEGER),
    "integer output, jvp": lambda af, tf: af.jvp(truncated, X, X),
    "complex input": lambda af, tf: af.hessian(cube, COMPLEX),
    "complex input, vhp": lambda af, tf: af.vhp(cube, COMPLEX, COMPLEX),
    "empty input": lambda af, tf: af.hessian(cube, EMPTY),
    "empty input, vectorize": lambda af, tf: af.hessian(cube, EMPTY, vectorize=True),
    "empty output": lambda af, tf: af.jacobian(lambda x: x[:0], X),
    "v missing, vhp": lambda af, tf: af.vhp(cube, X),
    "v missing, hvp": lambda af, tf: af.hvp(mixed, (ONE, ONE)),
    "v missing, jvp": lambda af, tf: af.jvp(cube, X),
    "v missing, vjp": lambda af, tf: af.vjp(sine, X),
    "v too long": lambda af, tf: af.vhp(cube, X, torch.ones(4)),
    "v too long in a tuple": lambda af, tf: af.vhp(mixed, (X, Y), (X, torch.ones(4))),
    "v of the wrong count": lambda af, tf: af.vhp(mixed, (X, Y), (X,)),
    "v a tuple for one": lambda af, tf: af.vhp(cube, X, (X, X)),
    "v a list": lambda af, tf: af.vhp(cube, X, [1.0, 2.0, 3.0]),
    "v of the wrong size, vjp": lambda af, tf: af.vjp(sine, X, torch.ones(2)),
    "strict, constant": lambda af, tf: af.hessian(constant, X, strict=True),
    "strict, linear": lambda af, tf: af.hessian(lambda x: x.sum(), X, strict=True),
    "strict, disconnected": lambda af, tf: af.hessian(lambda x, y: cube(x), (X, Y), strict=True),
    "strict, no mixed term": lambda af, tf: af.hessian(lambda x, y: cube(x) + cube(y), (X, Y), strict=True),
    "strict, jacobian": lambda af, tf: af.jacobian(lambda x, y: x * 2, (X, Y), strict=True),
    "strict, jacobian, second output": lambda af, tf: af.jacobian(lambda x, y: (x * y, x), (X, Y), strict=True),
    "strict, jacobian, constant": lambda af, tf: af.jacobian(constant, X, strict=True),
    "strict, jacobian of a linear one, create_graph": lambda af, tf: af.jacobian(
        lambda x: x * 2, X, strict=True, create_graph=True),
    "strict, vjp": lambda af, tf: af.vjp(lambda x, y: x * 2, (X, Y), X, strict=True),
    "strict, jvp": lambda af, tf: af.jvp(lambda x, y: x * 2, (X, Y), (X, Y), strict=True),
    "strict, vhp": lambda af, tf: af.vhp(lambda x, y: cube(x), (X, Y), (X, Y), strict=True),
    "strict, vhp, linear": lambda af, tf: af.vhp(lambda x: x.sum(), X, X, strict=True),
    "strict, hvp, linear": lambda af, tf: af.hvp(lambda x: x.sum(), X, X, strict=True),
    "strict, vhp of a linear input": lambda af, tf: af.vhp(lambda x, y: cube(x) + y.sum(), (X, Y), (X, Y), strict=True),
    "strict, hessian of squares, create_graph": lambda af, tf: af.hessian(
        lambda x, y: (x**2).sum() + (y**2).sum(), (X, Y), strict=True, create_graph=True),
    "strict, detached": lambda af, tf: af.jacobian(lambda x: x.detach() * 2, X, strict=True),
    "strict and vectorize": lambda af, tf: af.hessian(cube, X, strict=True, vectorize=True),
    "strict and vectorize, jacobian": lambda af, tf: af.jacobian(sine, X, strict=True, vectorize=True),
    "strict and forward": lambda af, tf: af.hessian(
        cube, X, strict=True, vectorize=True, outer_jacobian_strategy="forward-mode"),
    "forward without vectorize": lambda af, tf: af.hessian(cube, X, outer_jacobian_strategy="forward-mode"),
    "forward without vectorize, jacobian": lambda af, tf: af.jacobian(sine, X, strategy="forward-mode"),
    "forward and create_graph": lambda af, tf: af.jacobian(
        sine, X, create_graph=True, vectorize=True, strategy="forward-mode"),
    "bad strategy": lambda af, tf: af.hessian(cube, X, outer_jacobian_strategy="sideways"),
    "bad strategy, jacobian": lambda af, tf: af.jacobian(sine, X, strategy="sideways"),
    # ---- func
    "grad, non-scalar": lambda af, tf: tf.grad(sine)(X),
    "grad, one element": lambda af, tf: tf.grad(lambda x: cube(x).reshape(1))(X),
    "grad, tuple output": lambda af, tf: tf.grad(product)(X, Y),
    "grad, None output": lambda af, tf: tf.grad(lambda x: None)(X),
    "grad of a float": lambda af, tf: tf.grad(cube)(1.0),
    "grad of integers": lambda af, tf: tf.grad(cube)(INTEGER),
    "grad of complex": lambda af, tf: tf.grad(cube)(COMPLEX),
    "grad, no aux": lambda af, tf: tf.grad(cube, has_aux=True)(X),
    "grad, aux of strings": lambda af, tf: tf.grad(lambda x: (cube(x), "aux"), has_aux=True)(X),
    "jacrev of integers": lambda af, tf: tf.jacrev(sine)(INTEGER),
    "jacfwd of integers": lambda af, tf: tf.jacfwd(sine)(INTEGER),
    "hessian of integers": lambda af, tf: tf.hessian(cube)(INTEGER),
    "jvp of integers": lambda af, tf: tf.jvp(cube, (INTEGER,), (INTEGER,)),
    "vjp of integers": lambda af, tf: tf.vjp(cube, INTEGER),
    "jacrev, integer output": lambda af, tf: tf.jacrev(truncated)(X),
    "hessian, integer output": lambda af, tf: tf.hessian(truncated)(X),
    "jacrev, None output": lambda af, tf: tf.jacrev(lambda x: None)(X),
    "jacrev, float output": lambda af, tf: tf.jacrev(lambda x: 1.0)(X),
    "jacrev, no output": lambda af, tf: tf.jacrev(lambda x: ())(X),
    "jacfwd, None output": lambda af, tf: tf.jacfwd(lambda x: None)(X),
    "jacfwd, float output": lambda af, tf: tf.jacfwd(lambda x: 1.0)(X),
    "hessian, None output": lambda af, tf: tf.hessian(lambda x: None)(X),
    "jacrev of complex": lambda af, tf: tf.jacrev(sine)(COMPLEX),
    "hessian of complex": lambda af, tf: tf.hessian(cube)(COMPLEX),
    "jacrev, no aux": lambda af, tf: tf.jacrev(sine, has_aux=True)(X),
    "jacfwd, no aux": lambda af, tf: tf.jacfwd(sine, has_aux=True)(X),
    "chunk_size 0": lambda af, tf: tf.jacrev(sine, chunk_size=0),
    "chunk_size negative": lambda af, tf: tf.jacrev(sine, chunk_size=-3),
    "argnums empty": lambda af, tf: tf.hessian(cube, argnums=())(X),
    "argnums twice": lambda af, tf: tf.grad(cube, argnums=(0, 0))(X),
    "argnums too large": lambda af, tf: tf.jacrev(cube, argnums=3)(X),
    "argnums too small": lambda af, tf: tf.jacfwd(cube, argnums=-2)(X),
    "argnums a float": lambda af, tf: tf.grad(cube, argnums=1.5)(X),
    "argnums a list": lambda af, tf: tf.jacrev(cube, argnums=[0])(X),
    "argnums a float in a tuple": lambda af, tf: tf.hessian(cube, argnums=(0, 1.5))(X),
    "no arguments": lambda af, tf: tf.grad(cube)(),
    "jvp, no tuple": lambda af, tf: tf.jvp(cube, X, X),
    "jvp, other structure": lambda af, tf: tf.jvp(cube, (X,), X),
    "jvp of a float": lambda af, tf: tf.jvp(cube, (1.0,), (1.0,)),
    "jvp, other size": lambda af, tf: tf.jvp(sine, (X,), (torch.ones(4),)),
    "jvp, strict": lambda af, tf: tf.jvp(constant, (X,), (X,), strict=True),
    "vjp, other structure": lambda af, tf: tf.vjp(sine, X)[1]((X,)),
    "vjp, other size": lambda af, tf: tf.vjp(sine, X)[1](torch.ones(4)),
    "vjp of a float cotangent": lambda af, tf: tf.vjp(sine, X)[1](1.0),
    # ---- vmap
    "vmap, sizes differ": lambda af, tf: tf.vmap(lambda a, b: a + b)(BATCH, torch.ones(3, 3)),
    "vmap, in_dims structure": lambda af, tf: tf.vmap(cube, in_dims=(0, 0))(BATCH),
    "vmap, in_dims None": lambda af, tf: tf.vmap(cube, in_dims=None)(BATCH),
    "vmap, in_dims (None,)": lambda af, tf: tf.vmap(cube, in_dims=(None,))(BATCH),
    "vmap, in_dims too large": lambda af, tf: tf.vmap(cube, in_dims=2)(BATCH),
    "vmap, in_dims a list": lambda af, tf: tf.vmap(cube, in_dims=[0])(BATCH),
    "vmap, in_dims a string": lambda af, tf: tf.vmap(cube, in_dims=("a",))(BATCH),
    "vmap over a number": lambda af, tf: tf.vmap(lambda a, b: a * b)(BATCH, 3),
    "vmap, no arguments": lambda af, tf: tf.vmap(cube)(),
    "vmap over a 0-dim tensor": lambda af, tf: tf.vmap(cube)(SCALAR),
    "vmap, out_dims structure": lambda af, tf: tf.vmap(cube, out_dims=(0, 0))(BATCH),
    "vmap, out_dims None": lambda af, tf: tf.vmap(cube, out_dims=None)(BATCH),
    "vmap, out_dims a string": lambda af, tf: tf.vmap(cube, out_dims="a")(BATCH),
    "vmap, out_dims too large": lambda af, tf: tf.vmap(cube, out_dims=3)(BATCH),
    "vmap, float output": lambda af, tf: tf.vmap(lambda x: 1.0)(BATCH),
    "vmap, chunk_size 0": lambda af, tf: tf.vmap(cube, chunk_size=0),
    "vmap, chunk_size negative": lambda af, tf: tf.vmap(cube, chunk_size=-1),
    "vmap, randomness": lambda af, tf: tf.vmap(cube, randomness="x"),
    "vmap, item": lambda af, tf: tf.vmap(lambda x: x.sum().item())(BATCH),
    "vmap, branch": lambda af, tf: tf.vmap(lambda x: x if x.sum() > 0 else -x)(BATCH),
}

# Where a text differs on purpose, what ours must begin with.
TEXTS = {
    # torch writes "isonly"
    "forward without vectorize": "Computing Jacobian using forward-AD or forward-over-reverse Hessian is",
    "forward without vectorize, jacobian": "Computing Jacobian using forward-AD or forward-over-reverse Hessian is",
    # torch asks for an issue at its own address
    "vmap, branch":
        "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support "
        "that yet, please",
    "vmap, item":
        "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a "
        "Tensor, please try to rewrite what you're doing with other operations.",
    # structures are printed in our own notation
    "vmap, in_dims structure":
        "vmap(cube, in_dims=(0, 0), ...)(<inputs>): in_dims is not compatible with the structure of `inputs`. in_dims "
        "has structure ",
    "vmap, out_dims structure":
        "vmap(cube, ..., out_dims=(0, 0))(<inputs>): out_dims is not compatible with the structure of `outputs`. "
        "out_dims has structure ",
    "jvp, other structure":
        "jvp(f, primals, tangents): Expected primals and tangents to have the same python structure. For example, if "
        "primals is a tuple of 3 tensors, tangents also must be. Got primals with structure ",
}
# torch documents tuples of tuples, and returns lists here; we return the tuples
LISTS = {"hessian, forward", "jacobian, forward, mixed dtypes"}
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
    theirs = case(torch_functional, torch_func)
    if name in LISTS:
        theirs = tuple([tuple(row) if isinstance(row, list) else row for row in theirs])
    # where float32 meets float64, the two round their intermediates at different places
    check_same(case(hesse.functional, hesse.func), theirs, 1e-6 if "float32" in name or "mixed" in name else 1e-10)


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    case = ERRORS[name]
    with pytest.raises(BUILTIN) as theirs:
        case(torch_functional, torch_func)
    with pytest.raises(hesse.HesseError) as ours:
        case(hesse.functional, hesse.func)
    assert isinstance(ours.value, type(theirs.value))
    expected = TEXTS.get(name, str(theirs.value).replace("torch.autograd.functional", "hesse.functional"))
    assert str(ours.value).startswith(expected)
