"""Linear images of the inputs: which elements of x a node consists of, found without differentiating.

    index image     u_e = x[i(e)]              views and constant gathers of an input: a form, see `IndexImage`
    matrix image    u_{b e} = sum_k A[e, k] x[c(b, k)]    a matrix that does not depend on x, times an index image;
                                                          b are the axes of u that come from x alone, often none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hesse_engine.ir.graph import Array, Node, Shape, apply, size_of
from hesse_engine.ir.rows import VIEWS, evaluate
from hesse_engine.structure.forms import reshaped


@dataclass(frozen=True, slots=True)
class IndexImage:
    """Positions in the concatenated inputs: i(e) = offset + sum_k e_k steps_k + scale * table[e].

    `table` is a view, of the image's shape, of the indices of a gather; None where the positions are affine.
    """

    shape: Shape
    offset: int
    steps: Shape
    table: Array | None = None
    scale: int = 1

    @property
    def index(self) -> Array:
        """The positions as one array."""
        found = np.full(self.shape, self.offset)
        for axis, (length, step) in enumerate(zip(self.shape, self.steps, strict=True)):
            if step:
                found += (np.arange(length) * step).reshape([-1 if k == axis else 1 for k in range(len(self.shape))])
        if self.table is not None:
            found += self.scale * self.table
        return found


@dataclass(frozen=True, slots=True)
class MatrixImage:
    """`matrix` is a node of shape (e, k), `columns[b, k]` are positions in the inputs; `order` sorts u's axes b, e."""

    matrix: Node
    columns: Array
    order: tuple[int, ...]
    batch_rank: int

    @property
    def batch_axes(self) -> tuple[int, ...]:
        return self.order[:self.batch_rank]


Image = IndexImage | MatrixImage


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """H[rows(e), columns(e)] += weight[e]; with `is_mirrored` also H[columns(e), rows(e)] += weight[e].

    Without it the whole is symmetric in itself: rows = columns, or a block with its own transpose.
    """

    rows: IndexImage
    columns: IndexImage
    weight: Node
    is_mirrored: bool


def images(order: Sequence[Node], wrt: Sequence[Node], active: set[Node]) -> dict[Node, Image]:
    """The images among `order`."""
    found: dict[Node, Image] = {}
    at = 0
    for x in wrt:
        steps = tuple([size_of(x.shape[k + 1:]) if n != 1 else 0 for k, n in enumerate(x.shape)])
        found[x] = IndexImage(x.shape, at, steps)
        at += x.size
    for node in order:
        if node in found or node not in active:
            continue
        source = found.get(node.args[0])
        if isinstance(source, IndexImage) and node.op in VIEWS:
            found[node] = _view(node, source)
        elif isinstance(source, IndexImage) and node.op == "take" and node.args[1].value is not None:
            found[node] = _taken(node, source, node.args[1].value)
        elif node.op == "contract":
            image = _matrix_image(node, found, active)
            if image is not None:
                found[node] = image
    return found


def _view(node: Node, source: IndexImage) -> IndexImage:
    """The same view of the form: of an array with the form's strides over no memory, and of its table."""
    place = np.lib.stride_tricks.as_strided(_NOTHING, source.shape, [s * _NOTHING.itemsize for s in source.steps])
    if node.op == "reshape":
        steps = reshaped(source.shape, source.steps, node.shape)
        if steps is None:
            return _explicit(evaluate(node, [source.index]))
        offset = source.offset
    else:
        moved = evaluate(node, [place])
        start = moved.__array_interface__["data"][0] - place.__array_interface__["data"][0]
        offset = source.offset + start // _NOTHING.itemsize if node.size else source.offset
        steps = tuple([s // _NOTHING.itemsize for s in moved.strides])
    steps = tuple([s if n != 1 else 0 for s, n in zip(steps, node.shape, strict=True)])
    table = None if source.table is None else evaluate(node, [source.table])
    return IndexImage(node.shape, offset, steps, table, source.scale)


def _taken(node: Node, source: IndexImage, index: Array) -> IndexImage:
    """x[I]: the table is I, its scale the step along the axis."""
    axis = node.attrs["axis"]
    if source.table is not None:
        return _explicit(evaluate(node, [source.index, index]))
    length, rank = source.shape[axis], len(source.shape) - 1
    if index.dtype.kind == "i" and index.size and index.min() < 0:
        index = np.where(index < 0, index + length, index)
    steps = source.steps[:axis] + (0,) * index.ndim + source.steps[axis + 1:]
    lifted = index.astype(np.int64, copy=False).reshape((1,) * axis + index.shape + (1,) * (rank - axis))
    if not source.steps[axis]:
        return IndexImage(node.shape, source.offset, steps)
    return IndexImage(node.shape, source.offset, steps, np.broadcast_to(lifted, node.shape), source.steps[axis])


def _explicit(index: Array) -> IndexImage:
    return IndexImage(index.shape, 0, (0,) * index.ndim, index, 1)


_NOTHING = np.zeros(1, np.int8)  # views of it are never read


def _matrix_image(node: Node, found: dict[Node, Image], active: set[Node]) -> MatrixImage | None:
    """contract(A, u) or contract(u, A), unless an axis runs through all three parts."""
    a, b = node.args
    left, right, out = node.attrs["subscripts"].replace("->", ",").split(",")
    matrix, labels, vector, own = (a, left, b, right) if b in active else (b, right, a, left)
    source = found.get(vector)
    if matrix in active or not isinstance(source, IndexImage) or set(labels) & set(own) & set(out):
        return None
    summed, batch = [c for c in own if c not in out], [c for c in own if c in out]
    kept = [c for c in out if c not in batch]
    ordered = apply("permute_dims", matrix, axes=[labels.index(c) for c in kept + summed])
    terms = size_of(tuple([vector.shape[own.index(c)] for c in summed]))
    flat = apply("reshape", ordered, shape=(ordered.size // max(terms, 1), terms))
    columns = source.index.transpose([own.index(c) for c in batch + summed]).reshape(-1, terms)
    return MatrixImage(flat, columns, tuple([out.index(c) for c in batch + kept]), len(batch))
