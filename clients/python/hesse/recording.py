"""Results that torch differentiates further: a computation as one node of torch's own graph.

    forward     results = D(tensors), asked for by the operation that was called, as ever
    backward    d <cotangents, D(tensors)> / d tensors, one further request

D is the operation as a graph of everything that may require grad: the inputs, the vectors, and the tensors that the
function closes over. What a backward answers is recorded in the same way, so gradients are differentiated again, to any
order. torch is never imported here: its tensors can only be met where it has been imported already.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from hesse.interop import is_torch, read
from hesse.protocol import Call
from hesse_engine.errors import UnsupportedError
from hesse_engine.frontends.nested import derive
from hesse_engine.ir.graph import Graph, Node, apply
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.options import Options
from hesse_engine.result import Result
from hesse_engine.strict import as_torch_sees, depends

Send = Callable[[Any], Any]
Give = Callable[[Any], Any]
Finish = Callable[[Result, Give], Any]


def is_live(value: Any) -> bool:
    """Whether torch wants derivatives with respect to `value`."""
    return is_torch(value) and value.requires_grad


def ambient() -> str:
    """How results are recorded that are not cut off: 'wanted' unless torch's gradients are switched off."""
    torch = sys.modules.get("torch")
    return "wanted" if torch is not None and torch.is_grad_enabled() else "no"


def is_inference() -> bool:
    """Whether torch records nothing, and cannot be told to."""
    return bool(sys.modules["torch"].is_inference_mode_enabled())


def enabled(flag: bool) -> AbstractContextManager[Any]:
    """torch's own operations inside are recorded, whatever is the case outside."""
    found: AbstractContextManager[Any] = sys.modules["torch"].enable_grad() if flag else nullcontext()
    return found


def internal_leaf(value: Any) -> Any:
    """The copy of `value` that torch differentiates: results depend on it, and nobody can ask for its gradient."""
    return value.detach().requires_grad_() if value.is_floating_point() else value


def as_tensor(value: Any) -> Any:
    return value if is_torch(value) else sys.modules["torch"].from_numpy(read(value))


# ---- functions -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A graph, and the same function as torch's rules leave it: `x**2` still depends on x in its second derivative.

    The second one is made where it is asked for; it decides which results require grad, and is never computed.
    """

    graph: Graph
    as_seen: Callable[[], Graph]

    @classmethod
    def of(cls, graph: Graph) -> Twin:
        return cls(graph, lambda: replace(graph, outputs=tuple(as_torch_sees(graph.outputs))))

    def changed(self, change: Callable[[Graph], Graph]) -> Twin:
        return Twin(change(self.graph), lambda: change(self.as_seen()))


def derived(graph: Graph, operation: str, options: Options, vectors: Sequence[Any]) -> Graph:
    """The results of `operation` as a graph of its inputs and vectors; `vectors` are arrays like the ones to come."""
    builder = graph.builder
    seeds = [builder.input(f"v_{k}", v.shape, v.dtype) for k, v in enumerate(vectors)]
    return Graph((*graph.inputs, *seeds), tuple(_leaves(derive(graph, operation, seeds, options))))


def paired(graph: Graph, rows: Sequence[int]) -> Graph:
    """sum_k <ct_k, y_k> over the outputs `rows`; the cotangents ct_k are further inputs."""
    seeds: list[Node] = []
    total = None
    for k in rows:
        y = graph.outputs[k]
        seeds.append(y.builder.input(f"ct_{len(graph.inputs) + len(seeds)}", y.shape, y.dtype))
        part = apply("sum", seeds[-1] * y)
        total = part if total is None else total + part
    assert total is not None
    return Graph((*graph.inputs, *seeds), (total,))


def varying(twin: Twin, is_own: Sequence[bool], live: Sequence[bool]) -> tuple[bool, ...]:
    """Which outputs of `twin` vary with its `live` inputs.

    The function's own outputs vary where derivatives flow; a derivative varies where its value does, as torch's
    kernels of derivatives require grad with whatever they read.
    """
    graph = twin.graph
    wrt = [x for x, flag in zip(graph.inputs, live, strict=True) if flag and x.is_floating]
    found = _dependent(graph, wrt)
    flags = [y.is_floating and (depends(y, wrt) if own else f)
             for y, own, f in zip(graph.outputs, is_own, found, strict=True)]
    if all(flags):
        return tuple(flags)
    seen = twin.as_seen()
    again = _dependent(seen, [x for x, flag in zip(seen.inputs, live, strict=True) if flag and x.is_floating])
    return tuple([f or (a and not own and y.is_floating)
                  for f, a, own, y in zip(flags, again, is_own, graph.outputs, strict=True)])


def reached(twin: Twin) -> tuple[bool, ...]:
    """Which inputs the outputs are made of; torch gives None for the gradient of others."""
    found = [_reached(graph) for graph in (twin.graph, twin.as_seen())]
    return tuple([a or b for a, b in zip(*found, strict=True)])


def _reached(graph: Graph) -> list[bool]:
    nodes = set(reachable(graph.outputs, stop={n for n in reachable(graph.outputs) if n.op == "stop_gradient"}))
    return [x in nodes for x in graph.inputs]


def _dependent(graph: Graph, wrt: Sequence[Node]) -> list[bool]:
    order = [n for n in reachable(graph.outputs) if n.op != "stop_gradient"]
    found = dependents(order, set(wrt))
    return [y in found for y in graph.outputs]


# ---- computations ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A computation whose results are recorded.

    Attributes:
        send: performs a call.
        twin: what is differentiated.
        operation, options: how; the differentiated inputs are `options.argnums`.
        tensors: the values of the graph's inputs, then the vectors.
        wanted: which tensors anybody may ask the gradient of.
    """

    send: Send
    twin: Twin
    operation: str
    options: Options
    tensors: tuple[Any, ...]
    wanted: tuple[bool, ...]

    def run(self, finish: Finish) -> Any:
        """`finish(result, give)` with tensors that carry a grad_fn as the elements of the result."""
        graph = self.twin.graph
        arrays, count = [read(t) for t in self.tensors], len(graph.inputs)
        vectors = tuple(arrays[count:])
        call = Call(self.operation, graph, tuple(arrays[:count]), vectors or None, self.options,
                    lambda result: finish(self._attached(result, vectors), _same))
        return self.send(call)

    def _attached(self, result: Result, vectors: Sequence[Any]) -> Result:
        twin = self.twin.changed(lambda graph: derived(graph, self.operation, self.options, vectors))
        step = Step(_bound(self.send), twin, self.wanted, self._varying(twin, _owned(result, self.operation)))
        with enabled(True):
            tensors = _node_of_torch().apply(step, list(_leaves(result)), *self.tensors)
        return _filled(result, iter(tensors))


    def _varying(self, twin: Twin, is_own: list[bool]) -> tuple[bool, ...]:
        live = [is_live(t) for t in self.tensors]
        flags = varying(twin, is_own, live)
        if all(flags) or self.options.api != "func" or self.operation != "hessian":
            return flags
        # torch pushes the gradient forward: where that requires grad, so do its derivatives, constants too
        options, width = replace(self.options, strategy="reverse"), len(_argnums(self.options))
        slopes = self.twin.changed(lambda graph: derived(graph, "jacobian", options, ()))
        count, chosen = is_own.count(False), [k in _argnums(self.options) for k in range(len(live))]
        first = [varying(slopes, [False] * (count // width) + is_own[count:], of) for of in (live, chosen)]
        return tuple([f or (k < count and all([s[k // width] for s in first])) for k, f in enumerate(flags)])


@dataclass(slots=True, eq=False)
class Step:
    """What a backward needs: the results as a function of the tensors, and which of both take part."""

    send: Send
    twin: Twin
    wanted: tuple[bool, ...]
    varies: tuple[bool, ...]
    _paired: dict[tuple[int, ...], tuple[Twin, tuple[bool, ...]]] = field(default_factory=dict)

    def pull(self, tensors: Sequence[Any], cotangents: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
        """The gradients of <cotangents, results> with respect to the tensors; None where none is needed."""
        asked = [k for k, (n, w) in enumerate(zip(needed, self.wanted, strict=True)) if n and w]
        rows = tuple([k for k, ct in enumerate(cotangents) if ct is not None and self.varies[k]])
        found: list[Any] = [None] * len(tensors)
        if not asked or not rows:
            return found
        if rows not in self._paired:
            twin = self.twin.changed(lambda graph: paired(graph, rows))
            self._paired[rows] = twin, reached(twin)
        twin, flags = self._paired[rows]
        chosen = tuple([k for k in asked if flags[k]])
        if chosen:
            values = (*tensors, *[cotangents[k] for k in rows])
            for k, gradient in zip(chosen, self._gradients(twin, chosen, values), strict=True):
                found[k] = gradient
        return found

    def _gradients(self, twin: Twin, asked: tuple[int, ...], values: tuple[Any, ...]) -> list[Any]:
        options, torch = Options(argnums=asked), sys.modules["torch"]
        if torch.is_grad_enabled() and any([is_live(t) for t in values]):
            step = Recorded(self.send, twin, "grad", options, values, tuple([True] * len(values)))
            answer = step.run(lambda result, give: result.value)
        else:
            call = Call("grad", twin.graph, tuple([read(t) for t in values]), None, options,
                        lambda result: [torch.from_numpy(g) for g in result.value])
            answer = self.send(call)
        if inspect.iscoroutine(answer):
            answer.close()
            raise UnsupportedError("unsupported", "torch's backward cannot await an AsyncClient.",
                                   hint="Use a hesse.Client for results that are differentiated further.")
        return list(answer)


@functools.cache
def _node_of_torch() -> Any:
    torch = sys.modules["torch"]

    class Hesse(torch.autograd.Function):  # type: ignore[misc,name-defined]
        """Shown as `grad_fn=<HesseBackward>`."""

        @staticmethod
        def forward(ctx: Any, step: Step, arrays: list[Any], *tensors: Any) -> Any:
            ctx.step = step
            ctx.save_for_backward(*tensors)
            ctx.set_materialize_grads(False)
            found = tuple([torch.from_numpy(a) for a in arrays])
            ctx.mark_non_differentiable(*[t for t, flag in zip(found, step.varies, strict=True) if not flag])
            return found

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            return None, None, *ctx.step.pull(ctx.saved_tensors, cotangents, ctx.needs_input_grad[2:])

    return Hesse


def _bound(send: Send) -> Send:
    """`send` with the client that is current now: a backward may run where another one is."""
    context = contextvars.copy_context()
    return lambda call: context.copy().run(send, call)


# ---- results ---------------------------------------------------------------------------------------------------------
def _same(value: Any) -> Any:
    return value


def _argnums(options: Options) -> tuple[int, ...]:
    assert isinstance(options.argnums, tuple)
    return options.argnums


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _flat(v)
    elif value is not None:
        yield value


def _leaves(result: Result) -> Iterator[Any]:
    return _flat([result.output, result.value, result.aux])


def _owned(result: Result, operation: str) -> list[bool]:
    """Of each leaf, whether the function itself returned it."""
    outputs, values, aux = [len(list(_flat(v))) for v in (result.output, result.value, result.aux)]
    return [True] * outputs + [operation == "value"] * values + [True] * aux


def _filled(result: Result, found: Iterator[Any]) -> Result:
    """`result` with other leaves, taken in order."""

    def fill(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [fill(v) for v in value]
        return None if value is None else next(found)

    output, value = fill(result.output), fill(result.value)
    return replace(result, output=output, value=value, aux=fill(result.aux))
