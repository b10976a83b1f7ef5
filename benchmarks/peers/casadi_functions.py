"""CasADi: a `Function` of the sparse Hessian, called through its buffer, which is its fastest way in from Python.

MX keeps matrices whole; SX writes every scalar out, and is left away where that takes minutes. The functions are
written anew, for CasADi's matrices are column-major and have no broadcasting. The result is the vector of nonzeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import casadi
import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case, logistic, network, pairwise, rosenbrock, sine
from benchmarks.peers import Contender


def _rosenbrock(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _sine(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1(casadi.sin(x))


def _logistic(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1(casadi.log1p(casadi.exp(-casadi.DM(data["signs"]) * casadi.mtimes(casadi.DM(data["rows"]), x))))


def _network(x: Any, data: Mapping[str, Any]) -> Any:
    weights = casadi.reshape(x[:500], 50, 10)  # the transpose of the row-major (10, 50)
    biases = casadi.repmat(x[500:550], 1, 64)
    hidden = casadi.tanh(casadi.mtimes(weights, casadi.DM(data["samples"].T)) + biases)
    return casadi.sum2((casadi.mtimes(x[550:].T, hidden) - casadi.DM(data["targets"]).T) ** 2)


def _pairwise(x: Any, data: Mapping[str, Any]) -> Any:
    points = casadi.reshape(x, 3, 60)
    difference = points[:, data["first"].tolist()] - points[:, data["second"].tolist()]
    return casadi.sum2(casadi.sqrt(casadi.sum1(difference * difference)))


FUNCTIONS: Mapping[Any, Callable[[Any, Mapping[str, Any]], Any]] = {
    rosenbrock: _rosenbrock, sine: _sine, logistic: _logistic, network: _network, pairwise: _pairwise,
}
SCALAR = (rosenbrock, sine, pairwise)  # cases that SX can write out
LONG = (network,)  # half a minute to build: not in the short form


class Hessian:
    """A compiled Hessian and its buffers; calling it fills `nonzeros`, column by column of the pattern."""

    def __init__(self, case: Case, scale: float, symbol: Any) -> None:
        x = symbol.sym("x", case.n)
        matrix, _ = casadi.hessian(scale * FUNCTIONS[case.f](x, case.data), x)
        self.function = casadi.Function("hessian", [x], [matrix])
        self.pattern = self.function.sparsity_out(0)
        self.x, self.nonzeros = np.zeros(case.n), np.zeros(self.pattern.nnz())
        self._buffer, self._evaluate = self.function.buffer()
        self._buffer.set_arg(0, self.x.data)
        self._buffer.set_res(0, self.nonzeros.data)

    def __call__(self, x: NDArray[np.float64]) -> Hessian:
        self.x[:] = x
        self._evaluate()
        return self

    def dense(self) -> NDArray[np.float64]:
        rows, columns = self.pattern.get_triplet()
        matrix = np.zeros(self.pattern.shape)
        matrix[rows, columns] = self.nonzeros
        return matrix


class LateHessian:
    """Builds at the first call, so that the cold time holds what the other libraries' cold times hold."""

    def __init__(self, case: Case, scale: float, symbol: Any) -> None:
        self._arguments = case, scale, symbol
        self._made: Hessian | None = None

    def __call__(self, x: NDArray[np.float64]) -> Hessian:
        if self._made is None:
            self._made = Hessian(*self._arguments)
        return self._made(x)


def _maker(symbol: Any) -> Callable[[Case, float], Callable[[Any], Any]]:
    return lambda case, scale: LateHessian(case, scale, symbol)


def contenders() -> list[Contender]:
    def mx(case: Case, is_short: bool) -> bool:
        return not (is_short and case.f in LONG)

    def sx(case: Case, is_short: bool) -> bool:
        return case.f in SCALAR

    return [
        Contender(f"CasADi {kind.__name__}", casadi.__version__, _maker(kind), np.asarray, _dense, handles)
        for kind, handles in ((casadi.MX, mx), (casadi.SX, sx))
    ]


def _dense(result: Hessian, case: Case) -> NDArray[np.float64]:
    return result.dense()
