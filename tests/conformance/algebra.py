"""Matrices: factors, spectra, solutions, norms. Vectors are seen only through functions that ignore their signs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases import Case, normal, positive, spd

SQUARE, TALL, WIDE = normal(3, 3) + 2 * np.eye(3), normal(4, 3), normal(2, 4)
TIES = np.array([2.0, -2.0, 0.5, 0.5])
STACK, TALLS = normal(2, 3, 3) + 2 * np.eye(3), normal(2, 4, 3, seed=2)
K, KS = spd(3), spd(3, 2)
WEIGHTS = np.array([0.5, -1.0, 2.0])


def symmetric(x: Any) -> Any:
    return (x + x.mT) / 2


def projector(v: Any) -> Any:
    """Sign-free: the projectors on the columns, weighted."""
    return (v * v.new_tensor(WEIGHTS[:v.shape[-1]])) @ v.mT


def quietly(f: Callable[..., Any]) -> Callable[..., Any]:
    """Without torch's warning, once a process, that a name is old."""
    def call(*args: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f(*args)

    return call


def upper(t: Any, x: Any) -> Any:
    return t.linalg.cholesky(x, upper=True)


FACTORS = [
    Case("cholesky", lambda t, x: t.linalg.cholesky(x), (K,)),
    Case("cholesky upper", upper, (KS,)),
    Case("torch.cholesky", quietly(lambda t, x: t.cholesky(x)), (K,)),
    Case("cholesky_ex", lambda t, x: t.linalg.cholesky_ex(x).L, (K,)),
    Case("qr Q tall", lambda t, x: t.linalg.qr(x).Q, (TALL,)),
    Case("qr R tall", lambda t, x: t.linalg.qr(x).R, (TALL,)),
    Case("qr square", lambda t, x: tuple(t.linalg.qr(x)), (SQUARE,)),
    Case("qr complete square", lambda t, x: tuple(t.linalg.qr(x, mode="complete")), (STACK,)),
    Case("qr wide", lambda t, x: tuple(t.linalg.qr(x)), (WIDE,)),
    Case("qr batch", lambda t, x: tuple(t.linalg.qr(x)), (TALLS,)),
    Case("torch.qr", quietly(lambda t, x: tuple(t.qr(x))), (TALL,)),
    Case("qr r value", lambda t, x: t.linalg.qr(x, mode="r").R, (TALL,), order=0,
         reason="torch has no derivative in this mode"),
    Case("qr complete value", lambda t, x: tuple(t.linalg.qr(x, mode="complete")), (TALL,), order=0,
         reason="torch has no derivative of the complete factor"),
]
SPECTRA = [
    Case("eigvalsh", lambda t, x: t.linalg.eigvalsh(x), (K,)),
    Case("eigvalsh of the symmetric part", lambda t, x: t.linalg.eigvalsh(symmetric(x)), (SQUARE,)),
    Case("eigvalsh upper", lambda t, x: t.linalg.eigvalsh(x, UPLO="U"), (KS,)),
    Case("eigh values", lambda t, x: t.linalg.eigh(x).eigenvalues, (KS,)),
    Case("eigh vectors", lambda t, x: projector(t.linalg.eigh(x).eigenvectors), (K,)),
    Case("eigh vectors to the fourth", lambda t, x: t.linalg.eigh(x)[1] ** 4, (KS,)),
    Case("spectral function", lambda t, x: (lambda w, v: (v * w.log()[..., None, :]) @ v.mT)(*t.linalg.eigh(x)), (KS,)),
    Case("svdvals", lambda t, x: t.linalg.svdvals(x), (SQUARE,)),
    Case("svdvals tall", lambda t, x: t.linalg.svdvals(x), (TALLS,)),
    Case("svdvals wide", lambda t, x: t.linalg.svdvals(x), (WIDE,)),
    Case("svd S", lambda t, x: t.linalg.svd(x).S, (TALL,)),
    Case("svd left", lambda t, x: projector(t.linalg.svd(x, full_matrices=False).U), (TALL,)),
    Case("svd right", lambda t, x: projector(t.linalg.svd(x, full_matrices=False).Vh.mT), (WIDE,)),
    Case("svd both", lambda t, x: (lambda u, s, vh: (u * s.exp()[..., None, :]) @ vh)(
        *t.linalg.svd(x, full_matrices=False)), (TALLS,)),
    Case("svd square", lambda t, x: (lambda u, s, vh: (u * s.sin()[..., None, :]) @ vh)(*t.linalg.svd(x)), (SQUARE,)),
    Case("torch.svd", lambda t, x: (lambda u, s, v: (u * s**2) @ v.mT)(*t.svd(x)), (TALL,)),
    Case("matrix_rank", lambda t, x: t.linalg.matrix_rank(x), (TALLS,), order=0, reason="an integer"),
    Case("matrix_rank atol", lambda t, x: t.linalg.matrix_rank(x, atol=1.0), (TALLS,), order=0, reason="an integer"),
]
SOLUTIONS = [
    Case("solve", lambda t, a, b: t.linalg.solve(a, b), (SQUARE, normal(3, 2))),
    Case("solve vector", lambda t, a, b: t.linalg.solve(a, b), (SQUARE, normal(3))),
    Case("solve batch", lambda t, a, b: t.linalg.solve(a, b), (STACK, normal(2, 3))),
    Case("solve right", lambda t, a, b: t.linalg.solve(a, b, left=False), (SQUARE, normal(2, 3))),
    Case("solve_ex", lambda t, a, b: t.linalg.solve_ex(a, b).result, (SQUARE, normal(3, 2))),
    *[Case(f"solve_triangular {u} {le} {un}", lambda t, a, b, u=u, le=le, un=un: t.linalg.solve_triangular(
        a, b if le else b.mT, upper=u, left=le, unitriangular=un), (SQUARE, normal(3, 2)))
      for u in (True, False) for le in (True, False) for un in (True, False)],
    Case("torch.triangular_solve", quietly(lambda t, b, a: t.triangular_solve(b, a, upper=False)[0]),
         (normal(3, 2), SQUARE)),
    Case("torch.triangular_solve transposed", quietly(lambda t, b, a: t.triangular_solve(b, a, transpose=True)[0]),
         (normal(3, 2), SQUARE)),
    Case("cholesky_solve", lambda t, b, x: t.cholesky_solve(b, t.linalg.cholesky(x)), (normal(3, 2), K)),
    Case("cholesky_solve upper", lambda t, b, x: t.cholesky_solve(b, upper(t, x), upper=True), (normal(3, 2), K)),
    Case("cholesky_inverse", lambda t, x: t.cholesky_inverse(t.linalg.cholesky(x)), (K,)),
    Case("inv", lambda t, x: t.linalg.inv(x), (STACK,)),
    Case("inverse", lambda t, x: t.inverse(x), (SQUARE,)),
    Case("inv_ex", lambda t, x: t.linalg.inv_ex(x).inverse, (SQUARE,)),
    Case("pinv tall", lambda t, x: t.linalg.pinv(x), (TALLS,)),
    Case("pinv wide", lambda t, x: t.linalg.pinv(x), (WIDE,)),
    Case("pinv hermitian", lambda t, x: t.linalg.pinv(symmetric(x), hermitian=True), (K,)),
    Case("pinv of rank two", lambda t, a, b: t.linalg.pinv(a @ b, rtol=1e-5), (normal(4, 2), normal(2, 3))),
    Case("torch.pinverse", lambda t, x: t.pinverse(x), (TALL,)),
    Case("lstsq", lambda t, a, b: t.linalg.lstsq(a, b).solution, (TALL, normal(4, 2))),
    Case("lstsq batch", lambda t, a, b: t.linalg.lstsq(a, b)[0], (TALLS, normal(2, 4, 2))),
    Case("lstsq wide", lambda t, a, b: t.linalg.lstsq(a, b).solution, (WIDE, normal(2, 2))),
    *[Case(f"lstsq {d}", lambda t, a, b, d=d: (lambda r: (r.rank, r.residuals, r.singular_values))(
        t.linalg.lstsq(a, b, driver=d)), (TALL, normal(4, 2)), order=0, reason="torch gives them by value")
      for d in (None, "gels", "gelsd")],
    Case("tensorinv", lambda t, x: t.linalg.tensorinv(x), (normal(2, 3, 6),), rtol=1e-8),
    Case("tensorsolve", lambda t, a, b: t.linalg.tensorsolve(a, b), (normal(2, 3, 6), normal(2, 3)), rtol=1e-8),
    Case("tensorsolve dims", lambda t, a, b: t.linalg.tensorsolve(a, b, dims=(0,)), (normal(6, 2, 3), normal(2, 3)),
         rtol=1e-8),
]
DETERMINANTS = [
    Case("det", lambda t, x: t.linalg.det(x), (STACK,)),
    Case("det of rank two", lambda t, a, b: t.det(a @ b) + (a.sum() * b.sum()) ** 2, (normal(3, 2), normal(2, 3))),
    Case("slogdet", lambda t, x: tuple(t.linalg.slogdet(x)), (STACK,)),
    Case("torch.slogdet", lambda t, x: t.slogdet(x).logabsdet, (SQUARE,)),
    Case("logdet", lambda t, x: t.logdet(x), (KS,)),
]
NORMS = [
    *[Case(f"matrix_norm {p}", lambda t, x, p=p: t.linalg.matrix_norm(x, p), (TALLS,))
      for p in ("fro", "nuc", 2, -2, 1, -1, float("inf"), float("-inf"))],
    *[Case(f"norm of matrices {p}", lambda t, x, p=p: t.linalg.norm(x, p), (WIDE,)) for p in ("fro", "nuc", 2, -2, 1)],
    Case("matrix_norm keepdim", lambda t, x: t.linalg.matrix_norm(x, "nuc", dim=(0, 2), keepdim=True), (TALLS,)),
    Case("torch.norm nuc", lambda t, x: t.norm(x, "nuc"), (TALL,)),
    *[Case(f"vector_norm {p}", lambda t, x, p=p: t.linalg.vector_norm(x, p), (normal(5),))
      for p in (0, 0.5, 1, 1.5, 2, 3, -1, -2, float("inf"), float("-inf"))],
    *[Case(f"vector_norm {p} dim", lambda t, x, p=p: t.linalg.vector_norm(x, p, dim=1, keepdim=True), (normal(2, 3),))
      for p in (0, 1, 2, 3, float("inf"), float("-inf"))],
    *[Case(f"vector_norm {p} at 0", lambda t, x, p=p: t.linalg.vector_norm(x, p), (np.zeros(3),),
           differs={"hessian": "torch's reverse over reverse has NaN, its forward over reverse the 0 that we have"}
           if p == 2 else {})
      for p in (0, 1, 2, float("inf"), float("-inf"))],
    *[Case(f"vector_norm {p} with ties", lambda t, x, p=p: t.linalg.vector_norm(x, p), (TIES,))
      for p in (1, 2, 3, float("inf"), float("-inf"))],
    *[Case(f"cond {p}", lambda t, x, p=p: t.linalg.cond(x, p), (STACK,)) for p in (None, 2, -2, "nuc")],
    *[Case(f"cond {p}", lambda t, x, p=p: t.linalg.cond(x, p), (SQUARE,), order=0,
           reason="torch changes the inverse in place and then cannot differentiate it")
      for p in (1, -1, "fro", float("inf"))],
    Case("cond tall", lambda t, x: t.linalg.cond(x), (TALL,)),
]
PRODUCTS = [
    Case("matrix_exp", lambda t, x: t.linalg.matrix_exp(x), (SQUARE,)),
    Case("torch.matrix_exp", lambda t, x: t.matrix_exp(x), (STACK,)),
    Case("matrix_exp of a rotation", lambda t, x: t.matrix_exp(x - x.mT), (SQUARE,)),
    *[Case(f"matrix_power {n}", lambda t, x, n=n: t.linalg.matrix_power(x, n), (STACK,)) for n in (0, 1, 2, 5, -1, -3)],
    Case("torch.matrix_power", lambda t, x: t.matrix_power(x, 3), (SQUARE,)),
    Case("multi_dot", lambda t, a, b, c, d: t.linalg.multi_dot((a, b, c, d)),
         (normal(2), normal(2, 4), normal(4, 3), normal(3, 2))),
    Case("multi_dot vector", lambda t, a, b, c: t.linalg.multi_dot((a, b, c)), (normal(2), normal(2, 4), normal(4))),
    Case("trace", lambda t, x: t.trace(x @ x), (SQUARE,)),
    Case("kron", lambda t, a, b: t.kron(a, b), (normal(2, 3), normal(3, 2))),
    Case("outer", lambda t, a, b: t.outer(a, b), (normal(3), normal(2))),
    Case("cross", lambda t, a, b: t.linalg.cross(a, b), (normal(2, 3), normal(2, 3, seed=1))),
    Case("vecdot", lambda t, a, b: t.linalg.vecdot(a, b), (normal(2, 3), normal(2, 3, seed=1))),
    Case("diagonal", lambda t, x: t.linalg.diagonal(x), (STACK,)),
    Case("vander", lambda t, x: t.linalg.vander(x, N=4), (positive(3),)),
]


# ---- functions that people write -----------------------------------------------------------------------------------
def barrier(t: Any, x: Any) -> Any:
    """c'x - log det(F0 + x1 F1 + x2 F2)."""
    a = t.tensor(spd(3, 2, seed=4), dtype=x.dtype)
    return x.sum() - t.logdet(3.0 * t.eye(3, dtype=x.dtype) + x[0] * a[0] + x[1] * a[1])


def marginal(t: Any, p: Any) -> Any:
    """A Gaussian process: y'K^-1 y / 2 + log det(K) / 2."""
    points, y = (t.tensor(v, dtype=p.dtype) for v in (normal(6, 2), normal(6, seed=1)))
    gap = (points[:, None, :] - points[None, :, :]) * t.exp(-p[2:4])
    factor = t.linalg.cholesky(t.exp(2 * p[0] - 0.5 * (gap * gap).sum(-1))
                               + t.exp(2 * p[1]) * t.eye(6, dtype=p.dtype))
    return 0.5 * (y[None] @ t.cholesky_solve(y[:, None], factor)).sum() + t.log(t.diagonal(factor)).sum()


def reconstruction(t: Any, x: Any) -> Any:
    """What two principal components leave."""
    centered = x - x.mean(0)
    _, v = t.linalg.eigh(centered.mT @ centered)
    kept = v[:, -2:]
    return ((centered - centered @ kept @ kept.mT) ** 2).sum()


def procrustes(t: Any, a: Any, b: Any) -> Any:
    """The distance to the nearest rotation of b."""
    u, _, vh = t.linalg.svd(b.mT @ a, full_matrices=False)
    return ((a - b @ (u @ vh)) ** 2).sum()


def completion(t: Any, x: Any) -> Any:
    """A nuclear norm, and squares of what is observed."""
    seen = t.tensor(np.arange(12).reshape(4, 3) % 3 != 1)
    return t.linalg.norm(x, "nuc") * 0.3 + t.where(seen, (x - 0.5) ** 2, 0.0).sum()


def chain(t: Any, r: Any) -> Any:
    """The likelihood of jumps of a continuous-time Markov chain with rates exp(r)."""
    off = t.exp(r) * (1.0 - t.eye(3, dtype=r.dtype))
    rates = off - t.diag(off.sum(1))
    first, second = t.linalg.matrix_exp(0.4 * rates), t.linalg.matrix_exp(1.3 * rates)
    return -(t.log(first[0, 1]) + t.log(first[2, 2]) + t.log(second[1, 0]))


def fisher_rao(t: Any, a: Any, b: Any) -> Any:
    """The distance of two covariances: sqrt(sum(log(eig(A^-1 B))^2) / 2)."""
    factor = t.linalg.cholesky(a)
    half = t.linalg.solve_triangular(factor, b, upper=False)
    whole = t.linalg.solve_triangular(factor, half.mT, upper=False)
    return t.sqrt(0.5 * (t.log(t.linalg.eigvalsh(symmetric(whole))) ** 2).sum())


FUNCTIONS = [
    Case("log-det barrier", barrier, (np.array([0.25, -0.5]),)),
    Case("marginal likelihood", marginal, (np.array([0.125, -0.75, 0.25, -0.25]),)),
    Case("principal components", reconstruction, (normal(5, 3),)),
    Case("Procrustes", procrustes, (normal(4, 2), normal(4, 2, seed=1))),
    Case("matrix completion", completion, (normal(4, 3),)),
    Case("Markov chain", chain, (normal(3, 3, scale=0.5),)),
    Case("Fisher-Rao distance", fisher_rao, (K, spd(3, seed=1))),
]

CASES: list[Case] = [*FACTORS, *SPECTRA, *SOLUTIONS, *DETERMINANTS, *NORMS, *PRODUCTS, *FUNCTIONS]
