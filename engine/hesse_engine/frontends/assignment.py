"""Assignment to items of traced arrays, in-place operators and methods: NumPy's and torch's meaning, on nodes.

    y[key] = value      the places that key names, found by NumPy on the array of places, are written (`memory`)
    y[computed] = value y' = where(w >= 0, value[w], y), w the last of the written elements for each place, or -1
    y[mask] = scalar    y' = where(mask, scalar, y): the mask need not be known
    y += w              the array changes, not the name: every alias and view sees it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError, HesseError, IndexRangeError
from hesse_engine.frontends import functions, methods
from hesse_engine.frontends.guarded import GUARDED
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.memory import INPUT, READ_ONLY, TRACED_PLACE, Call, Key, Memory, Refusal, Step, View
from hesse_engine.frontends.operands import CATEGORY, array_of, has_node, is_elementwise, ladder, no_rule, tensor
from hesse_engine.frontends.operators import Operators
from hesse_engine.frontends.scattering import combined_at, put_at
from hesse_engine.frontends.table import TORCH, TORCH_ROWS, call, refusing
from hesse_engine.ir.graph import BOOL, Array, Node, Shape, apply
from hesse_engine.ir.shapes import convert

if TYPE_CHECKING:
    from hesse_engine.frontends.trace import Trace, Tracer

_BASIC = frozenset({int, slice, type(None), type(Ellipsis), np.int64, np.int32, np.intp})
# functions whose results are views of their first argument, and those of them that may have to copy
_NUMPY_VIEWS = frozenset({
    "reshape", "ravel", "ndarray.reshape", "ndarray.ravel", "transpose", "ndarray.transpose", "permute_dims",
    "matrix_transpose", "linalg.matrix_transpose", "swapaxes", "moveaxis", "rollaxis", "expand_dims", "squeeze",
    "atleast_1d", "atleast_2d", "atleast_3d", "flip", "fliplr", "flipud", "rot90", "split", "array_split", "hsplit",
    "vsplit", "dsplit", "unstack", "broadcast_to", "diagonal", "ndarray.diagonal", "linalg.diagonal", "asarray",
    "real", "ascontiguousarray", "diag", "broadcast_arrays",
})
_TORCH_VIEWS = frozenset({
    "reshape", "view", "view_as", "reshape_as", "ravel", "flatten", "unflatten", "t", "transpose", "swapaxes",
    "swapdims", "permute", "movedim", "moveaxis", "squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to",
    "select", "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "unbind", "diagonal", "detach",
    "contiguous", "unfold", "hsplit", "vsplit", "dsplit", "adjoint", "mT", "atleast_1d", "atleast_2d", "atleast_3d",
    "to", "type", "type_as", "double", "float", "long", "int", "bool", "requires_grad_",
})
_CASTS = frozenset({"to", "type", "type_as", "double", "float", "long", "int", "bool"})  # the array itself, or a copy
_SEVERAL = frozenset({"atleast_1d", "atleast_2d", "atleast_3d"})  # of each argument one view
VIEWS = {"numpy": _NUMPY_VIEWS, "torch": _TORCH_VIEWS}
_MAY_COPY = frozenset({"reshape", "ravel", "ndarray.reshape", "ndarray.ravel", "flatten", "contiguous", "asarray",
                       "ascontiguousarray", "reshape_as"})


# ---- views -----------------------------------------------------------------------------------------------------------
def is_basic(key: Any) -> bool:
    """Whether x[key] is a view of x."""
    return all([type(k) in _BASIC for k in key]) if type(key) is tuple else type(key) in _BASIC


def own(tracer: Tracer) -> View:
    """The view that a tracer is; one that shares nothing yet becomes the whole of a memory."""
    view = tracer.alias
    if view is None:
        view = tracer.alias = View(Memory(tracer.node))
        view.memory.join(tracer)
    assert isinstance(view, View)
    return view


def link_item(parent: Tracer, child: Tracer, key: Any) -> None:
    """Note that `child` is parent[key]."""
    if not is_basic(key):
        items = key if type(key) is tuple else (key,)
        if any([type(k) is not list and not isinstance(k, np.ndarray) and getattr(k, "ndim", 1) == 0 for k in items]) \
                and child.node.ndim:
            child.alias = TRACED_PLACE
        return
    if child.node.ndim or parent.trace.library == "torch" or (type(key) is tuple and Ellipsis in key):
        _link(parent, child, Key(key))


def link_call(parent: Tracer, result: Any, library: str, name: str, args: Any, kwargs: Any) -> None:
    """Note that what the function `name` answered with are views of its first argument."""
    several = isinstance(result, (tuple, list))
    if name in _CASTS or (name == "diag" and parent.node.ndim != 2):
        if result.node is parent.node:
            _link(parent, result, Key(Ellipsis))
        return
    for k, child in enumerate(result if several else (result,)):
        step = Call(library, name, tuple(args[1:]), kwargs, k if several else None)
        if name in _MAY_COPY and not isinstance(parent.alias, Refusal) and _copies(parent, child, step):
            continue
        _link(parent, child, step)


def _copies(parent: Tracer, child: Tracer, step: Call) -> bool:
    if child.node.dtype != parent.node.dtype:
        return True
    view = parent.alias
    if view is None or (isinstance(view, View) and view.parent is None):
        return False  # results are stored in row-major order
    assert isinstance(view, View)
    places = view.places()
    return not np.may_share_memory(places, step.on_array(places))


def _link(parent: Tracer, child: Tracer, step: Step) -> None:
    if isinstance(parent.alias, Refusal):
        child.alias = parent.alias
        return
    view = own(parent)
    child.alias = View(view.memory, view, step)
    view.memory.join(child)


def read_item(tracer: Tracer, view: View, key: Any) -> Node:
    """tracer[key], of a memory with assignments that are not put together yet."""
    where = tracer.read_key(key)
    if not view.is_detached and not has_node(where):
        node = view.memory.read(np.asarray(placed(tracer, view.places(), where)))
        if node is not None:
            return node
    return index(tracer.node, where)


# ---- writing ---------------------------------------------------------------------------------------------------------
def check_writable(tracer: Tracer, what: str = "") -> None:
    """Refuse to change what is not the function's own; `what` names the method that would."""
    alias = tracer.alias
    if isinstance(alias, Refusal):
        raise alias.error(what)
    if alias is None and not tracer.node.ndim and tracer.trace.library == "numpy":
        raise ArgumentTypeError("bad-type", "A result without dimensions is a scalar in NumPy: it does not support "
                                            "item assignment.", hint="Give the name a new value.")


def update(tracer: Tracer, node: Node) -> None:
    """Make `node`, of the same shape and dtype, the value of the array that `tracer` shows."""
    alias = tracer.alias
    if alias is None:
        tracer.node = node
        return
    assert isinstance(alias, View)
    if alias.parent is None:
        alias.memory.replace(node)
    else:
        alias.memory.write(alias.writable(), node)
    alias.memory.invalidate()
    tracer.node = node


def assign(tracer: Tracer, key: Any, value: Any) -> None:
    """tracer[key] = value."""
    check_writable(tracer)
    trace = tracer.trace
    view = own(tracer)
    source = convert(tensor(trace.unwrap(value), trace.builder), view.memory.dtype)
    if _is_mask(key) and source.size == 1 and not trace.is_known(key.node):
        update(tracer, _masked(tracer.node, key.node, source))
        return
    where = tracer.read_key(key)
    if has_node(where):
        update(tracer, _scattered(tracer.node, where, source))
        return
    places = np.asarray(placed(tracer, view.writable(), where))
    view.memory.write(places, fitted(source, places.shape))
    view.memory.invalidate()


def _is_mask(key: Any) -> bool:
    node = getattr(key, "node", None)
    return isinstance(node, Node) and node.dtype == BOOL


def placed(of: Tracer, places: Array, key: Any) -> Array:
    """places[key]; what NumPy refuses is refused in the words of a traced index."""
    items = tuple([_plain(k) for k in key]) if type(key) is tuple else _plain(key)
    try:
        found: Array = places[items]
        return found
    except (IndexError, TypeError, ValueError) as error:
        index(of.node, key)
        raise IndexRangeError("index-out-of-range", f"{error}.") from None


def _plain(key: Any) -> Any:
    return key if key is None or type(key) in _BASIC or isinstance(key, (bool, list, slice)) else array_of(key)


def fitted(source: Node, shape: Shape) -> Node:
    """`source` broadcast to the items that are assigned to; leading axes of length 1 may be too many."""
    if source.shape == shape:
        return source
    extra = source.ndim - len(shape)
    if extra > 0 and all([s == 1 for s in source.shape[:extra]]):
        source = apply("reshape", source, shape=source.shape[extra:])
    try:
        return apply("broadcast_to", source, shape=shape)
    except HesseError:
        raise GraphError("shape-mismatch", f"Could not broadcast an array of shape {list(source.shape)} into the "
                                           f"assigned items of shape {list(shape)}.") from None


def _masked(node: Node, mask: Node, source: Node) -> Node:
    if mask.ndim > node.ndim or mask.shape != node.shape[:mask.ndim]:
        raise IndexRangeError("index-out-of-range", f"A boolean index of shape {list(mask.shape)} does not fit an "
                                                    f"array of shape {list(node.shape)}.")
    flags = apply("reshape", mask, shape=(*mask.shape, *[1] * (node.ndim - mask.ndim)))
    return apply("where", apply("broadcast_to", flags, shape=node.shape),
                 apply("broadcast_to", apply("reshape", source, shape=()), shape=node.shape), node)


def targets(node: Node, key: Any) -> Node:
    """The position in row-major order of each of node[key], for a key that is computed."""
    return index(apply("reshape", ladder(node.builder, node.size), shape=node.shape), key)


def _scattered(node: Node, key: Any, source: Node) -> Node:
    where = targets(node, key)
    value = fitted(source, where.shape)
    return put_at(node, where, value)


# ---- in place --------------------------------------------------------------------------------------------------------
def castable(result: Node, like: Node, what: str) -> Node:
    """`result` as the new value of `like`: of its shape, and of its dtype where the kind of number allows."""
    if result.shape != like.shape:
        raise GraphError("shape-mismatch", f"{what}: an array of shape {list(like.shape)} cannot take the result of "
                                           f"shape {list(result.shape)} in place.")
    if CATEGORY[result.dtype.kind] > CATEGORY[like.dtype.kind]:
        raise ArgumentTypeError("bad-type", f"{what}: the result of dtype {result.dtype} cannot be cast to "
                                            f"{like.dtype} in place.")
    return convert(result, like.dtype)


def operate(tracer: Tracer, name: str, other: Any) -> Tracer:
    """tracer <name>= other. A scalar of NumPy and an input of the function give the name a new value instead."""
    trace, alias = tracer.trace, tracer.alias
    result = functions.operator(name, tracer.node, trace.unwrap(other))
    if (alias is INPUT and tracer.node.op == "input") or (
            alias is None and not tracer.node.ndim and trace.library == "numpy"):
        return type(tracer)(trace, result)
    check_writable(tracer)
    update(tracer, castable(result, tracer.node, f"{name} in place"))
    return tracer


def method(tracer: Tracer, name: str) -> Any:
    """torch's method `x.name_(...)`: what x.name(...) gives becomes the value of x."""
    base = name[:-1]
    special = f"in_place.{base}"
    found = special if special in TORCH else (methods.find(base, "torch") or ("", ""))[1]
    if name in TORCH:
        return lambda *args, **kwargs: tracer
    if not found:
        raise AttributeError(f"a traced array has no attribute {name!r}")

    def bound(*args: Any, **kwargs: Any) -> Tracer:
        shown = f"torch: x.{name}"
        if base in _TORCH_VIEWS or (found not in TORCH and not is_elementwise(TORCH_ROWS.get(found, found))):
            raise no_rule(shown)
        check_writable(tracer, shown)
        result = tracer.trace.call("torch", found, (tracer, *args), kwargs, shown)
        update(tracer, castable(result.node, tracer.node, shown))
        return tracer

    return bound


def is_in_place(function: Any) -> bool:
    """Whether a torch function changes its first argument."""
    name = str(getattr(function, "__name__", ""))
    return name in _TORCH_DUNDERS or (name.endswith("_") and not name.endswith("__"))


def torch_in_place(function: Any, args: Any, kwargs: Any, shown: str) -> Any:
    name, target = str(function.__name__), args[0]
    if not isinstance(target, Operators):
        raise ArgumentTypeError(
            "cut-graph", f"{shown}: a plain tensor cannot take traced values in place.",
            hint="Begin with a traced tensor: torch.zeros_like(x), x.new_zeros(...) or x.clone(); or use torch.stack.",
        )
    tracer: Any = target
    if name == "__setitem__":
        return assign(tracer, *args[1:])
    if name in _TORCH_DUNDERS:
        return getattr(tracer, name)(*args[1:])
    return method(tracer, name)(*args[1:], **kwargs)


def ufunc(trace: Trace, function: Any, name: str, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A NumPy ufunc; `out` and the method `at` write into traced arrays."""
    if name == "at":
        return _accumulate(function.__name__, *inputs)
    out = kwargs.get("out")
    target = out[0] if isinstance(out, tuple) and len(out) == 1 else None
    if not isinstance(target, Operators):
        return trace.wrap(functions.ufunc(function, name, trace.unwrap(inputs), kwargs))
    tracer: Any = target
    check_writable(tracer)
    options = {k: v for k, v in kwargs.items() if k != "out"}
    result = functions.ufunc(function, name, trace.unwrap(inputs), options)
    update(tracer, castable(fitted(result, tracer.shape), tracer.node, f"numpy.{function.__name__} with out"))
    return tracer


def _accumulate(name: str, target: Any, key: Any, *values: Any) -> None:
    """numpy.<name>.at(target, key, value): every one of several values for one place counts."""
    reduction = {"add": "sum", "subtract": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin"}.get(name)
    if not isinstance(target, Operators):
        raise ArgumentTypeError("cut-graph", f"numpy.{name}.at: a plain array cannot take traced values.",
                                hint="Make the array with hesse.numpy.zeros, or copy a traced one.")
    if reduction is None or not values:
        raise no_rule(f"numpy.{name}.at")
    tracer: Any = target
    check_writable(tracer)
    node, trace = tracer.node, tracer.trace
    where = tracer.read_key(key)
    if has_node(where):
        positions = targets(node, where)
    else:
        grid = np.arange(node.size).reshape(node.shape)
        positions = node.builder.constant(np.asarray(placed(tracer, grid, where)))
    value = fitted(convert(tensor(trace.unwrap(values[0]), trace.builder), node.dtype), positions.shape)
    if name == "subtract":
        value = apply("negative", value)
    update(tracer, combined_at(node, positions, value, reduction))


# ---- functions that need the trace -----------------------------------------------------------------------------------
def special(trace: Trace, library: str, name: str, args: Any, kwargs: Any, shown: str | None) -> Any:
    """A function of `SPECIAL`: one that gives views, changes its first argument, or reads values."""
    operands, options = trace.unwrap(tuple(args)), trace.unwrap(dict(kwargs))
    reads = GUARDED[library].get(name)
    if reads is not None:
        with refusing(shown or f"{library}.{name}", reads, (trace, *operands), options):
            return trace.wrap(reads(trace, *operands, **options))
    first = args[0] if args else None
    if library == "numpy" and name in CHANGES:
        if not isinstance(first, Operators):
            raise ArgumentTypeError("cut-graph", f"numpy.{name}: a plain array cannot take traced values.",
                                    hint="Make the array with hesse.numpy.zeros, or copy a traced one.")
        tracer: Any = first
        check_writable(tracer)
        update(tracer, convert(call(library, name, operands, options, shown), tracer.node.dtype))
        return None
    result = trace.wrap(call(library, name, operands, options, shown))
    if name in _SEVERAL and len(args) > 1:
        for value, view in zip(args, result, strict=True):
            _link_first(value, view, library, name, operands[:1], {})
    else:
        _link_first(None if name == "broadcast_arrays" else first, result, library, name, operands, {**options})
    return result


def _link_first(parent: Any, result: Any, library: str, name: str, args: Any, kwargs: Any) -> None:
    if isinstance(parent, Operators):
        tracer: Any = parent
        link_call(tracer, result, library, name, args, kwargs)
        return
    for child in result if isinstance(result, (tuple, list)) else (result,):
        child.alias = READ_ONLY  # of an array that is named by a keyword, or of several at once


CHANGES = frozenset({"put", "put_along_axis", "fill_diagonal", "copyto", "place", "putmask", "ndarray.fill",
                     "ndarray.sort", "ndarray.partition", "ndarray.put"})
_TORCH_DUNDERS = frozenset({"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__",
                            "__ifloordiv__", "__imod__", "__ipow__", "__iand__", "__ior__", "__ixor__"})
SPECIAL = {
    "numpy": VIEWS["numpy"] | CHANGES | GUARDED["numpy"].keys(),
    "torch": VIEWS["torch"] | GUARDED["torch"].keys(),
}
