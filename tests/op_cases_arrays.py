"""Cases of the rows that move, gather, sum and multiply arrays. Each reference is the op's index equation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from op_cases import ELEMENTWISE, Case, apart, real
from op_cases_bitwise import BITWISE
from op_cases_factorizations import FACTORIZATIONS
from op_cases_linalg import LINALG
from op_cases_loops import LOOPS
from op_cases_ordering import ORDERING
from op_cases_rounding import ROUNDING
from op_cases_special import SPECIAL
from op_cases_spectral import SPECTRAL
from op_cases_transcendental import TRANSCENDENTAL
from op_cases_windows import WINDOWS
from oracles import MP, Array, Reference

Index = tuple[int, ...]


def array(shape: Sequence[int], f: Callable[[Index], Any]) -> Array:
    """The array y with y[i] = f(i)."""
    out = np.empty(tuple(shape), object)
    for index in np.ndindex(out.shape):
        out[index] = f(index)
    return out


# ---- reductions ----------------------------------------------------------------------------------------------------
def reduced(f: Callable[[list[Any]], Any], axis: Any = None, keepdims: bool = False) -> Reference:
    """f of the list of elements along `axis`."""

    def reference(x: Array) -> Array:
        axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
        groups: dict[Index, list[Any]] = {}
        for index in np.ndindex(tuple([1 if k in axes else s for k, s in enumerate(x.shape)])):
            groups[index] = []
        for index in np.ndindex(x.shape):
            groups[tuple([0 if k in axes else i for k, i in enumerate(index)])].append(x[index])
        whole = array([1 if k in axes else s for k, s in enumerate(x.shape)], lambda i: f(groups[i]))
        if keepdims:
            return whole
        kept = [k for k in range(x.ndim) if k not in axes]
        return array([x.shape[k] for k in kept],
                     lambda i: whole[tuple([i[kept.index(k)] if k in kept else 0 for k in range(x.ndim)])])

    return reference


def total(values: list[Any]) -> Any:
    return sum(values[1:], values[0]) if values else MP.mpf(0)


def mean(values: list[Any]) -> Any:
    return sum(values, MP.mpf(0)) / len(values)


def product_of(values: list[Any]) -> Any:
    result: Any = MP.mpf(1)
    for k, v in enumerate(values):
        result = result * v if k else v
    return result


def first(better: Callable[[Any, Any], bool]) -> Callable[[list[Any]], int]:
    def position(values: list[Any]) -> int:
        best = 0
        for k, v in enumerate(values):
            best = k if better(v, values[best]) else best
        return best

    return position


def reductions(f: Callable[[list[Any]], Any], *extra: Case, sample: Callable[..., Array] = apart,
               several: bool = True) -> tuple[Case, ...]:
    """All axes, one, a negative one, several, axes kept, a vector, and one element."""
    asked: list[tuple[Index, dict[str, Any]]] = [
        ((2, 3), {}), ((2, 3), {"axis": 0}), ((2, 3), {"axis": -1, "keepdims": True}), ((4,), {"axis": 0}),
        ((1, 3), {"axis": 0}), ((2, 1, 3), {"axis": 1}), ((2, 3), {"keepdims": True}),
    ]
    if several:
        asked += [((2, 2, 3), {"axis": (0, 2)}), ((2, 2, 3), {"axis": (-1, 0), "keepdims": True}), ((), {}),
                  ((2, 3), {"axis": ()})]
    return (*[Case((sample(*s, seed=3),), reduced(f, **a), a) for s, a in asked], *extra)


EMPTY = np.zeros((0, 2))
COUNTS = np.array([[3, 1, 4], [1, 5, 9]])

# ---- movement ------------------------------------------------------------------------------------------------------
def reshaped(shape: Index) -> Reference:
    return lambda x: array(shape, lambda i: x.ravel()[int(np.ravel_multi_index(i, shape)) if shape else 0])


def permuted(axes: Index) -> Reference:
    return lambda x: array([x.shape[a] for a in axes], lambda i: x[tuple([i[axes.index(k)] for k in range(x.ndim)])])


def repeated(shape: Index) -> Reference:
    return lambda x: array(shape, lambda i: x[tuple(
        [0 if x.shape[k] == 1 else i[k + len(shape) - x.ndim] for k in range(x.ndim)])])


def strided(start: Index, step: Index, count: Index) -> Reference:
    return lambda x: array(count, lambda i: x[tuple([s + d * k for s, d, k in zip(start, step, i, strict=True)])])


def placed(shape: Index, start: Index, step: Index) -> Reference:
    def reference(x: Array) -> Array:
        out = array(shape, lambda i: MP.mpf(0))
        for index in np.ndindex(x.shape):
            out[tuple([s + d * k for s, d, k in zip(start, step, index, strict=True)])] = x[index]
        return out

    return reference


def joined(axis: int, *, is_new: bool = False) -> Reference:
    """The operands one after the other along an axis, or along a new one."""

    def reference(*xs: Array) -> Array:
        k = axis % (xs[0].ndim + is_new)
        pieces = [array((*x.shape[:k], 1, *x.shape[k:]), lambda i,
                        x=x: x[i[:k] + i[k + 1:]]) for x in xs] if is_new else xs
        owner = [(p, j) for p, piece in enumerate(pieces) for j in range(piece.shape[k])]
        shape = (*pieces[0].shape[:k], len(owner), *pieces[0].shape[k + 1:])
        return array(shape, lambda i: pieces[owner[i[k]][0]][(*i[:k], owner[i[k]][1], *i[k + 1:])])

    return reference


def gathered(axis: int) -> Reference:
    """y[a, i, b] = x[a, index[i], b]"""

    def reference(x: Array, index: Array) -> Array:
        k, r = axis % x.ndim, index.ndim
        return array((*x.shape[:k], *index.shape, *x.shape[k + 1:]),
                     lambda i: x[(*i[:k], index[i[k:k + r]], *i[k + r:])])

    return reference


def scattered(axis: int, size: int) -> Reference:
    """y[a, index[i], b] += x[a, i, b]"""

    def reference(x: Array, index: Array) -> Array:
        r = index.ndim
        k = axis % (x.ndim - r + 1)
        out = array((*x.shape[:k], size, *x.shape[k + r:]), lambda i: MP.mpf(0))
        for i in np.ndindex(x.shape):
            at = (*i[:k], index[i[k:k + r]] % size, *i[k + r:])
            out[at] = out[at] + x[i]
        return out

    return reference


def diagonal(offset: int) -> Reference:
    def reference(x: Array) -> Array:
        if x.ndim == 2:
            at = [(i, i + offset) for i in range(x.shape[0]) if 0 <= i + offset < x.shape[1]]
            return array((len(at),), lambda i: x[at[i[0]]])
        n = len(x) + abs(offset)
        return array((n, n), lambda i: x[min(i)] if i[1] - i[0] == offset else MP.mpf(0))

    return reference


# ---- products ------------------------------------------------------------------------------------------------------
def einsum(subscripts: str) -> Reference:
    """The sum over all values of all indices, one by one; axes of length 1 broadcast."""
    left, _, out = subscripts.partition("->")
    terms = left.split(",")

    def reference(*xs: Array) -> Array:
        lengths: dict[str, int] = {}
        for term, x in zip(terms, xs, strict=True):
            for c, n in zip(term, x.shape, strict=True):
                lengths[c] = max(n, lengths.get(c, 1)) if n != 0 else 0
        shape = [lengths[c] for c in out]
        result = array(shape, lambda i: MP.mpf(0))
        for values in product(*[range(n) for n in lengths.values()]):
            at = dict(zip(lengths, values, strict=True))
            part = product_of([x[tuple([at[c] if n != 1 else 0 for c, n in zip(term, x.shape, strict=True)])]
                               for term, x in zip(terms, xs, strict=True)])
            index = tuple([at[c] for c in out])
            result[index] = result[index] + part
        return result

    return reference


def pairs(of: Iterable[tuple[Index, Index, str]]) -> tuple[Case, ...]:
    """Two-operand products, each stated as an einsum."""
    return tuple([Case((real(*a, seed=1), real(*b, seed=2)), einsum(text)) for a, b, text in of])


def sums(name: str, of: Iterable[tuple[str, Sequence[Index], str]]) -> tuple[Case, ...]:
    """(subscripts as given, shapes, the same without ellipses and with its result)."""
    return tuple([Case(tuple([real(*s, seed=k) for k, s in enumerate(shapes)]), einsum(plain), {"subscripts": given})
                  for given, shapes, plain in of])


MATMUL = [
    ((3,), (3,), "a,a->"), ((2, 3), (3,), "ab,b->a"), ((3,), (3, 2), "b,bc->c"), ((2, 3), (3, 4), "ab,bc->ac"),
    ((2, 2, 3), (2, 3, 1), "nab,nbc->nac"), ((2, 1, 3), (3, 2), "nab,bc->nac"), ((2, 3), (2, 3, 2), "ab,nbc->nac"),
    ((1, 2, 3), (2, 3, 2), "nab,nbc->nac"), ((2, 1, 1, 3), (2, 3, 1), "mnab,nbc->mnac"),
    ((3,), (2, 3, 2), "b,nbc->nc"), ((2, 2, 3), (3,), "nab,b->na"), ((2, 0), (0, 3), "ab,bc->ac"),
    ((1, 1), (1, 1), "ab,bc->ac"),
]
DOT = [
    ((), (2, 3), ",ab->ab"), ((3,), (3,), "a,a->"), ((2, 3), (3,), "ab,b->a"), ((2, 3), (3, 2), "ab,bc->ac"),
    ((3,), (2, 3, 2), "b,nbc->nc"), ((2, 1, 3), (2, 3, 2), "xyb,nbc->xync"), ((), (), ",->"),
]
EINSUM = [
    ("ij,jk->ik", [(2, 3), (3, 4)], "ij,jk->ik"), ("ij,jk", [(2, 3), (3, 2)], "ij,jk->ik"),
    ("ba", [(2, 3)], "ba->ab"), ("ii", [(3, 3)], "ii->"), ("ii->i", [(3, 3)], "ii->i"),
    ("iij->j", [(2, 2, 3)], "iij->j"), ("iii->i", [(2, 2, 2)], "iii->i"), ("ij->", [(2, 3)], "ij->"),
    ("i,j->ij", [(2,), (3,)], "i,j->ij"), ("i,i->i", [(3,), (3,)], "i,i->i"),
    ("...ij,...jk->...ik", [(2, 1, 3), (2, 3, 2)], "nij,njk->nik"), ("...i,i->...", [(2, 2, 3), (3,)], "abi,i->ab"),
    ("...,...", [(2, 3), (3,)], "ab,b->ab"), ("i...->...", [(2, 3)], "ia->a"),
    ("...ij,...jk->...ik", [(2, 1, 3), (1, 3, 2)], "nij,njk->nik"),
    ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 2)], "ij,jk,kl->il"), ("i,i,i->", [(3,), (3,), (3,)], "i,i,i->"),
    ("i,ij,j->", [(2,), (2, 3), (3,)], "i,ij,j->"), ("ij,kj->", [(2, 3), (2, 3)], "ij,kj->"),
    ("i,i->i", [(1,), (3,)], "i,i->i"), ("ij,j->i", [(2, 1), (3,)], "ij,j->i"), (",i->i", [(), (3,)], ",i->i"),
    ("iij,jk->ik", [(2, 2, 3), (3, 2)], "iij,jk->ik"),
]
CONTRACT = [
    ("ab,bc->ac", [(2, 3), (3, 4)], "ab,bc->ac"), ("ab,bc->ca", [(2, 3), (3, 2)], "ab,bc->ca"),
    ("ab,ab->", [(2, 3), (2, 3)], "ab,ab->"), ("abn,bcn->acn", [(2, 3, 2), (3, 1, 2)], "abn,bcn->acn"),
    ("a,b->ab", [(2,), (3,)], "a,b->ab"), ("ab,ab->ab", [(2, 3), (2, 3)], "ab,ab->ab"),
    ("abc,cb->a", [(2, 2, 3), (3, 2)], "abc,cb->a"), ("xy,y->", [(2, 3), (3,)], "xy,y->"),
    ("a,->a", [(3,), ()], "a,->a"), ("ab,bc->ac", [(2, 0), (0, 3)], "ab,bc->ac"),
    ("nab,nb->na", [(2, 2, 3), (2, 3)], "nab,nb->na"), ("ba,cb->ac", [(3, 2), (4, 3)], "ba,cb->ac"),
]
TAKE_AT = [
    ((4, 2), [2, 0, 2], 0), ((2, 4), [[1, 3, 0], [3, 3, -1]], 1), ((3,), [1, -3, 0], 0), ((3,), 2, 0),
    ((2, 3, 2), [2, 0, 0, -1], -2), ((2, 3), [], 1), ((2, 3, 2), [[1], [0]], 1),
]
SCATTER_AT = [
    ((3, 2), [2, 0, 2], 0, 4), ((2, 2, 3), [[1, 3, 0], [3, 3, -1]], 1, 4), ((3,), [0, 0, 0], 0, 1), ((), 1, 0, 3),
    ((2, 4, 2), [2, 0, 0, -1], 1, 3), ((2, 0), [], 1, 3), ((2, 1, 2), [[1], [0]], 0, 2),
]


def _indexed(at: Sequence[tuple[Any, ...]], reference: Callable[..., Reference], names: Sequence[str]) -> tuple[Case,
                                                                                                                ...]:
    cases = []
    for k, (shape, index, *rest) in enumerate(at):
        operands = (real(*shape, seed=k), np.array(index, np.int64))
        cases.append(Case(operands, reference(*rest), dict(zip(names, rest, strict=True)),
                          constant=(1,) if k == 1 else ()))
    return tuple(cases)


ARRAYS: dict[str, tuple[Case, ...]] = {
    "convert": (
        Case((real(2, 3),), lambda x: x, {"dtype": "float32"}), Case((real(3),), lambda x: x, {"dtype": "float64"}),
        Case((np.array([3, -1]),), lambda x: array(x.shape, lambda i: MP.mpf(x[i])), {"dtype": "float64"},
             dtypes=("float64",)),
        Case((np.array([2.75, -1.5]),), lambda x: array(x.shape, lambda i: int(x[i])), {"dtype": "int64"}),
        Case((np.array([0.0, -1.5]),), lambda x: array(x.shape, lambda i: bool(x[i])), {"dtype": "bool"}),
    ),
    "sum": reductions(total, Case((EMPTY,), reduced(total, 0), {"axis": 0}),
                      Case((COUNTS,), reduced(total, 1), {"axis": 1}),
                      Case((COUNTS > 2,), reduced(lambda v: sum(map(int, v))))),
    "mean": reductions(mean, Case((COUNTS,), reduced(mean, 1), {"axis": 1}, dtypes=("float64",))),
    "prod": reductions(product_of, Case((EMPTY,), reduced(product_of, 0), {"axis": 0}),
                       Case((apart(7),), reduced(product_of)), Case((COUNTS,), reduced(product_of, 0), {"axis": 0}),
                       Case((EMPTY,), reduced(product_of, 1), {"axis": 1})),
    "max": reductions(max, Case((COUNTS,), reduced(max, 1), {"axis": 1})),
    "min": reductions(min, Case((COUNTS,), reduced(min, 1), {"axis": 1})),
    "argmax": reductions(first(lambda a, b: a > b), Case((COUNTS,), reduced(first(lambda a, b: a > b), 0), {"axis": 0}),
                         several=False),
    "argmin": reductions(first(lambda a, b: a < b), Case((COUNTS,), reduced(first(lambda a, b: a < b), 0), {"axis": 0}),
                         several=False),
    "reshape": (
        Case((real(2, 3),), reshaped((3, 2)), {"shape": (3, 2)}), Case((real(2, 3),), reshaped((6,)), {"shape": -1}),
        Case((real(2, 3),), reshaped((1, 3, 2)), {"shape": (1, -1, 2)}),
        Case((real(1, 1),), reshaped(()), {"shape": ()}),
        Case((real(0, 3),), reshaped((3, 0)), {"shape": (3, 0)}), Case((COUNTS,), reshaped((3, 2)), {"shape": (3, 2)}),
    ),
    "permute_dims": (
        Case((real(2, 3, 2),), permuted((2, 0, 1)), {"axes": (2, 0, 1)}), Case((real(2, 3),), permuted((1, 0))),
        Case((real(2, 1, 3),), permuted((1, 2, 0)), {"axes": (1, -1, 0)}), Case((real(),), permuted(()), {"axes": ()}),
    ),
    "transpose": (Case((real(2, 3),), permuted((1, 0))), Case((real(2, 1, 3),), permuted((2, 1, 0))),
                  Case((real(3),), permuted((0,)))),
    "broadcast_to": (
        Case((real(3),), repeated((2, 3)), {"shape": (2, 3)}),
        Case((real(2, 1),), repeated((3, 2, 2)), {"shape": (3, 2, 2)}),
        Case((real(),), repeated((2, 2)), {"shape": (2, 2)}),
        Case((real(1, 3, 1),), repeated((2, 3, 2)), {"shape": (2, 3, 2)}),
        Case((real(1),), repeated((0,)), {"shape": (0,)}),
        Case((COUNTS > 2,), repeated((2, 2, 3)), {"shape": (2, 2, 3)}),
    ),
    "expand_dims": (
        Case((real(2, 3),), reshaped((2, 1, 3)), {"axis": 1}),
        Case((real(2, 3),), reshaped((1, 2, 3, 1)), {"axis": (0, -1)}),
        Case((real(),), reshaped((1,)), {"axis": 0}),
    ),
    "squeeze": (
        Case((real(1, 3, 1),), reshaped((3,))), Case((real(1, 3, 1),), reshaped((3, 1)), {"axis": 0}),
        Case((real(1, 3, 1),), reshaped((3,)), {"axis": (0, -1)}), Case((real(2),), reshaped((2,))),
    ),
    "slice": (
        Case((real(4, 3),), strided((1, 0), (2, 1), (2, 3)), {"start": (1, 0), "step": (2, 1), "count": (2, 3)}),
        Case((real(5),), strided((4,), (-2,), (3,)), {"start": (4,), "step": (-2,), "count": (3,)}),
        Case((real(2, 3),), strided((1, 2), (1, 1), (1, 1)), {"start": (1, 2), "count": (1, 1)}),
        Case((real(3),), strided((0,), (1,), (0,)), {"start": (3,), "count": (0,)}),
        Case((real(3),), strided((2,), (-1,), (3,)), {"start": (2,), "step": (-1,), "count": (3,)}),
        Case((real(),), strided((), (), ()), {"start": (), "count": ()}),
    ),
    "unslice": (
        Case((real(2, 3),), placed((5, 3), (1, 0), (2, 1)), {"shape": (5, 3), "start": (1, 0), "step": (2, 1)}),
        Case((real(3),), placed((6,), (5,), (-2,)), {"shape": (6,), "start": (5,), "step": (-2,)}),
        Case((real(0),), placed((2,), (0,), (1,)), {"shape": (2,), "start": (0,)}),
    ),
    "flip": (
        Case((real(2, 3),), strided((1, 2), (-1, -1), (2, 3))),
        Case((real(2, 3),), strided((0, 2), (1, -1), (2, 3)), {"axis": 1}),
        Case((real(2, 1, 3),), strided((1, 0, 2), (-1, 1, -1), (2, 1, 3)), {"axis": (0, -1)}),
        Case((real(0),), lambda x: x),
    ),
    "diag": (
        *[Case((real(3, 4),), diagonal(k), {"offset": k}) for k in (0, 1, 3, 4, -1, -2, -5)],
        Case((real(4, 2),), diagonal(0)),
        *[Case((real(3),), diagonal(k), {"offset": k}) for k in (0, 2, -1)],
        Case((real(0),), diagonal(1), {"offset": 1}),
    ),
    "concat": (
        Case((real(2, 3), real(1, 3, seed=1)), joined(0), {"axis": 0}), Case((real(2), real(0), real(3)), joined(0)),
        Case((real(2, 1), real(2, 3, seed=1), real(2, 2, seed=2)), joined(-1), {"axis": -1}),
        Case((real(3),), joined(0)),
        Case((COUNTS, COUNTS), joined(1), {"axis": 1}),
    ),
    "stack": (
        Case((real(2), real(2, seed=1)), joined(0, is_new=True)),
        Case((real(2), real(2, seed=1)), joined(-1, is_new=True), {"axis": -1}),
        Case((real(), real(seed=1), real(seed=2)), joined(0, is_new=True)),
        Case((real(2, 3), real(2, 3, seed=1)), joined(1, is_new=True), {"axis": 1}),
    ),
    "take": _indexed(TAKE_AT, gathered, ("axis",)),
    "scatter_add": _indexed(SCATTER_AT, scattered, ("axis", "size")),
    "contract": sums("contract", CONTRACT),
    "einsum": sums("einsum", EINSUM),
    "matmul": pairs(MATMUL),
    "dot": pairs(DOT),
    "outer": (*pairs([((2,), (3,), "a,b->ab"), ((), (3,), ",b->b")][:1]),
              Case((real(2, 2), real(3)), lambda a, b: array((4, 3), lambda i: a.ravel()[i[0]] * b[i[1]])),
              Case((real(), real(3)), lambda a, b: array((1, 3), lambda i: a.item() * b[i[1]]))),
}

CASES: dict[str, tuple[Case, ...]] = {
    **ELEMENTWISE, **ARRAYS, **LINALG, **LOOPS, **TRANSCENDENTAL, **ROUNDING, **SPECIAL, **ORDERING, **SPECTRAL,
    **FACTORIZATIONS, **WINDOWS, **BITWISE,
}
