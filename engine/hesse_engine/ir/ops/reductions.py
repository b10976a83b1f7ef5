"""Nonlinear rows: max, min and their positions. A rule gives the tangent of the result, linear in the tangents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import INT64, Node, apply
from hesse_engine.ir.ops.elementwise import check_operands
from hesse_engine.ir.ops.structural import broadcast_to, kept, reshape, sum_
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import axes_of, axis_of, convert


def _batch(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    return apply(node.op, *args, **node.attrs)


def _extremum(name: str, numpy: Callable[..., Any], doc: str) -> None:
    def build(*args: Node, axis: Any = None, keepdims: bool = False) -> Node:
        check_operands(name, args, 1)
        (x,) = args
        axes = axes_of(name, axis, x.ndim)
        if any([x.shape[k] == 0 for k in axes]):
            raise GraphError("shape-mismatch", f"{name}: an axis of length 0 has no {name}imum.")
        if not axes:
            return x
        shape = tuple([s for k, s in enumerate(x.shape) if k not in axes])
        y = x.builder.make(name, (x,), {"axis": axes}, shape, x.dtype)
        return reshape(y, shape=kept(x.shape, axes)) if keepdims else y

    def jvp(y: Node, tangents: list[Node | None]) -> Node | None:
        # dy = sum over the attaining elements of dx / how many attain
        (x,), (dx,), axes = y.args, tangents, y.attrs["axis"]
        if dx is None:
            return None
        whole = broadcast_to(reshape(y, shape=kept(x.shape, axes)), shape=x.shape)
        attains = apply("equal", x, whole)
        share = 1.0 / convert(sum_(attains, axis=axes), x.dtype)
        return sum_(apply("where", attains, dx, 0.0), axis=axes) * share

    register(Row(name, "nonlinear", 1, ("axis", "keepdims"), build, numpy, jvp, _batch, doc=doc))


_extremum("max", lambda x, *, axis: np.max(x, axis=axis),
          "Largest element over axes; ties share the derivative evenly: attrs axis, keepdims.")
_extremum("min", lambda x, *, axis: np.min(x, axis=axis),
          "Smallest element over axes; ties share the derivative evenly: attrs axis, keepdims.")


def _position(name: str, numpy: Callable[..., Any], doc: str) -> None:
    def build(*args: Node, axis: Any = None, keepdims: bool = False) -> Node:
        check_operands(name, args, 1)
        (x,) = args
        rank = x.ndim
        if axis is None:
            x, k = reshape(x, shape=(x.size,)), 0
        else:
            k = axis_of(name, axis, x.ndim)
        if x.shape[k] == 0:
            raise GraphError("shape-mismatch", f"{name}: an axis of length 0 has no position to give.")
        shape = x.shape[:k] + x.shape[k + 1:]
        y = x.builder.make(name, (x,), {"axis": k}, shape, INT64)
        if not keepdims:
            return y
        return reshape(y, shape=(1,) * rank if axis is None else (*x.shape[:k], 1, *x.shape[k + 1:]))

    def no_tangent(y: Node, tangents: list[Node | None]) -> None:
        return None

    register(Row(name, "nonlinear", 1, ("axis", "keepdims"), build, numpy, no_tangent, _batch, doc=doc))


_position("argmax", lambda x, *, axis: np.argmax(x, axis=axis), "Position of the first largest element along an axis.")
_position("argmin", lambda x, *, axis: np.argmin(x, axis=axis), "Position of the first smallest element along an axis.")
