"""`hesse.function(f)`: a function traced once for each signature and called many times.

A signature is the shapes, dtypes, nesting and library of the inputs. What the function closes over, and every Python
number it computes with, is part of the graph from then on. A branch that was taken on a value is remembered as a guard;
inputs that would take another branch are traced anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.conventions import ABOUT_INPUTS, ABOUT_OUTPUTS, OUTPUTS, Given, as_tuple, check_vector
from hesse.functional import Functional
from hesse.interop import Library, library_of, read
from hesse.protocol import PAIRS, Call
from hesse.scope import Scope
from hesse_engine.backend import reference
from hesse_engine.errors import InputError
from hesse_engine.frontends.trace import active_trace, is_tracer
from hesse_engine.ir.graph import Array, Graph
from hesse_engine.ir.show import graph_id
from hesse_engine.ir.wire import graph_to_json
from hesse_engine.options import Options
from hesse_engine.result import Result

if TYPE_CHECKING:
    from hesse.client import AsyncClient, Client

Prepared = Callable[..., Result]
KEPT_SIGNATURES = 256  # of one function; after that it starts over
KEPT_TRACES = 16  # of one signature, one for each way through its branches


@dataclass(frozen=True, slots=True)
class Traced:
    """One trace: the graph, its identity, and how its outputs nest."""

    graph: Graph
    id: str
    outputs: Given

    def holds(self, arrays: Sequence[Array]) -> bool:
        """Whether these inputs take the branches that were taken."""
        guards = self.graph.guards
        if not guards:
            return True
        found = reference.run([n for n, _ in guards], dict(zip(self.graph.inputs, arrays, strict=True)))
        return all([bool(f) == value for f, (_, value) in zip(found, guards, strict=True)])


class Function:
    """A function with its derivatives; `inputs` is a tensor or a tuple of them, results nest as in `hesse.functional`.

    The keyword options of the methods are those of the engine: `chunk_size`, `strategy`, `layout`, `device`, `threads`,
    `max_memory_bytes`.

    Args:
        f: takes the inputs as arguments, returns a tensor or a tuple of tensors.
        client: computes; default the current client at each call. With an async client every method is awaited.
    """

    def __init__(self, f: Callable[..., Any], client: Client | AsyncClient | None = None) -> None:
        self._f, self._client = f, client
        self._traces: dict[Any, list[Traced]] = {}
        # (embedded engine, operation, shape, dtype) -> what answers for one NumPy array without options or guards
        self._ready: dict[Any, Prepared] = {}
        self.__doc__ = getattr(f, "__doc__", None)

    def __call__(self, *inputs: Any) -> Any:
        """f(*inputs)."""
        return self.value(inputs if len(inputs) != 1 else inputs[0])

    def value(self, inputs: Any, **options: Any) -> Any:
        """f(inputs): a tensor, or a tuple of tensors."""
        prepared = self._prepared("value", inputs, options)
        return self._call("value", inputs, None, options) if prepared is None else prepared((inputs,)).value

    def grad(self, inputs: Any, **options: Any) -> Any:
        """The gradient of a one-element f; shapes of the inputs."""
        prepared = self._prepared("grad", inputs, options)
        return self._call("grad", inputs, None, options) if prepared is None else prepared((inputs,)).value

    def hessian(self, inputs: Any, **options: Any) -> Any:
        """The Hessian of a one-element f; block [i][j] of shape in_i + in_j."""
        prepared = self._prepared("hessian", inputs, options)
        return self._call("hessian", inputs, None, options) if prepared is None else prepared((inputs,)).value

    def jacobian(self, inputs: Any, **options: Any) -> Any:
        """The Jacobian; block [o][j] of shape out_o + in_j."""
        prepared = self._prepared("jacobian", inputs, options)
        return self._call("jacobian", inputs, None, options) if prepared is None else prepared((inputs,)).value

    def hvp(self, inputs: Any, v: Any = None, **options: Any) -> Any:
        """(f(inputs), H v), as `functional.hvp`."""
        return self._pair("hvp", inputs, v, options)

    def vhp(self, inputs: Any, v: Any = None, **options: Any) -> Any:
        """(f(inputs), v' H), as `functional.vhp`."""
        return self._pair("vhp", inputs, v, options)

    def jvp(self, inputs: Any, v: Any = None, **options: Any) -> Any:
        """(f(inputs), J v), as `functional.jvp`."""
        return self._pair("jvp", inputs, v, options)

    def vjp(self, inputs: Any, v: Any = None, **options: Any) -> Any:
        """(f(inputs), v' J), as `functional.vjp`."""
        return self._pair("vjp", inputs, v, options)

    def id(self, inputs: Any) -> str:
        """The identity of the graph that these inputs are computed by: what the service calls the function."""
        return self._traced(*self._read(inputs, "id")).id

    def graph(self, inputs: Any) -> dict[str, Any]:
        """The graph that these inputs are computed by, in the wire format `hesse-graph/1`."""
        return graph_to_json(self._traced(*self._read(inputs, "graph")).graph)

    # ---- the short way -----------------------------------------------------------------------------------------------
    def _prepared(self, operation: str, inputs: Any, options: dict[str, Any]) -> Prepared | None:
        if options or type(inputs) is not np.ndarray:
            return None
        return self._ready.get((self._sender().embedded, operation, inputs.shape, inputs.dtype))

    def _pair(self, operation: str, inputs: Any, v: Any, options: dict[str, Any]) -> Any:
        prepared = self._prepared(operation, inputs, options)
        if prepared is None or type(v) is not np.ndarray:
            return self._call(operation, inputs, v, options)
        result = prepared((inputs,), (v,))
        return result.output, result.value

    # ---- the long way ------------------------------------------------------------------------------------------------
    def _sender(self) -> Client | AsyncClient:
        if self._client is not None:
            return self._client
        from hesse.client import current_client

        return current_client()

    def _read(self, inputs: Any, operation: str) -> tuple[Given, tuple[Array, ...], Library]:
        given = as_tuple(inputs, "inputs", operation)
        return given, tuple([read(x) for x in given.values]), library_of(given.values)

    def _traced(self, given: Given, arrays: tuple[Array, ...], library: Library) -> Traced:
        """The trace of this signature whose guards hold, made now where there is none."""
        signature = (library.name, given.is_tuple, tuple([(a.shape, a.dtype) for a in arrays]))
        if len(self._traces) >= KEPT_SIGNATURES and signature not in self._traces:
            self._traces.clear()
            self._ready.clear()
        traces = self._traces.setdefault(signature, [])
        for traced in traces:
            if traced.holds(arrays):
                return traced
        scope = Scope(arrays, library=library)
        if scope.is_nested:
            raise InputError("wrong-inputs", "Inside a traced function, call a `hesse.function` on traced values.")
        outputs = as_tuple(scope.call(self._f, *scope.inputs), OUTPUTS, "function")
        graph = scope.graph([scope.lift(y) for y in outputs.values])
        made = Traced(graph, graph_id(graph), Given(graph.outputs, outputs.is_tuple))
        traces.append(made)
        del traces[:-KEPT_TRACES]
        return made

    def _call(self, operation: str, inputs: Any, v: Any, options: dict[str, Any]) -> Any:
        given = as_tuple(inputs, "inputs", operation)
        if active_trace() is not None or any([is_tracer(x) for x in given.values]):
            return self._nested(operation, given, v)
        given, arrays, library = self._read(inputs, operation)
        traced = self._traced(given, arrays, library)
        vectors = None
        if operation in PAIRS:
            like, about = (traced.outputs, ABOUT_OUTPUTS) if operation == "vjp" else (given, ABOUT_INPUTS)
            checked = check_vector(v, like, operation, about)
            vectors = None if checked is None else tuple([read(x) for x in checked])
        argnums = tuple(range(len(arrays))) if given.is_tuple else 0
        try:
            chosen = Options(argnums=argnums, **options)
        except TypeError as error:
            raise InputError("bad-option", f"{operation}: {error}.") from None
        outputs = traced.outputs

        def finish(result: Result) -> Any:
            return _finished(operation, result, given, outputs, library)

        client = self._sender()
        call = Call(operation, traced.graph, arrays, vectors, chosen, finish, traced.id)
        if client.embedded is not None and not traced.graph.guards and not outputs.is_tuple and not options \
                and type(inputs) is np.ndarray and arrays[0] is inputs and _waits(client):
            self._ready[client.embedded, operation, inputs.shape, inputs.dtype] = client.embedded.prepare(call)
        return client.send(call)

    def _nested(self, operation: str, given: Given, v: Any) -> Any:
        inputs = given.nest(list(given.values))
        if operation == "value":
            return self._f(*given.values)
        functions = Functional(self._sender().send)
        if operation == "grad":
            return functions.gradient(self._f, inputs)
        function = getattr(functions, operation)
        return function(self._f, inputs, *([v] if operation in PAIRS else []), create_graph=True)


def _waits(client: Client | AsyncClient) -> bool:
    from hesse.client import Client

    return isinstance(client, Client)


def _finished(operation: str, result: Result, given: Given, outputs: Given, library: Library) -> Any:
    """The result as `hesse.functional` nests it: lists to tuples, arrays to the user's kind."""

    def nest(value: Any) -> Any:
        return tuple([nest(v) for v in value]) if isinstance(value, list) else library.wrap(value)

    def by_output(value: Any) -> Any:
        # one output in a tuple is bare in a result, as a single tensor is
        is_single = outputs.is_tuple and len(outputs.values) == 1
        return (nest(value),) if is_single else nest(value)

    value = by_output(result.value) if operation in ("value", "jacobian", "jvp") else nest(result.value)
    return (by_output(result.output), value) if operation in PAIRS else value
