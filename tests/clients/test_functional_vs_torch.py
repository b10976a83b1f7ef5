"""`hesse.functional` and `hesse.func` against the installed torch: values, nesting, shapes, dtypes.

A case is written once, as a function of the two modules, and run with torch's and with ours on the same tensors.
"""

from __future__ import annotations

from typing import Any

import pytest

import hesse.func
import hesse.functional

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch import func as torch_func  # noqa: E402
from torch.autograd import functional as torch_functional  # noqa: E402

from torch_points import (  # noqa: E402
    BATCH,
    EMPTY,
    F64,
    INTEGER,
    ONE,
    SCALAR,
    SINGLE,
    Case,
    M,
    Point,
    X,
    Y,
    constant,
    cube,
    mixed,
    product,
    sine,
    truncated,
)

# what torch warns of inside is its own affair
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")

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

# torch documents tuples of tuples, and returns lists here; we return the tuples
LISTS = {"hessian, forward", "jacobian, forward, mixed dtypes"}


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
