"""CasADi: a `Function` of the sparse Hessian, by the Python call and, for comparison, through its buffer.

MX keeps matrices whole, SX writes every scalar out. The functions are written anew, for CasADi's matrices are
column-major and have no broadcasting. Where a dense result is asked for, CasADi's stays sparse if called through the
buffer and is made dense otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import casadi
import numpy as np
from numpy.typing import NDArray

from benchmarks import functions as fn
from benchmarks.cases import PLAIN, Case
from benchmarks.peers import BUFFER, Call


def _rosenbrock(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def _cragglvy(x: Any, data: Mapping[str, Any]) -> Any:
    a, b, c, d = x[0:-3:2], x[1:-2:2], x[2:-1:2], x[3::2]
    return casadi.sum1((casadi.exp(a) - b) ** 4 + 100.0 * (b - c) ** 6 + casadi.tan(c - d) ** 4 + a**8 + (d - 1) ** 2)


def _sine(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1(casadi.sin(x))


def _logistic(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1(casadi.log1p(casadi.exp(-data["signs"] * casadi.mtimes(data["rows"], x))))


def _poisson(x: Any, data: Mapping[str, Any]) -> Any:
    rate = casadi.mtimes(data["rows"], x)
    return casadi.sum1(casadi.exp(rate) - data["counts"] * rate)


def _quadratic(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.mtimes(x.T, casadi.mtimes(data["matrix"], x))


def _factorization(x: Any, data: Mapping[str, Any]) -> Any:
    left = casadi.reshape(x, 5, 60).T  # row-major (60, 5)
    return casadi.sumsqr(data["target"] - casadi.mtimes(left, data["right"]))


def _network(x: Any, data: Mapping[str, Any]) -> Any:
    weights = casadi.reshape(x[:500], 50, 10)  # the transpose of the row-major (10, 50)
    biases = casadi.repmat(x[500:550], 1, 64)
    hidden = casadi.tanh(casadi.mtimes(weights, data["samples"].T) + biases)
    return casadi.sum2((casadi.mtimes(x[550:].T, hidden) - data["targets"].T) ** 2)


def _differences(x: Any, first: Any, second: Any) -> Any:
    points = casadi.reshape(x, 3, x.numel() // 3)
    return points[:, first.tolist()] - points[:, second.tolist()]


def _pairs(x: Any, data: Mapping[str, Any]) -> Any:
    difference = _differences(x, data["first"], data["second"])
    return casadi.sum2(casadi.sqrt(casadi.sum1(difference * difference) + 1e-6))


def _all_pairs(x: Any, data: Mapping[str, Any]) -> Any:
    """Both orders, and the constant pairs of a point with itself left out."""
    first, second = np.triu_indices(x.numel() // 3, 1)
    return 2.0 * _pairs(x, {"first": first, "second": second})


def _lennard_jones(x: Any, data: Mapping[str, Any]) -> Any:
    difference = _differences(x, data["first"], data["second"])
    s = casadi.sum1(difference * difference) ** -3
    return casadi.sum2(4.0 * (s * s - s))


def _rms(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sqrt(casadi.sum1(x**2) / x.numel())


def _log_sum_exp(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.log(casadi.sum1(casadi.exp(x)))


def _variance(x: Any, data: Mapping[str, Any]) -> Any:
    return casadi.sum1((x - casadi.sum1(x) / x.numel()) ** 2) / x.numel()


def _cross_entropy(x: Any, data: Mapping[str, Any]) -> Any:
    weights = casadi.exp(casadi.reshape(x, 10, 20))  # a column is a row of the table
    total = casadi.repmat(casadi.sum1(weights), 10, 1)
    return -casadi.sum1(casadi.sum2(data["labels"].T * casadi.log(weights / total)))


def _small(x: Any, data: Mapping[str, Any]) -> Any:
    return _rosenbrock(x, data) + casadi.log(1.0 + casadi.sumsqr(x)) + casadi.sin(casadi.sum1(x))


def _recursion(x: Any, data: Mapping[str, Any]) -> Any:
    class Names:
        log = staticmethod(casadi.log)

    return fn.recursion(Names, x, data)


def _scan(x: Any, data: Mapping[str, Any]) -> Any:
    """`mapaccum`: h is accumulated, the pair and the parameters are mapped."""
    squares = data["squares"]
    h, pair, rates = casadi.MX.sym("h"), casadi.MX.sym("pair", 2), casadi.MX.sym("rates", 3)
    after = rates[0] + rates[1] * pair[0] + rates[2] * h
    step = casadi.Function("step", [h, pair, rates], [after, casadi.log(after) + pair[1] / after])
    steps = squares.numel() - 1
    pairs = casadi.horzcat(squares[:-1], squares[1:]).T
    _, terms = step.mapaccum("steps", steps)(squares[0], pairs, casadi.repmat(x, 1, steps))
    return casadi.sum2(terms)


def _chain(x: Any, data: Mapping[str, Any]) -> Any:
    class Names:
        tanh, sin, exp, sum = (staticmethod(g) for g in (casadi.tanh, casadi.sin, casadi.exp, casadi.sum1))

    return fn.chain(Names, x, data)


FUNCTIONS: Mapping[Any, Callable[[Any, Mapping[str, Any]], Any]] = {
    fn.rosenbrock: _rosenbrock, fn.cragglvy: _cragglvy, fn.sine: _sine, fn.logistic: _logistic, fn.poisson: _poisson,
    fn.quadratic: _quadratic, fn.factorization: _factorization, fn.network: _network, fn.lennard_jones: _lennard_jones,
    fn.pairs_by_broadcast: _all_pairs, fn.pairs_by_gather: _pairs, fn.root_mean_square: _rms,
    fn.log_sum_exp: _log_sum_exp, fn.variance: _variance, fn.cross_entropy: _cross_entropy, fn.small: _small,
    fn.recursion: _recursion, fn.recursion_by_scan: _scan, fn.chain: _chain,
}


def _matrices(data: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {k: v if v.dtype.kind == "i" else casadi.DM(v) for k, v in data.items()}


class Built:
    """A compiled function and, where it is called that way, its buffers."""

    def __init__(self, name: str, case: Case, scale: float) -> None:
        symbol = casadi.MX if "MX" in name else casadi.SX
        x, v = symbol.sym("x", case.n), symbol.sym("v", case.n)
        inputs, is_buffer = [x], name.endswith(BUFFER)
        data: Mapping[str, Any] = case.values() if case.data_as == "numbers" else _matrices(case.values())
        if case.data_as == "arguments":
            data = {k: symbol.sym(k, *given.shape) for k, given in data.items()}
            inputs += list(data.values())
        f = scale * FUNCTIONS[case.f](x, data)
        if case.peer_task == "hvp":
            result = casadi.jtimes(casadi.gradient(f, x), x, v)
            inputs.append(v)
        else:
            result, _ = casadi.hessian(f, x)
            if case.layout == "dense" and not is_buffer:
                result = casadi.densify(result)
        self.function = casadi.Function("derivative", inputs, [result])
        if case.task == "batched":
            self.function = self.function.map(case.batch)
        self.pattern = self.function.sparsity_out(0)
        if is_buffer:
            self._connect()

    def _connect(self) -> None:
        self.given = [np.zeros(self.function.nnz_in(k)) for k in range(self.function.n_in())]
        self.nonzeros = np.zeros(self.pattern.nnz())
        self.buffer, self.evaluate = self.function.buffer()
        for k, given in enumerate(self.given):
            self.buffer.set_arg(k, given.data)
        self.buffer.set_res(0, self.nonzeros.data)

    def by_buffer(self, *values: NDArray[np.float64]) -> Any:
        """Data that are arguments are taken to be there already; x and v are copied in."""
        for given, value in zip(self.given, values, strict=False):
            if isinstance(value, np.ndarray):
                given[:] = value
        self.evaluate()
        return self.nonzeros


class Casadi:
    version = casadi.__version__

    def __init__(self) -> None:
        self._patterns: dict[tuple[str, str], Any] = {}

    def names(self, case: Case, is_short: bool) -> Sequence[str]:
        if case.f not in FUNCTIONS:
            return []
        is_single = case.task != "batched" and case.data_as != "arguments"
        kinds = ["CasADi MX", "CasADi SX"]
        names = [*kinds, *[k + BUFFER for k in kinds if is_single and case.layout == "csr"]]
        return [n for n in names if n not in case.without and not (is_short and n in case.slow)]

    def make(self, name: str, case: Case, scale: float) -> Call:
        kept: list[Built] = []

        def call(*given: Any) -> Any:
            if not kept:  # at the first call, so that the cold time holds what the others' hold
                kept.append(Built(name, case, scale))
                self._patterns[name, case.name] = kept[0].pattern
            return kept[0].by_buffer(*given) if name.endswith(BUFFER) else kept[0].function(*given)

        return call

    def arguments(self, name: str, case: Case, x: NDArray[Any], v: NDArray[Any]) -> tuple[Any, ...]:
        if case.peer_task == "hvp":
            return x, v
        data = case.values().values() if case.data_as == "arguments" else ()
        return (x.T.copy() if case.task == "batched" else x, *[casadi.DM(d) for d in data])

    def plain(self, name: str, case: Case, result: Any) -> NDArray[Any]:
        if case.task == "batched":
            return np.array(result.full().reshape(case.n, case.batch, case.n).transpose(1, 0, 2))
        if case.peer_task == "hvp":
            return np.asarray(result if name.endswith(BUFFER) else result.full()).reshape(-1)
        pattern = self._patterns[name, case.name]
        rows, columns = (np.asarray(k) for k in pattern.get_triplet())
        values = result if name.endswith(BUFFER) else np.asarray(result.nonzeros())
        if case.n > PLAIN:
            return np.bincount(rows, values * case.probe[columns], minlength=case.n)
        matrix = np.zeros(pattern.shape)
        matrix[rows, columns] = values
        return matrix


def library() -> Casadi:
    return Casadi()
