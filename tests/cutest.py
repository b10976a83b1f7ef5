"""Test functions of the CUTEst collection whose patterns detectors over-estimate, written from their definitions.

Each is `f(xp, x)` for an array namespace `xp` (NumPy's, JAX's or ours) and a vector x.

Source: N. I. M. Gould, D. Orban and Ph. L. Toint, CUTEst, Comput. Optim. Appl. 60 (2015), and the SIF files it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.ir.graph import Array

Function = Callable[[Any, Any], Any]


def arglina(xp: Any, x: Any) -> Any:
    """Linear least squares of full rank: 2 n residuals, orthogonal columns, so the Hessian is 2 I."""
    n = x.shape[0]
    m = 2 * n
    mean = (2.0 / m) * xp.sum(x)
    return xp.sum((x - mean - 1.0) ** 2) + xp.sum((xp.zeros(m - n) - mean - 1.0) ** 2)


def arglina_by_matrix(xp: Any, x: Any) -> Any:
    """The same with its residuals as A x - 1."""
    n = x.shape[0]
    matrix = np.concatenate([np.eye(n), np.zeros((n, n))]) - 2.0 / (2 * n)
    return xp.sum((matrix @ x - 1.0) ** 2)


def _spline_basis() -> Array:
    """Cubic B-splines on 20 knots of [0, 5.5] at ten points: only those around a point are not 0 there."""
    points = np.array([0.245569, 0.245927, 0.246285, 0.246642, 0.247, 0.247358, 0.248074, 0.248431, 0.248789, 0.249147])
    h = 5.5 / 19
    t = np.abs(points[:, None] - h * np.arange(-1, 21)[None]) / h
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


SPLINES = _spline_basis()


def vandanmsls(xp: Any, x: Any) -> Any:
    """A spline fit: 4 of the 22 coefficients matter."""
    return xp.sum(((SPLINES @ x - 1.0) / np.linspace(0.5, 2.0, 10)) ** 2)


def heart6ls(xp: Any, x: Any) -> Any:
    """The dipole model of the heart: a and c come as the parts of complex numbers, and d² f / da dc cancels."""
    a, c, t, u, v, w = [x[k] for k in range(6)]
    b, d = -0.816 - a, -0.017 - c
    p, q, r, s = t**2 - v**2, u**2 - w**2, t**2 - 3.0 * v**2, u**2 - 3.0 * w**2
    y, z = v**2 - 3.0 * t**2, w**2 - 3.0 * u**2
    return (
        (t * a + u * b - v * c - w * d + 1.826) ** 2
        + (v * a + w * b + t * c + u * d + 0.754) ** 2
        + (a * p - 2.0 * c * t * v + b * q - 2.0 * d * u * w + 4.839) ** 2
        + (c * p + 2.0 * a * t * v + d * q + 2.0 * b * u * w + 3.259) ** 2
        + (a * t * r + c * v * y + b * u * s + d * w * z + 14.023) ** 2
        + (c * t * r - a * v * y + d * u * s - b * w * z - 15.467) ** 2
    )


def allinitu(xp: Any, x: Any) -> Any:
    """A function with all kinds of groups in it."""
    a, b, c, d = [x[k] for k in range(4)]
    return (
        c - 1.0 + a**2 + b**2 + (c + d) ** 2 + 2.0 * xp.sin(c) ** 2 + a**2 * b**2 + d - 3.0 + xp.sin(d) ** 4
        + (d - 1.0) ** 2 + b**4 + (c**2 + (d + a) ** 2) ** 2 + (a - 4.0 + xp.sin(d) ** 2 + b**2 * c**2) ** 2
    )


def coolhansls(xp: Any, x: Any) -> Any:
    """A X X + B X + C = 0 in the least-squares sense; two rows of A are 0."""
    a = np.array([[0.0, 0.0, 0.0], [0.13725e-6, 937.62, -42.207], [0.0, 0.0, 0.0]])
    b = np.array([[0.0060893, -44.292, 2.0011], [0.1388e-6, -1886.0, 42.362], [-0.13877e-6, 42.362, -2.0705]])
    c = np.array([[0.0, 44.792, 0.0], [0.0, 948.21, 0.0], [0.0, -42.684, 0.0]])
    matrix = xp.reshape(x, (3, 3))
    return xp.sum((a @ (matrix @ matrix) + b @ matrix + c) ** 2)


def genrose(xp: Any, x: Any) -> Any:
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (x[1:] - 1.0) ** 2) + 1.0


def broydn3dls(xp: Any, x: Any) -> Any:
    """Broyden's tridiagonal system."""
    inner = (3.0 - 2.0 * x[1:-1]) * x[1:-1] - x[:-2] - 2.0 * x[2:] + 1.0
    return xp.sum(inner**2) + ((3.0 - 2.0 * x[0]) * x[0] - 2.0 * x[1] + 1.0) ** 2


def tenbars_like(xp: Any, x: Any) -> Any:
    """Terms that cancel: what is left is separable."""
    terms = xp.sqrt(1.0 + x**2) * x[::-1]
    return xp.sum(terms) - xp.sum(terms[::-1]) + xp.sum(x**3)


def truss_like(xp: Any, x: Any) -> Any:
    """Members gathered from nodes, as in the TRO problems: every second member joins two neighbors."""
    n = x.shape[0]
    first, second = np.arange(0, n - 1, 2), np.arange(1, n, 2)
    return xp.sum(xp.exp(x[first] * x[second])) + xp.sum(xp.zeros(4) * x[:4] ** 2)


def hadamard(xp: Any, x: Any) -> Any:
    """The constraints of HADAMARD: Q'Q, by columns, its upper triangle."""
    n = round(x.shape[0] ** 0.5)
    matrix = xp.reshape(x, (n, n))
    rows, columns = np.triu_indices(n)
    return xp.sum(matrix[:, rows] * matrix[:, columns], axis=0)


HESSIANS: dict[str, tuple[Function, int]] = {
    "ARGLINA": (arglina, 40),
    "ARGLINA, by matrix": (arglina_by_matrix, 24),
    "VANDANMSLS": (vandanmsls, 22),
    "HEART6LS": (heart6ls, 6),
    "ALLINITU": (allinitu, 4),
    "COOLHANSLS": (coolhansls, 9),
    "GENROSE": (genrose, 30),
    "BROYDN3DLS": (broydn3dls, 20),
    "TENBARS-like": (tenbars_like, 12),
    "TRO-like": (truss_like, 20),
}
JACOBIANS: dict[str, tuple[Function, int]] = {"HADAMARD": (hadamard, 36)}
