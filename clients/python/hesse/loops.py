"""Loops that stay rolled in the graph: `scan` and `fori_loop`, with the signatures of `jax.lax`.

A Python loop over traced values is unrolled: 2000 steps of 6 operations are 12,000 nodes. A scan is one node, whatever
its length, and its derivatives of every order are scans again. Outside of a trace both are plain Python loops.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hesse import tree
from hesse.interop import library_of, read
from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError
from hesse_engine.frontends.trace import Trace, Tracer, active_trace, is_tracer, tracer_in
from hesse_engine.ir.graph import FLOAT32, FLOAT64, DType, Node
from hesse_engine.ir.shapes import convert
from hesse_engine.transforms.batch import to_last
from hesse_engine.transforms.rolling import Steps, roll

BRANCHES = ("vmap-branch", "vmap-item")


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Carry `init` through the steps `carry, y = f(carry, x)`, one for each row of `xs`.

        c_0 = init,   c_(t+1), y_t = f(c_t, xs[t])

    Args:
        f: takes the carry and a slice of xs, returns the next carry and an output. Arrays of the function around it may
            be used inside. It is called once while tracing, so it cannot branch on the values of its arguments.
        init: a tree of arrays and numbers; each step returns the same nesting, shapes and dtypes.
        xs: a tree of arrays with one leading axis of the same length, or None.
        length: the number of steps where xs is None.
        reverse: from the last step to the first; ys keep their places.

    Returns:
        The last carry, and the outputs y stacked along a new first axis (None where f returns None).

    Raises:
        RuntimeError: `bad-structure` where a step changes the carry; `loop-branch` where f asks for a traced value.
        ValueError: `wrong-inputs` where xs and length do not agree.
        TypeError: `bad-type`.
    """
    if not callable(f):
        raise ArgumentTypeError("bad-type", f"scan: f must be a function, not {type(f).__name__}.")
    carries, structure = tree.flatten(init)
    slices, slice_structure = tree.flatten(xs) if xs is not None else ([], None)
    _check_leaves(carries, "init")
    _check_leaves(slices, "xs")
    steps = _length([np.shape(x) if not is_tracer(x) else x.shape for x in slices], length)
    tracer = tracer_in([*carries, *slices])
    trace = active_trace() if tracer is None else tracer.trace
    nest = _Nest(f, structure, slice_structure)
    if trace is None:
        return _eager(nest, carries, slices, steps, bool(reverse))
    return _traced(nest, trace, carries, slices, steps, bool(reverse))


def fori_loop(lower: int, upper: int, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """`val = body_fun(i, val)` for i = lower, ..., upper - 1, from `init_val`; the last value.

    Raises:
        TypeError: `bad-type` where a bound is not an integer.
        RuntimeError: `bad-structure`, `loop-branch`, as `scan`.
    """
    first, last = _integer(lower, "lower"), _integer(upper, "upper")
    found, _ = scan(lambda value, i: (body_fun(i, value), None), init_val, np.arange(first, max(first, last)))
    return found


class _Nest:
    """The step function on leaves."""

    def __init__(self, f: Callable[[Any, Any], Any], carries: tree.Structure, slices: tree.Structure | None) -> None:
        self.f, self.carries, self.slices = f, carries, slices

    def __call__(self, carries: Sequence[Any], slices: Sequence[Any]) -> tuple[list[Any], list[Any], tree.Structure]:
        """The leaves of the next carry, those of the output, and the nesting of the output."""
        x = None if self.slices is None else tree.unflatten(list(slices), self.slices)
        found = self.f(tree.unflatten(list(carries), self.carries), x)
        if not isinstance(found, tuple) or len(found) != 2:
            raise FunctionError("bad-structure", "scan: f must return a pair (carry, output), got "
                                                 f"{type(found).__name__}.")
        after, structure = tree.flatten(found[0])
        if structure != self.carries:
            raise FunctionError("bad-structure", f"scan: a step must return a carry that nests as init does, "
                                                 f"{self.carries}, got {structure}.")
        return after, *tree.flatten(found[1])


def _check_leaves(leaves: Sequence[Any], what: str) -> None:
    for leaf in leaves:
        if leaf is None or isinstance(leaf, (str, bytes, set)):
            raise ArgumentTypeError("bad-type", f"scan: {what} holds a {type(leaf).__name__}; it must be a tree of "
                                                "arrays and numbers.")


def _integer(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentTypeError("bad-type", f"{name} must be an integer, not {value!r}: a loop has a fixed number of "
                                            "steps.") from None


def _length(shapes: Sequence[tuple[int, ...]], length: Any) -> int:
    steps = None if length is None else _integer(length, "length")
    if any([not s for s in shapes]):
        raise InputError("wrong-inputs", "scan: xs holds a number; each of its arrays needs a leading axis of steps.")
    lengths = {s[0] for s in shapes} | (set() if steps is None else {steps})
    if len(lengths) != 1:
        raise InputError("wrong-inputs", "scan: give xs or length." if not lengths else
                         f"scan: xs and length disagree on the number of steps: {sorted(lengths)}.")
    found = int(lengths.pop())
    if found < 0:
        raise InputError("wrong-inputs", f"scan: length must not be negative, got {found}.")
    return found


# ---- outside of a trace ----------------------------------------------------------------------------------------------
def _eager(nest: _Nest, carries: list[Any], slices: list[Any], steps: int, is_reverse: bool) -> tuple[Any, Any]:
    library = library_of([x for x in (*carries, *slices) if not isinstance(x, (bool, int, float))])
    rows: list[Any] = [None] * steps
    structure: tree.Structure = tree.THE_LEAF
    for t in range(steps - 1, -1, -1) if is_reverse else range(steps):
        after, rows[t], structure = nest(carries, [x[t] for x in slices])
        for k, (old, new) in enumerate(zip(carries, after, strict=True)):
            if np.shape(old) != np.shape(new):
                raise _changed(k, f"shape {list(np.shape(old))}", f"shape {list(np.shape(new))}")
        carries = after
    last = tree.unflatten(carries, nest.carries)
    if not steps:
        return last, None
    columns = [[row[j] for row in rows] for j in range(structure.leaves)]
    stacked = [None if c[0] is None else library.wrap(np.stack([_array(v) for v in c])) for c in columns]
    return last, tree.unflatten(stacked, structure)


def _array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, (bool, int, float)) else read(value)


def _changed(k: int, before: str, after: str) -> FunctionError:
    return FunctionError("bad-structure", f"scan: a step changes carry {k} from {before} to {after}; it must stay what "
                                          "it is.", hint="Convert init or what the step returns.")


# ---- in a trace ------------------------------------------------------------------------------------------------------
def _traced(
    nest: _Nest, trace: Trace, carries: list[Any], slices: list[Any], length: int, is_reverse: bool
) -> tuple[Any, Any]:
    init = [_node(trace, c) for c in carries]
    arrays = [_node(trace, x) for x in slices]
    weak = [isinstance(c, (bool, int, float)) for c in carries]
    for _ in range(2):
        # all carries of a loop have one floating dtype; others are converted where they enter and leave a step
        held = _held(init)
        places = [trace.mapped(c.shape, held) for c in init]
        examples = [trace.mapped(x.shape[1:], x.dtype) for x in arrays]
        given = [Tracer(trace, convert(p.node, c.dtype)) for p, c in zip(places, init, strict=True)]
        found, outputs, structure = _called(nest, trace, given, examples)
        after = [_node(trace, y) for y in found]
        again = [convert(c, a.dtype) if w else c for c, a, w in zip(init, after, weak, strict=True)]
        if again == init:
            break
        init = again
    for k, (c, a) in enumerate(zip(init, after, strict=True)):
        if (c.shape, c.dtype) != (a.shape, a.dtype):
            raise _changed(k, f"{c.dtype}{list(c.shape)}", f"{a.dtype}{list(a.shape)}")
    steps = Steps(trace.builder, length, is_reverse)
    for example, array in zip(examples, arrays, strict=True):
        steps.rows[example.node] = to_last(array, 0)
    nodes = [_node(trace, y) for y in outputs if y is not None]
    last, stacked = roll(steps, [p.node for p in places], [convert(a, held) for a in after],
                         [convert(c, held) for c in init], nodes)
    finals = [Tracer(trace, convert(n, c.dtype)) for n, c in zip(last, init, strict=True)]
    rest = iter(stacked)
    ys = [None if y is None else Tracer(trace, next(rest)) for y in outputs]
    return tree.unflatten(finals, nest.carries), tree.unflatten(ys, structure)


def _called(
    nest: _Nest, trace: Trace, carries: Sequence[Any], slices: Sequence[Any]
) -> tuple[list[Any], list[Any], tree.Structure]:
    try:
        with trace:
            return nest(carries, slices)
    except FunctionError as error:
        if error.code not in BRANCHES:
            raise
        raise FunctionError("loop-branch", "scan: the step function asks for the value of one of its arguments, which "
                                           "is another one in each step.",
                            hint="Write hesse.numpy.where, or a Python loop.") from error


def _held(init: Sequence[Node]) -> DType:
    return FLOAT32 if init and all([c.dtype == FLOAT32 for c in init]) else FLOAT64


def _node(trace: Trace, value: Any) -> Node:
    tracer: Tracer = value if is_tracer(value) else trace.constant(value)
    if tracer.trace is not trace:
        raise ArgumentTypeError(
            "bad-type", "A traced value of another call was used: it outlived the function that made it.",
            hint="Pass what the function needs as arguments.",
        )
    return tracer.node


__all__ = ["fori_loop", "scan"]
