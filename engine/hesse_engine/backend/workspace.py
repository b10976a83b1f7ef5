"""The memory of one run of a program, with every step made ready: a run sets addresses and calls."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from hesse_engine.backend.blas import hold, is_threaded
from hesse_engine.backend.calls import Action, prepare, product_views
from hesse_engine.backend.hot import Heat
from hesse_engine.backend.lower import CallStep, Lowered, RegionStep, Step, ZeroStep
from hesse_engine.backend.memory import ALIGNMENT, address_of
from hesse_engine.ir.graph import Array, DType, Node
from hesse_engine.structure.forms import Form

Kernel = Callable[[int, int, int], None]

_NOTHING: Array = np.zeros(0)
COPIED = 1 << 16  # bytes of a target up to which it is kept in the workspace, and copied for the caller
_FREE = contextlib.nullcontext()
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


def aligned_memory(size: int) -> Array:
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -address_of(raw) % ALIGNMENT
    return raw[start:start + size]


class Workspace:
    """Used by one run at a time. `live` holds the arrays that the current run was given or makes anew."""

    def __init__(self, lowered: Lowered, kernels: Mapping[str, Kernel], heat: Heat | None = None) -> None:
        self.lowered, self.heat = lowered, heat
        self.fused = {} if heat is None else heat.refresh()
        self.arena = aligned_memory(lowered.arena_bytes)
        self.scratch = [aligned_memory(lowered.scratch_bytes) for _ in range(lowered.threads)]
        self.target_base = len(lowered.buffers)
        private = [p for s in lowered.steps if isinstance(s, RegionStep) for p in s.private]
        self.addresses = np.zeros(self.target_base + len(lowered.targets) + len(private), np.int64)
        self.live: dict[int, Array] = {}
        self.constants: dict[int, Array] = {}
        self.private = {p.copy: aligned_memory(p.nbytes) for p in private}
        self.memory = {k: aligned_memory(t.nbytes).view(t.dtype).reshape(t.shape)
                       for k, t in enumerate(lowered.targets) if 0 < t.nbytes <= COPIED and t.output is None}
        self.small_addresses = {k: address_of(m) for k, m in self.memory.items()}
        self.small = list(self.memory.items())
        self._fill_static()
        self.slots = [None if k is None else self.static(lowered.buffers[k].node) for k in lowered.inputs]
        claims = lowered.cut.claims
        self.claimed: list[tuple[int, int, Array | None]] = [
            (position, lowered.numbers[root], self._output_view(position, root)) for root, position in claims.items()
        ]
        self.copied = [(position, lowered.cut.outputs[position]) for position, _ in lowered.cut.copies]
        outputs = {position: number for position, number, _ in self.claimed}
        self.shared = [(k, t.output, outputs[t.output]) for k, t in enumerate(lowered.targets) if t.output is not None]
        self.work: list[Array] = []
        self.actions = [self._action(step, kernels) for step in lowered.steps]
        calls = [s.node for s in lowered.steps if isinstance(s, CallStep)]
        self.has_calls, self.is_threaded = bool(calls), any([is_threaded(n) for n in calls])

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

        for number, memory in self.private.items():
            self.addresses[number] = address_of(memory)

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
            rounds = [
                [self._bound(t, s, kernels[step.dtype]) for t, s in zip(tables, self.scratch, strict=False)]
                for tables in step.rounds
            ]
            action: Action
            if len(rounds) == 1 and not step.private:
                (calls,) = rounds
                action = calls[0] if len(calls) == 1 else partial(_together, calls)
            else:
                action = partial(self._in_rounds, rounds, step)
            return action if self.heat is None else self.heat.timed(step, action)
        if isinstance(step, CallStep):
            return self._call(step.node)
        return partial(self._zero, step)

    def _bound(self, table: Array, scratch: Array, vm: Kernel) -> partial[None]:
        """What runs `table`: the kernel made for it, where there is one."""
        fused = self.fused.get(address_of(table)) if self.fused else None
        if fused is not None:
            scratch = aligned_memory(fused.work_bytes)
            self.work.append(scratch)
        kernel = vm if fused is None else fused.kernel
        return partial(kernel, address_of(table), address_of(self.addresses), address_of(scratch))

    def _call(self, node: Node) -> Action:
        if node.op == "contract":
            product = self._product(node)
            if product is not None:
                return product
        operands, out = [self.static(a) for a in node.args], self.static(node)
        if out is not None and not any([a is None for a in operands]):
            return prepare(node, [a for a in operands if a is not None], out)

        def action() -> None:
            given = [self.array(n) if a is None else a for n, a in zip(node.args, operands, strict=True)]
            prepare(node, given, self.array(node) if out is None else out)()

        return action

    def _product(self, node: Node) -> Action | None:
        """A contraction of matrices where they are; None if some operand has to be copied to be one."""
        forms = [self.lowered.cut.forms[n] for n in (*node.args, node)]
        size = node.dtype.itemsize
        if not node.size or any([a.dtype != node.dtype for a in node.args]):
            return None
        views = product_views(node, [tuple([s * size for s in f.strides]) for f in forms])
        if views is None:
            return None
        a, b, c = (self._maker(f, node.dtype, *v) for f, v in zip(forms, views, strict=True))
        if not any([callable(m) for m in (a, b, c)]):
            return partial(np.matmul, a, b, out=c)

        def action() -> None:
            np.matmul(a() if callable(a) else a, b() if callable(b) else b, out=c() if callable(c) else c)

        return action

    def _maker(
        self, form: Form, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> Array | Callable[[], Array]:
        """The array of `form` under `shape` and `strides`, or what makes it in a run where its memory is given anew."""
        number, offset = self.lowered.numbers[form.root], form.offset * dtype.itemsize
        start, live = self.lowered.buffers[number].offset, self.live
        if start is not None:
            return np.ndarray(shape, dtype, self.arena, start + offset, strides)
        if number in self.constants:
            return np.ndarray(shape, dtype, self.constants[number], offset, strides)
        return lambda: np.ndarray(shape, dtype, live[number], offset, strides)

    def _zero(self, step: ZeroStep) -> None:
        if step.spans is None:
            self.array(step.node).fill(0)
            return
        memory = self._flat(self.lowered.numbers[step.node], str(step.node.dtype))
        for start, stop in step.spans:
            memory[start:stop] = 0

    def _in_rounds(self, rounds: Sequence[Sequence[partial[None]]], step: RegionStep) -> None:
        copies = [(p.of, self.private[p.copy].view(step.dtype)) for p in step.private]
        for _, copy in copies:
            copy.fill(0)
        for calls in rounds:
            _together(calls)
        for number, copy in copies:
            total = self._flat(number, step.dtype)
            total += copy

    def _flat(self, number: int, dtype: str) -> Array:
        """Buffer `number` as one axis."""
        if number in self.live:
            return self.live[number].reshape(-1)
        buffer = self.lowered.buffers[number]
        assert buffer.offset is not None
        return np.ndarray(buffer.nbytes // np.dtype(dtype).itemsize, dtype, self.arena, buffer.offset)

    # ---- a run
    def quick(self) -> Callable[[Array], Array] | None:
        """A run of one small input, one small target and nothing else, without what other runs need; else None."""
        is_plain = len(self.slots) == 1 and not self.claimed and not self.copied and not self.has_calls
        (slot, *_), memory = (*self.slots, None), self.memory.get(0)
        if not is_plain or len(self.lowered.targets) != 1 or memory is None:
            return None
        if slot is None and self.lowered.inputs[0] is not None:
            return None
        actions, base, place = tuple(self.actions), self.lowered.targets[0].base, self.target_base
        self.addresses[place] = self.small_addresses[0]
        start = 0.0 if base is None else base
        copy = memory.copy

        def run(x: Array, _keep: Workspace = self) -> Array:  # the actions know only addresses of its memory
            if slot is not None:
                slot[...] = x
            memory[...] = start
            for action in actions:
                action()
            return copy()

        return run

    def run(self, arrays: Sequence[Array], targets: Sequence[Array] | None = None) -> list[Array]:
        """Values of the outputs; `arrays` have the inputs' shapes and dtypes. Sinks add into `targets`.

        Targets that are not given are made, and follow the outputs.
        """
        for array, slot, number in zip(arrays, self.slots, self.lowered.inputs, strict=True):
            if slot is not None:
                slot[...] = array
            elif number is not None:
                self._give(number, array if array.flags.carray else np.require(array, requirements=["C", "A"]))
        given = {} if targets is None else {position: targets[k] for k, position, _ in self.shared}
        results = self._results(given)
        if targets is None:
            made = self._start_targets()
        else:
            made = []
            for k, target in enumerate(targets, self.target_base):
                self._give(k, target)
        for k, _, start in self.shared:
            self.addresses[self.target_base + k] = self.addresses[start]
        self._act()
        self._copy_outputs(results, given)
        for k, memory in self.small if made else ():
            made[k] = memory.copy()
        for k, position, _ in self.shared if made else ():
            made[k] = results[position]
        self.live.clear()
        return results + made

    def _act(self) -> None:
        if self.has_calls:
            with np.errstate(all="ignore"), hold(self.lowered.threads) if self.is_threaded else _FREE:
                for action in self.actions:
                    action()
        else:
            for action in self.actions:
                action()

    def _copy_outputs(self, results: list[Array], given: Mapping[int, Array]) -> None:
        """The outputs that are in the arena, and those that are views of something else."""
        for position, _, view in self.claimed:
            if view is not None and position in given:
                given[position][...] = view
            elif view is not None:
                results[position] = view.copy()
        for position, node in self.copied:
            results[position] = self.array(node).copy()

    def _start_targets(self) -> list[Array]:
        """Room for the targets; the small ones are in memory of the workspace, and copied afterwards."""
        found: list[Array] = []
        for k, target in enumerate(self.lowered.targets):
            memory = self.memory.get(k)
            if target.output is not None:
                memory = _NOTHING
            elif memory is None:
                memory = target.start()
                self._give(self.target_base + k, memory)
            else:
                memory[...] = 0.0 if target.base is None else target.base
                self.addresses[self.target_base + k] = self.small_addresses[k]
            found.append(memory)
        return found

    def _give(self, number: int, array: Array) -> None:
        self.live[number], self.addresses[number] = array, address_of(array)

    def _results(self, given: Mapping[int, Array]) -> list[Array]:
        """Room for the outputs; the large ones are written in place. `given`: the room for some of them."""
        outputs = self.lowered.cut.outputs
        results: list[Array] = [None] * len(outputs)  # type: ignore[list-item]
        for position, number, view in self.claimed:
            if view is None:
                room = given.get(position)
                results[position] = np.empty(outputs[position].shape, outputs[position].dtype) if room is None else room
                self._give(number, results[position])
        return results


def _together(calls: Sequence[partial[None]]) -> None:
    """Run `calls` at once, the first on this thread."""
    pool = executor()
    others = [(pool.submit(call), call) for call in calls[1:]]
    calls[0]()
    for future, call in others:
        if future.cancel():  # no thread was free to begin it
            call()
        else:
            future.result()
