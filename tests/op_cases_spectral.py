"""Cases of eigenvalues and singular values: see `op_cases`. Decompositions are mpmath's; their signs are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_cases import Case, real
from op_cases_linalg import stacked, symmetric
from oracles import MP, Array, rounded

ONE = np.array([[2.0, 0.5, -0.25], [0.5, -1.0, 0.75], [-0.25, 0.75, 4.5]])
TWO = np.array([[1.0, -0.75], [-0.75, 3.0]])
SPECTRUM = np.array([-1.25, 0.5, 1.75, 4.0])
SPECTRA = np.array([[-1.25, 0.5, 1.75], [-2.5, 3.0, 5.0]])


def _signed(columns: Array, like: Array) -> Array:
    """The columns, each with the sign that makes it closest to NumPy's."""
    signs = np.sign(np.sum(rounded(columns) * like, axis=0))
    return columns * np.array([int(s) for s in signs], object)


def eigen(a: Array) -> tuple[Array, Array]:
    """(w, V) of the symmetric part, ascending."""
    part = symmetric(a)
    values, vectors = MP.eigsy(MP.matrix(part.tolist()))
    order = sorted(range(len(part)), key=lambda k: values[k])
    v = np.array([[vectors[i, k] for k in order] for i in range(len(part))], object)
    return np.array([values[k] for k in order], object), _signed(v, np.linalg.eigh(rounded(part))[1])


def singular(a: Array) -> tuple[Array, Array, Array]:
    """(U, s, V), descending."""
    m, n = a.shape
    k = min(m, n)
    left, values, right = MP.svd_r(MP.matrix(a.tolist()), full_matrices=False)
    order = sorted(range(k), key=lambda j: -values[j])
    u = np.array([[left[i, j] for j in order] for i in range(m)], object)
    v = np.array([[right[j, i] for j in order] for i in range(n)], object)
    like = np.linalg.svd(rounded(a), full_matrices=False)[0]
    signed = _signed(u, like)
    flips = np.array([int(s) for s in np.sign(np.sum(rounded(u) * like, axis=0))], object)
    return signed, np.array([values[j] for j in order], object), v * flips


def packed(x: Array) -> Array:
    w, v = np.linalg.eigh(x)
    return np.concatenate([w[..., None, :], v], -2)


def packed_parts(x: Array) -> Array:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([u, s[..., None, :], vh.swapaxes(-1, -2)], -2)


def of_spectrum(f: Callable[..., Any], *more: Array) -> tuple[Case, ...]:
    """Functions of a symmetric matrix that are read off its decomposition, which is a constant beside it."""
    both = np.array([TWO, 2.0 * TWO + np.diag([0.5, -4.0])])
    return (Case((ONE, packed(ONE), *more), stacked(f), constant=(1,)),
            Case((both, packed(both), *[np.array([m[..., :2], m[..., 1:]]) if m.ndim == 1
                                        else np.array([m[:2, :2], m[1:, 1:]]) for m in more]), _each(f), constant=(1,)))


def _each(f: Callable[..., Any]) -> Callable[..., Array]:
    """f of each of the operands along their first axis."""
    return lambda *operands: np.array([np.asarray(f(*parts), object).tolist()
                                       for parts in zip(*operands, strict=True)], object)


def of_parts(f: Callable[..., Any], third: Callable[[int, int], tuple[Array, ...]]) -> tuple[Case, ...]:
    """Functions of a matrix, square, tall or wide, that are read off its singular value decomposition."""
    found = []
    for m, n in ((2, 2), (3, 2), (2, 3)):
        x = real(m, n, seed=3) + 2.0 * np.eye(m, n)
        found.append(Case((x, packed_parts(x), *third(m, n)), f, constant=(1,)))
    stack = np.array([found[1].operands[0], 1.5 * found[1].operands[0][::-1]])
    return (*found, Case((stack, packed_parts(stack), *[np.array([t, 0.5 * t]) for t in third(3, 2)]), _each(f),
                         constant=(1,)))


def nothing(m: int, n: int) -> tuple[Array, ...]:
    return ()


def quotients(is_paired: bool) -> Callable[..., Array]:
    def table(w: Array, c: Array, e: Array) -> Array:
        n = len(w)
        return np.array([[MP.mpf(0) if i == j or (is_paired and abs(i - j) == n // 2) else (c[i] - c[j]) / (w[i] - w[j])
                          for j in range(n)] for i in range(n)], object)

    return table


def _gaps(w: Array) -> Array:
    n = len(w)
    return np.array([[MP.mpf(0) if i == j else 1 / (w[j] - w[i]) for j in range(n)] for i in range(n)], object)


def _spectrum(a: Array) -> Array:
    w, v = eigen(a)
    return np.concatenate([w[None], v])


def _rebuilt(a: Array, _: Array, c: Array) -> Array:
    v = eigen(a)[1]
    return (v * c) @ v.T


def _within(a: Array, _: Array, m: Array) -> Array:
    v = eigen(a)[1]
    return np.diagonal(v.T @ symmetric(m) @ v)


def _all_parts(a: Array) -> Array:
    u, s, v = singular(a)
    return np.concatenate([u, s[None], v])


def _joined(a: Array, _: Array, c: Array) -> Array:
    u, _s, v = singular(a)
    return (u * c) @ v.T


def _between(a: Array, _: Array, m: Array) -> Array:
    u, _s, v = singular(a)
    return np.diagonal(u.T @ m @ v)


TALL = np.array([[2.0, 0.25], [-0.5, 1.5], [0.75, -0.25]])
SPECTRAL: dict[str, tuple[Case, ...]] = {
    "eigh": (Case((TWO,), _spectrum), Case((ONE,), _spectrum), Case((np.array([TWO, TWO @ TWO]),), _each(_spectrum))),
    "eigh_values": of_spectrum(lambda a, _: eigen(a)[0]),
    "eigh_vectors": of_spectrum(lambda a, _: eigen(a)[1]),
    "spectral": (of_spectrum(_rebuilt, real(3))[0],
                 Case((np.array([TWO, 2.0 * TWO]), packed(np.array([TWO, 2.0 * TWO])), real(2, 2)), _each(_rebuilt),
                      constant=(1,))),
    "spectral_diag": of_spectrum(_within, real(3, 3)),
    "reciprocal_gaps": (Case((SPECTRUM,), _gaps), Case((SPECTRA,), _each(_gaps)),
                        Case((SPECTRUM[:1],), _gaps)),
    "divided": (
        Case((SPECTRUM, real(4), real(4, seed=1)), quotients(False), {"is_paired": False}, constant=(2,)),
        Case((SPECTRUM, real(4), real(4, seed=1)), quotients(True), {"is_paired": True}, constant=(2,)),
        Case((SPECTRA, real(2, 3), real(2, 3, seed=1)), _each(quotients(False)),
             constant=(2,)),
    ),
    "svd": (Case((TALL,), _all_parts), Case((TALL.T,), _all_parts), Case((TALL[:2],), _all_parts),
            Case((np.array([TALL, 2.0 * TALL]),), _each(_all_parts))),
    "svd_left": of_parts(lambda a, _: singular(a)[0], nothing),
    "svd_values": of_parts(lambda a, _: singular(a)[1], nothing),
    "svd_right": of_parts(lambda a, _: singular(a)[2], nothing),
    "svd_matrix": of_parts(_joined, lambda m, n: (real(min(m, n)),)),
    "svd_diag": of_parts(_between, lambda m, n: (real(m, n, seed=5),)),
}
