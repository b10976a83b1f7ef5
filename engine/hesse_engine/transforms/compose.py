"""Jacobians as nodes of the graph: identity seeds through `batch`. They compose to any order.

    jacobian_forward    J e_k for every k at once    (jacfwd)
    jacobian_reverse    e_k' J for every k at once   (jacrev)

Both give blocks of shape out.shape + in.shape. Seeds are constants of n^2 elements: this is for Jacobians inside a
traced function; an outermost one is swept in chunks instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.walk import substitute
from hesse_engine.transforms.batch import batch, from_last
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import pull_back


def jacobian_forward(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[list[Node]]:
    """Blocks [i][j] = d outputs[i] / d wrt[j], by one batched forward pass for each input."""
    columns = [_columns(outputs, x) for x in wrt]
    return [[columns[j][i] for j in range(len(wrt))] for i in range(len(outputs))]


def _columns(outputs: Sequence[Node], x: Node) -> list[Node]:
    builder = x.builder
    tangent = builder.input("t", x.shape, x.dtype)
    moved = push_forward(outputs, {x: tangent})
    filled = [builder.zeros(y.shape, y.dtype) if t is None else t for y, t in zip(outputs, moved, strict=True)]
    batched = batch(filled, {tangent: basis(x)}, x.size)
    return [apply("reshape", b, shape=(*y.shape, *x.shape)) for y, b in zip(outputs, batched, strict=True)]


def jacobian_reverse(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[list[Node]]:
    """Blocks [i][j] = d outputs[i] / d wrt[j], by one batched reverse pass for each output."""
    return [_rows(y, wrt) for y in outputs]


def _rows(output: Node, wrt: Sequence[Node]) -> list[Node]:
    builder = output.builder
    seed = builder.input("ct", output.shape, output.dtype)
    pulled = pull_back([output], [seed], wrt)
    filled = [builder.zeros(x.shape, x.dtype) if c is None else c for x, c in zip(wrt, pulled, strict=True)]
    if output.size == 1:
        ones = builder.full(output.shape, 1.0, output.dtype)
        batched = [apply("reshape", n, shape=(*n.shape, 1)) for n in substitute(filled, {seed: ones})]
    else:
        batched = batch(filled, {seed: basis(output)}, output.size)
    rows = [from_last(b, 0) for b in batched]
    return [apply("reshape", r, shape=(*output.shape, *x.shape)) for r, x in zip(rows, wrt, strict=True)]


def basis(like: Node) -> Node:
    """The standard basis of `like`'s space, one vector for each position of the last axis."""
    eye = like.builder.constant(np.eye(like.size, dtype=like.dtype))
    return apply("reshape", eye, shape=(*like.shape, like.size))
