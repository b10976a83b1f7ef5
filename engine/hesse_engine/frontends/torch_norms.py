"""torch's norms and distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.frontends import products
from hesse_engine.frontends.operands import dtype_like, elementwise, floating, tensor, tensors
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import Dim, dims_of, of_floats
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import convert


@torch_function("norm")
def norm(input: Any, p: Any = None, dim: Dim = None, keepdim: bool = False, dtype: Any = None, *,
         ord: Any = None) -> Node:
    order = p if ord is None else ord
    x = tensor(input) if dtype is None else convert(tensor(input), dtype_like(dtype))
    if order in (None, "fro", 2, 2.0) and (dim is None or order is None or not isinstance(dim, (tuple, list))):
        return products.vector_norm_of(of_floats("linalg.vector_norm", x), 2, dims_of(dim), keepdim)
    return products.norm(x, order, dim, keepdim) if ord is not None or isinstance(order, str) \
        else products.vector_norm_of(of_floats("linalg.vector_norm", x), order, dims_of(dim), keepdim)


@torch_function()
def linalg_vector_norm(x: Any, ord: Any = 2, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    return products.vector_norm_of(of_floats("linalg.vector_norm", tensor(x)), ord, dims_of(dim), keepdim)


@torch_function()
def linalg_matrix_norm(input: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False) -> Node:
    return products.matrix_norm(input, ord=ord, axis=tuple(dim), keepdims=keepdim)


@torch_function()
def dist(input: Any, other: Any, p: Any = 2) -> Node:
    return products.vector_norm_of(floating(elementwise("subtract", input, other)), p, None, False)


@torch_function()
def cdist(x1: Any, x2: Any, p: Any = 2.0) -> Node:
    a, b = tensors(x1, x2)
    gaps = apply("expand_dims", a, axis=-2) - apply("expand_dims", b, axis=-3)
    return products.vector_norm_of(gaps, p, -1, False)


@torch_function()
def pdist(input: Any, p: Any = 2.0) -> Node:
    """The distances of every pair of rows, i < j."""
    x = tensor(input)
    rows, columns = np.triu_indices(x.shape[0], 1)
    left, right = (apply("take", x, x.builder.constant(k), axis=0) for k in (rows, columns))
    return products.vector_norm_of(left - right, p, -1, False)
