"""Nodes that run as one function on whole arrays: BLAS and NumPy, made ready once so that a run only calls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hesse_engine.ir.graph import Array, Node, size_of
from hesse_engine.ir.ops.contraction import matmul_plan
from hesse_engine.ir.ops.gathering import check_range
from hesse_engine.ir.rows import ROWS
from hesse_engine.structure.forms import reshaped

Action = Callable[[], object]
Operands = list[Array]


def prepare(node: Node, operands: Operands, out: Array) -> Action:
    """An action that writes `node`'s value into `out`, reading `operands` each time it is called."""
    return _READY.get(node.op, _by_row)(node, operands, out)


def is_fallback(node: Node) -> bool:
    """Whether `node` ran as a plain NumPy function because nothing better covers it."""
    return node.op not in _READY


def _by_row(node: Node, operands: Operands, out: Array) -> Action:
    function, attrs = ROWS[node.op].numpy, node.attrs
    return lambda: np.copyto(out, function(*operands, **attrs), casting="unsafe")


def _contract(node: Node, operands: Operands, out: Array) -> Action:
    left, right, n_batch, n_a, _, n_sum, order = matmul_plan(node.attrs["subscripts"])
    x, y = (operands[0].transpose(left), operands[1].transpose(right))
    target = out.transpose([order.index(k) for k in range(len(order))])
    batch, rows = x.shape[:n_batch], size_of(x.shape[n_batch:n_batch + n_a])
    inner, columns = size_of(x.shape[n_batch + n_a:]), size_of(y.shape[n_batch + n_sum:])
    shapes = ((*batch, rows, inner), (*batch, inner, columns), (*batch, rows, columns))
    a, b, c = (_viewed(v, s) for v, s in zip((x, y, target), shapes, strict=True))
    if a is not None and b is not None and c is not None:
        return lambda: np.matmul(a, b, out=c)
    return lambda: np.copyto(
        target, np.matmul(x.reshape(shapes[0]), y.reshape(shapes[1])).reshape(target.shape), casting="unsafe"
    )


def _viewed(array: Array, shape: tuple[int, ...]) -> Array | None:
    """`array` under `shape` if that needs no copy."""
    size = array.itemsize
    strides = reshaped(array.shape, tuple([s // size for s in array.strides]), shape)
    if strides is None:
        return None
    return np.lib.stride_tricks.as_strided(array, shape, [s * size for s in strides], subok=False)


def _take(node: Node, operands: Operands, out: Array) -> Action:
    (x, index), axis = operands, node.attrs["axis"]
    length = x.shape[axis]
    if not out.size:
        return lambda: check_range("take", index, length)
    if node.args[1].value is not None:  # checked when the node was made; "wrap" does not buffer `out`
        return lambda: np.take(x, index, axis=axis, out=out, mode="wrap")

    def action() -> None:
        check_range("take", index, length)
        np.take(x, index, axis=axis, out=out, mode="wrap")

    return action


def _scatter_add(node: Node, operands: Operands, out: Array) -> Action:
    (x, index), axis, size = operands, node.attrs["axis"], node.attrs["size"]
    rank = index.ndim
    front = np.moveaxis(x, range(axis, axis + rank), range(rank))
    target = np.moveaxis(out, axis, 0)

    def action() -> None:
        check_range("scatter_add", index, size)
        target.fill(0)
        np.add.at(target, index, front)

    return action


def _concat(node: Node, operands: Operands, out: Array) -> Action:
    axis = node.attrs["axis"]
    return lambda: np.concatenate(operands, axis, out=out)


def _unslice(node: Node, operands: Operands, out: Array) -> Action:
    (x,) = operands
    span = [slice(s, e if e >= 0 else None, d) if c else slice(0, 0) for s, d, c, e in [
        (s, d, c, s + d * c) for s, d, c in zip(node.attrs["start"], node.attrs["step"], x.shape, strict=True)
    ]]
    window = out[(*span, ...)]

    def action() -> None:
        out.fill(0)
        np.copyto(window, x)

    return action


def _convert(node: Node, operands: Operands, out: Array) -> Action:
    (x,) = operands
    return lambda: np.copyto(out, x, casting="unsafe")


def _reshape(node: Node, operands: Operands, out: Array) -> Action:
    (x,) = operands
    return lambda: np.copyto(out, x.reshape(out.shape))


def _sum(node: Node, operands: Operands, out: Array) -> Action:
    (x,), axis, dtype = operands, node.attrs["axis"], out.dtype
    return lambda: np.sum(x, axis=axis, dtype=dtype, out=out)


_READY: dict[str, Callable[[Node, Operands, Array], Action]] = {
    "contract": _contract,
    "take": _take,
    "scatter_add": _scatter_add,
    "concat": _concat,
    "unslice": _unslice,
    "convert": _convert,
    "reshape": _reshape,
    "sum": _sum,
}


def transient_bytes(node: Node) -> int:
    """Memory that the action of `node` takes while it runs, beyond operands and result: an upper estimate."""
    if node.op == "contract":
        return 0
    if node.op in ("take", "scatter_add"):
        return node.args[0].size * node.dtype.itemsize
    return 0 if node.op in _READY else node.size * node.dtype.itemsize
