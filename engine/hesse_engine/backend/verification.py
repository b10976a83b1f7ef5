"""Whether a result holds, asked in ways that share as little as possible with how it was computed.

No structure, coloring, assembly, simplification or VM: the function as it was written, evaluated by the reference
interpreter. M is the result, u and d are directions drawn from a seed that the inputs fix, |.| is the 2-norm (of a
matrix: Frobenius), h the cube root of the unit roundoff eps.

    symmetry_defect       max |H - H'| / max |H|
    directional_residual  |M u - P(u)| / (|M| |u|), P(u) the product by the textbook transforms: for H forward over
                          reverse, for J forward. Of hvp and vhp with their v: |p - P(v)| / |P(v)|
    difference_residual   |M d - D(d)| / (|M| |d|), D(d) = (F(x + h d) - F(x - h d)) / 2h with F the gradient (of a
                          Jacobian: the function), extrapolated once from h and h / 2 (Richardson). d is scaled to x or
                          not, whichever is the more exact. Shares no second derivative. Of a product, d = v
    difference_error      how far off D itself may be: |D_h - D_h/2| + eps |F| / h, over the same denominator
    slope_residual        |g' d - (f(x + h d) - f(x - h d)) / 2h| / (|g| |d|): the gradient against the function alone
    slope_error           as difference_error

`suspicious` names the alarming ones: a defect or directional residual over sqrt(eps) (1.5e-8 in double precision; about
1e-16 to 1e-12 is usual), or a difference over ten times its error plus sqrt(eps). NaN is always alarming.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.backend.reference import run as interpret
from hesse_engine.derivatives import Derivative, Problem
from hesse_engine.errors import InputError
from hesse_engine.ir.graph import Array, Node, flat
from hesse_engine.result import Result, SparseMatrix
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient

STRIP = 256  # rows of a matrix that are compared at once
Field = Callable[[Sequence[Array]], Array]  # the differentiated inputs -> one vector


@dataclass(frozen=True, slots=True)
class Verifier:
    """Checks results of one prepared computation; thread-safe."""

    problem: Problem
    row: Derivative
    seeds: tuple[Node, ...]
    slope: tuple[Node, ...]  # of a Jacobian: the outputs
    moved: tuple[Node, ...]

    def __call__(self, result: Result, arrays: Sequence[Array], v: Sequence[Array]) -> dict[str, Any]:
        """The numbers for `result` at the inputs `arrays`, weights included."""
        with np.errstate(all="ignore"):
            found = self._product(result, arrays, v) if v else self._matrix(result, arrays)
            if self.row.is_second_order:
                found |= self._slope(result, arrays)
        eps = self._eps
        limits = {"symmetry_defect": eps**0.5, "directional_residual": eps**0.5}
        for name in ("difference", "slope"):
            if f"{name}_residual" in found:
                limits[f"{name}_residual"] = 10 * found[f"{name}_error"] + eps**0.5
        suspicious = [name for name, limit in limits.items() if name in found and not found[name] <= limit]
        return {**found, "suspicious": suspicious}

    def _matrix(self, result: Result, arrays: Sequence[Array]) -> dict[str, Any]:
        options, rng = self.problem.options, _random(arrays)
        matrix = Matrix.of(result.value, self.problem, self.row)
        norm, chosen = matrix.norm(), _mask(options.columns, flat(self.problem.wrt))
        found: dict[str, Any] = {}
        if self.row.is_second_order and not options.is_selective:
            found["symmetry_defect"] = _ratio(matrix.asymmetry(), matrix.largest())
        u = rng.uniform(-1.0, 1.0, flat(self.problem.wrt)) * chosen
        residual = matrix.times(u) - self._picked(self._literal(arrays, u))
        found["directional_residual"] = _ratio(_norm(residual), norm * _norm(u))
        best: tuple[float, float] | None = None
        for scale in self._scales(arrays):
            d = u * scale
            value, error = self._difference(self._field(arrays), arrays, d)
            size = norm * _norm(d)
            pair = _ratio(error, size), _ratio(_norm(matrix.times(d) - self._picked(value)), size)
            best = pair if best is None or not best[0] <= pair[0] else best
        assert best is not None
        found["difference_error"], found["difference_residual"] = best
        return found

    def _product(self, result: Result, arrays: Sequence[Array], v: Sequence[Array]) -> dict[str, Any]:
        parts = result.value if isinstance(result.value, list) else [result.value]
        p, direction = _flat(parts), _flat(v)
        literal = self._literal(arrays, direction)
        step = max([1.0, *[float(np.abs(x).max(initial=0.0)) for x in self._moving(arrays)]])
        largest = float(np.abs(direction).max(initial=0.0))
        d = direction * (step / largest if largest else 1.0)
        value, error = self._difference(self._field(arrays), arrays, d)
        back = largest / step
        size = _norm(literal)
        return {
            "directional_residual": _ratio(_norm(p - literal), size),
            "difference_error": _ratio(error * back, size),
            "difference_residual": _ratio(_norm(p - value * back), size),
        }

    def _slope(self, result: Result, arrays: Sequence[Array]) -> dict[str, Any]:
        """The gradient, that of the result where it has one, against the function."""
        given = result.gradient if isinstance(result.gradient, list) else [result.gradient]
        slope = self._field(arrays)(self._moving(arrays)) if result.gradient is None else _flat(given)
        best: tuple[float, float] | None = None
        for scale in self._scales(arrays):
            d = _random(arrays).uniform(-1.0, 1.0, flat(self.problem.wrt)) * scale
            value, error = self._difference(self._field(arrays, self._outputs), arrays, d)
            size = _norm(slope) * _norm(d)
            pair = _ratio(error, size), _ratio(abs(float(slope @ d) - float(value[0])), size)
            best = pair if best is None or not best[0] <= pair[0] else best
        assert best is not None
        return {"slope_error": best[0], "slope_residual": best[1]}

    # ---- the function as it was written -----------------------------------------------------------------------------
    @property
    def _outputs(self) -> tuple[Node, ...]:
        return tuple(self.problem.source.outputs[:len(self.problem.outputs)])

    @property
    def _eps(self) -> float:
        nodes = [n for n in (*self.problem.wrt, *self._outputs) if n.is_floating]
        return max([float(np.finfo(n.dtype).eps) for n in nodes])

    def _moving(self, arrays: Sequence[Array]) -> list[Array]:
        known = dict(zip(self.problem.source.inputs, arrays, strict=True))
        return [known[x] for x in self.problem.wrt]

    def _literal(self, arrays: Sequence[Array], u: Array) -> Array:
        """The product with u by the textbook transforms."""
        values = dict(zip(self.problem.source.inputs, arrays, strict=True))
        values |= dict(zip(self.seeds, _split(u, self.seeds), strict=True))
        return _flat(interpret(self.moved, values))

    def _field(self, arrays: Sequence[Array], nodes: tuple[Node, ...] | None = None) -> Field:
        base = dict(zip(self.problem.source.inputs, arrays, strict=True))
        outputs = self.slope if nodes is None else nodes
        return lambda moving: _flat(interpret(outputs, {**base, **dict(zip(self.problem.wrt, moving, strict=True))}))

    def _difference(self, field: Field, arrays: Sequence[Array], d: Array) -> tuple[Array, float]:
        """(the derivative of `field` along d, how far off it may be)."""
        x, steps = self._moving(arrays), _split(d, self.problem.wrt)
        h = self._eps ** (1 / 3)

        def central(step: float) -> tuple[Array, float]:
            high, low = (field([(a + sign * step * s).astype(a.dtype) for a, s in zip(x, steps, strict=True)])
                         for sign in (1.0, -1.0))
            return (high - low) / (2 * step), _norm(high)

        (whole, size), (half, _) = central(h), central(h / 2)
        return (4 * half - whole) / 3, _norm(whole - half) + self._eps * size / h

    def _scales(self, arrays: Sequence[Array]) -> Iterator[Array]:
        """1, and the size of each element: the one is exact near 0, the other near the edge of a domain."""
        x = _flat(self._moving(arrays))
        yield np.ones(len(x))
        yield np.where(x == 0, 1.0, np.abs(x))

    def _picked(self, product: Array) -> Array:
        rows = self.problem.options.rows
        return product if rows is None else product[list(rows)]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A result as blocks [row][column], or by its entries."""

    blocks: list[list[Array]]
    sparse: SparseMatrix | None
    columns: list[int] | None  # of the inputs' elements that the matrix has

    @classmethod
    def of(cls, value: Any, problem: Problem, row: Derivative) -> Matrix:
        options, widths = problem.options, [x.size for x in problem.wrt]
        columns = None if options.columns is None else list(options.columns)
        if isinstance(value, SparseMatrix):
            return cls([], value, columns)
        if options.layout == "packed":
            n = sum(widths)
            whole = np.zeros((n, n), value.dtype)
            whole[np.triu_indices(n)] = value
            whole += np.triu(whole, 1).T
            return cls([[whole]], None, columns)
        if options.is_selective:
            return cls([[value]], None, columns)
        heights = widths if row.is_second_order else [y.size for y in problem.outputs]
        parts = iter(_leaves(value))
        return cls([[next(parts).reshape(h, w) for w in widths] for h in heights], None, columns)

    def _arrays(self) -> list[Array]:
        return [b for row in self.blocks for b in row] if self.sparse is None else [self.sparse.data]

    def norm(self) -> float:
        return float(np.sqrt(sum([_norm(a.reshape(-1)) ** 2 for a in self._arrays()])))

    def largest(self) -> float:
        return max([max(float(a.max(initial=0.0)), -float(a.min(initial=0.0))) for a in self._arrays()])

    def times(self, u: Array) -> Array:
        """The product with a vector over all elements of the inputs."""
        u = u if self.columns is None else u[self.columns]
        if self.sparse is not None:
            weights = self.sparse.data.astype(np.float64) * u[self.sparse.indices]
            return np.bincount(self.sparse.row_numbers(), weights, self.sparse.shape[0])
        found = []
        for row in self.blocks:
            total: Array = np.zeros(len(row[0]))
            at = 0
            for block in row:
                total += block @ u[at:at + block.shape[1]]
                at += block.shape[1]
            found.append(total)
        return np.concatenate(found) if found else np.zeros(0)

    def asymmetry(self) -> float:
        """max |H - H'|."""
        if self.sparse is not None:
            n, data = self.sparse.shape[1], self.sparse.data
            rows, columns = self.sparse.row_numbers().astype(np.int64), self.sparse.indices.astype(np.int64)
            keys = rows * n + columns
            if not len(keys):
                return 0.0
            place = np.minimum(np.searchsorted(keys, columns * n + rows), len(keys) - 1)
            other = np.where(keys[place] == columns * n + rows, data[place], 0.0)
            return float(np.abs(data - other).max(initial=0.0))
        largest = 0.0
        for i, row in enumerate(self.blocks):
            for j, block in enumerate(row[:i + 1]):
                mirrored = self.blocks[j][i].T
                for at in range(0, len(block), STRIP):
                    gap = np.abs(block[at:at + STRIP] - mirrored[at:at + STRIP])
                    largest = np.maximum(largest, gap.max(initial=0.0))  # a NaN stays
        return float(largest)


def verifier(problem: Problem, row: Derivative) -> Verifier:
    """Raises `InputError` (`bad-option`) for the Hessians of several outputs."""
    source = problem.source
    outputs = source.outputs[:len(problem.outputs)]
    if row.is_second_order and flat(outputs) != 1:
        raise InputError("bad-option", "verify checks the Hessian of one scalar output.", pointer="/options/verify",
                         hint="Weights make one scalar of several outputs.")
    slope = tuple(gradient(outputs[0], problem.wrt)) if row.is_second_order else tuple(outputs)
    seeds = tuple([x.builder.input("u", x.shape, x.dtype) for x in problem.wrt])
    moved = push_forward(slope, dict(zip(problem.wrt, seeds, strict=True)))
    filled = [y.builder.zeros(y.shape, y.dtype) if t is None else t for y, t in zip(slope, moved, strict=True)]
    return Verifier(problem, row, seeds, slope, tuple(filled))


def _random(arrays: Sequence[Array]) -> np.random.Generator:
    """The same for the same inputs."""
    seed = 0
    for array in arrays:
        seed = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"", seed)
    return np.random.default_rng(seed)


def _mask(positions: tuple[int, ...] | None, size: int) -> Array:
    mask = np.ones(size) if positions is None else np.zeros(size)
    if positions is not None:
        mask[list(positions)] = 1.0
    return mask


def _leaves(value: Any) -> Iterator[Array]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _flat(arrays: Sequence[Array]) -> Array:
    """All elements as one vector of doubles."""
    return np.concatenate([np.zeros(0), *[np.asarray(a, np.float64).reshape(-1) for a in arrays]])


def _split(vector: Array, like: Sequence[Node]) -> list[Array]:
    parts = np.split(vector, np.cumsum([x.size for x in like])[:-1])
    return [part.reshape(x.shape).astype(x.dtype) for part, x in zip(parts, like, strict=True)]


def _norm(vector: Array) -> float:
    """|vector|, without overflow."""
    largest = float(np.abs(vector).max(initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    scaled = vector.astype(np.float64) / largest
    return largest * float(np.sqrt(scaled @ scaled))


def _ratio(part: float, whole: float) -> float:
    return 0.0 if part == 0.0 else float(np.float64(part) / np.float64(whole))
