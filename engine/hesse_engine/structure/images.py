"""Linear images of the inputs: which elements of x a node consists of, found without differentiating.

    index image     u_e = x[i(e)]              views and constant gathers of an input: an index array
    matrix image    u_{b e} = sum_k A[e, k] x[c(b, k)]    a matrix that does not depend on x, times an index image;
                                                          b are the axes of u that come from x alone, often none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hesse_engine.ir.graph import Array, Node, apply, size_of
from hesse_engine.ir.rows import VIEWS, evaluate


@dataclass(frozen=True, slots=True)
class IndexImage:
    """`index[e]` is the position in the concatenated inputs; `affine` = (offset, steps) where index is affine in e."""

    index: Array
    affine: tuple[int, tuple[int, ...]] | None


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


def images(order: Sequence[Node], wrt: Sequence[Node], active: set[Node]) -> dict[Node, Image]:
    """The images among `order`."""
    found: dict[Node, Image] = {}
    at, bases = 0, {}
    for x in wrt:
        base = np.arange(at, at + x.size)
        bases[x] = base
        found[x] = _index_image(base.reshape(x.shape), base)
        at += x.size
    root = {x: x for x in wrt}
    for node in order:
        if node in found or node not in active:
            continue
        source = found.get(node.args[0])
        if isinstance(source, IndexImage) and (node.op in VIEWS or _is_constant_take(node)):
            origin = root[node.args[0]]
            indices = [source.index] if node.op != "take" else [source.index, node.args[1].value]
            found[node] = _index_image(evaluate(node, list(indices)), bases[origin])
            root[node] = origin
        elif node.op == "contract":
            image = _matrix_image(node, found, active)
            if image is not None:
                found[node] = image
    return found


def _is_constant_take(node: Node) -> bool:
    return node.op == "take" and node.args[1].value is not None


def _index_image(index: Array, base: Array) -> IndexImage:
    """Views of `base` keep their offset and strides; what was copied has an index array only."""
    if index.size == 0 or not np.may_share_memory(index, base):
        return IndexImage(index, None)
    item = base.itemsize
    start = index.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    steps = tuple([s // item if length > 1 else 0 for s, length in zip(index.strides, index.shape, strict=True)])
    return IndexImage(index, (int(base[0]) + start // item, steps))


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
