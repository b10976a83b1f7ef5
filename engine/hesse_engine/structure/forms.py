"""Forms: where the elements of a node are. Element `i` lies at `offset + sum_k i_k * stride_k` of the root's elements.

Views (`reshape`, `permute_dims`, `slice`, `broadcast_to`) are forms of the same root, so they cost nothing at run time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from hesse_engine.ir.graph import Node, Shape


class Form(NamedTuple):
    """The elements of a node as a map into `root`, a node that has memory of its own."""

    root: Node
    offset: int
    strides: Shape


@lru_cache(maxsize=4096)
def contiguous(shape: Shape) -> Shape:
    """Strides, in elements, of a row-major array."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    """Whether `strides` are row-major; an axis of length 1 may have any stride."""
    return strides == contiguous(shape) or all(
        [s == c or n == 1 for s, c, n in zip(strides, contiguous(shape), shape, strict=True)]
    )


def permuted(shape: Shape, axes: Shape) -> Shape:
    """Strides of an array of `shape` that is row-major once its axes are put in the order `axes`."""
    inner = contiguous(tuple([shape[a] for a in axes]))
    strides = [0] * len(shape)
    for stride, axis in zip(inner, axes, strict=True):
        strides[axis] = stride
    return tuple(strides)


def view(node: Node, form: Form) -> Form | None:
    """The form of the view `node` of an operand with `form`; None where a reshape needs a copy."""
    root, offset, strides = form
    attrs, op = node.attrs, node.op
    if op == "permute_dims":
        return Form(root, offset, tuple([strides[a] for a in attrs["axes"]]))
    if op == "broadcast_to":
        source = node.args[0].shape
        repeated = tuple([t if s == w else 0 for t, s, w in zip(strides, source, node.shape, strict=True)])
        return Form(root, offset, repeated)
    if op == "slice":
        start = sum([s * t for s, t in zip(attrs["start"], strides, strict=True)])
        return Form(root, offset + start, tuple([d * t for d, t in zip(attrs["step"], strides, strict=True)]))
    found = reshaped(node.args[0].shape, strides, node.shape)
    return None if found is None else Form(root, offset, found)


def reshaped(old: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides of the same elements, in row-major order, under the shape `new`; None where no strides will do."""
    if 0 in new:
        return (0,) * len(new)
    if strides == contiguous(old):
        return contiguous(new)
    axes = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    found: list[int] = []
    at = 0
    k = 0
    while k < len(new):
        if new[k] == 1:
            found.append(0)
            k += 1
            continue
        # the shortest runs of old and new axes with the same number of elements
        have, want, last = axes[at][0], new[k], k
        while have != want:
            if have < want:
                at += 1
                if axes[at - 1][1] != axes[at][1] * axes[at][0]:
                    return None
                have *= axes[at][0]
            else:
                last += 1
                want *= new[last]
        step = axes[at][1]
        run: list[int] = []
        for length in reversed(new[k:last + 1]):
            run.append(step)
            step *= length
        found.extend(reversed(run))
        at, k = at + 1, last + 1
    return tuple(found)
