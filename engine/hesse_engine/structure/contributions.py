"""A quadratic form as additions to the entries of H: H[rows(e), columns(e)] += weight[e].

Matrix images and outer products become weights of their own, each one matrix product:

    L_a' diag(h) L_b          ->  weight = A' (h . B), over (batch, columns of A, columns of B)
    g b' + b g'               ->  weight = g b'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hesse_engine.ir.graph import Array, Node, Shape, apply, flat, is_zero, scalar_value, size_of
from hesse_engine.structure.images import Contribution, Image, IndexImage, MatrixImage
from hesse_engine.structure.pushing import OuterProduct, QuadraticForm

CROWDED = 2  # elements for each place from which on they are summed up before they are added to H


def contributions(form: QuadraticForm, wrt: Sequence[Node]) -> list[Contribution]:
    """All that is added to H, sums over repeated places done first where that saves additions."""
    found: list[Contribution] = []
    for a, b, weight in form.pairs:
        if not is_zero(weight):
            found.append(_of_pair(form.images[a], form.images[b], weight, a is b))
    found += [c for c in form.products if not is_zero(c.weight)]
    if form.outer:
        found.append(_of_outer(form.outer, wrt))
    indices: dict[Any, Node] = {}
    return [_gathered(_summed(c), indices) for c in found]


def _of_pair(a: Image, b: Image, weight: Node, is_square: bool) -> Contribution:
    if isinstance(a, IndexImage):
        if isinstance(b, IndexImage):
            return Contribution(a, b, weight, not is_square)
        a, b = b, a
    assert isinstance(a, MatrixImage)
    batch, width = a.columns.shape
    ordered = apply("permute_dims", weight, axes=a.order)
    h = apply("reshape", ordered, shape=(batch, weight.size // max(batch, 1)))
    if isinstance(b, MatrixImage):
        right = b.columns.shape[1]
        value = scalar_value(weight)
        if value is not None and batch > 1:  # one block for all
            h = weight.builder.full((1, h.shape[1]), value, weight.dtype)
        block = apply("broadcast_to", _scaled_product(a.matrix, h, b.matrix), shape=(batch, width, right))
        return Contribution(_spread(a.columns, (batch, width, right), 2), _spread(b.columns, (batch, width, right), 1),
                            block, not is_square)
    columns = b.index.transpose(a.order).reshape(h.shape)
    if columns.size and (columns == columns[:, :1]).all():
        product = apply("contract", a.matrix, h, subscripts="ek,be->bk")
        return Contribution(_spread(a.columns, product.shape, None),
                            _spread(columns[:, 0], product.shape, 1), product, True)
    shape = (batch, h.shape[1], width)
    product = apply("expand_dims", h, axis=2) * apply("expand_dims", a.matrix, axis=0)
    return Contribution(_spread(a.columns, shape, 1), _spread(columns, shape, 2), product, True)


def _scaled_product(left: Node, h: Node, right: Node) -> Node:
    """sum_e A[e, k] h[b, e] B[e, l] over (b, k, l)."""
    if h.shape[0] == 1:
        column = apply("reshape", h, shape=(h.shape[1], 1))
        block = apply("contract", left, column * right, subscripts="ek,el->kl")
        return apply("reshape", block, shape=(1, *block.shape))
    scaled = apply("expand_dims", h, axis=2) * apply("expand_dims", right, axis=0)
    return apply("contract", left, scaled, subscripts="ek,bel->bkl")


def _of_outer(outer: Sequence[OuterProduct], wrt: Sequence[Node]) -> Contribution:
    """sum_t G_t B_t' + B_t G_t' = [G B] [B G]', the columns of all t side by side: one product, symmetric as it is."""
    g, b = (
        apply("concat", *[apply("concat", *[_rows(x) for x in own], axis=0) for own in parts], axis=1)
        for parts in ([t.g for t in outer], [t.b for t in outer])
    )
    block = apply("contract", apply("concat", g, b, axis=1), apply("concat", b, g, axis=1), subscripts="ik,jk->ij")
    n = flat(wrt)
    return Contribution(_linear((n, n), 0), _linear((n, n), 1), block, False)


def _rows(x: Node) -> Node:
    return apply("reshape", x, shape=(x.size // max(x.shape[-1], 1), x.shape[-1]))


def _linear(shape: Shape, axis: int) -> IndexImage:
    return IndexImage(shape, 0, tuple([1 if k == axis and shape[k] != 1 else 0 for k in range(len(shape))]))


def _spread(index: Array, shape: Shape, missing: int | None) -> IndexImage:
    """`index` over `shape`, which has one axis more: as a form where it is affine."""
    index = index if missing is None else np.expand_dims(index, missing)
    while index.ndim < len(shape):
        index = np.expand_dims(index, -1)
    found = affine(np.ascontiguousarray(index))
    if found is None:
        return IndexImage(shape, 0, (0,) * len(shape), np.broadcast_to(index, shape), 1)
    return IndexImage(shape, found[0], found[1])


def affine(numbers: Array) -> tuple[int, Shape] | None:
    """(offset, steps) with numbers[e] = offset + sum_k e_k steps_k, if there are such."""
    if numbers.size == 0:
        return 0, (0,) * numbers.ndim
    first = int(numbers.flat[0])
    steps = []
    for axis, length in enumerate(numbers.shape):
        at = tuple([1 if k == axis else 0 for k in range(numbers.ndim)])
        steps.append(int(numbers[at]) - first if length > 1 else 0)
    expected = np.full((1,) * numbers.ndim, first)
    for axis, (length, step) in enumerate(zip(numbers.shape, steps, strict=True)):
        expected = expected + (np.arange(length) * step).reshape(
            [-1 if k == axis else 1 for k in range(numbers.ndim)])
    return (first, tuple(steps)) if np.array_equal(numbers, expected) else None


def _summed(c: Contribution) -> Contribution:
    """Sum over the axes along which the place does not move; those of length 1 stay."""
    still = tuple([k for k in range(c.weight.ndim) if _is_still(c.rows, k) and _is_still(c.columns, k)])
    if not still:
        return c
    kept = [k for k in range(c.weight.ndim) if k not in still]
    weight = apply("sum", c.weight, axis=still)
    return Contribution(_without(c.rows, kept, weight.shape), _without(c.columns, kept, weight.shape), weight,
                        c.is_mirrored)


def _is_still(image: IndexImage, axis: int) -> bool:
    return image.shape[axis] > 1 and not image.steps[axis] and (image.table is None or image.table.strides[axis] == 0)


def _without(image: IndexImage, kept: Sequence[int], shape: Shape) -> IndexImage:
    table = image.table
    if table is not None:
        # the ellipsis keeps a view where no axis is left: a scalar of its own has no lasting address (`table_key`)
        table = table[(*[slice(None) if k in kept else 0 for k in range(table.ndim)], ...)]
    return IndexImage(shape, image.offset, tuple([image.steps[k] for k in kept]), table, image.scale)


def _gathered(c: Contribution, indices: dict[Any, Node]) -> Contribution:
    """Where the place depends on one table with many repetitions: add up by table entry first, H sees each once.

    `indices`: the nodes made of tables so far.
    """
    tables = [i.table for i in (c.rows, c.columns) if i.table is not None]
    if not tables or (len(tables) == 2 and table_key(tables[0]) != table_key(tables[1])):
        return c
    table = tables[0]
    moving = [k for k in range(table.ndim) if table.strides[k] or table.shape[k] == 1]
    axis = moving[0] if moving else 0
    if not moving or moving != list(range(axis, axis + len(moving))):
        return c
    core = table[(*[slice(None) if k in moving else 0 for k in range(table.ndim)], ...)]
    size = int(core.max()) + 1 if core.size else 0
    if core.size < CROWDED * size or any([i.steps[k] for i in (c.rows, c.columns) for k in moving]):
        return c
    key = table_key(core)
    if key not in indices:
        indices[key] = c.weight.builder.table(np.ascontiguousarray(core))
    index = indices[key]
    weight = apply("scatter_add", c.weight, index, axis=axis, size=size)

    def moved(image: IndexImage) -> IndexImage:
        step = 0 if image.table is None or size == 1 else image.scale
        steps = (*image.steps[:axis], step, *image.steps[axis + len(moving):])
        return IndexImage(weight.shape, image.offset, steps)

    return _summed(Contribution(moved(c.rows), moved(c.columns), weight, c.is_mirrored))


def table_key(table: Array) -> tuple[int, tuple[int, ...], Shape]:
    """Tables with one key are the same view of the same memory."""
    return table.__array_interface__["data"][0], table.strides, table.shape


def elements(found: Sequence[Contribution]) -> int:
    return sum([size_of(c.weight.shape) for c in found])
