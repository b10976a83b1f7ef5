"""Linear algebra under NumPy's and torch's names: factors, solutions, inverses and determinants."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from hesse_engine.frontends.operands import floating, tensor, tensors
from hesse_engine.frontends.table import numpy_function, torch_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.linalg import check_square, factored, triangle, turned

SlogdetResult = namedtuple("SlogdetResult", ["sign", "logabsdet"])


# ---- NumPy -----------------------------------------------------------------------------------------------------------
@numpy_function("linalg.cholesky")
def cholesky(a: Any, /, *, upper: bool = False) -> Node:
    factor = apply("cholesky", tensor(a))
    return turned(factor) if upper else factor


@numpy_function("linalg.solve")
def solve(a: Any, b: Any) -> Node:
    return apply("solve", *tensors(a, b))


@numpy_function("linalg.inv")
def inv(a: Any) -> Node:
    x = tensor(a)
    return apply("inv", x) if factored(x) is None else apply("solve", x, identity_like(x))


@numpy_function("linalg.det")
def det(a: Any) -> Node:
    return apply("det", tensor(a))


@numpy_function("linalg.slogdet")
def slogdet(a: Any) -> SlogdetResult:
    x = tensor(a)
    return SlogdetResult(apply("signdet", x), apply("logabsdet", x))


def identity_like(x: Node) -> Node:
    eye = x.builder.constant(np.eye(x.shape[-1]), floating(x).dtype)
    return apply("broadcast_to", eye, shape=x.shape)


# ---- torch -----------------------------------------------------------------------------------------------------------
@torch_function("linalg_cholesky", "cholesky")
def torch_cholesky(input: Any, upper: bool = False) -> Node:
    return cholesky(input, upper=upper)


@torch_function("linalg_solve")
def torch_solve(A: Any, B: Any, *, left: bool = True) -> Node:  # noqa: N803  (torch's names)
    a, b = tensors(A, B)
    if b.ndim == a.ndim - 1 and b.ndim > 1 and b.shape == a.shape[:-1]:  # a batch of vectors
        return apply("squeeze", torch_solve(a, apply("expand_dims", b, axis=-1), left=left), axis=-1)
    if not left and b.ndim > 1:
        return turned(apply("solve", turned(a), turned(b)))
    return apply("solve", a, b)


@torch_function("linalg_solve_triangular")
def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Node:  # noqa: N803
    a, b = tensors(A, B)
    check_square("solve_triangular", a)
    if unitriangular:
        a = triangle(a, not upper, 0.0) + identity_like(a)
    if left:
        return apply("triangular_solve", a, b, lower=not upper)
    return turned(apply("triangular_solve", a, turned(b), lower=not upper, transposed=True))


@torch_function("cholesky_solve")
def cholesky_solve(B: Any, L: Any, upper: bool = False) -> Node:  # noqa: N803
    """(L L')^-1 B, or (U' U)^-1 B."""
    b, factor = tensors(B, L)
    if upper:
        factor, upper = turned(factor), False
    half = apply("triangular_solve", factor, b, lower=True)
    return apply("triangular_solve", factor, half, lower=True, transposed=True)


@torch_function("cholesky_inverse")
def cholesky_inverse(L: Any, upper: bool = False) -> Node:  # noqa: N803
    factor = tensor(L)
    check_square("cholesky_inverse", factor)
    return cholesky_solve(identity_like(factor), factor, upper)


torch_function("inverse", "linalg_inv")(inv)
torch_function("det", "linalg_det")(det)
torch_function("slogdet", "linalg_slogdet")(slogdet)


@torch_function("logdet")
def logdet(input: Any) -> Node:
    return apply("logdet", tensor(input))
