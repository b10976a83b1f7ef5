"""torch's products of several operands, sums with products, and powers that keep torch's types."""

from __future__ import annotations

from typing import Any

from hesse_engine.errors import GraphError
from hesse_engine.frontends import linear_algebra, products
from hesse_engine.frontends.operands import array_of, elementwise, tensor, tensors
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import items_of, not_boolean, scaled
from hesse_engine.ir.graph import BOOL, INT64, Node, apply
from hesse_engine.ir.shapes import convert


# ---- products --------------------------------------------------------------------------------------------------------
@torch_function()
def einsum(equation: Any, *operands: Any) -> Node:
    """A string and operands, or each operand followed by the numbers of its axes, at last those of the result."""
    if isinstance(equation, str):
        return products.einsum(equation, *operands)
    given = (equation, *operands)
    pairs = [given[k:k + 2] for k in range(0, len(given) - 1, 2)]
    terms = ",".join([_letters(labels) for _, labels in pairs])
    result = f"->{_letters(given[-1])}" if len(given) % 2 else ""
    return products.einsum(terms + result, *[operand for operand, _ in pairs])


def _letters(labels: Any) -> str:
    """Axis numbers as torch's letters: 0 is A, 26 is a."""
    return "".join(["..." if k is Ellipsis else _letter(int(k)) for k in labels])


def _letter(k: int) -> str:
    if not 0 <= k < 52:
        raise GraphError("bad-attribute", f"einsum(): expected subscripts to be in the range [0, 52), but found {k}.")
    return chr(ord("A") + k) if k < 26 else chr(ord("a") + k - 26)


@torch_function()
def tensordot(a: Any, b: Any, dims: Any = 2) -> Node:
    if not isinstance(dims, (int, list, tuple)):
        dims = array_of(dims).tolist()
    return products.tensordot(a, b, dims)


@torch_function()
def chain_matmul(*matrices: Any) -> Node:
    return linear_algebra.multi_dot(items_of(matrices))


# ---- sums with products ----------------------------------------------------------------------------------------------
def _plus(x: Node, product: Node, beta: Any, alpha: Any) -> Node:
    """beta x + alpha product; x is not read where beta is 0."""
    scaled_product = scaled(alpha, product, x.builder)
    return scaled_product if beta == 0 else elementwise("add", scaled(beta, x, x.builder), scaled_product)


@torch_function("addmm", "addmv", "baddbmm")
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Node:
    x, a, b = tensors(input, mat1, mat2)
    return _plus(x, products.matmul(a, b), beta, alpha)


@torch_function()
def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1) -> Node:
    x, a, b = tensors(input, vec1, vec2)
    return _plus(x, products.outer(a, b), beta, alpha)


@torch_function()
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Node:
    """The matrix products of a batch added up."""
    x, a, b = tensors(input, batch1, batch2)
    return _plus(x, apply("einsum", a, b, subscripts="bij,bjk->ik"), beta, alpha)


# ---- powers and magnitudes -------------------------------------------------------------------------------------------
@torch_function("abs", "absolute")
def abs_(input: Any) -> Node:
    return apply("abs", not_boolean("abs_cpu", tensor(input)))


@torch_function()
def square(input: Any) -> Node:
    x = tensor(input)
    return elementwise("square", convert(x, INT64) if x.dtype == BOOL else x)
