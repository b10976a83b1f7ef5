"""Nodes that run as one function on whole arrays: BLAS and NumPy, made ready once so that a run only calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hesse_engine.backend import lapack
from hesse_engine.ir.graph import Array, Node, size_of
from hesse_engine.ir.ops.contraction import matmul_plan
from hesse_engine.ir.ops.gathering import check_range
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import reachable
from hesse_engine.structure.forms import reshaped

Action = Callable[[], object]
Operands = list[Array]
LOOPS = ("scan", "linear_scan")


def prepare(node: Node, operands: Operands, out: Array) -> Action:
    """An action that writes `node`'s value into `out`, reading `operands` each time it is called."""
    return _READY.get(node.op, _by_row)(node, operands, out)


def is_fallback(node: Node) -> bool:
    """Whether `node` ran as a plain NumPy function because nothing better covers it."""
    if node.op in LOOPS:
        from hesse_engine.backend.stepping import is_compiled  # which lowers bodies as programs are, calls among them

        return not is_compiled(node)
    return node.op not in _READY


def interpreted_elements(node: Node) -> int:
    """Elements that a fallback computes, 0 for what is none or is LAPACK's.

    Each operation of a step that runs in NumPy costs about a microsecond, the time of some `STEP_ELEMENTS` elements.
    """
    if node.op in FACTORING or not is_fallback(node):
        return 0
    if node.op in LOOPS:
        steps: int = node.attrs["length"]
        return steps * STEP_ELEMENTS * len(reachable(node.attrs["body"].graph.outputs))
    return max(node.size, *[a.size for a in node.args])


def _by_row(node: Node, operands: Operands, out: Array) -> Action:
    function, attrs = ROWS[node.op].numpy, node.attrs
    return lambda: np.copyto(out, function(*operands, **attrs), casting="unsafe")


def _loop(node: Node, operands: Operands, out: Array) -> Action:
    from hesse_engine.backend.stepping import prepare

    return prepare(node, operands, out)


View = tuple[tuple[int, ...], tuple[int, ...]]  # a shape, and strides


def product_views(node: Node, strides: Sequence[tuple[int, ...]]) -> tuple[View, View, View] | None:
    """Operands and result of a contraction as (stacks of) matrices of the same memory; None if one needs a copy.

    `strides`: those of both operands and the result, in any unit.
    """
    left, right, n_batch, n_a, _, n_sum, order = matmul_plan(node.attrs["subscripts"])
    a, b = node.args
    axes = (left, right, [order.index(k) for k in range(len(order))])
    shapes = [tuple([n.shape[k] for k in own]) for n, own in zip((a, b, node), axes, strict=True)]
    moved = [tuple([s[k] for k in own]) for s, own in zip(strides, axes, strict=True)]
    batch, rows = shapes[0][:n_batch], size_of(shapes[0][n_batch:n_batch + n_a])
    inner, columns = size_of(shapes[0][n_batch + n_a:]), size_of(shapes[1][n_batch + n_sum:])
    wanted = ((*batch, rows, inner), (*batch, inner, columns), (*batch, rows, columns))
    found = [reshaped(s, m, w) for s, m, w in zip(shapes, moved, wanted, strict=True)]
    if found[0] is None or found[1] is None or found[2] is None:
        return None
    return (wanted[0], found[0]), (wanted[1], found[1]), (wanted[2], found[2])


def _contract(node: Node, operands: Operands, out: Array) -> Action:
    """For operands that have to be copied to be matrices; the others are multiplied where they are."""
    left, right, n_batch, n_a, _, n_sum, order = matmul_plan(node.attrs["subscripts"])
    x, y = (operands[0].transpose(left), operands[1].transpose(right))
    target = out.transpose([order.index(k) for k in range(len(order))])
    batch, rows = x.shape[:n_batch], size_of(x.shape[n_batch:n_batch + n_a])
    inner, columns = size_of(x.shape[n_batch + n_a:]), size_of(y.shape[n_batch + n_sum:])
    a, b = (*batch, rows, inner), (*batch, inner, columns)
    if target.flags.c_contiguous and x.dtype == y.dtype == out.dtype:
        c = target.reshape((*batch, rows, columns))
        return lambda: np.matmul(x.reshape(a), y.reshape(b), out=c)
    return lambda: np.copyto(target, np.matmul(x.reshape(a), y.reshape(b)).reshape(target.shape), casting="unsafe")


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
    **dict.fromkeys(LOOPS, _loop),
    "triangular_solve": lapack.triangular_solve,
    "cholesky_solve": lapack.cholesky_solve,
    "cholesky_inv": lapack.cholesky_inv,
    **dict.fromkeys(lapack.BY_NUMPY, lapack.by_numpy),
}
STEP_ELEMENTS = 500
# these work on copies
FACTORING = frozenset({"cholesky", "solve", "inv", "cholesky_inv", "logabsdet", "signdet", *lapack.BY_NUMPY})


def transient_bytes(node: Node) -> int:
    """Memory that the action of `node` takes while it runs, beyond operands and result: an upper estimate."""
    if node.op == "contract":
        return 0
    if node.op in FACTORING:
        return (node.size + sum([a.size for a in node.args])) * node.dtype.itemsize
    if node.op in ("take", "scatter_add"):
        return node.args[0].size * node.dtype.itemsize
    return 0 if node.op in _READY else node.size * node.dtype.itemsize
