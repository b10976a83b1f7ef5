"""Where a user's function is called: in a trace of its own, or inside the trace of a function around it.

    outermost   inputs are arrays      -> the function becomes a graph, and one `Call` computes it
    nested      inputs are tracers     -> the function becomes nodes of the graph around it (`frontends.nested`)

Both answer with a `Result` of the same nesting, so every transform is written once: it builds a graph and finishes a
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hesse.interop import Library, is_array, library_of, read
from hesse.protocol import Call
from hesse.recording import Recorded, Twin, as_tensor, enabled, internal_leaf, is_inference, is_live
from hesse_engine.backend import reference
from hesse_engine.errors import ArgumentTypeError, InputError
from hesse_engine.frontends.nested import derive, detached
from hesse_engine.frontends.trace import Trace, Tracer, active_trace, is_tracer, register_namespace
from hesse_engine.ir.graph import Array, Graph, Node
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options
from hesse_engine.result import Result

register_namespace("hesse.numpy")

Send = Callable[[Any], Any]
Finish = Callable[[Result, Callable[[Any], Any]], Any]


def is_tensor(value: Any) -> bool:
    """Whether `value` can be differentiated through: an array, a tensor or a tracer."""
    return is_tracer(value) or is_array(value)


class Scope:
    """One call of a user's function on `leaves`; `inputs` are the tracers that it is given for them.

    `recorded` says whether torch can differentiate results further: 'no', 'wanted' (where a tensor that goes in
    requires grad), or 'always' (inputs that do not are copied to ones that do, as with create_graph=True).
    """

    def __init__(
        self, leaves: Sequence[Any], names: Sequence[str] | None = None, *, around: Sequence[Any] = (),
        library: Library | None = None, recorded: str = "no", adopts: bool | None = None,
    ) -> None:
        outer = next((x.trace for x in (*leaves, *around) if is_tracer(x)), None) or active_trace()
        self.is_nested = outer is not None
        self.arrays: tuple[Array, ...] = ()
        names = names or [f"x{k}" for k in range(len(leaves))]
        self.library = library or library_of([x for x in leaves if not is_tracer(x)])
        if not leaves:
            raise InputError("wrong-inputs", "There is no array among the arguments.")
        if outer is None:
            is_torch = self.library.name == "torch"
            self.recorded = recorded if is_torch and not is_inference() else "no"
            is_adopting = self.recorded != "no" if adopts is None else adopts
            self.trace = Trace(self.library.name, adopts=is_torch and is_adopting)
            self.arrays = tuple([read(x) for x in leaves])
            self.leaves = leaves
            self.real = [self.trace.input(a, n) for a, n in zip(self.arrays, names, strict=True)]
            self.inputs = list(self.real)
        else:
            self.trace, self.recorded = outer, "no"
            self.real = [self.lift(x) for x in leaves]
            self.inputs = [outer.fresh(t) for t in self.real]

    @property
    def closed(self) -> list[Node]:
        """Inputs of the trace that stand for tensors closed over."""
        return [t.node for _, t in self.trace.adopted.values()]

    def lift(self, value: Any) -> Tracer:
        """`value` as a tracer of this scope; an array becomes a constant."""
        if is_tracer(value):
            tracer: Tracer = value
            if tracer.trace is not self.trace:
                raise ArgumentTypeError(
                    "bad-type", "A traced value of another call was used: it outlived the function that made it.",
                    hint="Pass what the function needs as arguments.",
                )
            return tracer
        array = read(value)
        return self.trace.constant(value if is_live(value) else array)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.trace, enabled(self.trace.library == "torch"):
            return function(*args, **kwargs)

    def give(self, leaf: Any) -> Any:
        """An element of a result as the user's kind of array, or as a tracer."""
        return self.trace.wrap(leaf) if self.is_nested else self.library.wrap(leaf)

    def graph(self, outputs: Sequence[Tracer]) -> Graph:
        """The function that was called, on `inputs`."""
        if self.is_nested:
            return Graph(tuple([t.node for t in self.inputs]), tuple([t.node for t in outputs]))
        return self.trace.graph(outputs, self.inputs)

    def run(
        self, send: Send, operation: str, graph: Graph, options: Options, finish: Finish, v: Sequence[Any] | None = None
    ) -> Any:
        """`finish(result, give)`: of a call that is sent, or of nodes derived here and now."""
        if not self.is_nested:
            if self.recorded != "no":
                recorded = self._recorded(send, operation, graph, options, v or ())
                if recorded is not None:
                    return recorded.run(finish)
            closed = list(self.trace.adopted.values())
            graph = replace(graph, inputs=(*graph.inputs, *[t.node for _, t in closed])) if closed else graph
            inputs = (*self.arrays, *[read(t) for t, _ in closed])
            arrays = None if v is None else tuple([read(a) for a in v])
            call = Call(operation, graph, inputs, arrays, options, lambda result: finish(result, self.give))
            return send(call)
        arguments = {t.node: r.node for t, r in zip(self.inputs, self.real, strict=True)}
        vectors = [self.lift(a).node for a in v or ()]
        result = derive(graph, operation, vectors, options, arguments)
        if self.depends_on_inputs(result):
            return finish(result, self.give)
        # nothing of the trace around it enters: the result is known, and is given as arrays
        return finish(result, lambda node: self.library.wrap(reference.run([node], {})[0]))

    def _recorded(
        self, send: Send, operation: str, graph: Graph, options: Options, v: Sequence[Any]
    ) -> Recorded | None:
        """The computation with all that torch may want derivatives of as inputs; None where that is nothing."""
        closed = list(self.trace.adopted.values())
        given = [as_tensor(x) for x in self.leaves]
        others = [*[t for t, _ in closed], *[as_tensor(a) for a in v]]
        wanted = [is_live(t) for t in (*given, *others)]
        if self.recorded == "always":
            given = [t if is_live(t) else internal_leaf(t) for t in given]
        elif not any(wanted):
            return None
        graph = replace(graph, inputs=(*graph.inputs, *[t.node for _, t in closed]))
        return Recorded(send, Twin.of(graph), operation, options, (*given, *others), tuple(wanted))

    def depends_on_inputs(self, result: Result) -> bool:
        """Whether anything in a nested result varies with what is around it."""
        found = _nodes([result.value, result.output, result.aux])
        return any([n.op == "input" for n in reachable(found)])


def _nodes(value: Any) -> list[Node]:
    if isinstance(value, list):
        return [n for v in value for n in _nodes(v)]
    return [value] if isinstance(value, Node) else []


def cut(result: Result) -> Result:
    """A nested result that takes no part in the derivative around it."""
    return replace(result, value=_map(_cut_one, result.value), output=_map(_cut_one, result.output))


def _cut_one(node: Node) -> Node:
    return detached([node])[0]


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_map(change, v) for v in value]
    return None if value is None else change(value)
