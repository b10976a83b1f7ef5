"""The bilinear row `contract`: a two-operand einsum in which every index is either kept or summed.

matmul, dot, outer, tensordot and einsum are written in it. An index belongs to one of four classes, by where it occurs:

    batch     in a, b and the result        free a, free b   in one operand and the result
    summed    in a and b only               (an index of one operand alone is summed before)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Node, apply, is_zero
from hesse_engine.ir.ops.elementwise import check_arity
from hesse_engine.ir.ops.structural import any_over
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import lift

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def parse(subscripts: Any) -> tuple[str, str, str]:
    """'ab,bc->ac' as ('ab', 'bc', 'ac')."""
    text = subscripts.replace(" ", "") if isinstance(subscripts, str) else ""
    left, arrow, out = text.partition("->")
    a, comma, b = left.partition(",")
    if not arrow or not comma or not all(c in LETTERS for c in a + b + out):
        raise GraphError("bad-attribute", "contract: the subscripts must read like 'ab,bc->ac'.")
    return a, b, out


def canonical(a: str, b: str, out: str) -> str:
    """The same contraction with its letters renamed in order of appearance."""
    names: dict[str, str] = {}
    for c in a + b:
        names.setdefault(c, LETTERS[len(names)])
    return "{},{}->{}".format(*["".join([names[c] for c in part]) for part in (a, b, out)])


def _check(a: str, b: str, out: str, x: Node, y: Node) -> dict[str, int]:
    if len(a) != x.ndim or len(b) != y.ndim:
        raise GraphError("shape-mismatch", f"contract: '{a},{b}' does not fit ranks {x.ndim} and {y.ndim}.")
    if any(len(set(part)) != len(part) for part in (a, b, out)) or not set(out) <= set(a + b):
        raise GraphError("bad-attribute", "contract: an index repeats within one part, or the result has a new one.")
    lengths: dict[str, int] = {}
    for c, length in zip(a + b, x.shape + y.shape, strict=True):
        if lengths.setdefault(c, length) != length:
            raise GraphError(
                "shape-mismatch",
                f"contract: shapes {list(x.shape)} and {list(y.shape)} disagree on the length of a shared axis.",
            )
    return lengths


def contract(x: Node, y: Node, *, subscripts: str) -> Node:
    """sum over the indices that the result lacks of x[a] y[b]."""
    (x, y), dtype = lift((x, y), "contract")
    a, b, out = parse(subscripts)
    lengths = _check(a, b, out, x, y)
    x, a = _sum_lonely(x, a, b + out)
    y, b = _sum_lonely(y, b, a + out)
    single = [c for c in a if c in b and c not in out and lengths[c] == 1]  # a sum of one product is that product
    x, a = _dropped(x, a, single)
    y, b = _dropped(y, b, single)
    shape = tuple([lengths[c] for c in out])
    if is_zero(x) or is_zero(y):
        return x.builder.zeros(shape, dtype)
    if not (set(a) & set(b)) - set(out):
        return _spread(x, a, out, lengths) * _spread(y, b, out, lengths)
    return x.builder.make("contract", (x, y), {"subscripts": canonical(a, b, out)}, shape, dtype)


def _sum_lonely(x: Node, mine: str, others: str) -> tuple[Node, str]:
    lonely = tuple([k for k, c in enumerate(mine) if c not in others])
    return (apply("sum", x, axis=lonely), "".join([c for c in mine if c in others])) if lonely else (x, mine)


def _dropped(x: Node, mine: str, letters: list[str]) -> tuple[Node, str]:
    kept = [k for k, c in enumerate(mine) if c not in letters]
    return apply("reshape", x, shape=tuple([x.shape[k] for k in kept])), "".join([mine[k] for k in kept])


def _spread(x: Node, mine: str, out: str, lengths: dict[str, int]) -> Node:
    """x with its axes in the order of `out` and length-1 axes for the others, broadcast."""
    x = apply("permute_dims", x, axes=[mine.index(c) for c in out if c in mine])
    x = apply("reshape", x, shape=tuple([lengths[c] if c in mine else 1 for c in out]))
    return apply("broadcast_to", x, shape=tuple([lengths[c] for c in out]))


def _build(*args: Node, subscripts: Any) -> Node:
    check_arity("contract", args, 2)
    return contract(*args, subscripts=subscripts)


def _transpose(ct: Node, other: Node, y: Node, slot: int) -> Node:
    a, b, out = parse(y.attrs["subscripts"])
    mine, theirs = (a, b) if slot == 0 else (b, a)
    return contract(ct, other, subscripts=f"{out},{theirs}->{mine}")


def operand_mask(mask: Node, node: Node, slot: int) -> Node:
    """Where the cotangent of an operand can differ from 0: where `mask` holds for an element that it contributes to."""
    a, b, out = parse(node.attrs["subscripts"])
    mine = (a, b)[slot]
    shape = node.args[slot].shape
    met = any_over(mask, tuple([k for k, c in enumerate(out) if c not in mine]))
    return _spread(met, "".join([c for c in out if c in mine]), mine, dict(zip(mine, shape, strict=True)))


def _batch(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    a, b, out = parse(node.attrs["subscripts"])
    new = next(c for c in LETTERS if c not in a + b)
    a, b = a + new * batched[0], b + new * batched[1]
    return contract(*args, subscripts=f"{a},{b}->{out}{new}")


@lru_cache(maxsize=4096)
def matmul_plan(subscripts: str) -> tuple[Any, ...]:
    """How to run a contraction as one (batched) matrix product.

    Returns (order of a, order of b, counts of batch, free a, free b and summed axes, order of the result).
    """
    a, b, out = parse(subscripts)
    batch = [c for c in out if c in a and c in b]
    free_a, free_b = [c for c in out if c not in b], [c for c in out if c not in a]
    summed = [c for c in a if c in b and c not in out]
    left = tuple([a.index(c) for c in batch + free_a + summed])
    right = tuple([b.index(c) for c in batch + summed + free_b])
    got = batch + free_a + free_b
    return left, right, len(batch), len(free_a), len(free_b), len(summed), tuple([got.index(c) for c in out])


def contract_numpy(x: Any, y: Any, *, subscripts: str) -> Any:
    """Through `np.matmul`, so BLAS does the work."""
    left, right, n_batch, n_a, _, n_sum, order = matmul_plan(subscripts)
    x, y = x.transpose(left), y.transpose(right)
    batch, free_a = x.shape[:n_batch], x.shape[n_batch:n_batch + n_a]
    free_b, summed = y.shape[n_batch + n_sum:], x.shape[n_batch + n_a:]
    k = int(np.prod(summed, dtype=np.int64))
    x = x.reshape(*batch, int(np.prod(free_a, dtype=np.int64)), k)
    y = y.reshape(*batch, k, int(np.prod(free_b, dtype=np.int64)))
    with np.errstate(all="ignore"):
        product = np.matmul(x, y)
    return product.reshape((*batch, *free_a, *free_b)).transpose(order)


register(
    Row("contract", "bilinear", 2, ("subscripts",), _build, contract_numpy, _transpose, _batch,
        doc="Two-operand einsum: attrs subscripts, like 'ab,bc->ac', without repeats inside a part.")
)
