"""Composites: names with an expansion into the other rows, for whoever writes a graph; no transform meets them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import BOOL, INT64, Node, apply
from hesse_engine.ir.ops.contraction import LETTERS, contract
from hesse_engine.ir.ops.elementwise import check_operands
from hesse_engine.ir.ops.structural import broadcast_to, concat, permute_dims, reshape, slice_, sum_, unslice
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import axes_of, axis_of, broadcast, convert, integer, lift

MAX_OPERANDS = 64  # of einsum: finding the order of its products takes a time that grows with their cube


def composite(numpy: Callable[..., Any]) -> Callable[[Callable[..., Node]], Callable[..., Node]]:
    """Register the decorated expansion; positional parameters are operands, keyword-only ones attributes."""

    def declare(expand: Callable[..., Node]) -> Callable[..., Node]:
        name = expand.__name__.rstrip("_")
        parameters = list(inspect.signature(expand).parameters.values())
        operands = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        attrs = tuple([p.name for p in parameters if p.kind is p.KEYWORD_ONLY])

        def build(*args: Node, **options: Any) -> Node:
            if (not variadic and len(args) != len(operands)) or not args:
                raise GraphError("wrong-arity", f"{name} takes {len(operands) or 'at least one'} operand(s), "
                                                f"{len(args)} were given.")
            if len(operands) == 1:
                check_operands(name, args, 1)
            return expand(*args, **options)

        register(Row(name, "composite", None if variadic else len(operands), attrs, build, numpy, None,
                     doc=expand.__doc__ or ""))
        return expand

    return declare


# ---- reductions ------------------------------------------------------------------------------------------------------
@composite(np.mean)
def mean(x: Node, *, axis: Any = None, keepdims: bool = False) -> Node:
    """Arithmetic mean over axes: attrs axis, keepdims."""
    axes = axes_of("mean", axis, x.ndim)
    count = 1
    for k in axes:
        count *= x.shape[k]
    return sum_(x, axis=axes, keepdims=keepdims) / float(count)


@composite(np.prod)
def prod(x: Node, *, axis: Any = None, keepdims: bool = False) -> Node:
    """Product over axes, by halving: exact derivatives of every order where elements are 0. Attrs axis, keepdims."""
    axes = axes_of("prod", axis, x.ndim)
    rest = [k for k in range(x.ndim) if k not in axes]
    shape = tuple([x.shape[k] for k in rest])
    x = convert(x, INT64) if x.dtype == BOOL else x
    flat = reshape(permute_dims(x, axes=[*rest, *axes]), shape=(*shape, -1 if x.size else 0))
    while flat.shape[-1] > 1:
        half = flat.shape[-1] // 2
        low, high = _last(flat, 0, half), _last(flat, half, half)
        odd = [_last(flat, 2 * half, 1)] if flat.shape[-1] % 2 else []
        flat = concat(low * high, *odd, axis=-1)
    y = reshape(flat, shape=shape) if flat.shape[-1] else x.builder.full(shape, 1.0, x.dtype)
    return reshape(y, shape=[1 if k in axes else s for k, s in enumerate(x.shape)]) if keepdims else y


def _last(x: Node, start: int, count: int) -> Node:
    """x[..., start:start + count]."""
    zeros = (0,) * (x.ndim - 1)
    return slice_(x, start=(*zeros, start), count=(*x.shape[:-1], count))


# ---- shapes ----------------------------------------------------------------------------------------------------------
@composite(np.expand_dims)
def expand_dims(x: Node, *, axis: Any) -> Node:
    """x with a new axis of length 1: attrs axis."""
    if axis is None:
        raise GraphError("bad-attribute", "expand_dims: axis must be an integer or a list of them, not None.")
    axes = axes_of("expand_dims", axis, x.ndim + (len(axis) if isinstance(axis, (tuple, list)) else 1))
    rest = iter(x.shape)
    return reshape(x, shape=[1 if k in axes else next(rest) for k in range(x.ndim + len(axes))])


@composite(np.squeeze)
def squeeze(x: Node, *, axis: Any = None) -> Node:
    """x without axes of length 1: attrs axis; none drops all of them."""
    axes = axes_of("squeeze", axis, x.ndim) if axis is not None else [k for k, s in enumerate(x.shape) if s == 1]
    for k in axes:
        if x.shape[k] != 1:
            raise GraphError("shape-mismatch", f"squeeze: axis {k} has length {x.shape[k]}, not 1.")
    return reshape(x, shape=[s for k, s in enumerate(x.shape) if k not in axes])


@composite(lambda *xs, axis=0: np.stack(xs, axis))
def stack(*xs: Node, axis: Any = 0) -> Node:
    """The operands along a new axis: attrs axis."""
    nodes, _ = lift(xs, "stack")
    if any([n.shape != nodes[0].shape for n in nodes]):
        raise GraphError("shape-mismatch", f"stack: shapes {sorted({n.shape for n in nodes})} are not all equal.")
    k = axis_of("stack", axis, nodes[0].ndim + 1)
    return concat(*[expand_dims(n, axis=k) for n in nodes], axis=k)


@composite(np.transpose)
def transpose(x: Node) -> Node:
    """x with its axes reversed."""
    return permute_dims(x)


@composite(np.flip)
def flip(x: Node, *, axis: Any = None) -> Node:
    """x with axes reversed in direction: attrs axis; none reverses all."""
    axes = axes_of("flip", axis, x.ndim)
    turned = [k in axes and x.shape[k] > 0 for k in range(x.ndim)]
    return slice_(x, start=[s - 1 if t else 0 for s, t in zip(x.shape, turned, strict=True)],
                  step=[-1 if t else 1 for t in turned], count=x.shape)


def _diag_numpy(x: Any, *, offset: int = 0) -> Any:
    return np.diag(x, offset)


@composite(_diag_numpy)
def diag(x: Node, *, offset: Any = 0) -> Node:
    """A diagonal of a matrix, or the matrix with a vector on a diagonal: attrs offset."""
    k = integer("diag", "offset", offset)
    if x.ndim == 1:
        n = x.shape[0] + abs(k)
        start = k if k >= 0 else -k * n
        line = unslice(x, shape=(n * n,), start=(start if x.shape[0] else 0,), step=(n + 1,))
        return reshape(line, shape=(n, n))
    if x.ndim != 2:
        raise GraphError("shape-mismatch", f"diag takes 1 or 2 dimensions, not {x.ndim}.")
    rows, columns = x.shape
    count = max(0, min(rows, columns - k) if k >= 0 else min(rows + k, columns))
    start = k if k >= 0 else -k * columns
    return slice_(reshape(x, shape=(-1,) if x.size else (0,)), start=(start if count else 0,), step=(columns + 1,),
                  count=(count,))


# ---- products --------------------------------------------------------------------------------------------------------
@composite(np.matmul)
def matmul(a: Node, b: Node) -> Node:
    """Matrix product over the last two axes, leading axes broadcast; vectors as in NumPy."""
    (a, b), _ = lift((a, b), "matmul")
    if a.ndim == 0 or b.ndim == 0:
        raise GraphError("shape-mismatch", "matmul: operands need at least one dimension.")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise GraphError("shape-mismatch", f"matmul: shapes {list(a.shape)} and {list(b.shape)} do not fit: the last "
                                           f"axis of the first is {a.shape[-1]} long.")
    lead = broadcast("matmul", [a.shape[:-2], b.shape[:-2]])
    names = LETTERS[3:3 + len(lead)]
    left, a = _leading(a, lead, names, min(a.ndim, 2))
    right, b = _leading(b, lead, names, min(b.ndim, 2))
    rows, columns = "a" * (a.ndim > len(left)+1 or _is_matrix(a, left)), "c" * _is_matrix(b, right)
    return contract(a, b, subscripts=f"{left}{rows}b,{right}b{columns}->{names}{rows}{columns}")


def _is_matrix(x: Node, lead: str) -> bool:
    return x.ndim - len(lead) == 2


def _leading(x: Node, lead: Sequence[int], names: str, core: int) -> tuple[str, Node]:
    """Letters of x's leading axes; those of length 1 that broadcast are dropped."""
    own = x.shape[:-core]
    mine = names[len(names) - len(own):]
    wanted = lead[len(lead) - len(own):]
    dropped = [k for k, (s, w) in enumerate(zip(own, wanted, strict=True)) if s != w]
    if dropped:
        x = squeeze(x, axis=dropped)
    return "".join([c for k, c in enumerate(mine) if k not in dropped]), x


@composite(np.dot)
def dot(a: Node, b: Node) -> Node:
    """NumPy's dot: scalars multiply, else the last axis of a meets the second-to-last (or only) axis of b."""
    (a, b), _ = lift((a, b), "dot")
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise GraphError("shape-mismatch", f"dot: shapes {list(a.shape)} and {list(b.shape)} do not fit.")
    left = LETTERS[1:a.ndim]
    right = LETTERS[a.ndim:a.ndim + b.ndim - 1]
    meet = right[:-1] + "a" + right[-1:] if b.ndim > 1 else "a"
    return contract(a, b, subscripts=f"{left}a,{meet}->{left}{right}")


@composite(np.outer)
def outer(a: Node, b: Node) -> Node:
    """a_i b_j of the flattened operands."""
    (a, b), _ = lift((a, b), "outer")
    return reshape(a, shape=(a.size, 1)) * reshape(b, shape=(1, b.size))


@composite(lambda *xs, subscripts: np.einsum(subscripts, *xs))
def einsum(*xs: Node, subscripts: Any) -> Node:
    """Einstein summation of any number of operands, with ellipses and repeated indices: attrs subscripts."""
    if len(xs) > MAX_OPERANDS:
        raise GraphError("wrong-arity", f"einsum takes at most {MAX_OPERANDS} operands, {len(xs)} were given.")
    nodes, _ = lift(xs, "einsum")
    inputs, out = _einsum_terms(subscripts, nodes)
    terms = [_take_diagonals(x, term) for x, term in zip(nodes, inputs, strict=True)]
    while len(terms) > 1:
        i, j = _cheapest_pair(terms, out)
        (x, a), (y, b) = terms[i], terms[j]
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        needed = set(out).union(*[t[1] for t in rest])
        kept = "".join(dict.fromkeys([c for c in a + b if c in needed]))
        (x, a), (y, b) = _fit(x, a, y, b), _fit(y, b, x, a)
        terms = [*rest, (contract(x, y, subscripts=f"{a},{b}->{kept}"), kept)]
    x, a = terms[0]
    x = sum_(x, axis=tuple([k for k, c in enumerate(a) if c not in out]))
    a = "".join([c for c in a if c in out])
    return permute_dims(x, axes=[a.index(c) for c in out])


def _fit(x: Node, a: str, y: Node, b: str) -> tuple[Node, str]:
    """Drop axes of length 1 that meet a longer axis: einsum broadcasts them."""
    lengths = dict(zip(b, y.shape, strict=True))
    dropped = [k for k, c in enumerate(a) if x.shape[k] == 1 and lengths.get(c, 1) != 1]
    if not dropped:
        return x, a
    return squeeze(x, axis=dropped), "".join([c for k, c in enumerate(a) if k not in dropped])


def _einsum_terms(subscripts: Any, nodes: list[Node]) -> tuple[list[str], str]:
    """Input terms and result term as plain letters; ellipses become letters of their own."""
    if not isinstance(subscripts, str):
        raise GraphError("bad-attribute", "einsum: the subscripts must be a string like 'ij,jk->ik'.")
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(nodes):
        raise GraphError("wrong-arity", f"einsum: {len(inputs)} terms for {len(nodes)} operands.")
    spare = [c for c in reversed(LETTERS) if c not in text]
    if any([t.count("...") > 1 for t in (*inputs, out)]):
        raise GraphError("bad-attribute", "einsum: a term has one ellipsis at most.")
    dots = [n.ndim - len(t.replace("...", "")) if "..." in t else 0 for t, n in zip(inputs, nodes, strict=True)]
    shared = "".join(spare[:max(dots, default=0)]) if max(dots, default=0) >= 0 else ""
    terms = [t.replace("...", shared[len(shared) - d:] if d > 0 else "") for t, d in zip(inputs, dots, strict=True)]
    for term, n in zip(terms, nodes, strict=True):
        if len(term) != n.ndim or not all(c in LETTERS for c in term):
            raise GraphError("shape-mismatch", f"einsum: a term has {len(term)} indices, its operand {n.ndim} axes.")
    if not arrow:
        every = "".join(inputs).replace(".", "")
        out = ("..." if shared else "") + "".join(sorted([c for c in set(every) if every.count(c) == 1]))
    result = out.replace("...", shared)
    if len(set(result)) != len(result) or not set(result) <= set("".join(terms)):
        raise GraphError("bad-attribute", "einsum: the result repeats an index or has one that no term has.")
    return terms, result


def _take_diagonals(x: Node, term: str) -> tuple[Node, str]:
    """x[..i..i..] as x[..i..]: a repeated index is an affine walk over the two axes together."""
    while len(set(term)) != len(term):
        c = next(c for c in term if term.count(c) > 1)
        p, q = [k for k, t in enumerate(term) if t == c][:2]
        n = x.shape[p]
        if x.shape[q] != n:
            raise GraphError("shape-mismatch", f"einsum: a repeated index has lengths {n} and {x.shape[q]}.")
        rest = [k for k in range(x.ndim) if k not in (p, q)]
        x = reshape(permute_dims(x, axes=[*rest, p, q]), shape=(*[x.shape[k] for k in rest], n * n))
        x = slice_(x, start=(0,) * x.ndim, step=(1,) * len(rest) + (n + 1,), count=(*x.shape[:-1], n))
        term = "".join([term[k] for k in rest]) + c
    return x, term


def _cheapest_pair(terms: list[tuple[Node, str]], out: str) -> tuple[int, int]:
    """The two operands whose product takes the fewest multiplications (greedy path)."""
    best, chosen = None, (0, 1)
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            lengths = dict(zip(terms[i][1] + terms[j][1], terms[i][0].shape + terms[j][0].shape, strict=True))
            cost = 1
            for length in lengths.values():
                cost *= length
            if best is None or cost < best:
                best, chosen = cost, (i, j)
    return chosen


__all__ = ["apply", "broadcast_to"]
