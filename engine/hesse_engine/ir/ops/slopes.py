"""The slope of y along an elementwise path from w: what the limit of a divided difference of y over w takes.

For a symmetric g(w) with y_i = dg/dw_i, and w_i = w_j, the difference dy_j/dw_j - dy_i/dw_j is the derivative of y_j by
its own w_j with everything that all elements share (sums over w, constants) held fixed. Positions are carried along, so
an element that came to another place is noticed; whatever has no such path has no slope, which is said by None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hesse_engine.ir.graph import Array, Node, scalar_value, size_of
from hesse_engine.ir.rows import ROWS, VIEWS, evaluate
from hesse_engine.ir.walk import connected, reachable

MOVES = VIEWS | {"concat", "unslice"}
FREE = -1  # the place of an element that comes from no element of w


@dataclass(frozen=True, slots=True)
class _Path:
    """`slope` (None: 0) of a node whose elements stem from the elements `places` of w; all alike if `is_symmetric`."""

    slope: Node | None
    places: Array
    is_symmetric: bool


class _Unknown(Exception):
    """The node is no elementwise function of w."""


def slope_along(y: Node, w: Node) -> Node | None:
    """The slope of y, of the shape of w, or None."""
    order = reachable([y])
    active = connected(order, {w})
    own = np.arange(w.size).reshape(w.shape)
    if y not in active:
        return w.builder.zeros(w.shape, w.dtype)
    known = {w: _Path(w.builder.full(w.shape, 1.0, w.dtype), own, True)}
    try:
        for node in order:
            if node in active and node not in known:
                known[node] = _path(node, known, own)
    except _Unknown:
        return None
    found = known[y]
    if found.places.shape != w.shape or not np.all((found.places == own) | (found.places == FREE)):
        return None
    return w.builder.zeros(w.shape, w.dtype) if found.slope is None else found.slope


def _path(node: Node, known: dict[Node, _Path], own: Array) -> _Path:
    row = ROWS[node.op]
    operands = [known.get(a) or _free(a, known) for a in node.args]
    if node.op in MOVES:
        return _moved(node, operands)
    if node.op == "sum":
        return _summed(node, operands[0], node.attrs["axis"], own)
    if node.op == "contract":
        return _contracted(node, operands, own)
    if row.vm is None or row.kind not in ("pointwise", "linear", "bilinear"):
        raise _Unknown
    return _elementwise(node, operands)


def _free(node: Node, known: dict[Node, _Path]) -> _Path:
    """A node without w. What is broadcast treats all alike only where it is one number."""
    return _Path(None, np.full(node.shape, FREE), _is_alike(node, known))


def _is_alike(node: Node, known: dict[Node, _Path]) -> bool:
    """Whether a node that carries no derivative is made of numbers that all elements share, and of w itself."""
    stack = [node]
    while stack:
        part = stack.pop()
        if part in known:
            if not known[part].is_symmetric:
                return False
        elif part.size != 1 and scalar_value(part) is None:
            if part.op not in ("broadcast_to", "reshape", "convert") and ROWS[part.op].vm is None:
                return False
            stack.extend(part.args)
    return True


def _elementwise(node: Node, operands: list[_Path]) -> _Path:
    places = np.full(node.shape, FREE)
    for o in operands:
        mine = np.broadcast_to(o.places, node.shape)
        if np.any((places != mine) & (places != FREE) & (mine != FREE)):
            raise _Unknown
        places = np.where(mine == FREE, places, mine)
    slope = None if all([o.slope is None for o in operands]) else _tangent(node, [o.slope for o in operands])
    return _Path(slope, places, all([o.is_symmetric for o in operands]))


def _tangent(node: Node, tangents: list[Node | None]) -> Node | None:
    """The tangent of an elementwise node."""
    row = ROWS[node.op]
    assert row.rule is not None
    total: Node | None = None
    if row.kind == "linear":
        filled = [a.builder.zeros(a.shape, a.dtype) if t is None else t
                  for a, t in zip(node.args, tangents, strict=True)]
        found: Node = row.build(*[a if not row.differentiable(k) else t
                           for k, (a, t) in enumerate(zip(node.args, filled, strict=True))], **node.attrs)
        return found
    if row.kind == "bilinear":
        a, b = node.args
        terms = [None if tangents[0] is None else row.build(tangents[0], b, **node.attrs),
                 None if tangents[1] is None else row.build(a, tangents[1], **node.attrs)]
    else:
        terms = [None if p is None or t is None else t if isinstance(p, float) and p == 1.0 else p * t
                 for p, t in zip(row.rule(node, *node.args), tangents, strict=True)]
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def _moved(node: Node, operands: list[_Path]) -> _Path:
    places = evaluate(node, [o.places - FREE for o in operands]) + FREE  # a hole of `unslice` is 0, which is FREE
    slope = None
    if any([o.slope is not None for o in operands]):
        filled = [a.builder.zeros(a.shape, a.dtype) if o.slope is None else o.slope
                  for a, o in zip(node.args, operands, strict=True)]
        slope = ROWS[node.op].build(*filled, **node.attrs)
    is_whole = node.op in ("broadcast_to", "reshape", "permute_dims")
    return _Path(slope, places, is_whole and all([o.is_symmetric for o in operands]))


def _summed(node: Node, x: _Path, axes: tuple[int, ...], own: Array) -> _Path:
    """A number that all elements of a row of w share: a sum over whole rows of a function that treats them alike."""
    kept = [k for k in range(x.places.ndim) if k not in axes]
    groups = x.places.transpose([*kept, *axes])
    _check_whole_rows(groups.reshape(size_of(groups.shape[:len(kept)]), size_of(groups.shape[len(kept):])), own)
    if not x.is_symmetric:
        raise _Unknown
    return _Path(None, np.full(node.shape, FREE), True)


def _check_whole_rows(groups: Array, own: Array) -> None:
    n = own.shape[-1]
    for group in groups:
        used = np.sort(group[group != FREE])
        if used.size % n or (used.size and not np.array_equal(
                used, np.repeat(own[np.isin(own[..., 0], used)].ravel(), used.size // max(np.unique(used).size, 1)))):
            raise _Unknown


def _contracted(node: Node, operands: list[_Path], own: Array) -> _Path:
    """Inner products over whole rows: a' a and the like."""
    a, b, out = node.attrs["subscripts"].replace("->", ",").split(",")
    if out or sorted(a) != sorted(b) or not all([o.is_symmetric for o in operands]):
        raise _Unknown
    x, y = operands
    other = y.places.transpose([b.index(c) for c in a])
    if np.any((x.places != other) & (x.places != FREE) & (other != FREE)):
        raise _Unknown
    merged = np.where(x.places == FREE, other, x.places)
    _check_whole_rows(merged.reshape(1, -1), own)
    return _Path(None, np.full(node.shape, FREE), True)
