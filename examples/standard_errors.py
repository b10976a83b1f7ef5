"""Standard errors of a logistic regression, by Newton's method with gradients and Hessians from the service.

    python examples/standard_errors.py http://127.0.0.1:8000

The data are scikit-learn's breast-cancer measurements of 569 tumors, of which five of the thirty columns are used,
standardised, beside an intercept: with all thirty the two classes can be separated, so that no maximum exists. With
these five the Hessian has condition 26.

The maximum-likelihood estimate b minimises  l(b) = sum_i softplus(a_i'b) - y_i a_i'b  and has the covariance H(b)^-1,
where H is the Hessian of l.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

import hesse
import hesse.numpy as xp

COLUMNS = ("mean radius", "mean texture", "mean smoothness", "mean symmetry", "mean fractal dimension")

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """An estimate with its standard errors; `steps` is how many Newton steps it took."""

    names: tuple[str, ...]
    coefficients: Array
    standard_errors: Array
    steps: int

    def __str__(self) -> str:
        rows = zip(self.names, self.coefficients, self.standard_errors, strict=True)
        head = f"{'':24}{'coefficient':>12}{'std. error':>12}{'z':>9}"
        return "\n".join([head, *[f"{name:24}{b:12.5f}{se:12.5f}{b / se:9.3f}" for name, b, se in rows]])


def load() -> tuple[tuple[str, ...], Array, Array]:
    """Names, design matrix (569, 6) with the intercept first, and labels: 1 is benign."""
    bunch = load_breast_cancer()
    chosen = [list(bunch.feature_names).index(name) for name in COLUMNS]
    columns = bunch.data[:, chosen]
    scaled = (columns - columns.mean(0)) / columns.std(0)
    return ("intercept", *COLUMNS), np.column_stack([np.ones(len(scaled)), scaled]), bunch.target.astype(np.float64)


def fit(client: hesse.Client, names: tuple[str, ...], rows: Array, labels: Array, tolerance: float = 1e-10) -> Fit:
    """Newton's method from zero; every gradient and Hessian is computed by `client`, to which the data travel once."""

    def loss(b: Any) -> Any:
        score = rows @ b
        return xp.sum(xp.softplus(score) - labels * score)

    likelihood = client.function(loss)
    b, steps = np.zeros(rows.shape[1]), 0
    while True:
        hessian = likelihood.hessian(b)
        step = np.linalg.solve(hessian, likelihood.grad(b))
        if np.abs(step).max() < tolerance:
            return Fit(names, b, np.sqrt(np.diag(np.linalg.inv(hessian))), steps)
        b, steps = b - step, steps + 1


def main(url: str) -> None:
    with hesse.Client(url) as client:
        found = fit(client, *load())
    print(f"Logistic regression of 569 tumors, {found.steps} Newton steps by {url}\n\n{found}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["http://127.0.0.1:8000"])
