"""A program: outputs of a graph as a function of its inputs' arrays, by the VM once it is loaded, else by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from hesse_engine.backend import kernels, reference
from hesse_engine.backend.calls import interpreted_elements
from hesse_engine.backend.hot import Heat, heat_of
from hesse_engine.backend.lower import CallStep, Lowered, Target, lower
from hesse_engine.backend.plan import flops_of
from hesse_engine.backend.workspace import Workspace
from hesse_engine.errors import InputError
from hesse_engine.ir.faults import has_nan, is_fallible, lenient
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Node, size_of
from hesse_engine.ir.rows import ROWS, VIEWS
from hesse_engine.ir.walk import reachable
from hesse_engine.structure.regions import Sink

Tier = Literal["jit", "vm", "reference"]
TIERS = ("auto", "jit", "vm", "reference")
POOLED = 4  # workspaces kept for the next runs of a program
POOLED_BYTES = 1 << 26  # a workspace above this is given back to the system after its run


class Program:
    """Made by `build_program`. `run` may be called from several threads at once."""

    def __init__(
        self, inputs: Sequence[Node], outputs: Sequence[Node], threads: int, tier: str, sinks: Sequence[Sink],
        targets: Sequence[Target],
    ) -> None:
        self.inputs, self.outputs, self.threads = tuple(inputs), tuple(outputs), threads
        self.sinks, self.targets = tuple(sinks), tuple(targets)
        self._asked = tier
        self._order = reachable([*outputs, *[s.node for s in sinks]])
        self._is_fallible = is_fallible(self._order)
        self._dtypes = [d for d in (FLOAT64, FLOAT32) if any([n.dtype is d for n in self._order])] or [FLOAT64]
        self._signature = [(n.shape, n.dtype) for n in self.inputs]
        self._lowered: Lowered | None = None
        self._kernels: dict[str, kernels.Kernel] = {}
        self._heat: Heat | None = None
        self._pool: list[Workspace] = []
        if tier in ("vm", "jit"):
            kernels.load(self._dtypes)
            self._kernels = {str(d): kernels.require(d) for d in self._dtypes}
        self._lower()

    def _lower(self) -> Lowered | None:
        """The lowered program, made when the VM is there; None while it is not."""
        if self._lowered is None and self._asked != "reference":
            found = {str(d): kernels.kernel(d) for d in self._dtypes}
            if all([k is not None for k in found.values()]):
                self._kernels = {name: k for name, k in found.items() if k is not None}
                lowered = lower(self.inputs, self.outputs, self._order, self.threads, self.sinks, self.targets)
                self._heat = None if self._asked == "vm" else heat_of(lowered.steps)
                if self._asked == "jit" and self._heat is not None:
                    self._heat.compile()
                self._lowered = lowered
        return self._lowered

    @property
    def tier(self) -> Tier:
        """What answers the next run: 'jit' where every large region has a kernel of its own."""
        if self._lower() is None:
            return "reference"
        return "jit" if self._heat is not None and self._heat.is_fused else "vm"

    @property
    def node_count(self) -> int:
        return len(self._order)

    @property
    def work(self) -> float:
        """Elements of all nodes, products counted by their flops; infinite where some node's work is unknown."""
        total = 0.0
        for node in self._order:
            if node.op == "contract":
                total += flops_of([node])
            elif ROWS[node.op].kind == "nonlinear" and ROWS[node.op].vm is None:
                return float("inf")
            else:
                total += size_of(node.shape)
        return total

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Ops that the VM tier leaves to their plain NumPy functions."""
        lowered = self._lower()
        return () if lowered is None else lowered.fallbacks

    @property
    def interpreted(self) -> tuple[int, int]:
        """(elements that NumPy computes op by op where compiled code might, elements of all nodes)."""
        lowered = self._lower()
        if lowered is None:
            return 0, 0
        slow = sum([interpreted_elements(s.node) for s in lowered.steps if isinstance(s, CallStep)])
        return slow, slow + sum([n.size for n in self._order if n.args])

    @property
    def predicted_bytes(self) -> int:
        """Peak memory of a run: work memory and outputs; inputs and constants are not counted."""
        lowered = self._lower()
        return _reference_bytes(self._order, self.outputs) if lowered is None else lowered.predicted_bytes

    def run(self, arrays: Sequence[Array], targets: Sequence[Array] | None = None) -> list[Array]:
        """Values of the outputs: fresh row-major arrays, which share memory with nothing. Sinks add into `targets`.

        Targets that are not given are made anew, and follow the outputs.

        Raises:
            InputError: `wrong-inputs`, if an array's shape or dtype is not its input's.
        """
        if len(arrays) != len(self._signature):
            raise InputError("wrong-inputs", f"{len(arrays)} arrays were given for {len(self._signature)} inputs.")
        for k, (array, (shape, dtype)) in enumerate(zip(arrays, self._signature, strict=True)):
            if array.shape != shape or array.dtype != dtype:
                raise InputError("wrong-inputs", f"Input {k} is {array.dtype}{list(array.shape)}; the program takes "
                                                 f"{dtype}{list(shape)}.")
        return self._answer(arrays, targets) if not self._is_fallible else self._judged(arrays, targets)

    def _judged(self, arrays: Sequence[Array], targets: Sequence[Array] | None) -> list[Array]:
        """The results; where they have a NaN, an op that met a matrix it cannot take raises."""
        with lenient():
            results = self._answer(arrays, targets)
        if has_nan([*results, *(targets or ())]):
            reference.run([*self.outputs, *[s.node for s in self.sinks]], dict(zip(self.inputs, arrays, strict=True)))
        return results

    def _answer(self, arrays: Sequence[Array], targets: Sequence[Array] | None) -> list[Array]:
        lowered = self._lowered or self._lower()
        if lowered is None:
            return self._interpret(arrays, targets)
        try:
            workspace = self._pool.pop()
        except IndexError:
            workspace = Workspace(lowered, self._kernels, self._heat)
        if self._heat is not None and workspace.fused is not self._heat.refresh():  # kernels have become ready
            workspace = Workspace(lowered, self._kernels, self._heat)
        results = workspace.run(arrays, targets)  # one that failed midway is not pooled
        if len(self._pool) < POOLED and lowered.arena_bytes <= POOLED_BYTES:
            self._pool.append(workspace)
        return results

    def quick(self) -> Callable[[Array], Array] | None:
        """A shorter way for one small input and one small target: `run`, for an array that has been checked.

        None where the program is of another kind, or the VM is not loaded.
        """
        lowered, kernels = self._lowered or self._lower(), self._kernels
        first = None if lowered is None or self._is_fallible else Workspace(lowered, kernels).quick()
        if lowered is None or first is None:
            return None
        pool = [first]

        def run(x: Array) -> Array:
            try:
                step = pool.pop()
            except IndexError:
                made = Workspace(lowered, kernels).quick()
                assert made is not None
                step = made
            found = step(x)
            pool.append(step)
            return found

        return run

    def _interpret(self, arrays: Sequence[Array], targets: Sequence[Array] | None) -> list[Array]:
        wanted = [*self.outputs, *[s.node for s in self.sinks]]
        values = reference.run(wanted, dict(zip(self.inputs, arrays, strict=True)))
        added = values[len(self.outputs):]
        values = values[:len(self.outputs)]
        results: list[Array] = []
        for node, value in zip(self.outputs, values, strict=True):
            is_own = _is_fresh(node, value) and not any([value is r for r in results])
            results.append(value if is_own else np.array(value, node.dtype, order="C", copy=True))
        made = targets
        if made is None:
            made = [t.start() if t.output is None else results[t.output] for t in self.targets]
        for target, memory in zip(self.targets, made, strict=True):
            if target.output is not None and memory is not results[target.output]:
                memory[...] = results[target.output]
        for sink, value in zip(self.sinks, added, strict=True):
            add_into(made[sink.target].reshape(-1), sink, value)
        return results if targets is not None else [*results, *made]


def add_into(target: Array, sink: Sink, value: Array) -> None:
    """What a sink means, in NumPy."""
    shape = value.shape
    slots = np.full(shape, sink.offset)
    for axis, (length, stride) in enumerate(zip(shape, sink.strides, strict=True)):
        slots += (np.arange(length) * stride).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    for table in sink.tables:
        offsets = table.node.value
        assert offsets is not None
        size = offsets.itemsize
        slots += np.lib.stride_tricks.as_strided(offsets, shape, [s * size for s in table.strides])
    np.add.at(target, slots, value)


def _is_fresh(node: Node, value: Array) -> bool:
    """Whether the interpreter made `value` for `node` alone, and as results are to be."""
    is_made = bool(node.args) and node.op not in VIEWS and (value.base is None or node.op == "contract")
    return is_made and value.flags.carray and value.dtype == node.dtype


def build_program(
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    *,
    threads: int = 1,
    tier: str = "auto",
    sinks: Sequence[Sink] = (),
    targets: Sequence[Target] = (),
) -> Program:
    """A program for `outputs` as a function of `inputs`.

    Args:
        inputs: the input nodes, in the order in which `run` takes their arrays.
        outputs: any nodes that depend on no other input.
        threads: how many threads a large region may use.
        sinks: what is added into targets, each run.
        targets: what the memory is like that sinks add into.
        tier: 'vm' waits for the VM and stays with it, 'reference' never uses it, 'auto' uses it from the run on by
            which it is loaded, and kernels for hot regions likewise; 'jit' waits for both.

    Raises:
        InputError: `bad-option`.
        StateError: `not-ready`, if tier is 'vm' or 'jit' and the VM cannot be loaded.
    """
    if tier not in TIERS:
        raise InputError("bad-option", f"There is no tier {tier!r}; allowed are {', '.join(TIERS)}.")
    if threads < 1:
        raise InputError("bad-option", f"threads must be at least 1, not {threads}.")
    return Program(inputs, outputs, threads, tier, sinks, targets)


def _reference_bytes(order: Sequence[Node], outputs: Sequence[Node]) -> int:
    """Peak of the interpreter: values alive at once, where a view keeps what it looks at alive; plus the outputs."""
    root: dict[Node, Node] = {}
    last: dict[Node, int] = {}
    for at, node in enumerate(order):
        root[node] = root[node.args[0]] if node.op in VIEWS else node
        for arg in node.args:
            last[root[arg]] = at
    results = {root[n] for n in outputs}
    dying: dict[int, int] = {}
    now = peak = 0
    for at, node in enumerate(order):
        if root[node] is node and node.args:
            now += node.size * node.dtype.itemsize
            if node not in results:
                end = last.get(node, at)
                dying[end] = dying.get(end, 0) + node.size * node.dtype.itemsize
        peak = max(peak, now)
        now -= dying.pop(at, 0)
    copied = sum([n.size * n.dtype.itemsize for n in outputs if n.op in VIEWS or not n.args])
    return peak + copied
