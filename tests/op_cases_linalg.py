"""Cases of linear algebra and of cumulative ops. Matrices are solved by elimination in exact-enough arithmetic.

The samples are chosen so that they stay definite, or regular, where the batch tests move their elements around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_cases import Case, apart, binary, real
from oracles import MP, Array, Reference


# ---- matrices ------------------------------------------------------------------------------------------------------
def stacked(f: Callable[..., Any]) -> Reference:
    """f of the matrices on the last two axes, over leading axes broadcast together."""

    def reference(*operands: Array) -> Array:
        lead = np.broadcast_shapes(*[a.shape[:-2] for a in operands])
        spread = [np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in operands]
        parts = [np.asarray(f(*[a[at] for a in spread]), object) for at in np.ndindex(lead)]
        out = np.empty((*lead, *parts[0].shape), object)
        for at, part in zip(np.ndindex(lead), parts, strict=True):
            out[at] = part
        return out

    return reference


def eliminated(a: Array, b: Array) -> tuple[Array, Any]:
    """(a^-1 b, det a) by Gauss-Jordan elimination with pivots."""
    n = len(a)
    work, determinant = np.concatenate([a, b], 1), MP.mpf(1)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(work[i, k]))
        if pivot != k:
            work[[k, pivot]] = work[[pivot, k]]
            determinant = -determinant
        determinant = determinant * work[k, k]
        work[k] = work[k] / work[k, k]
        for i in range(n):
            if i != k:
                work[i] = work[i] - work[i, k] * work[k]
    return work[:, n:], determinant


def identity(n: int) -> Array:
    return np.array([[MP.mpf(int(i == j)) for j in range(n)] for i in range(n)], object).reshape(n, n)


def solved(a: Array, b: Array) -> Array:
    return eliminated(a, b)[0]


def determinant(a: Array) -> Any:
    return eliminated(a, identity(len(a)))[1]


def expanded(a: Array) -> Any:
    """The determinant of a 3 x 3 matrix, which may be singular."""
    return np.asarray(a[0] @ np.array([a[1, 1] * a[2, 2] - a[1, 2] * a[2, 1], a[1, 2] * a[2, 0] - a[1, 0] * a[2, 2],
                                       a[1, 0] * a[2, 1] - a[1, 1] * a[2, 0]], object), object)


def symmetric(a: Array) -> Array:
    return (a + a.T) / 2


def factor(a: Array) -> Array:
    """Cholesky-Banachiewicz: L_ij = (A_ij - sum_k L_ik L_jk) / L_jj."""
    n, a = len(a), symmetric(a)
    out = identity(n) * 0
    for i in range(n):
        for j in range(i + 1):
            rest = a[i, j] - sum([out[i, k] * out[j, k] for k in range(j)], MP.mpf(0))
            out[i, j] = MP.sqrt(rest) if i == j else rest / out[j, j]
    return out


def triangular(lower: bool, transposed: bool) -> Reference:
    def solve(a: Array, b: Array) -> Array:
        n = len(a)
        part = np.array([[a[i, j] if (i >= j if lower else i <= j) else MP.mpf(0) for j in range(n)] for i in range(n)],
                        object)
        return solved(part.T if transposed else part, b)

    return stacked(solve)


def vector(f: Reference) -> Reference:
    """f with one vector on the right."""
    return lambda *operands: f(*operands[:-1], operands[-1][:, None])[..., 0]


DEFINITE = np.array([[1.0, 2.0], [2.0, 5.0]])
DEFINITES = np.array([DEFINITE, [[1.5625, 2.1875], [2.1875, 5.3125]]])
FACTORS = np.array([[[1.0, 0.0], [2.0, 1.0]], [[1.25, 0.0], [1.75, 1.5]]])  # theirs, exactly
REGULAR = np.array([[2.0, -0.5, 1.0], [0.75, 3.0, -1.25], [0.5, 1.5, 2.5]])
POSITIVE = np.array([[4.0]])
SINGULAR = (np.diag([1.5, 0.0, 2.0]), np.diag([0.0, 0.0, 2.0]), np.zeros((3, 3)))  # of rank two, one, none
BOTH = [(lower, transposed) for lower in (True, False) for transposed in (False, True)]


def of_factor(f: Callable[..., Any], *more: Array) -> tuple[Case, ...]:
    """Functions of a matrix that are computed from its factor, which is a constant beside it."""
    return (Case((DEFINITE, FACTORS[0], *[m[0] for m in more]), stacked(f), constant=(1,)),
            Case((DEFINITES, FACTORS, *more), stacked(f), constant=(1,)),
            Case((POSITIVE, np.array([[2.0]]), *[m[0, :1] for m in more]), stacked(f), constant=(1,)))


def of_matrix(f: Callable[..., Any], **kind: Any) -> tuple[Case, ...]:
    return (Case((REGULAR,), stacked(f), **kind), Case((POSITIVE,), stacked(f), **kind),
            Case((np.array([REGULAR, 1.5 * REGULAR.T]),), stacked(f), **kind))


MATRICES: dict[str, tuple[Case, ...]] = {
    "cholesky": (Case((DEFINITE,), stacked(factor)), Case((DEFINITES,), stacked(factor)),
                 Case((POSITIVE,), stacked(factor))),
    "solve": (
        Case((REGULAR, real(3, 2)), stacked(solved)), Case((REGULAR, real(3)), vector(stacked(solved))),
        Case((REGULAR, real(2, 3, 1)), stacked(solved)), Case((REGULAR, real(3, 1)), stacked(solved), constant=(0,)),
        Case((np.array([REGULAR, REGULAR.T]), real(3, 1)), stacked(solved)),
    ),
    "triangular_solve": (
        *[Case((apart(2, 2), real(2, 3)), triangular(*f), dict(zip(("lower", "transposed"), f, strict=True)))
          for f in BOTH],
        Case((REGULAR, real(3)), vector(triangular(True, False)), {"lower": True}),
        Case((apart(2, 2, 2), real(2, 1)), triangular(False, True), {"lower": False, "transposed": True}),
    ),
    "cholesky_solve": (*of_factor(lambda a, _, b: solved(symmetric(a), b), real(2, 2, 3)),
                       Case((DEFINITE, FACTORS[0], real(2)),
                            vector(stacked(lambda a, _, b: solved(symmetric(a), b))), constant=(1,))),
    "inv": of_matrix(lambda a: solved(a, identity(len(a)))),
    "cholesky_inv": of_factor(lambda a, _: solved(symmetric(a), identity(len(a)))),
    "logabsdet": of_matrix(lambda a: MP.log(abs(determinant(a)))),
    "cholesky_logdet": of_factor(lambda a, _: MP.log(determinant(symmetric(a)))),
    "signdet": of_matrix(lambda a: MP.mpf(MP.sign(determinant(a))), is_cut=True),
    "det": (*of_matrix(determinant), *[Case((m,), expanded) for m in SINGULAR]),
    "logdet": of_matrix(lambda a: MP.log(determinant(a))),
}


# ---- cumulative ops ------------------------------------------------------------------------------------------------
def along(axis: int, f: Callable[[list[Any]], list[Any]]) -> Reference:
    """f of the list of elements along an axis, which gives as many."""

    def reference(x: Array) -> Array:
        moved = np.moveaxis(x, axis, -1)
        out = np.empty(moved.shape, object)
        for at in np.ndindex(moved.shape[:-1]):
            out[at] = f(list(moved[at]))
        return np.moveaxis(out, -1, axis)

    return reference


def running(step: Callable[[Any, Any], Any], reverse: bool = False) -> Callable[[list[Any]], list[Any]]:
    def over(values: list[Any]) -> list[Any]:
        out: list[Any] = []
        for v in reversed(values) if reverse else values:
            out.append(step(out[-1], v) if out else v)
        return out[::-1] if reverse else out

    return over


def cumulative(step: Callable[[Any, Any], Any], *extra: Case) -> tuple[Case, ...]:
    asked: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((3,), {}), ((2, 3), {"axis": 1}), ((5, 2), {"axis": 0}), ((2, 4), {"axis": -1}), ((1, 2), {"axis": 0}),
        ((0, 2), {"axis": 0}),
    ]
    return (*[Case((apart(*s, seed=4),), along(a.get("axis", 0), running(step)), a) for s, a in asked], *extra)


def softmaxed(values: list[Any]) -> list[Any]:
    total = sum([MP.exp(v) for v in values], MP.mpf(0))
    return [MP.exp(v) / total for v in values]


def log_of_sum(a: Any, b: Any) -> Any:
    return MP.log(MP.exp(a) + MP.exp(b))


def summed_exp(axes: tuple[int, ...], keepdims: bool) -> Reference:
    def reference(x: Array) -> Array:
        kept = [k for k in range(x.ndim) if k not in axes]
        out = np.empty([1 if k in axes else s for k, s in enumerate(x.shape)], object)
        for at in np.ndindex(out.shape):
            group = x[tuple([slice(None) if k in axes else i for k, i in enumerate(at)])]
            out[at] = MP.log(sum([MP.exp(v) for v in np.asarray(group, object).ravel()], MP.mpf(0)))
        return out if keepdims else out.reshape([x.shape[k] for k in kept])

    return reference


INTEGERS = np.array([[3, -1, 2], [0, 5, -7]])
CUMULATIVE: dict[str, tuple[Case, ...]] = {
    "cumulative_sum": cumulative(
        lambda a, b: a + b,
        Case((real(2, 4),), along(1, running(lambda a, b: a + b, True)), {"axis": 1, "reverse": True}),
        Case((INTEGERS,), along(1, running(lambda a, b: a + b)), {"axis": 1}),
    ),
    "cumulative_prod": cumulative(
        lambda a, b: a * b,
        Case((np.array([1.5, 0.0, -2.0, 0.0, 0.5]),), along(0, running(lambda a, b: a * b))),
        Case((INTEGERS,), along(1, running(lambda a, b: a * b)), {"axis": 1}),
    ),
    "logcumsumexp": cumulative(log_of_sum),
    "logaddexp": binary(log_of_sum),
    "logsumexp": (
        Case((real(2, 3),), summed_exp((0, 1), False)), Case((real(2, 3),), summed_exp((1,), False), {"axis": 1}),
        Case((real(2, 3),), summed_exp((0,), True), {"axis": -2, "keepdims": True}),
        Case((real(2, 2, 2),), summed_exp((0, 2), False), {"axis": (0, 2)}),
    ),
    "softmax": (Case((real(4),), along(0, softmaxed)), Case((real(2, 3),), along(0, softmaxed), {"axis": 0})),
    "log_softmax": tuple([
        Case((real(*s),), along(a, lambda values: [MP.log(v) for v in softmaxed(values)]), {"axis": a})
        for s, a in (((4,), 0), ((2, 3), -1))
    ]),
}

LINALG: dict[str, tuple[Case, ...]] = {**MATRICES, **CUMULATIVE}
