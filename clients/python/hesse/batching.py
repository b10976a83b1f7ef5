"""vmap: the function is traced on one example, and the graph is batched along the mapped axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse import tree
from hesse.draws import ruled
from hesse.protocol import Call, Calls
from hesse.recording import ambient, is_live
from hesse.scope import Scope, Send, is_tensor
from hesse_engine.errors import IndexRangeError, InputError
from hesse_engine.frontends.randomness import Frame
from hesse_engine.frontends.trace import Tracer
from hesse_engine.ir.graph import Array, Graph, Node
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.options import Options
from hesse_engine.result import Result
from hesse_engine.transforms.batch import batch, from_last, to_last

Function = Callable[..., Any]
OPTIONS = Options(api="func", argnums=(0,))


@dataclass(frozen=True, slots=True)
class Mapped:
    """A call of a mapped function: its arguments as leaves, and the axis that each is mapped along."""

    func: Function
    name: str
    leaves: list[Any]
    structure: tree.Structure
    in_dims: list[int | None]
    out_dims: Any
    kwargs: dict[str, Any]
    randomness: str

    @property
    def tensors(self) -> list[int]:
        return [k for k, leaf in enumerate(self.leaves) if is_tensor(leaf)]


@dataclass(frozen=True, slots=True)
class Batched:
    """The batched graph: nodes of the outputs that are tensors, and how to put the whole output together."""

    graph: Graph
    outputs: list[Any]  # leaves; the index of a node where it is a tensor
    is_node: list[bool]
    structure: tree.Structure
    axes: list[int | None]  # of the batch in each node

    def restored(self, found: Sequence[Any], give: Callable[[Any], Any]) -> Any:
        leaves = [give(found[leaf]) if is_node else leaf
                  for leaf, is_node in zip(self.outputs, self.is_node, strict=True)]
        return tree.unflatten(leaves, self.structure)


def vmapped(
    send: Send, func: Function, in_dims: Any, out_dims: Any, randomness: str, chunk_size: int | None, args: Any,
    kwargs: dict[str, Any],
) -> Any:
    """One call of `vmap(func, in_dims, out_dims)(*args, **kwargs)`.

    Raises:
        InputError: `vmap-in-dims`, `vmap-size`, `bad-dims`.
        IndexRangeError: `index-out-of-range`.
    """
    name = name_of(func)
    _check_out_dims(out_dims, name)
    dims, leaves, structure = _mapped_inputs(in_dims, args, name)
    mapped = Mapped(func, name, leaves, structure, dims, out_dims, kwargs, randomness)
    size = _batch_size(mapped)
    tensors = [leaves[k] for k in mapped.tensors]
    scope = Scope(tensors, recorded=ambient())
    is_chunked = chunk_size is not None and chunk_size < size and not any([is_live(t) for t in tensors])
    if chunk_size is not None and is_chunked and not scope.is_nested:
        pieces = _chunked(mapped, scope, size, chunk_size)
        if pieces is not None:
            return send(pieces)
    run = _traced(mapped, scope, Frame(randomness, size))
    if scope.is_nested:
        return run.restored(run.graph.outputs, scope.give)
    if not run.graph.outputs:
        return run.restored((), scope.give)
    return scope.run(send, "value", run.graph, OPTIONS, lambda r, give: run.restored(_values(r, run), give))


def _traced(mapped: Mapped, scope: Scope, frame: Frame) -> Batched:
    """Trace the function on one example and batch what it returns."""
    leaves, examples = list(mapped.leaves), frame.examples
    frame.mapped = lambda shape, dtype: scope.trace.mapped(shape, dtype).node
    for k, tracer in zip(mapped.tensors, scope.real, strict=True):
        axis = mapped.in_dims[k]
        if axis is None:
            leaves[k] = tracer
            continue
        shape = tracer.node.shape
        example = scope.trace.mapped((*shape[:axis], *shape[axis + 1:]), tracer.node.dtype)
        examples[example.node] = to_last(tracer.node, axis)
        leaves[k] = example
    with ruled(frame):
        found = scope.call(mapped.func, *tree.unflatten(leaves, mapped.structure), **mapped.kwargs)
    outputs, structure = tree.flatten(found)
    nodes: list[Node] = []
    axes: list[int | None] = []
    is_node = []
    for k, axis in enumerate(_out_dims(mapped, found, structure)):
        leaf = outputs[k]
        is_node.append(is_tensor(leaf))
        _check_output(leaf, axis, mapped.name)
        if is_tensor(leaf):
            node, where = _placed(scope.lift(leaf).node, examples, axis, frame.size, mapped.name)
            outputs[k] = len(nodes)
            nodes.append(node)
            axes.append(where)
    graph = scope.graph([Tracer(scope.trace, n) for n in nodes])
    return Batched(graph, outputs, is_node, structure, axes)


def _placed(
    node: Node, examples: dict[Node, Node], axis: int | None, size: int, name: str
) -> tuple[Node, int | None]:
    """The batched output with its batch on `axis`, counted from the front."""
    if axis is None:
        if node in dependents(reachable([node]), set(examples)):
            raise InputError("bad-dims",
                             f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
        return node, None
    rank = node.ndim + 1
    if not -rank <= axis < rank:
        raise IndexRangeError(
            "index-out-of-range",
            f"Dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got {axis})",
        )
    (batched,) = batch([node], examples, size)
    return from_last(batched, axis % rank), axis % rank


def _call(run: Batched, arrays: Sequence[Array], finish: Callable[[Result], Any]) -> Call:
    return Call("value", run.graph, tuple(arrays), None, OPTIONS, finish)


def _values(result: Result, run: Batched) -> list[Any]:
    return [result.value] if len(run.axes) == 1 else result.value


def _chunked(mapped: Mapped, scope: Scope, size: int, chunk_size: int) -> Calls | None:
    """The batch in pieces; None where a tensor closed over requires grad, for which the whole is recorded.

    The function is traced once for each length of a piece (two at most), or for each piece where it draws random
    numbers that are to differ.
    """
    axes = [mapped.in_dims[k] for k in mapped.tensors]
    runs: dict[int, Batched] = {}
    calls, used = [], []
    kept: list[Array] = []
    for start in range(0, size, chunk_size):
        width = min(chunk_size, size - start)
        arrays = [a if d is None else a[(slice(None),) * d + (slice(start, start + width),)]
                  for a, d in zip(scope.arrays, axes, strict=True)]
        if width not in runs or (kept and mapped.randomness == "different"):
            frame = Frame(mapped.randomness, width, kept=kept)
            piece = Scope(arrays, library=scope.library, adopts=ambient() != "no")
            runs[width] = _traced(mapped, piece, frame)
            if piece.trace.adopted:
                return None
        calls.append(_call(runs[width], arrays, lambda r: r))
        used.append(runs[width])
    first = used[0]

    def combine(results: list[Result]) -> Any:
        pieces = zip(*[_values(r, first) for r in results], strict=True)
        joined = [p[0] if axis is None else np.concatenate(p, axis) for p, axis in zip(pieces, first.axes, strict=True)]
        return first.restored(joined, scope.give)

    return Calls(tuple(calls), combine)


# ---- checks, in torch's words ----------------------------------------------------------------------------------------
def name_of(func: Function) -> str:
    """What torch calls a function in its errors."""
    if hasattr(func, "__name__"):
        return str(func.__name__)
    if isinstance(func, functools.partial):
        return f"functools.partial({name_of(func.func)}, ...)"
    return repr(func)


def _mapped_inputs(in_dims: Any, args: Any, name: str) -> tuple[list[int | None], list[Any], tree.Structure]:
    """The axis of every leaf of the arguments, counted from the front."""
    at = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple)):
        raise InputError("vmap-in-dims", f"{at}expected `in_dims` to be int or a (potentially nested) tuple matching "
                                         f"the structure of inputs, got: {type(in_dims)}.")
    if not args:
        raise InputError("vmap-in-dims", f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or "
                                         "you are trying to vmap over a function with no inputs. The latter is "
                                         "unsupported.")
    leaves, structure = tree.flatten(tuple(args))
    dims = tree.broadcast(in_dims, structure)
    if dims is None:
        raise InputError(
            "vmap-in-dims",
            f"{at}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{tree.flatten(in_dims)[1]} but inputs has structure {structure}.",
        )
    return [_in_dim(d, leaf, at) for d, leaf in zip(dims, leaves, strict=True)], leaves, structure


def _in_dim(axis: Any, leaf: Any, at: str) -> int | None:
    if axis is None:
        return None
    if not isinstance(axis, int):
        raise InputError("vmap-in-dims", f"{at}Got in_dim={axis} for an input but in_dim must be either an integer "
                                         "dimension or None.")
    if not is_tensor(leaf):
        raise InputError(
            "vmap-in-dims", f"{at}Got in_dim={axis} for an input but the input is of type {type(leaf)}. We cannot vmap "
                            "over non-Tensor arguments, please use None as the respective in_dim"
        )
    rank = len(leaf.shape)
    if not -rank <= axis < rank:
        raise InputError(
            "vmap-in-dims", f"{at}Got in_dim={axis} for some input, but that input is a Tensor of dimensionality "
                            f"{rank} so expected in_dim to satisfy -{rank} <= in_dim < {rank}."
        )
    return axis % rank


def _batch_size(mapped: Mapped) -> int:
    sizes = [leaf.shape[d] for leaf, d in zip(mapped.leaves, mapped.in_dims, strict=True) if d is not None]
    if not sizes:
        raise InputError("vmap-size", "vmap: Expected at least one Tensor to vmap over")
    if any([s != sizes[0] for s in sizes]):
        raise InputError("vmap-size", "vmap: Expected all tensors to have the same size in the mapped dimension, got "
                                      f"sizes {sizes} for the mapped dimension")
    return int(sizes[0])


def _check_out_dims(out_dims: Any, name: str) -> None:
    for axis in tree.flatten(out_dims)[0]:
        if axis is not None and not isinstance(axis, int):
            raise InputError(
                "bad-dims",
                f"vmap({name}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python collection of "
                "ints representing where in the outputs the vmapped dimension should appear.",
            )


def _out_dims(mapped: Mapped, found: Any, structure: tree.Structure) -> list[int | None]:
    out_dims = mapped.out_dims
    if structure.kind is None and isinstance(out_dims, tuple) and len(out_dims) == 1:
        return list(out_dims)
    spread = tree.broadcast(out_dims, structure)
    if spread is None:
        raise InputError(
            "bad-dims",
            f"vmap({mapped.name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure "
            f"of `outputs`. out_dims has structure {tree.flatten(out_dims)[1]} but outputs has structure {structure}.",
        )
    return spread


def _check_output(leaf: Any, axis: int | None, name: str) -> None:
    if axis is not None and not is_tensor(leaf):
        raise InputError(
            "bad-dims", f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(leaf)}. Did you mean to "
                        "set out_dims= to None for output?"
        )
