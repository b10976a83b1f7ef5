"""Functions whose result has a shape that depends on values: the values are read, and guarded by the trace.

What is read is as coarse as it can be (a mask, an order, a length), so that the graph holds for more than one point.
Under vmap nothing can be read, and they are refused.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.operands import array_of, builder_of, tensor, truth
from hesse_engine.frontends.operands import where as where_
from hesse_engine.frontends.scattering import flat, grid, put_at
from hesse_engine.ir.graph import INT64, Array, Node, apply
from hesse_engine.ir.shapes import axis_of, convert

Function = Callable[..., Any]
GUARDED: dict[str, dict[str, Function]] = {"numpy": {}, "torch": {}}


def _guarded(numpy: tuple[str, ...] = (), torch: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    def declare(function: Function) -> Function:
        for library, names in (("numpy", numpy), ("torch", torch)):
            for name in names:
                GUARDED[library][name] = function
        return function

    return declare


def _read(trace: Any, value: Any) -> Array:
    """The value of a mask or an integer, guarded where it varies."""
    return trace.concrete(value) if isinstance(value, Node) else np.asarray(array_of(value))


def _mask(trace: Any, value: Any) -> Array:
    found = _read(trace, truth(value)) if isinstance(value, Node) else np.asarray(array_of(value)) != 0
    return np.asarray(found)


# ---- where something holds -------------------------------------------------------------------------------------------
@_guarded(numpy=("nonzero",))
def nonzero(trace: Any, a: Any) -> tuple[Node, ...]:
    builder = builder_of(a)
    return tuple([builder.constant(i.astype(np.int64)) for i in np.atleast_1d(_mask(trace, a)).nonzero()])


@_guarded(numpy=("argwhere",), torch=("argwhere",))
def argwhere(trace: Any, a: Any) -> Node:
    return builder_of(a).constant(np.argwhere(_mask(trace, a)).astype(np.int64))


@_guarded(numpy=("flatnonzero",))
def flatnonzero(trace: Any, a: Any) -> Node:
    return builder_of(a).constant(np.flatnonzero(_mask(trace, a)).astype(np.int64))


@_guarded(torch=("nonzero",))
def torch_nonzero(trace: Any, input: Any, *, as_tuple: bool = False) -> Any:
    return nonzero(trace, input) if as_tuple else argwhere(trace, input)


@_guarded(numpy=("where",), torch=("where",))
def where(trace: Any, condition: Any, *branches: Any, **named: Any) -> Any:
    """With two branches a choice, without them the indices where the condition holds."""
    x, y = (*branches, None, None)[:2]
    x, y = named.pop("input", named.pop("x", x)), named.pop("other", named.pop("y", y))
    if x is None and y is None:
        return nonzero(trace, condition)
    if x is None or y is None or named or len(branches) > 2:
        raise GraphError("bad-attribute", "where takes a condition alone, or a condition and two branches.")
    return where_(condition, x, y)


@_guarded(numpy=("compress",))
def compress(trace: Any, condition: Any, a: Any, axis: int | None = None) -> Node:
    x = tensor(a, builder_of(condition, a))
    if axis is None:
        x, axis = flat(x), 0
    k = axis_of("compress", axis, x.ndim)
    return apply("take", x, x.builder.constant(np.flatnonzero(_mask(trace, condition))), axis=k)


@_guarded(numpy=("ndarray.compress",))
def compress_method(trace: Any, a: Any, condition: Any, axis: int | None = None) -> Node:
    return compress(trace, condition, a, axis)  # type: ignore[no-any-return]


@_guarded(numpy=("extract",))
def extract(trace: Any, condition: Any, arr: Any) -> Node:
    x = tensor(arr, builder_of(condition, arr))
    return apply("take", flat(x), x.builder.constant(np.flatnonzero(_mask(trace, condition))), axis=0)


@_guarded(torch=("masked_select",))
def masked_select(trace: Any, input: Any, mask: Any) -> Node:
    x, flags = tensor(input, builder_of(input, mask)), _mask(trace, mask)
    shape = np.broadcast_shapes(x.shape, flags.shape)
    return index(apply("broadcast_to", x, shape=shape), np.broadcast_to(flags, shape).copy())


@_guarded(torch=("masked_scatter",))
def masked_scatter(trace: Any, input: Any, mask: Any, source: Any) -> Node:
    builder = builder_of(input, mask, source)
    x = tensor(input, builder)
    places = grid(x.shape)[np.broadcast_to(_mask(trace, mask), x.shape)]
    values = flat(tensor(source, builder))
    if values.size < places.size:
        raise GraphError("shape-mismatch", "masked_scatter: the source has fewer elements than the mask has ones.")
    return put_at(x, builder.constant(places), apply("slice", values, start=(0,), count=(places.size,)))


# ---- distinct elements -----------------------------------------------------------------------------------------------
_Numpy = namedtuple("_Numpy", ["values", "indices", "inverse_indices", "counts"])


def _groups(trace: Any, line: Node) -> tuple[Array, Array]:
    """(the order that sorts a vector, whether each sorted element differs from the one before): read and guarded."""
    order = apply("argsort", line)
    ranked = apply("take", line, order, axis=0)
    count = line.size
    new = apply("not_equal", apply("slice", ranked, start=(min(1, count),) if count > 1 else (0,),
                                   count=(max(count - 1, 0),)),
                apply("slice", ranked, start=(0,), count=(max(count - 1, 0),)))
    return _read(trace, order), np.concatenate([np.ones(min(count, 1), bool), _read(trace, new)])


def _distinct(trace: Any, x: Node, merge_nan: bool) -> _Numpy:
    line = flat(x)
    order, new = _groups(trace, line)
    if merge_nan and line.is_floating and line.size:
        bad = _read(trace, apply("not_equal", line, line))[order]
        new = new & ~(bad & np.concatenate([[False], bad[:-1]]))
    first = order[new]
    group = np.cumsum(new) - 1
    inverse = np.empty(line.size, np.int64)
    inverse[order] = group
    make = x.builder.constant
    counts = np.bincount(group, minlength=len(first)).astype(np.int64)
    return _Numpy(apply("take", line, make(first), axis=0), make(first),
                  make(inverse.reshape(x.shape)), make(counts))


@_guarded(numpy=("unique",))
def unique(trace: Any, ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
           axis: Any = None, *, equal_nan: bool = True, sorted: bool = True) -> Any:
    x = tensor(ar)
    if axis is not None and x.ndim > 1:
        raise GraphError("bad-attribute", "unique: distinct slices along an axis are not offered; only elements are.")
    found = _distinct(trace, x, equal_nan)
    wanted = [v for v, w in zip(found[1:], (return_index, return_inverse, return_counts), strict=True) if w]
    return (found.values, *wanted) if wanted else found.values


@_guarded(torch=("unique", "_unique2"))
def torch_unique(trace: Any, input: Any, sorted: bool = True, return_inverse: bool = False,
                 return_counts: bool = False, dim: Any = None) -> Any:
    return unique(trace, input, False, return_inverse, return_counts, dim, equal_nan=False)


@_guarded(torch=("unique_consecutive",))
def unique_consecutive(trace: Any, input: Any, return_inverse: bool = False, return_counts: bool = False,
                       dim: Any = None) -> Any:
    x = tensor(input)
    line = flat(x)
    count = line.size
    after = apply("slice", line, start=(int(count > 1),), count=(max(count - 1, 0),))
    new = apply("not_equal", after, apply("slice", line, start=(0,), count=(max(count - 1, 0),)))
    starts = np.flatnonzero(np.concatenate([np.ones(min(count, 1), bool), _read(trace, new)]))
    group = np.zeros(count, np.int64)
    group[starts[1:]] = 1
    make = x.builder.constant
    values = apply("take", line, make(starts), axis=0)
    extra = [make(np.cumsum(group).reshape(x.shape))] if return_inverse else []
    extra += [make(np.diff(np.append(starts, count)))] if return_counts else []
    return (values, *extra) if extra else values


def _unique_part(*fields: str) -> Function:
    def part(trace: Any, x: Any, /) -> Any:
        found = _distinct(trace, tensor(x), False)._asdict()
        return tuple([found[f] for f in fields]) if len(fields) > 1 else found[fields[0]]

    return part


GUARDED["numpy"]["unique_values"] = _unique_part("values")
GUARDED["numpy"]["unique_counts"] = _unique_part("values", "counts")
GUARDED["numpy"]["unique_inverse"] = _unique_part("values", "inverse_indices")
GUARDED["numpy"]["unique_all"] = _unique_part("values", "indices", "inverse_indices", "counts")


# ---- counts ----------------------------------------------------------------------------------------------------------
@_guarded(numpy=("bincount",), torch=("bincount",))
def bincount(trace: Any, x: Any, /, weights: Any = None, minlength: int = 0) -> Node:
    builder = builder_of(x, weights)
    places = tensor(x, builder)
    if places.ndim != 1 or places.dtype.kind not in "iub":
        raise GraphError("dtype-mismatch", "bincount takes a vector of integers that are not negative.")
    largest = int(_read(trace, apply("max", places))) if places.size else -1
    if places.size and int(_read(trace, apply("min", places))) < 0:
        raise GraphError("bad-attribute", "bincount takes integers that are not negative.")
    size = max(largest + 1, minlength)
    values = builder.full(places.shape, 1, INT64) if weights is None else tensor(weights, builder)
    values = values if weights is None or values.is_floating else convert(values, np.dtype(np.float64))
    return apply("scatter_add", values, convert(places, INT64), axis=0, size=size)


# ---- functions of functions ------------------------------------------------------------------------------------------
@_guarded(numpy=("piecewise",))
def piecewise(trace: Any, x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Node:
    """Every function is taken of all of x, and its value chosen where its condition holds."""
    builder = builder_of(x, condlist)
    node = tensor(x, builder)
    conditions = condlist if isinstance(condlist, (list, tuple)) and np.ndim(condlist[0]) else [condlist]
    flags = [apply("broadcast_to", tensor(c, builder), shape=node.shape) for c in conditions]
    given = list(funclist)
    if len(given) not in (len(flags), len(flags) + 1):
        raise GraphError("bad-attribute", f"piecewise: {len(flags)} conditions take as many functions, or one more.")
    values = [trace.unwrap(f(trace.wrap(node), *args, **kw)) if callable(f) else f for f in given]
    result: Any = values[len(flags)] if len(values) > len(flags) else 0
    for flag, value in zip(flags, values, strict=False):
        result = where_(flag, value, result)
    return convert(apply("broadcast_to", tensor(result, builder), shape=node.shape), node.dtype)


