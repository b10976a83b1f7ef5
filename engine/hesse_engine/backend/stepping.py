"""Loops on arrays: what one run of a `scan` does, made ready once.

The compiled loops of `recurrences` are loaded in the background on first need. Until they are there a linear recurrence
runs as a table of the VM, and the tables of a body are called from Python.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from hesse_engine.backend import kernels
from hesse_engine.backend.loop import Loop, compiled
from hesse_engine.backend.memory import address_of
from hesse_engine.backend.workspace import aligned_memory
from hesse_engine.ir.graph import FLOAT64, Array, Node, is_zero, scalar_value, size_of
from hesse_engine.ir.ops.scan import Body, Operands, sorted_out
from hesse_engine.ir.party import served
from hesse_engine.ir.rows import ROWS, VIEWS
from hesse_engine.structure.forms import Form, contiguous, is_contiguous, view

Action = Callable[[], object]


class _Loading:
    """One load of the compiled loops."""

    def __init__(self) -> None:
        self.found: Mapping[str, Any] | None = None
        self.thread: threading.Thread | None = None

    def run(self) -> None:
        try:
            from hesse_engine.backend.recurrences import load_recurrences  # numba enters the process here

            self.found = load_recurrences()
        except Exception:  # noqa: BLE001  (whatever went wrong, the tables of the VM give the same values)
            self.found = None


_LOCK = threading.Lock()
_LOADING = _Loading()


def _start_anew_in_child() -> None:
    """A forked child has no loading thread, and perhaps a compiler lock that nobody will release: it does without."""
    global _LOCK, _LOADING  # the parent's may be held
    if _LOADING.thread is not None and _LOADING.found is None:
        _LOCK, _LOADING = threading.Lock(), _Loading()
        _LOADING.thread = threading.current_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)


def loops(*, wait: bool = False) -> Mapping[str, Any] | None:
    """The compiled loops if they are loaded; else None, and their load is under way (or has failed)."""
    loading = _LOADING
    if loading.found is None:
        with _LOCK:
            if loading.thread is None:
                loading.thread = threading.Thread(target=loading.run, name="hesse-load-loops", daemon=True)
                loading.thread.start()
        if wait and loading.thread is not threading.current_thread():
            loading.thread.join()
    return loading.found


# ---- d' = a d + h ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Coefficient:
    """a, as input number `source` of the body (None: the number `value`), and its stride over the carry's elements."""

    source: int | None
    value: float
    offset: int
    lane: int


@lru_cache(maxsize=1024)
def coefficient(body: Body) -> Coefficient | None:
    """The a of a body that multiplies its one carry by it; None for any other body."""
    outputs, inputs = body.graph.outputs, body.graph.inputs
    if len(outputs) != 1 or outputs[0].dtype is not FLOAT64:
        return None
    (y,), c = outputs, inputs[-1]
    if y is c:
        return Coefficient(None, 1.0, 0, 0)
    if y.op not in ("multiply", "negative") or c not in y.args:
        return None
    if y.op == "negative":
        return Coefficient(None, -1.0, 0, 0)
    a = y.args[0] if y.args[1] is c else y.args[1]
    value = scalar_value(a)
    if value is not None:
        return Coefficient(None, value, 0, 0)
    form = _form(a)
    if form is None or form.root is c or form.root not in inputs:
        return None
    is_same, is_all = not any(form.strides), is_contiguous(a.shape, form.strides)
    if not is_same and not is_all:
        return None
    return Coefficient(inputs.index(form.root), 0.0, form.offset, 1 if is_all and a.size > 1 else 0)


def _form(node: Node) -> Form | None:
    """Where `node`, a view of an input, lies in it."""
    chain = []
    while node.op in VIEWS:
        chain.append(node)
        node = node.args[0]
    form: Form | None = Form(node, 0, contiguous(node.shape))
    for step in reversed(chain):
        form = None if form is None else view(step, form)
    return form


# ---- a run -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Given:
    """The arrays of a loop: those of the body's inputs, the drives that are not zero, and the trajectories."""

    fixed: list[Array]
    slices: list[Array]
    views: list[Array]
    drives: list[Array]
    length: int
    is_reverse: bool


def is_compiled(node: Node) -> bool:
    """Whether the steps of `node` run in compiled code."""
    body: Body = node.attrs["body"]
    given = sorted_out(node.op, node.args, body, node.attrs["constants"])
    indexed = [*given.slices, *[h for h in given.drive if not is_zero(h)]]
    strides = tuple([size_of(x.shape[1:]) for x in indexed])
    return not node.attrs["length"] or _compiled(node, given, strides) is not None


def _compiled(node: Node, given: Operands, strides: tuple[int, ...]) -> Loop | None:
    """The loop of `node`, whose operands are `given`."""
    body: Body = node.attrs["body"]
    driven = tuple([not is_zero(h) for h in given.drive]) or (False,) * len(given.init)
    attrs = node.attrs
    return compiled(served(), body, attrs["constants"], attrs["length"], attrs["reverse"], driven, strides)


def prepare(node: Node, operands: Sequence[Array], out: Array) -> Action:
    """An action that writes the trajectories of a loop into `out`: by the compiled loops, from when they are there."""
    action = _prepared(node, operands, out)
    return action if loops() is not None else _Waiting(node, operands, out, action)


class _Waiting:
    """The way without compiled loops, until they are loaded."""

    def __init__(self, node: Node, operands: Sequence[Array], out: Array, action: Action) -> None:
        self._given, self._action, self._is_waiting = (node, operands, out), action, True

    def __call__(self) -> object:
        if self._is_waiting and loops() is not None:
            self._action, self._is_waiting = _prepared(*self._given), False
        return self._action()


def _prepared(node: Node, operands: Sequence[Array], out: Array) -> Action:
    body, constants = node.attrs["body"], node.attrs["constants"]
    length, is_reverse = node.attrs["length"], node.attrs["reverse"]
    given = sorted_out(node.op, operands, body, constants)
    nodes = sorted_out(node.op, node.args, body, constants)
    views: list[Array] = []
    at = 0
    for c in given.init:
        views.append(out[at:at + c.size * (length + 1)].reshape(length + 1, *c.shape))
        at += views[-1].size
    first = length if is_reverse else 0
    copies = [(v[first:first + 1], c) for v, c in zip(views, given.init, strict=True)]
    arrays = Given(
        [_settled(c, copies, 0) for c in given.constants], [_settled(x, copies, 1) for x in given.slices], views,
        [_settled(h, copies, 1) for h, n in zip(given.drive, nodes.drive, strict=True) if not is_zero(n)],
        length, is_reverse,
    )
    if not length or not out.size:
        return partial(_run, copies, None)
    strides = tuple([x.strides[0] // x.itemsize for x in (*arrays.slices, *arrays.drives)])
    factor = coefficient(body) if node.op == "linear_scan" else None
    if factor is not None:
        call = _recurrence(factor, arrays)
        if call is not None:
            return partial(_run, copies, call)
    loop = _compiled(node, nodes, strides)
    if loop is None:
        function, attrs = ROWS[node.op].numpy, node.attrs
        return lambda: np.copyto(out, function(*operands, **attrs))
    return partial(_run, copies, _bound(loop, arrays))


def _run(copies: Sequence[tuple[Array, Array]], run: Action | None) -> None:
    for to, source in copies:
        np.copyto(to, source)
    if run is not None:
        run()


def _settled(array: Array, copies: list[tuple[Array, Array]], free: int) -> Array:
    """`array` where what a step reads of it is row-major: itself, or a copy that is made in each run."""
    inner = tuple([s // array.itemsize for s in array.strides[free:]])
    fits = is_contiguous(array.shape[free:], inner) and array.flags.aligned
    if fits and (not free or (array.strides[0] >= 0 and not array.strides[0] % array.itemsize)):
        return array
    copy = np.empty(array.shape, array.dtype)
    copies.append((copy, array))
    return copy


def _recurrence(factor: Coefficient, given: Given) -> Action | None:
    """One call of the compiled recurrence; None while it is not there."""
    found = loops()
    if found is None:
        return None
    (d,), length = given.views, given.length
    lanes = size_of(d.shape[1:])
    a, a_step, a_first = np.array([factor.value]), 0, 0
    if factor.source is not None:
        a = [*given.fixed, *given.slices][factor.source]
        if factor.source >= len(given.fixed):
            a_step = a.strides[0] // a.itemsize
            a_first = (length - 1) * a_step if given.is_reverse else 0
    h, h_step, h_lane = np.zeros(1), 0, 0
    if given.drives:
        (h,) = given.drives
        h_step, h_lane = h.strides[0] // h.itemsize, 1
    sign = -1 if given.is_reverse else 1
    last = length - 1 if given.is_reverse else 0
    arguments = (
        length, lanes, address_of(a) + 8 * (a_first + factor.offset), sign * a_step, factor.lane,
        address_of(h) + 8 * last * h_step, sign * h_step, h_lane,
        address_of(d) + 8 * (length * lanes if given.is_reverse else 0), sign * lanes,
    )
    return partial(_held, partial(found["recurrence"], *arguments), (a, h, d))


def _bound(loop: Loop, given: Given) -> Action:
    """The tables of `loop` on its arrays."""
    base = np.zeros(loop.count, np.int64)
    arena, scratch = aligned_memory(loop.arena_bytes), aligned_memory(loop.scratch_bytes)
    for k, offset in loop.arena:
        base[k] = address_of(arena) + offset
    for k, value in loop.values:
        base[k] = address_of(value)
    arrays = [*given.fixed, *given.slices, *given.views, *given.drives]
    for number, array in zip((*loop.inputs, *loop.outputs), (*arrays, *given.views), strict=True):
        if number is not None:
            base[number] = address_of(array)
    for k, start, _ in loop.moves:
        base[k] += start
    kernel, addresses = kernels.require(loop.dtype), base.copy()
    calls = [partial(kernel, address_of(t), address_of(addresses), address_of(scratch)) for t in loop.tables]
    keep = (loop, arrays, given.views, arena, scratch, addresses)
    if loop.is_whole:
        return partial(_held, calls[0], keep)
    found = loops()
    if found is None:
        moves = np.zeros(loop.count, np.int64)
        for k, _, stride in loop.moves:
            moves[k] = stride
        return partial(_stepped, calls, base, addresses, moves, given.length, keep)
    from hesse_engine.backend.recurrences import entry_of

    tables = np.array([address_of(t) for t in loop.tables], np.int64)
    pairs = np.array([(k, stride) for k, _, stride in loop.moves], np.int64)
    call = partial(found["driver"], entry_of(kernel), given.length, len(tables), address_of(tables),
                   address_of(addresses), address_of(pairs), len(pairs), address_of(scratch))
    return partial(_driven, call, base, addresses, (keep, tables, pairs))


def _held(call: Action, keep: object) -> None:
    """`call`, for which this action holds the memory that it reads."""
    call()


def _driven(call: Action, base: Array, addresses: Array, keep: object) -> None:
    addresses[:] = base
    call()


def _stepped(
    calls: Sequence[Action], base: Array, addresses: Array, moves: Array, length: int, keep: object
) -> None:
    addresses[:] = base
    for _ in range(length):
        for call in calls:
            call()
        addresses += moves
