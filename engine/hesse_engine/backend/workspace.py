"""The memory of one run of a program, with every step made ready: a run sets addresses and calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from hesse_engine.backend.calls import Action, prepare
from hesse_engine.backend.lower import CallStep, Lowered, RegionStep, Step
from hesse_engine.backend.memory import ALIGNMENT
from hesse_engine.ir.graph import Array, Node

Kernel = Callable[[int, int, int], None]

_LOCK = threading.Lock()
_EXECUTORS: dict[int, ThreadPoolExecutor] = {}  # by process: threads do not survive a fork


def executor() -> ThreadPoolExecutor:
    """The threads that all programs of this process share."""
    with _LOCK:
        found = _EXECUTORS.get(os.getpid())
        if found is None:
            _EXECUTORS.clear()
            found = _EXECUTORS[os.getpid()] = ThreadPoolExecutor(os.cpu_count() or 1, "hesse-vm")
        return found


def address_of(array: Array) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def aligned_memory(size: int) -> Array:
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -address_of(raw) % ALIGNMENT
    return raw[start:start + size]


class Workspace:
    """Used by one run at a time. `live` holds the arrays that the current run was given or makes anew."""

    def __init__(self, lowered: Lowered, kernels: Mapping[str, Kernel]) -> None:
        self.lowered = lowered
        self.arena = aligned_memory(lowered.arena_bytes)
        self.scratch = [aligned_memory(lowered.scratch_bytes) for _ in range(lowered.threads)]
        self.addresses = np.zeros(len(lowered.buffers), np.int64)
        self.live: dict[int, Array] = {}
        self.constants: dict[int, Array] = {}
        self._fill_static()
        self.slots = [None if k is None else self.static(lowered.buffers[k].node) for k in lowered.inputs]
        claims = lowered.cut.claims
        self.claimed: list[tuple[int, int, Array | None]] = [
            (position, lowered.numbers[root], self._output_view(position, root)) for root, position in claims.items()
        ]
        self.copied = [(position, lowered.cut.outputs[position]) for position, _ in lowered.cut.copies]
        self.actions = [self._action(step, kernels) for step in lowered.steps]
        self.has_calls = any([isinstance(s, CallStep) for s in lowered.steps])

    def _fill_static(self) -> None:
        base = address_of(self.arena)
        for k, buffer in enumerate(self.lowered.buffers):
            if buffer.offset is not None:
                self.addresses[k] = base + buffer.offset
            elif not buffer.node.args and buffer.node.op != "input":
                value = buffer.node.value
                array = np.zeros(1, buffer.node.dtype) if value is None else value
                self.constants[k] = array
                self.addresses[k] = address_of(array)

    def _output_view(self, position: int, root: Node) -> Array | None:
        """The output in the arena, where it has its place there."""
        buffer, output = self.lowered.buffers[self.lowered.numbers[root]], self.lowered.cut.outputs[position]
        return None if buffer.offset is None else np.ndarray(output.shape, output.dtype, self.arena, buffer.offset)

    def static(self, node: Node) -> Array | None:
        """The array of `node` if it is at the same place in every run."""
        form = self.lowered.cut.forms[node]
        number = self.lowered.numbers[form.root]
        size, start = node.dtype.itemsize, self.lowered.buffers[number].offset
        strides = [s * size for s in form.strides]
        if start is not None:
            return np.ndarray(node.shape, node.dtype, self.arena, start + form.offset * size, strides)
        if number in self.constants:
            return np.ndarray(node.shape, node.dtype, self.constants[number], form.offset * size, strides)
        return None

    def array(self, node: Node) -> Array:
        """The array of `node` in the current run."""
        found = self.static(node)
        if found is not None:
            return found
        form = self.lowered.cut.forms[node]
        size, base = node.dtype.itemsize, self.live[self.lowered.numbers[form.root]]
        return np.ndarray(node.shape, node.dtype, base, form.offset * size, [s * size for s in form.strides])

    # ---- steps
    def _action(self, step: Step, kernels: Mapping[str, Kernel]) -> Action:
        if isinstance(step, RegionStep):
            calls = [
                partial(kernels[step.dtype], address_of(t), address_of(self.addresses), address_of(s))
                for t, s in zip(step.tables, self.scratch, strict=False)
            ]
            return calls[0] if len(calls) == 1 else partial(_together, calls)
        if isinstance(step, CallStep):
            return self._call(step.node)
        return partial(self._zero, step.node)

    def _call(self, node: Node) -> Action:
        operands, out = [self.static(a) for a in node.args], self.static(node)
        if out is not None and not any([a is None for a in operands]):
            return prepare(node, [a for a in operands if a is not None], out)

        def action() -> None:
            given = [self.array(n) if a is None else a for n, a in zip(node.args, operands, strict=True)]
            prepare(node, given, self.array(node) if out is None else out)()

        return action

    def _zero(self, node: Node) -> None:
        self.array(node).fill(0)

    # ---- a run
    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Values of the outputs; `arrays` have the inputs' shapes and dtypes."""
        for array, slot, number in zip(arrays, self.slots, self.lowered.inputs, strict=True):
            if slot is not None:
                slot[...] = array
            elif number is not None:
                self._give(number, array if array.flags.carray else np.require(array, requirements=["C", "A"]))
        results = self._results()
        if self.has_calls:
            with np.errstate(all="ignore"):
                for action in self.actions:
                    action()
        else:
            for action in self.actions:
                action()
        for position, _, view in self.claimed:
            if view is not None:
                results[position] = view.copy()
        for position, node in self.copied:
            results[position] = self.array(node).copy()
        self.live.clear()
        return results

    def _give(self, number: int, array: Array) -> None:
        self.live[number], self.addresses[number] = array, address_of(array)

    def _results(self) -> list[Array]:
        """Room for the outputs; the large ones are written in place."""
        outputs = self.lowered.cut.outputs
        results: list[Array] = [None] * len(outputs)  # type: ignore[list-item]
        for position, number, view in self.claimed:
            if view is None:
                results[position] = np.empty(outputs[position].shape, outputs[position].dtype)
                self._give(number, results[position])
        return results


def _together(calls: Sequence[partial[None]]) -> None:
    """Run `calls` at once, the first on this thread."""
    pool = executor()
    others = [pool.submit(call) for call in calls[1:]]
    calls[0]()
    for future in others:
        future.result()
