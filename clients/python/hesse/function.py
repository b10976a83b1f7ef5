"""`hesse.function(f)`: a function traced once for each signature and called many times.

A signature is the shapes, dtypes, nesting and library of the inputs. What the function closes over, and every Python
number it computes with, is part of the graph from then on. A branch that was taken on a value is remembered as a guard;
inputs that would take another branch are traced anew. A random draw would be the same in every call, so one that can be
seen (`hesse.numpy.random`, torch's functions) is refused: pass the noise as an argument. Draws of `np.random` cannot be
seen; they are constants.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.asked import Asked, first_point
from hesse.conventions import OUTPUTS, Given, as_tuple
from hesse.current import current_client
from hesse.draws import ruled
from hesse.embedded import Short, short_way
from hesse.functional import Functional
from hesse.interop import Library, library_of, read, wrap_sparse
from hesse.protocol import PAIRS, TRIPLES, Call
from hesse.scope import Scope
from hesse_engine.backend import reference
from hesse_engine.errors import InputError, UnsupportedError
from hesse_engine.frontends.randomness import Frame
from hesse_engine.frontends.trace import active_trace, is_tracer
from hesse_engine.ir.graph import Array, Graph
from hesse_engine.ir.show import graph_id
from hesse_engine.ir.wire import graph_to_json
from hesse_engine.result import Result, SparseMatrix

if TYPE_CHECKING:
    from hesse.async_client import AsyncClient
    from hesse.client import Client

READINGS = ("hessian_diag", "laplacian", "value_grad_hessian")  # what torch.autograd.functional has no name for
ALONE = ("layout", "rows", "columns", "weights", "batched", "out", "verify")  # what no traced function may ask for
KEPT_SIGNATURES = 256  # of one function; after that it starts over
KEPT_SHORT = 1024  # short ways of one function: one for each operation, signature and choice of options
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

    The methods take these keywords beside the engine's `chunk_size`, `strategy`, `device`, `threads` and
    `max_memory_bytes`:

        layout      'dense'; of a Hessian or Jacobian 'csr' or 'coo' (SciPy's arrays, torch's tensors); of a Hessian
                    'diag' or 'packed' (its upper triangle, row by row)
        argnums     which inputs of a tuple are differentiated, a number or a tuple of them; products know none
        rows, columns   positions among all elements: that part of the matrix, and nothing else, is computed
        weights     shaped as the outputs: second derivatives are those of sum_o <w_o, y_o>
        batched     every tensor has a leading axis of points, results too
        out         an array that the result is written into (nested as the result is; of a sparse one, its values)
        nonfinite   'error' refuses a result with a NaN or an infinity and names where it comes from
        verify      True: the answer is a pair (what it would be, a dictionary): how well a Hessian, a Jacobian, hvp or
                    vhp holds, by means that share little with how it was computed; its 'suspicious' names the alarming
                    numbers, `hesse_engine.backend.verification` has the equations

    Vectors of products may have one more axis, the first: then the products of all of them come back so.

    Args:
        f: takes the inputs as arguments, returns a tensor or a tuple of tensors.
        client: computes; default the current client at each call. With an async client every method is awaited.
    """

    def __init__(self, f: Callable[..., Any], client: Client | AsyncClient | None = None) -> None:
        self._f, self._client = f, client
        self._traces: dict[Any, list[Traced]] = {}
        # (operation, shape, dtype, embedded engine, options) -> what answers for one NumPy array
        self._ready: dict[Any, Short] = {}
        self.__doc__ = getattr(f, "__doc__", None)

    def __repr__(self) -> str:
        return f"hesse.function({getattr(self._f, '__qualname__', None) or repr(self._f)})"

    def __call__(self, *inputs: Any) -> Any:
        """f(*inputs)."""
        return self.value(inputs if len(inputs) != 1 else inputs[0])

    def value(self, inputs: Any, **options: Any) -> Any:
        """f(inputs): a tensor, or a tuple of tensors."""
        short = self._short("value", inputs, options)
        return self._call("value", inputs, None, options) if short is None else short.run(inputs)

    def grad(self, inputs: Any, **options: Any) -> Any:
        """The gradient of a one-element f; shapes of the inputs."""
        short = self._short("grad", inputs, options)
        return self._call("grad", inputs, None, options) if short is None else short.run(inputs)

    def hessian(self, inputs: Any, *, out: Any = None, **options: Any) -> Any:
        """The Hessian of a one-element f; block [i][j] of shape in_i + in_j.

        An `out` that was given before, and not changed since outside of this call, costs less than a new array where
        most of the Hessian is zero: only the entries that may differ from zero are written.
        """
        short = self._short("hessian", inputs, options)
        if out is not None:
            if short is None:
                return self._call("hessian", inputs, None, {**options, "out": out})
            return short.into(inputs, out)
        return self._call("hessian", inputs, None, options) if short is None else short.run(inputs)

    def hessian_diag(self, inputs: Any, **options: Any) -> Any:
        """The diagonal of the Hessian; shapes of the inputs."""
        short = self._short("hessian_diag", inputs, options)
        return self._call("hessian_diag", inputs, None, options) if short is None else short.run(inputs)

    def laplacian(self, inputs: Any, **options: Any) -> Any:
        """The trace of the Hessian, a scalar."""
        short = self._short("laplacian", inputs, options)
        return self._call("laplacian", inputs, None, options) if short is None else short.run(inputs)

    def value_grad_hessian(self, inputs: Any, **options: Any) -> Any:
        """(f(inputs), gradient, Hessian) at the price of one call."""
        short = self._short("value_grad_hessian", inputs, options)
        return self._call("value_grad_hessian", inputs, None, options) if short is None else short.triple(inputs)

    def jacobian(self, inputs: Any, **options: Any) -> Any:
        """The Jacobian; block [o][j] of shape out_o + in_j."""
        short = self._short("jacobian", inputs, options)
        return self._call("jacobian", inputs, None, options) if short is None else short.run(inputs)

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
    def _short(self, operation: str, inputs: Any, options: dict[str, Any]) -> Short | None:
        if type(inputs) is not np.ndarray:
            return None
        sender = self._client or current_client()
        try:
            return self._ready.get((operation, inputs.shape, inputs.dtype, sender.embedded, *options.items()))
        except TypeError:  # an option that is no key: an array
            return None

    def _pair(self, operation: str, inputs: Any, v: Any, options: dict[str, Any]) -> Any:
        short = self._short(operation, inputs, options)
        if short is None or type(v) is not np.ndarray or v.ndim != short.rank:
            return self._call(operation, inputs, v, options)
        return short.pair(inputs, v)

    # ---- the long way ------------------------------------------------------------------------------------------------
    def _sender(self) -> Client | AsyncClient:
        return self._client or current_client()

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
        with ruled(Frame("once")):
            found = scope.call(self._f, *scope.inputs)
        outputs = as_tuple(found, OUTPUTS, "function")
        graph = scope.graph([scope.lift(y) for y in outputs.values])
        made = Traced(graph, graph_id(graph), Given(graph.outputs, outputs.is_tuple))
        traces.append(made)
        del traces[:-KEPT_TRACES]
        return made

    def _call(self, operation: str, inputs: Any, v: Any, options: dict[str, Any]) -> Any:
        given = as_tuple(inputs, "inputs", operation)
        if active_trace() is not None or any([is_tracer(x) for x in given.values]):
            return self._nested(operation, given, v, options)
        given, arrays, library = self._read(inputs, operation)
        asked = Asked.of(operation, given, arrays, options)
        traced = self._traced(given, first_point(arrays) if asked.batch is not None else arrays, library)
        if asked.batch is not None and traced.graph.guards:
            asked.check_branches(traced.holds, arrays)
        outputs = traced.outputs
        v, weights, chosen = asked.resolved(v, outputs)

        def finish(result: Result) -> Any:
            value = _finished(operation, asked.written(result), given, outputs, library)
            return (value, result.verification) if chosen.verify else value

        client = self._sender()
        out = asked.out if client.embedded is not None else None
        call = Call(operation, traced.graph, arrays, v, chosen, finish, traced.id, weights, out)
        is_plain = type(inputs) is np.ndarray and arrays[0] is inputs and not outputs.is_tuple and weights is None
        is_single = chosen.tangents is None and chosen.batch is None and not traced.graph.guards
        is_usual = is_single and asked.out is None and not chosen.verify
        if client.embedded is not None and is_plain and is_usual and _waits(client):
            short = short_way(client.embedded.prepare(call))
            if short is not None:
                key = (operation, inputs.shape, inputs.dtype, client.embedded, *options.items())
                if len(self._ready) >= KEPT_SHORT:
                    self._ready.clear()
                with contextlib.suppress(TypeError):  # an option that is no key
                    self._ready[key] = short
        return client.send(call)

    def _nested(self, operation: str, given: Given, v: Any, options: dict[str, Any]) -> Any:
        refused = [name for name in ALONE if options.get(name)]
        if refused:
            raise UnsupportedError("unsupported", f"{operation} inside a traced function knows no {refused[0]}.")
        inputs = given.nest(list(given.values))
        if operation == "value":
            return self._f(*given.values)
        functions = Functional(self._sender().send)
        if operation == "grad":
            return functions.gradient(self._f, inputs)
        if operation in READINGS:
            return functions.second_order(operation, self._f, inputs)
        function = getattr(functions, operation)
        return function(self._f, inputs, *([v] if operation in PAIRS else []), create_graph=True)


def _waits(client: Client | AsyncClient) -> bool:
    from hesse.client import Client

    return isinstance(client, Client)


def _finished(operation: str, result: Result, given: Given, outputs: Given, library: Library) -> Any:
    """The result as `hesse.functional` nests it: lists to tuples, arrays to the user's kind."""

    def nest(value: Any) -> Any:
        if isinstance(value, SparseMatrix):
            return wrap_sparse(value, library)
        return tuple([nest(v) for v in value]) if isinstance(value, list) else library.wrap(value)

    def by_output(value: Any) -> Any:
        # one output in a tuple is bare in a result, as a single tensor is
        is_single = outputs.is_tuple and len(outputs.values) == 1
        return (nest(value),) if is_single else nest(value)

    value = by_output(result.value) if operation in ("value", "jacobian", "jvp") else nest(result.value)
    if operation in TRIPLES:
        return nest(result.output), nest(result.gradient), value
    return (by_output(result.output), value) if operation in PAIRS else value
