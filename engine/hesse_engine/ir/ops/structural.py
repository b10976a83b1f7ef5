"""Linear rows that move, repeat, gather and sum elements. Each is stated by its transpose.

The index maps are few: `slice` is affine per axis (start, step, count; a step may be negative), `take` follows an index
array, `broadcast_to` repeats, `reshape` and `permute_dims` rename. Flip, diag, squeeze and the like are written in
these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError, IndexRangeError
from hesse_engine.ir.graph import INT64, Node, Shape, apply, common_builder, is_zero
from hesse_engine.ir.ops.elementwise import align, check_operands
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import (
    axes_of,
    axis_of,
    convert,
    dtype_of,
    integers,
    lift,
    normalized_shape,
    shape_of,
)


def linear(
    name: str,
    arity: int | None,
    attrs: tuple[str, ...],
    build: Callable[..., Node],
    numpy: Callable[..., Any],
    transpose: Callable[[Node, Node], tuple[Node | None, ...]],
    batch: Callable[[Node, list[Node], list[bool], int], Node],
    *,
    doc: str,
    slots: tuple[int, ...] | None = None,
    is_movement: bool = True,
) -> Callable[..., Node]:
    register(Row(name, "linear", arity, attrs, build, numpy, transpose, batch, None, slots, is_movement, doc=doc))
    return build


# ---- convert ---------------------------------------------------------------------------------------------------------
def _build_convert(*args: Node, dtype: Any) -> Node:
    check_operands("convert", args, 1)
    (x,), wanted = args, dtype_of("convert", "nothing" if dtype is None else dtype)
    if x.dtype == wanted:
        return x
    if is_zero(x):
        return x.builder.zeros(x.shape, wanted)
    return x.builder.make("convert", (x,), {"dtype": str(wanted)}, x.shape, wanted)


def _transpose_convert(ct: Node, y: Node) -> tuple[Node | None]:
    source = y.args[0]
    return (convert(ct, source.dtype) if source.is_floating else None,)


def _batch_same(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    # axes are counted from the front, so a batch axis at the end leaves the attributes as they are
    return apply(node.op, *args, **node.attrs)


linear("convert", 1, ("dtype",), _build_convert, lambda x, *, dtype: x.astype(dtype), _transpose_convert, _batch_same,
       doc="x in another dtype: attrs dtype. Linear between floating dtypes, without derivative from integers.")


# ---- sum -------------------------------------------------------------------------------------------------------------
def _build_sum(*args: Node, axis: Any = None, keepdims: bool = False) -> Node:
    check_operands("sum", args, 1)
    (x,) = args
    axes = axes_of("sum", axis, x.ndim)
    if x.dtype.kind == "b":
        x = convert(x, INT64)
    shape = tuple([s for k, s in enumerate(x.shape) if k not in axes])
    if is_zero(x):
        total = x.builder.zeros(shape, x.dtype)
    elif not axes:
        total = x
    else:
        total = x.builder.make("sum", (x,), {"axis": axes}, shape, x.dtype)
    return reshape(total, shape=kept(x.shape, axes)) if keepdims else total


def kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple([1 if k in axes else s for k, s in enumerate(shape)])


def _transpose_sum(ct: Node, y: Node) -> tuple[Node]:
    shape, axes = y.args[0].shape, y.attrs["axis"]
    return (broadcast_to(reshape(ct, shape=kept(shape, axes)), shape=shape),)


sum_ = linear("sum", 1, ("axis", "keepdims"), _build_sum, lambda x, *, axis: np.sum(x, axis=axis, dtype=x.dtype),
              _transpose_sum, _batch_same, doc="Sum over axes: attrs axis (one, several, none for all), keepdims.")


# ---- reshape, permute_dims, broadcast_to -----------------------------------------------------------------------------
def _build_reshape(*args: Node, shape: Any) -> Node:
    check_operands("reshape", args, 1)
    (x,) = args
    wanted = normalized_shape("reshape", x.size, shape)
    if x.shape == wanted:
        return x
    if x.op == "reshape":
        return _build_reshape(x.args[0], shape=wanted)
    if is_zero(x):
        return x.builder.zeros(wanted, x.dtype)
    return x.builder.make("reshape", (x,), {"shape": wanted}, wanted, x.dtype)


reshape: Callable[..., Node] = linear(
    "reshape", 1, ("shape",), _build_reshape, lambda x, *, shape: np.reshape(x, shape),
    lambda ct, y: (reshape(ct, shape=y.args[0].shape),),
    lambda node, args, batched, size: reshape(args[0], shape=(*node.shape, size)),
    doc="The same elements in row-major order under another shape: attrs shape, one entry may be -1.",
)


def _build_permute(*args: Node, axes: Any = None) -> Node:
    check_operands("permute_dims", args, 1)
    (x,) = args
    order = tuple(range(x.ndim))[::-1] if axes is None else tuple(
        [axis_of("permute_dims", a, x.ndim) for a in integers("permute_dims", "axes", axes)])
    if sorted(order) != list(range(x.ndim)):
        raise GraphError("bad-attribute", f"permute_dims: axes {list(order)} are not a permutation of {x.ndim} axes.")
    if order == tuple(range(x.ndim)):
        return x
    if x.op == "permute_dims":
        return _build_permute(x.args[0], axes=[x.attrs["axes"][a] for a in order])
    shape = tuple([x.shape[a] for a in order])
    if is_zero(x):
        return x.builder.zeros(shape, x.dtype)
    return x.builder.make("permute_dims", (x,), {"axes": order}, shape, x.dtype)


def _transpose_permute(ct: Node, y: Node) -> tuple[Node]:
    order = y.attrs["axes"]
    return (permute_dims(ct, axes=[order.index(k) for k in range(len(order))]),)


permute_dims: Callable[..., Node] = linear(
    "permute_dims", 1, ("axes",), _build_permute, lambda x, *, axes: np.transpose(x, axes), _transpose_permute,
    lambda node, args, batched, size: permute_dims(args[0], axes=(*node.attrs["axes"], node.ndim)),
    doc="Axes in another order: attrs axes; none reverses them.",
)


def _build_broadcast(*args: Node, shape: Any) -> Node:
    check_operands("broadcast_to", args, 1)
    (x,), wanted = args, shape_of("broadcast_to", shape)
    padded = (1,) * (len(wanted) - x.ndim) + x.shape
    if len(padded) != len(wanted) or any([s not in (1, w) for s, w in zip(padded, wanted, strict=True)]):
        raise GraphError("shape-mismatch", f"broadcast_to: shape {list(x.shape)} does not broadcast to {list(wanted)}.")
    x = reshape(x, shape=padded)
    if x.shape == wanted:
        return x
    if is_zero(x):
        return x.builder.zeros(wanted, x.dtype)
    if x.op == "broadcast_to":
        return _build_broadcast(x.args[0], shape=wanted)
    return x.builder.make("broadcast_to", (x,), {"shape": wanted}, wanted, x.dtype)


def _transpose_broadcast(ct: Node, y: Node) -> tuple[Node]:
    source = y.args[0].shape
    repeated = tuple([k for k, (s, w) in enumerate(zip(source, y.shape, strict=True)) if s != w])
    return (reshape(sum_(ct, axis=repeated), shape=source),)


broadcast_to: Callable[..., Node] = linear(
    "broadcast_to", 1, ("shape",), _build_broadcast, lambda x, *, shape: np.broadcast_to(x, shape),
    _transpose_broadcast, lambda node, args, batched, size: broadcast_to(args[0], shape=(*node.shape, size)),
    doc="x repeated along axes of length 1, and along new leading axes: attrs shape.",
)


# ---- slice and its transpose -----------------------------------------------------------------------------------------
def _affine(op: str, shape: Shape, start: Any, step: Any, count: Any) -> tuple[Shape, Shape, Shape]:
    """Checked (start, step, count), one entry an axis, every index start + step * k inside the axis."""
    rows = [integers(op, name, v) for name, v in (("start", start), ("step", step), ("count", count))]
    if any([len(r) != len(shape) for r in rows]):
        raise GraphError("bad-attribute", f"{op}: start, step and count need one entry for each of {len(shape)} axes.")
    for axis, (s, d, c, length) in enumerate(zip(*rows, shape, strict=True)):
        last = s + d * (c - 1)
        if d == 0 and c > 1:
            raise GraphError("bad-attribute", f"{op}: step must not be 0; it is along axis {axis}.")
        if c < 0 or (c and not (0 <= s < length and 0 <= last < length)):
            raise IndexRangeError(
                "index-out-of-range", f"{op}: start {s}, step {d}, count {c} leave axis {axis} of length {length}."
            )
    starts, steps, counts = rows
    # canonical where it does not matter, so that equal slices are one node
    steps = tuple([d if c > 1 else 1 for d, c in zip(steps, counts, strict=True)])
    starts = tuple([s if c else 0 for s, c in zip(starts, counts, strict=True)])
    return starts, steps, counts


def _build_slice(*args: Node, start: Any, step: Any = None, count: Any) -> Node:
    check_operands("slice", args, 1)
    (x,) = args
    starts, steps, counts = _affine("slice", x.shape, start, (1,) * x.ndim if step is None else step, count)
    if counts == x.shape and all([d == 1 for d in steps]):
        return x
    if is_zero(x):
        return x.builder.zeros(counts, x.dtype)
    return x.builder.make("slice", (x,), {"start": starts, "step": steps, "count": counts}, counts, x.dtype)


def _strided(start: Shape, step: Shape, count: Shape) -> tuple[slice, ...]:
    # a stop below 0 would wrap around; None says "to the end" of a descending slice
    stops = [s + d * c for s, d, c in zip(start, step, count, strict=True)]
    return tuple([slice(s, e if e >= 0 else None, d) if c else slice(0, 0)
                  for s, e, d, c in zip(start, stops, step, count, strict=True)])


def _slice_numpy(x: Any, *, start: Shape, step: Shape, count: Shape) -> Any:
    return x[_strided(start, step, count)]


def _transpose_slice(ct: Node, y: Node) -> tuple[Node]:
    return (unslice(ct, shape=y.args[0].shape, start=y.attrs["start"], step=y.attrs["step"]),)


def _batch_slice(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    a = node.attrs
    return slice_(args[0], start=(*a["start"], 0), step=(*a["step"], 1), count=(*a["count"], size))


slice_ = linear("slice", 1, ("start", "step", "count"), _build_slice, _slice_numpy, _transpose_slice, _batch_slice,
                doc="The elements start + step * k, k < count, of each axis: attrs start, step, count.")


def _build_unslice(*args: Node, shape: Any, start: Any, step: Any = None) -> Node:
    check_operands("unslice", args, 1)
    (x,), wanted = args, shape_of("unslice", shape)
    starts, steps, _ = _affine("unslice", wanted, start, (1,) * x.ndim if step is None else step, x.shape)
    if wanted == x.shape and all([d == 1 for d in steps]):
        return x
    if is_zero(x):
        return x.builder.zeros(wanted, x.dtype)
    return x.builder.make("unslice", (x,), {"shape": wanted, "start": starts, "step": steps}, wanted, x.dtype)


def _unslice_numpy(x: Any, *, shape: Shape, start: Shape, step: Shape) -> Any:
    out = np.zeros(shape, x.dtype)
    out[_strided(start, step, x.shape)] = x
    return out


def _transpose_unslice(ct: Node, y: Node) -> tuple[Node]:
    return (slice_(ct, start=y.attrs["start"], step=y.attrs["step"], count=y.args[0].shape),)


def _batch_unslice(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    a = node.attrs
    return unslice(args[0], shape=(*a["shape"], size), start=(*a["start"], 0), step=(*a["step"], 1))


unslice = linear("unslice", 1, ("shape", "start", "step"), _build_unslice, _unslice_numpy, _transpose_unslice,
                 _batch_unslice, doc="x placed at start + step * k in zeros of a given shape: the transpose of slice.")


# ---- concat ----------------------------------------------------------------------------------------------------------
def _build_concat(*args: Node, axis: Any = 0) -> Node:
    if not args:
        raise GraphError("wrong-arity", "concat takes at least one operand, 0 were given.")
    nodes, dtype = lift(args, "concat")
    builder, first = common_builder(nodes), nodes[0]
    k = axis_of("concat", axis, first.ndim)
    rest = first.shape[:k], first.shape[k + 1:]
    for n in nodes:
        if n.ndim != first.ndim or (n.shape[:k], n.shape[k + 1:]) != rest:
            raise GraphError("shape-mismatch", f"concat: shapes {list(first.shape)} and {list(n.shape)} differ "
                                               f"outside axis {k}.")
    if len(nodes) == 1:
        return first
    shape = (*first.shape[:k], sum([n.shape[k] for n in nodes]), *first.shape[k + 1:])
    if all([is_zero(n) for n in nodes]):
        return builder.zeros(shape, dtype)
    return builder.make("concat", tuple(nodes), {"axis": k}, shape, dtype)


def _transpose_concat(ct: Node, y: Node) -> tuple[Node, ...]:
    axis, at, pieces = y.attrs["axis"], 0, []
    for arg in y.args:
        start = tuple([at if k == axis else 0 for k in range(y.ndim)])
        pieces.append(slice_(ct, start=start, count=arg.shape))
        at += arg.shape[axis]
    return tuple(pieces)


def _batch_concat(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    aligned = [a if b else align(a, size) for a, b in zip(args, batched, strict=True)]
    return concat(*aligned, axis=node.attrs["axis"])


concat = linear("concat", None, ("axis",), _build_concat, lambda *xs, axis: np.concatenate(xs, axis), _transpose_concat,
                _batch_concat, doc="The operands one after the other along an axis: attrs axis.")


def any_over(mask: Node, axes: tuple[int, ...]) -> Node:
    """Whether any element along `axes` is true."""
    return apply("greater", sum_(convert(mask, INT64), axis=axes), 0) if axes else mask

