"""Cases of orthogonal factors, pseudo-inverses, exponentials and determinants of matrices: see `op_cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from op_cases import Case, real
from op_cases_linalg import POSITIVE, REGULAR, solved, stacked, symmetric
from op_cases_spectral import TALL, TWO, _signed
from oracles import MP, Array, rounded


def orthogonal(a: Array, is_complement: bool = False) -> Array:
    m, n = a.shape
    q, _ = MP.qr(MP.matrix(a[:, :m].tolist()), mode="full")
    whole = np.array([[q[i, j] for j in range(m)] for i in range(m)], object)
    found, like = ((whole[:, n:], np.linalg.qr(rounded(a), mode="complete")[0][:, n:]) if is_complement
                   else (whole[:, :n], np.linalg.qr(rounded(a[:, :m]))[0]))
    return _signed(found, like)


def complement_by_svd(a: Array) -> Array:
    return _signed(orthogonal(a, True), np.linalg.svd(rounded(a))[0][:, a.shape[1]:])


def inverse(a: Array) -> Array:
    """(A'A)^-1 A' or A' (A A')^-1."""
    return solved(a.T @ a, a.T) if len(a) >= len(a.T) else solved(a @ a.T, a).T


def exponential(a: Array) -> Array:
    """By the Taylor series of A / 2^20, squared 20 times: 60 digits leave more than 40."""
    n, x = len(a), a / MP.mpf(2) ** 20
    eye = np.array([[MP.mpf(int(i == j)) for j in range(n)] for i in range(n)], object)
    total, term = eye, eye
    for k in range(1, 12):
        term = term @ x / k
        total = total + term
    for _ in range(20):
        total = total @ total
    return total


def exponential_tangent(a: Array, e: Array) -> Array:
    n = len(a)
    whole = np.concatenate([np.concatenate([a, e], 1), np.concatenate([a * 0, a], 1)])
    return exponential(whole)[:n, n:]


def minor(a: Array) -> Any:
    """The determinant by expansion along the first row."""
    if not len(a):
        return MP.mpf(1)
    return sum([(-1) ** j * a[0, j] * minor(np.delete(a[1:], j, 1)) for j in range(len(a))], MP.mpf(0))


def cofactors(a: Array) -> Array:
    n = len(a)
    return np.array([[(-1) ** (i + j) * minor(np.delete(np.delete(a, i, 0), j, 1)) for j in range(n)]
                     for i in range(n)], object)


def cofactors_tangent(a: Array, e: Array) -> Array:
    """Of 3 x 3 matrices, whose cofactors are quadratic forms: the bilinear form that belongs to them."""
    return cofactors(a + e) - cofactors(a) - cofactors(e)


FACTORIZATIONS: dict[str, tuple[Case, ...]] = {
    "qr_factor": (Case((TALL,), orthogonal), Case((REGULAR,), orthogonal), Case((TALL.T,), orthogonal),
                  Case((np.array([TALL, 2.0 * TALL[::-1]]),), stacked(orthogonal))),
    "complement": (Case((TALL,), lambda a: orthogonal(a, True)), Case((TALL,), complement_by_svd, {"by": "svd"}),
                   Case((np.array([TALL, TALL[::-1]]),), stacked(lambda a: orthogonal(a, True)))),
    "pinv": (Case((TALL,), inverse), Case((TALL.T,), inverse, {"rtol": 1e-10}), Case((REGULAR,), inverse),
             Case((TWO,), lambda a: inverse(symmetric(a)), {"is_hermitian": True}),
             Case((np.array([TALL, 1.5 * TALL[::-1]]),), stacked(inverse))),
    "expm": (Case((TWO,), exponential), Case((0.5 * REGULAR,), exponential), Case((POSITIVE,), exponential),
             Case((np.array([TWO, -TWO.T @ TWO]),), stacked(exponential))),
    "expm_tangent": (Case((TWO, real(2, 2)), exponential_tangent),
                     Case((np.array([TWO, -TWO]), real(2, 2, 2)), stacked(exponential_tangent))),
    "cofactor": (Case((REGULAR,), cofactors), Case((POSITIVE,), cofactors),
                 Case((np.array([REGULAR, REGULAR @ REGULAR]),), stacked(cofactors))),
    "cofactor_tangent": (Case((REGULAR, real(3, 3)), cofactors_tangent),
                         Case((np.array([REGULAR, REGULAR.T]), real(2, 3, 3)), stacked(cofactors_tangent))),
}
