"""Entries that are zero for every x although the graph does not show it: x'(A'A)x with A'A diagonal, f(x) - f(x).

The function is evaluated in a finite field at random points. Polynomials that vanish identically vanish there; any
other does so with a probability of at most degree / p (Schwartz 1980, Zippel 1979), and three primes are asked, each
near 2^24. Functions that are not rational are random functions of their arguments: equal arguments give equal values,
and nothing else is assumed, so what is found zero is zero whatever exp or sin may be. A condition is a random number c,
and where(c, a, b) is c a + (1 - c) b. Nothing is rounded; a floating-point constant stands for the simplest fraction
within two epsilons of it (0.1 is 1/10), so an entry is dropped also where only the rounding of constants keeps it from
zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hesse_engine.backend import reference
from hesse_engine.ir.graph import Array, Node
from hesse_engine.ir.rows import ROWS, evaluate
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.structure.dependence import MOVES, contraction_labels

PRIMES = (16777213, 16777199, 16777183)  # below 2^24, so that products of halves stay exact in float64
HALF = 1 << 12
LONGEST_SUM = 1 << 16  # terms of a product of matrices: 2^24 * 2^12 * 2^16 < 2^53
LARGEST_EXPONENT = 1024
DISTINCT = 4096  # different values of a constant that are turned into simple fractions
STEPS = 24  # of a continued fraction
DENOMINATOR = 1 << 20
NEAR = 2  # epsilons: of a constant that was folded from a few others


class _Unknown(Exception):
    """A value that has to be a number is not known: an index, the length of a sum."""


def vanishing(
    outputs: Sequence[Node], given: Mapping[Node, Array], read: Callable[[list[Array]], Array]
) -> Array | None:
    """Where `read(outputs)`, a linear function of the outputs' values, is zero for all inputs but those `given`.

    `given` are integers. None where the outputs cannot be evaluated so.
    """
    zero: Array | None = None
    for prime in PRIMES:
        try:
            found = read(_Field(prime).run(outputs, given)) % prime == 0
        except _Unknown:
            return None
        zero = found if zero is None else zero & found
        if not zero.any():
            break
    return zero


class _Field:
    """Arithmetic of integers modulo a prime, on int64 arrays, and the values of nodes in it."""

    def __init__(self, prime: int) -> None:
        self.prime = prime

    def run(self, outputs: Sequence[Node], given: Mapping[Node, Array]) -> list[Array]:
        order = reachable(outputs, stop=given)
        variable = dependents(order, [n for n in order if n.op == "input" or n in given])
        known: dict[Node, Array] = {n: v % self.prime for n, v in given.items()}
        for node in order:
            if node in known:
                continue
            if node.op == "input":
                known[node] = np.random.default_rng([self.prime, node.number]).integers(0, self.prime, node.shape)
            elif node in variable:
                rule = _RULES.get(node.op, _Field.other)
                known[node] = rule(self, node, [known[a] for a in node.args])
            else:
                known[node] = self.lifted(reference.run([node], {})[0])
        return [known[n] for n in outputs]

    # ---- numbers -----------------------------------------------------------------------------------------------------
    def power(self, x: Array, exponent: int) -> Array:
        found = np.ones_like(x)
        while exponent:
            if exponent & 1:
                found = found * x % self.prime
            x = x * x % self.prime
            exponent >>= 1
        return found

    def inverse(self, x: Array) -> Array:
        """1 / x; of 0, whose inverse no identity may count on, a number like any other."""
        return np.where(x == 0, 7919, self.power(x, self.prime - 2))

    def lifted(self, values: Array) -> Array:
        """Constants: integers as they are, other numbers as fractions."""
        if values.dtype.kind != "f":
            return np.asarray(values).astype(np.int64) % self.prime
        if values.size and not any(values.strides):  # one number, repeated
            return np.broadcast_to(self._fractions(np.array([values.flat[0]]))[0], values.shape)
        distinct, places = np.unique(values, return_inverse=True)
        return self._fractions(distinct)[places].reshape(values.shape)

    def _fractions(self, values: Array) -> Array:
        finite = np.isfinite(values)
        exact = np.where(finite, values, 0.0).astype(np.float64)
        top, bottom = _simple(exact, values.dtype) if len(values) <= DISTINCT else _dyadic(exact)
        mantissas = np.array([int(t) % self.prime for t in top], np.int64)
        scales = np.array([pow(2, int(b), self.prime) if d == 0 else pow(int(d), -1, self.prime)
                           for d, b in zip(*bottom, strict=True)], np.int64)
        return np.where(finite, mantissas * scales % self.prime, 104729)

    def hashed(self, key: str, values: Sequence[Array]) -> Array:
        """A random function of `values`, element by element; `key` tells one function from another."""
        digest = hashlib.sha256(f"{self.prime} {key}".encode()).digest()
        mixed = np.uint64(int.from_bytes(digest[:8], "little"))
        total: Array = np.asarray(mixed)
        with np.errstate(over="ignore"):
            for value in values:
                total = _mix(total ^ (value.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
        return (total % np.uint64(self.prime)).astype(np.int64)

    # ---- nodes -------------------------------------------------------------------------------------------------------
    def other(self, node: Node, values: list[Array]) -> Array:
        key = f"{node.op} {sorted(node.attrs.items())}"
        if ROWS[node.op].vm is not None:
            return self.hashed(key, values)
        whole = hashlib.sha256(b"".join([np.ascontiguousarray(v).tobytes() for v in values])).hexdigest()
        return self.hashed(f"{key} {whole}", [np.arange(node.size).reshape(node.shape)])

    def linear(self, node: Node, values: list[Array]) -> Array:
        a, b = values[0], values[-1]
        found: Array = {"add": a + b, "subtract": a - b, "negative": -a, "convert": a}[node.op]
        return np.asarray(found % self.prime)

    def multiply(self, node: Node, values: list[Array]) -> Array:
        return values[0] * values[-1] % self.prime  # square has one operand

    def divide(self, node: Node, values: list[Array]) -> Array:
        return values[0] * self.inverse(values[1]) % self.prime

    def power_scalar(self, node: Node, values: list[Array]) -> Array:
        exponent = float(node.attrs["exponent"])
        if exponent != int(exponent) or abs(exponent) > LARGEST_EXPONENT:
            return self.other(node, values)
        base = values[0] if exponent >= 0 else self.inverse(values[0])
        return self.power(base, abs(int(exponent)))

    def where(self, node: Node, values: list[Array]) -> Array:
        c, a, b = values
        return np.asarray((c * a % self.prime + (1 - c) * b) % self.prime)

    def logic(self, node: Node, values: list[Array]) -> Array:
        a, b = values[0], values[-1]
        if node.op == "logical_not":
            return (1 - a) % self.prime
        both: Array = np.asarray(a * b % self.prime)
        return both if node.op == "logical_and" else np.asarray((a + b - both) % self.prime)

    def moved(self, node: Node, values: list[Array]) -> Array:
        found: Array = evaluate(node, list(values))
        return found

    def indexed(self, node: Node, values: list[Array]) -> Array:
        index = node.args[1].value
        if index is None:
            raise _Unknown
        found: Array = evaluate(node, [values[0], index]) % self.prime
        return found

    def sum(self, node: Node, values: list[Array]) -> Array:
        found: Array = values[0].sum(axis=node.attrs["axis"]) % self.prime
        return found

    def contract(self, node: Node, values: list[Array]) -> Array:
        (a, b, out), lengths = contraction_labels(node)
        terms = int(np.prod([lengths[c] for c in set(a) & set(b) - set(out)]))
        if terms > LONGEST_SUM:
            raise _Unknown
        left, right = values[0].astype(np.float64), values[1]
        high, low = (evaluate(node, [left, part.astype(np.float64)]) % self.prime
                     for part in (right // HALF, right % HALF))
        found: Array = (high.astype(np.int64) * HALF + low.astype(np.int64)) % self.prime
        return found


def _mix(x: Array) -> Array:
    """The finalizer of SplitMix64: every bit of the argument changes half of the result's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


Fraction = tuple[Array, tuple[Array, Array]]  # numerator, (denominator, or 0 and the power of 2 to multiply by)


def _dyadic(values: Array) -> Fraction:
    mantissa, exponent = np.frexp(values)
    return np.ldexp(mantissa, 53), (np.zeros(len(values), np.int64), exponent.astype(np.int64) - 53)


def _simple(values: Array, dtype: Any) -> Fraction:
    """The first convergent of each continued fraction that is near the value; exact where none is simple."""
    top, (bottom, powers) = _dyadic(values)
    rest, open_, near = np.abs(values), np.ones(len(values), bool), NEAR * np.finfo(dtype).eps * np.abs(values)
    h, h_old = np.ones(len(values)), np.zeros(len(values))
    k, k_old = np.zeros(len(values)), np.ones(len(values))
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            whole = np.floor(rest)
            h, h_old, k, k_old = whole * h + h_old, h, whole * k + k_old, k
            hit = open_ & (np.abs(h / k - np.abs(values)) <= near) & (k < DENOMINATOR) & (h < 2.0**53)
            top, bottom = np.where(hit, np.sign(values) * h, top), np.where(hit, k.astype(np.int64), bottom)
            open_ = open_ & ~hit & (k < DENOMINATOR)
            if not open_.any():
                break
            rest = np.where(open_, 1.0 / (rest - whole), 1.0)
    return top, (bottom, powers)


_RULES: dict[str, Callable[[_Field, Node, list[Array]], Array]] = {
    **dict.fromkeys(("add", "subtract", "negative", "convert"), _Field.linear),
    **dict.fromkeys(("multiply", "square"), _Field.multiply),
    **dict.fromkeys(("logical_not", "logical_and", "logical_or"), _Field.logic),
    **dict.fromkeys(MOVES, _Field.moved),
    **dict.fromkeys(("take", "scatter_add"), _Field.indexed),
    "divide": _Field.divide,
    "power_scalar": _Field.power_scalar,
    "where": _Field.where,
    "sum": _Field.sum,
    "contract": _Field.contract,
}
