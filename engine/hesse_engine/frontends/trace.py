"""A Python function becomes a graph by being called on tracers.

A `Tracer` stands for an array: operators, NumPy's and torch's protocols, and the methods of both libraries build nodes.
Inputs are known, so `bool(t)` is answered from their values, and the answer is recorded as a guard: the graph holds
where every guard does. What would cut the graph in silence (`float(t)`, `np.asarray(t)`, `a[0] = t`) raises instead.

Results take item assignment as arrays do, views included: the tracer then stands for another node (`assignment`).
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar, Token
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from hesse_engine.errors import ArgumentTypeError, InputError
from hesse_engine.frontends import assignment, functions, methods
from hesse_engine.frontends.conversions import Conversions
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.memory import INPUT, Refusal, View
from hesse_engine.frontends.operands import array_of, lower, no_rule, tensor, under_no_grad
from hesse_engine.frontends.operators import Operators
from hesse_engine.frontends.refusals import check_api_version
from hesse_engine.frontends.table import call
from hesse_engine.frontends.values import Values
from hesse_engine.ir.graph import BOOL, Array, Builder, DType, Graph, Limits, Node, Shape, apply
from hesse_engine.ir.walk import reachable, substitute

_active: ContextVar[Trace | None] = ContextVar("hesse_trace", default=None)
_namespace: list[str] = []


def active_trace() -> Trace | None:
    """The innermost trace entered (`with trace:`) in this context."""
    return _active.get()


def is_tracer(x: Any) -> bool:
    return type(x) is Tracer


def created(array: Any) -> Any:
    """A new array: inside a trace a constant that takes item assignment of traced values, else `array` itself."""
    trace = _active.get()
    if trace is None:
        return array
    tracer = trace.constant(array)
    if not tracer.ndim:
        assignment.own(tracer)  # an array without dimensions is no scalar
    return tracer


def register_namespace(name: str) -> None:
    """Name the module that `__array_namespace__` answers with; it is imported when it is first asked for."""
    _namespace[:] = [name]


class Trace(Values):
    """One tracing of one function: its builder, the values of its inputs, and the guards met so far."""

    def __init__(self, library: str = "numpy", limits: Limits | None = None, *, adopts: bool = False) -> None:
        if library not in ("numpy", "torch"):
            raise InputError("bad-option", f"A trace follows numpy or torch, not {library!r}.")
        super().__init__(library)
        self.builder = Builder(limits, library)
        self.builder.adopt = self._adopt if adopts else None
        self.adopted: dict[int, tuple[Any, Tracer]] = {}  # by identity: tensors closed over, as inputs
        self._mapped: set[Node] = set()
        self._tokens: list[Token[Trace | None]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ArgumentTypeError("bad-type", "The attribute x.trace of a traced array is its Trace.",
                                hint="Write np.trace(x) or torch.trace(x) for the sum of the diagonal.")

    def __enter__(self) -> Trace:
        self._tokens.append(_active.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _active.reset(self._tokens.pop())

    # ---- making tracers ----------------------------------------------------------------------------------------------
    def input(self, array: Any, name: str) -> Tracer:
        """A new input that has the value `array` while tracing."""
        value = array_of(array)
        node = self.builder.input(name, value.shape, value.dtype)
        self._values[node] = value
        return _input(self, node)

    def _adopt(self, value: Any) -> Node | None:
        """The input that a tensor closed over becomes where torch wants derivatives with respect to it."""
        if getattr(value, "requires_grad", False) is not True:
            return None
        if id(value) not in self.adopted:
            self.adopted[id(value)] = (value, self.input(value, f"closed_{len(self.adopted)}"))
        return self.adopted[id(value)][1].node

    def fresh(self, like: Tracer) -> Tracer:
        """A new input node that stands for `like`: what a transform inside the trace differentiates with respect to."""
        node = self.builder.input("fresh", like.node.shape, like.node.dtype)
        self._stands_for[node] = like.node
        return _input(self, node)

    def mapped(self, shape: Shape, dtype: Any) -> Tracer:
        """One example of a batch: it has a shape and no value, so nothing may branch on it."""
        node = self.builder.input("example", tuple(shape), np.dtype(dtype))
        self._mapped.add(node)
        return _input(self, node)

    def constant(self, value: Any) -> Tracer:
        return Tracer(self, tensor(self.unwrap(value), self.builder))

    def graph(self, outputs: Sequence[Tracer], inputs: Sequence[Tracer]) -> Graph:
        """The graph of `outputs`, with the guards recorded so far."""
        nodes = [*[t.node for t in outputs], *self.guards]
        while found := {n: self._stands_for[n] for n in reachable(nodes) if n in self._stands_for}:
            nodes = substitute(nodes, found)
        if self._mapped and not self._mapped.isdisjoint(reachable(nodes)):
            raise ArgumentTypeError(
                "bad-type", "A value of one example under vmap was stored in an array made outside of it.",
                hint="Return the value from the mapped function.",
            )
        count = len(outputs)
        guards = tuple(zip(nodes[count:], self.guards.values(), strict=True))
        return Graph(tuple([t.node for t in inputs]), tuple(nodes[:count]), guards)

    # ---- between tracers and nodes -----------------------------------------------------------------------------------
    def unwrap(self, value: Any) -> Any:
        """`value` with nodes in place of tracers, in lists, tuples, slices and object arrays too."""
        kind = type(value)
        if kind is Tracer:
            return lower(value.node, self.builder)
        if kind in (list, tuple):
            items = [self.unwrap(v) for v in value]
            return items if kind is list else tuple(items)
        if kind is np.ndarray and value.dtype == object:
            return self.unwrap(value.tolist())
        if kind is dict:
            return {k: self.unwrap(v) for k, v in value.items()}
        if kind is slice:
            return slice(*[self._bound(v) for v in (value.start, value.stop, value.step)])
        return value

    def _bound(self, value: Any) -> Any:
        return int(value.item()) if type(value) is Tracer else value

    def wrap(self, value: Any) -> Any:
        """`value` with tracers in place of nodes."""
        if type(value) is Node:
            return self.made(value)
        if isinstance(value, tuple):
            items = [self.wrap(v) for v in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return [self.wrap(v) for v in value] if type(value) is list else value

    def made(self, node: Node) -> Tracer:
        """The result of an operation."""
        return Tracer(self, under_no_grad(node))

    def call(self, library: str, name: str, args: Any, kwargs: Any, shown: str | None = None) -> Any:
        """A function of the vocabulary of `library` ('numpy' or 'torch') on tracers and constants."""
        if name in assignment.SPECIAL[library]:
            return assignment.special(self, library, name, args, kwargs, shown)
        return self.wrap(call(library, name, self.unwrap(tuple(args)), self.unwrap(dict(kwargs)), shown))


class Tracer(Operators, Conversions):
    """Stands for an array while a function is traced.

    `alias` says what memory it shares (None: none so far), or why it cannot be assigned to. `node` is unset after an
    assignment to that memory, until it is asked for.
    """

    __slots__ = ("__weakref__", "alias", "node", "trace")
    __array_priority__ = 1000.0

    node: Node
    trace: Trace
    alias: View | Refusal | None

    def __init__(self, trace: Trace, node: Node) -> None:
        self.trace, self.node, self.alias = trace, node, None

    def forget(self) -> None:
        """The memory was assigned to: `node` is found anew when it is asked for."""
        with contextlib.suppress(AttributeError):
            del self.node

    # ---- what it is --------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> Shape:
        return self.node.shape

    @property
    def ndim(self) -> int:
        return self.node.ndim

    @property
    def dtype(self) -> Any:
        """NumPy's dtype, or torch's where torch arrays are traced."""
        return self._dtype(self.node.dtype)

    def _dtype(self, dtype: DType) -> Any:
        torch = sys.modules.get("torch") if self.trace.library == "torch" else None
        return dtype if torch is None else getattr(torch, "bool" if dtype == BOOL else str(dtype))

    @property
    def size(self) -> Any:
        """The number of elements; under torch the method `size(dim=None)`."""
        if self.trace.library == "numpy":
            return self.node.size
        return lambda dim=None: self.shape if dim is None else self.shape[dim]

    @property
    def T(self) -> Tracer:  # noqa: N802  (NumPy's name)
        y = Tracer(self.trace, apply("permute_dims", self.node))
        assignment.link_call(self, y, "numpy", "transpose", (self,), {})
        return y

    @property
    def mT(self) -> Tracer:  # noqa: N802  (NumPy's name)
        y = Tracer(self.trace, functions.matrix_transpose(self.node))
        assignment.link_call(self, y, "numpy", "matrix_transpose", (self,), {})
        return y

    @property
    def data(self) -> Tracer:
        return self.detach()

    @property
    def real(self) -> Tracer:
        return self

    @property
    def device(self) -> Any:
        torch = sys.modules.get("torch") if self.trace.library == "torch" else None
        return "cpu" if torch is None else torch.device("cpu")

    @property
    def nbytes(self) -> int:
        return self.node.size * self.itemsize

    @property
    def itemsize(self) -> int:
        return self.node.dtype.itemsize

    def __repr__(self) -> str:
        return f"Tracer(shape={self.shape}, dtype={self.node.dtype})"

    def __len__(self) -> int:
        if not self.ndim:
            raise ArgumentTypeError("bad-type", "len() of a 0-dimensional value.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tracer]:
        if not self.ndim:
            raise ArgumentTypeError("bad-type", "Iteration over a 0-dimensional value.")
        return iter([self[k] for k in range(self.shape[0])])

    def __contains__(self, value: Any) -> bool:
        return bool(self._call("numpy", "any", (self == value,), {}))

    def __copy__(self) -> Tracer:
        return Tracer(self.trace, self.node)

    def __deepcopy__(self, memo: Any) -> Tracer:
        return Tracer(self.trace, self.node)

    # ---- indexing ----------------------------------------------------------------------------------------------------
    def __getitem__(self, key: Any) -> Tracer:
        view = self.alias
        if type(view) is View and view.memory.ids is not None:
            y = self.trace.made(assignment.read_item(self, view, key))
        else:
            y = self.trace.made(index(self.node, self.read_key(key)))
        assignment.link_item(self, y, key)
        return y

    def __setitem__(self, key: Any, value: Any) -> None:
        assignment.assign(self, key, value)

    def read_key(self, key: Any) -> Any:
        """`key` with nodes for traced integers, and values for what is known or must be: masks."""
        parts = tuple([self._part(k) for k in key]) if type(key) is tuple else self._part(key)
        return self.trace.unwrap(parts)

    def _part(self, key: Any) -> Any:
        # a mask decides the shape of the result: its value is read and guarded
        if type(key) is not Tracer:
            return key
        if key.node.dtype == BOOL or (key.node.dtype.kind in "iu" and self.trace.is_known(key.node)):
            return self.trace.concrete(key.node)
        return key

    def _known(self) -> Array | None:
        return self.trace.value(self.node)[0] if self.trace.is_known(self.node) else None

    # ---- Python numbers ----------------------------------------------------------------------------------------------
    def __bool__(self) -> bool:
        return self.trace.branch(self.node)

    def item(self, *args: Any) -> Any:
        """The Python number; the graph is then specific to it, and a guard says so."""
        x = self.reshape(-1)[args] if len(args) == 1 else self[args] if args else self
        return self.trace.item(x.node)

    def detach(self) -> Tracer:
        """The same values, with a derivative of zero."""
        y = Tracer(self.trace, apply("stop_gradient", self.node))
        if self.trace.library == "torch":
            assignment.link_call(self, y, "torch", "detach", (self,), {})
        return y

    # ---- protocols ---------------------------------------------------------------------------------------------------
    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        check_api_version(api_version)
        if not _namespace:
            raise no_rule("__array_namespace__ without a registered namespace")
        return importlib.import_module(_namespace[0])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return assignment.ufunc(self.trace, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = f"{func.__module__}.{func.__name__}".removeprefix("numpy.")
        return self._call("numpy", name, args, kwargs)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tracer = tracer_in([*args, *(kwargs or {}).values()])
        if tracer is None:
            raise ArgumentTypeError("bad-type", "None of the operands is traced.")
        torch = sys.modules["torch"]
        shown = torch.overrides.resolve_name(func) or getattr(func, "__name__", "a torch function")
        if assignment.is_in_place(func):
            return assignment.torch_in_place(func, args, kwargs or {}, shown)
        return tracer._call("torch", functions.torch_name(func), args, kwargs or {}, shown)

    def _call(self, library: str, name: str, args: Any, kwargs: Any, shown: str | None = None) -> Any:
        return self.trace.call(library, name, args, kwargs, shown)

    def __getattr__(self, name: str) -> Any:
        """The methods of both libraries; where they differ, the traced library's."""
        if name == "node":  # the memory was assigned to
            assert isinstance(self.alias, View)
            self.node = self.alias.value()
            return self.node
        if name[-1] == "_" and name[0] != "_" and self.trace.library == "torch":
            return assignment.method(self, name)
        if name in methods.FLAGS and self.trace.library == "torch":
            return False
        found = methods.find(name, self.trace.library)
        if found is None:
            raise AttributeError(f"a traced array has no attribute {name!r}")
        library, method = found

        def bound(*args: Any, **kwargs: Any) -> Any:
            asked = "torch" if library == "numpy" and methods.is_torch_call(name, kwargs) else library
            return self._call(asked, method, (self, *args), kwargs, f"{library}: x.{name}")

        return bound

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *methods.names()})

    # ---- operators ---------------------------------------------------------------------------------------------------
    def _binary(self, name: str, other: Any, reflected: bool = False) -> Any:
        if other is None or isinstance(other, (str, bytes, dict, set)):
            return NotImplemented
        value = other.node if type(other) is Tracer else self.trace.unwrap(other)
        operands = (value, self.node) if reflected else (self.node, value)
        return self.trace.made(functions.operator(name, *operands))

    def _unary(self, name: str) -> Any:
        return Tracer(self.trace, functions.operator(name, self.node))

    def _in_place(self, name: str, other: Any) -> Any:
        return assignment.operate(self, name, other)

    def __pos__(self) -> Any:
        return Tracer(self.trace, self.node)


def _input(trace: Trace, node: Node) -> Tracer:
    tracer = Tracer(trace, node)
    tracer.alias = INPUT
    return tracer


def tracer_in(values: Any) -> Tracer | None:
    """The first tracer among `values`, in their lists, tuples and object arrays too."""
    stack = list(reversed(values))
    while stack:
        value = stack.pop()
        if type(value) is Tracer:
            return value
        if isinstance(value, (list, tuple)):
            stack.extend(reversed(value))
        elif type(value) is np.ndarray and value.dtype == object:
            stack.extend(value.ravel().tolist())
    return None
