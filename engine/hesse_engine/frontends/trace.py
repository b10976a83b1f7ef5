"""A Python function becomes a graph by being called on tracers.

A `Tracer` stands for an array: operators, NumPy's and torch's protocols, and the methods of both libraries build nodes.
Inputs are known, so `bool(t)` is answered from their values, and the answer is recorded as a guard: the graph holds
where every guard does. What would cut the graph in silence (`float(t)`, `np.asarray(t)`, `a[0] = t`) raises instead.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar, Token
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError
from hesse_engine.frontends import functions, methods
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.operands import array_of, elementwise, lower, no_rule, tensor, truth, under_no_grad
from hesse_engine.frontends.operators import Operators
from hesse_engine.frontends.refusals import EXPLICIT, ValueAbsent, ambiguous, cut
from hesse_engine.frontends.table import call
from hesse_engine.ir.graph import BOOL, Array, Builder, DType, Graph, Limits, Node, Shape, apply
from hesse_engine.ir.rows import evaluate
from hesse_engine.ir.walk import reachable, substitute

KEPT_BYTES = 1 << 16  # values up to this size are kept between branches, larger ones are computed again

_active: ContextVar[Trace | None] = ContextVar("hesse_trace", default=None)
_namespace: list[str] = []


def active_trace() -> Trace | None:
    """The innermost trace entered (`with trace:`) in this context."""
    return _active.get()


def is_tracer(x: Any) -> bool:
    return type(x) is Tracer


def register_namespace(name: str) -> None:
    """Name the module that `__array_namespace__` answers with; it is imported when it is first asked for."""
    _namespace[:] = [name]


class Trace:
    """One tracing of one function: its builder, the values of its inputs, and the guards met so far."""

    def __init__(self, library: str = "numpy", limits: Limits | None = None, *, adopts: bool = False) -> None:
        if library not in ("numpy", "torch"):
            raise InputError("bad-option", f"A trace follows numpy or torch, not {library!r}.")
        self.library = library
        self.builder = Builder(limits, library)
        self.builder.adopt = self._adopt if adopts else None
        self.adopted: dict[int, tuple[Any, Tracer]] = {}  # by identity: tensors closed over, as inputs
        self.guards: dict[Node, bool] = {}
        self._values: dict[Node, Array] = {}
        self._stands_for: dict[Node, Node] = {}
        self._mapped: set[Node] = set()
        self._varies: dict[Node, bool] = {}
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
        return Tracer(self, node)

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
        return Tracer(self, node)

    def mapped(self, shape: Shape, dtype: Any) -> Tracer:
        """One example of a batch: it has a shape and no value, so nothing may branch on it."""
        node = self.builder.input("example", tuple(shape), np.dtype(dtype))
        self._mapped.add(node)
        return Tracer(self, node)

    def constant(self, value: Any) -> Tracer:
        return Tracer(self, tensor(self.unwrap(value), self.builder))

    def graph(self, outputs: Sequence[Tracer], inputs: Sequence[Tracer]) -> Graph:
        """The graph of `outputs`, with the guards recorded so far."""
        nodes = [*[t.node for t in outputs], *self.guards]
        while found := {n: self._stands_for[n] for n in reachable(nodes) if n in self._stands_for}:
            nodes = substitute(nodes, found)
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
        return self.wrap(call(library, name, self.unwrap(tuple(args)), self.unwrap(dict(kwargs)), shown))

    # ---- values ------------------------------------------------------------------------------------------------------
    def value(self, node: Node) -> tuple[Array, bool]:
        """The value of `node` on the inputs' values, and whether it varies with them."""
        pending: dict[int, Node] = {}
        stack = [node]
        while stack:
            n = stack.pop()
            if n.number not in pending and not (n in self._values and n in self._varies):
                pending[n.number] = n
                stack.extend(self._operands(n))
        found: dict[Node, Array] = {}
        with np.errstate(all="ignore"):
            # a fresh input is made after the node that it stands for, so numbers still order arguments first
            for number in sorted(pending):
                n = pending[number]
                found[n] = self._evaluate(n, found)
                self._varies[n] = n.op == "input" or any([self._varies[a] for a in n.args])
                if found[n].nbytes <= KEPT_BYTES:
                    self._values[n] = found[n]
        return (found[node] if node in found else self._values[node]), self._varies[node]

    def _operands(self, node: Node) -> tuple[Node, ...]:
        like = self._stands_for.get(node)
        return node.args if like is None else (like,)

    def _evaluate(self, node: Node, found: dict[Node, Array]) -> Array:
        if node.value is not None:
            return node.value
        if node in self._values:
            return self._values[node]
        if node.op == "input":
            like = self._stands_for.get(node)
            if like is None:
                raise ValueAbsent(node)
            return found[like] if like in found else self._values[like]
        operands = [found[a] if a in found else self._values[a] for a in node.args]
        return np.asarray(evaluate(node, operands))

    def branch(self, node: Node) -> bool:
        """The truth of a one-element node, recorded as a guard."""
        if node.size != 1:
            raise ambiguous(node, self.library)
        predicate = apply("reshape", truth(node), shape=())
        try:
            value, varies = self.value(predicate)
        except ValueAbsent:
            raise FunctionError(
                "vmap-branch",
                "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. "
                "We don't support that yet, please rewrite it with hesse.numpy.where or torch.where.",
            ) from None
        if varies:
            self.guards[predicate] = bool(value)
        return bool(value)

    def item(self, node: Node) -> Any:
        """The Python number that a one-element node is; the graph then holds for that number only."""
        if node.size != 1:
            message = f"A value with {node.size} elements cannot be converted to a Python number."
            raise FunctionError("ambiguous-tensor", message) if self.library == "torch" \
                else InputError("ambiguous-array", message)
        return self.concrete(node, "vmap-item").reshape(()).item()

    def concrete(self, node: Node, code: str = "vmap-branch") -> Array:
        """The value of `node`, with a guard that it is this one."""
        try:
            value, varies = self.value(node)
        except ValueAbsent:
            if code == "vmap-branch":
                return np.asarray(self.branch(apply("reshape", apply("sum", truth(node)), shape=())))
            raise FunctionError(
                "vmap-item",
                "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() "
                "on a Tensor, please try to rewrite what you're doing with other operations.",
            ) from None
        if varies:
            same = elementwise("equal", node, value)
            if node.is_floating:
                both = elementwise("logical_and", elementwise("not_equal", node, node), np.isnan(value))
                same = elementwise("logical_or", same, both)
            self.guards[apply("equal", apply("sum", apply("logical_not", same)), 0)] = True
        return value


class Tracer(Operators):
    """Stands for an array while a function is traced. Immutable: `x += 1` gives the name a new value."""

    __slots__ = ("node", "trace")
    __array_priority__ = 1000.0

    node: Node
    trace: Trace

    def __init__(self, trace: Trace, node: Node) -> None:
        self.trace, self.node = trace, node

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
        return Tracer(self.trace, apply("permute_dims", self.node))

    @property
    def mT(self) -> Tracer:  # noqa: N802  (NumPy's name)
        return Tracer(self.trace, functions.matrix_transpose(self.node))

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
        return iter([Tracer(self.trace, index(self.node, k)) for k in range(self.shape[0])])

    def __contains__(self, value: Any) -> bool:
        return bool(self._call("numpy", "any", (self == value,), {}))

    def __copy__(self) -> Tracer:
        return self

    def __deepcopy__(self, memo: Any) -> Tracer:
        return self

    # ---- indexing ----------------------------------------------------------------------------------------------------
    def __getitem__(self, key: Any) -> Tracer:
        return self.trace.made(index(self.node, self._key(key)))

    def _key(self, key: Any) -> Any:
        parts = tuple([self._mask(k) for k in key]) if type(key) is tuple else self._mask(key)
        return self.trace.unwrap(parts)

    def _mask(self, key: Any) -> Any:
        # a mask decides the shape of the result: its value is read and guarded
        is_mask = type(key) is Tracer and key.node.dtype == BOOL
        return self.trace.concrete(key.node) if is_mask else key

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise ArgumentTypeError(
            "cut-graph", "A traced array cannot be assigned to in place.",
            hint="Build the new array: np.where(mask, value, x), np.concatenate([...]) or np.stack([...]).",
        )

    # ---- Python numbers ----------------------------------------------------------------------------------------------
    def __bool__(self) -> bool:
        return self.trace.branch(self.node)

    def item(self, *args: Any) -> Any:
        """The Python number; the graph is then specific to it, and a guard says so."""
        x = self.reshape(-1)[args] if len(args) == 1 else self[args] if args else self
        return self.trace.item(x.node)

    def detach(self) -> Tracer:
        """The same values, with a derivative of zero."""
        return Tracer(self.trace, apply("stop_gradient", self.node))

    def __float__(self) -> float:
        raise cut("float(t), which functions of the module math call too,",
                   f"Use np.sin(t), torch.sin(t) or t.sin() in place of math.sin(t). {EXPLICIT}")

    def __int__(self) -> int:
        raise cut("int(t)", EXPLICIT)

    def __index__(self) -> int:
        raise cut("The use of a traced integer as a Python index or length",
                   f"Index an array by it with hesse.numpy.take(a, t). {EXPLICIT}")

    def __complex__(self) -> complex:
        raise cut("complex(t)", EXPLICIT)

    def tolist(self) -> Any:
        raise cut("t.tolist()", "Iterate over t itself: its elements are traced. " + EXPLICIT)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise cut("t.numpy()", EXPLICIT)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise cut("The conversion of a traced value to a NumPy array (np.asarray(t), np.array([t, ...]), a[0] = t)",
                   f"Build arrays with hesse.numpy.asarray, np.stack([...]) or np.concatenate([...]). {EXPLICIT}")

    def __reduce__(self) -> Any:
        raise cut("Pickling a traced value", EXPLICIT)

    # ---- protocols ---------------------------------------------------------------------------------------------------
    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        if not _namespace:
            raise no_rule("__array_namespace__ without a registered namespace")
        return importlib.import_module(_namespace[0])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.trace.wrap(functions.ufunc(ufunc, method, self.trace.unwrap(inputs), kwargs))

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
        return tracer._call("torch", functions.torch_name(func), args, kwargs or {}, shown)

    def _call(self, library: str, name: str, args: Any, kwargs: Any, shown: str | None = None) -> Any:
        return self.trace.call(library, name, args, kwargs, shown)

    def __getattr__(self, name: str) -> Any:
        """The methods of both libraries; where they differ, the traced library's."""
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
