"""The functions that are measured, each written once over an array namespace `xp`: it runs in every array library.

`x` is one vector. `data` are arrays of the library that `xp` is of; index arrays are integers there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Data = Mapping[str, Any]


def rosenbrock(xp: Any, x: Any, data: Data) -> Any:
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def cragglvy(xp: Any, x: Any, data: Data) -> Any:
    """CRAGGLVY of the CUTEst collection: n = 2m + 2."""
    a, b, c, d = x[0:-3:2], x[1:-2:2], x[2:-1:2], x[3::2]
    return xp.sum((xp.exp(a) - b) ** 4 + 100.0 * (b - c) ** 6 + xp.tan(c - d) ** 4 + a**8 + (d - 1.0) ** 2)


def sine(xp: Any, x: Any, data: Data) -> Any:
    return xp.sum(xp.sin(x))


def logistic(xp: Any, x: Any, data: Data) -> Any:
    """sum log(1 + exp(-s_i a_i'x)): the negative log-likelihood with labels s_i = +-1."""
    return xp.sum(xp.log1p(xp.exp(-data["signs"] * (data["rows"] @ x))))


def poisson(xp: Any, x: Any, data: Data) -> Any:
    """sum exp(a_i'x) - y_i a_i'x: the negative log-likelihood of counts."""
    rate = data["rows"] @ x
    return xp.sum(xp.exp(rate) - data["counts"] * rate)


def quadratic(xp: Any, x: Any, data: Data) -> Any:
    return x @ (data["matrix"] @ x)


def factorization(xp: Any, x: Any, data: Data) -> Any:
    """||T - U V'||^2 in U, with V given: 60 x 5 unknowns."""
    return xp.sum((data["target"] - xp.reshape(x, (60, 5)) @ data["right"]) ** 2)


def pairs_by_broadcast(xp: Any, x: Any, data: Data) -> Any:
    """sum over i, j of sqrt(|p_i - p_j|^2 + eps), all ordered pairs."""
    points = xp.reshape(x, (-1, 3))
    difference = points[:, None, :] - points[None, :, :]
    return xp.sum(xp.sqrt(xp.sum(difference * difference, axis=-1) + 1e-6))


def pairs_by_gather(xp: Any, x: Any, data: Data) -> Any:
    """The same over i < j, by index arrays."""
    points = xp.reshape(x, (-1, 3))
    difference = points[data["first"]] - points[data["second"]]
    return xp.sum(xp.sqrt(xp.sum(difference * difference, axis=-1) + 1e-6))


def lennard_jones(xp: Any, x: Any, data: Data) -> Any:
    """sum over pairs of 4 (r^-12 - r^-6)."""
    points = xp.reshape(x, (-1, 3))
    difference = points[data["first"]] - points[data["second"]]
    s = xp.sum(difference * difference, axis=-1) ** -3
    return xp.sum(4.0 * (s * s - s))


def springs(xp: Any, x: Any, data: Data) -> Any:
    """sum over bonds of (r - 1)^2."""
    points = xp.reshape(x, (-1, 3))
    difference = points[data["first"]] - points[data["second"]]
    return xp.sum((xp.sqrt(xp.sum(difference * difference, axis=-1)) - 1.0) ** 2)


def root_mean_square(xp: Any, x: Any, data: Data) -> Any:
    return xp.sqrt(xp.mean(x**2))


def log_sum_exp(xp: Any, x: Any, data: Data) -> Any:
    return xp.log(xp.sum(xp.exp(x)))


def variance(xp: Any, x: Any, data: Data) -> Any:
    return xp.mean((x - xp.mean(x)) ** 2)


def cross_entropy(xp: Any, x: Any, data: Data) -> Any:
    """-sum of labels * log softmax over the rows of a (20, 10) table of logits."""
    logits = xp.reshape(x, (20, 10))
    weights = xp.exp(logits)
    total = xp.reshape(xp.sum(weights, axis=-1), (20, 1))
    return -xp.sum(data["labels"] * xp.log(weights / total))


def network(xp: Any, x: Any, data: Data) -> Any:
    """Squared error of w2'tanh(W1 a_i + b1) over 64 samples; 10*50 + 50 + 50 packed parameters."""
    hidden = xp.tanh(data["samples"] @ xp.reshape(x[:500], (10, 50)) + x[500:550])
    return xp.sum((hidden @ x[550:] - data["targets"]) ** 2)


def marginal_likelihood(xp: Any, x: Any, data: Data) -> Any:
    """y'K^-1 y / 2 + log det(K) / 2, K = e^2a exp(-|s_i - s_j|^2 / 2) + e^2b I; a, b and log length scales in x."""
    scaled = data["places"] * xp.exp(-x[2:5])
    difference = scaled[:, None, :] - scaled[None, :, :]
    distance = xp.sum(difference * difference, axis=-1)
    covariance = xp.exp(2.0 * x[0] - 0.5 * distance) + xp.exp(2.0 * x[1]) * data["identity"]
    factor = xp.linalg.cholesky(covariance)
    white = xp.solve_lower(factor, data["observed"])
    return 0.5 * xp.sum(white * white) + xp.sum(xp.log(xp.diagonal_of(factor)))


def small(xp: Any, x: Any, data: Data) -> Any:
    """Of six variables, with a dense Hessian."""
    valley = xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    return valley + xp.log(1.0 + xp.sum(x * x)) + xp.sin(xp.sum(x))


def recursion(xp: Any, x: Any, data: Data) -> Any:
    """GARCH(1, 1): h_t = w + a e_(t-1)^2 + b h_(t-1), sum log h_t + e_t^2 / h_t, written out step by step."""
    squares = data["squares"].tolist()
    omega, alpha, beta = x[0], x[1], x[2]
    h, total = squares[0], 0.0
    for t in range(1, len(squares)):
        h = omega + alpha * squares[t - 1] + beta * h
        total = total + xp.log(h) + squares[t] / h
    return total


def recursion_by_scan(xp: Any, x: Any, data: Data) -> Any:
    """The same as one loop of the library: `scan(step, h_0, (e_(t-1)^2, e_t^2)) -> (last, terms)`."""
    squares = data["squares"]

    def step(h: Any, pair: Any) -> tuple[Any, Any]:
        before, now = pair
        h = x[0] + x[1] * before + x[2] * h
        return h, xp.log(h) + now / h

    _, terms = xp.scan(step, squares[0], (squares[:-1], squares[1:]))
    return xp.sum(terms)


def chain(xp: Any, x: Any, data: Data) -> Any:
    """A long expression, for the cold times: about ten nodes a turn."""
    y = x
    for k in range(11):
        y = xp.sin(y * (1.0 + 0.01 * k)) + 0.1 * xp.tanh(y + 0.1 * k) * y + 0.1 * xp.exp(-y * y)
    return xp.sum(y * y)
