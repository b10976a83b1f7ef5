"""A function called on tracers for `hesse.func`: what is differentiated, what came out, and what may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse import tree
from hesse.interop import complex_error, dtype_name, torch_dtype
from hesse.recording import ambient
from hesse.scope import Scope, is_tensor
from hesse_engine.errors import FunctionError, InputError
from hesse_engine.frontends.trace import Tracer, is_tracer
from hesse_engine.ir.graph import Node
from hesse_engine.ir.shapes import convert
from hesse_engine.options import Options, normalized_argnums
from hesse_engine.strict import depends

Function = Callable[..., Any]
Argnums = int | tuple[int, ...]
Give = Callable[[Any], Any]
VJP = "vjp(f, *primals)"
JVP = "jvp(f, primals, tangents)"
GRAD = "grad_and_value(f)(*args)"
RANDOMNESS = ("error", "different", "same")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A function called on tracers: its outputs as leaves, and what is differentiated."""

    scope: Scope
    outputs: list[Tracer]
    structure: tree.Structure
    aux: list[Tracer]
    aux_structure: tree.Structure
    wrt: tuple[int, ...]  # positions among the scope's inputs
    inner: tree.Structure  # of the differentiated arguments

    def options(self, **more: Any) -> Options:
        return Options(api="func", argnums=self.wrt, aux=len(self.aux), **more)

    def aux_tree(self, aux: Sequence[Any], give: Give) -> Any:
        return tree.unflatten([give(a) for a in aux[len(aux) - len(self.aux):]], self.aux_structure)


def evaluate(
    func: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    argnums: Argnums | None,
    has_aux: bool,
    api: str,
    check_outputs: Callable[[list[Any], Any], None],
    *,
    is_forward: bool = False,
    around: Sequence[Any] = (),
) -> Evaluated:
    """Call `func` on tracers of all tensors in `args` and `kwargs`; differentiated are those of `args[argnums]`.

    Args:
        func: the user's function.
        args: trees of tensors and of anything else, which is passed on as it is.
        kwargs: as args.
        argnums: None is all of `args`.
        has_aux: whether `func` returns (output, aux).
        api: what torch calls the transform in its errors.
        check_outputs: looks at the leaves of the output, and at the output.
        is_forward: whose words are used for inputs that cannot be differentiated.
        around: further values that may be tracers of the trace that this call belongs to.
    """
    chosen = tuple(range(len(args))) if argnums is None else normalized_argnums(argnums, len(args))
    leaves, structure = tree.flatten((args, kwargs))
    wrt = _positions(args, chosen)
    for p in wrt:
        _check_primal(leaves[p], is_forward)
    tensors = [p for p, leaf in enumerate(leaves) if is_tensor(leaf)]
    scope = Scope([leaves[p] for p in tensors], around=around, recorded=ambient())
    for p, tracer in zip(tensors, scope.inputs, strict=True):
        leaves[p] = tracer
    traced_args, traced_kwargs = tree.unflatten(leaves, structure)
    found, given_aux = _split(scope.call(func, *traced_args, **traced_kwargs), has_aux, api)
    aux, aux_structure = tree.flatten(given_aux)
    for leaf in aux:
        if not is_tensor(leaf):
            raise FunctionError("bad-aux", f"Expected tensors, got unsupported type {type(leaf)}")
    outputs, out_structure = tree.flatten(found)
    if api != GRAD:
        _check_outputs(outputs, api)
    check_outputs(outputs, found)
    selected = args[chosen[0]] if isinstance(argnums, int) else tuple([args[k] for k in chosen])
    return Evaluated(
        scope, [scope.lift(y) for y in outputs], out_structure, [scope.lift(a) for a in aux], aux_structure,
        tuple([tensors.index(p) for p in wrt]), tree.flatten(selected)[1],
    )


def _positions(args: tuple[Any, ...], chosen: tuple[int, ...]) -> list[int]:
    """Where the leaves of the chosen arguments stand among the leaves of all."""
    counts = [tree.flatten(a)[1].leaves for a in args]
    starts = [sum(counts[:k]) for k in range(len(args))]
    return [p for k in chosen for p in range(starts[k], starts[k] + counts[k])]


def _split(found: Any, has_aux: bool, api: str) -> tuple[Any, Any]:
    if not has_aux:
        return found, ()
    if not (isinstance(found, tuple) and len(found) == 2):
        raise FunctionError("bad-aux",
                            f"{api}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return found


def _dtype_name(value: Any) -> str:
    return dtype_name(value.node if is_tracer(value) else value)


def _check_primal(leaf: Any, is_forward: bool) -> None:
    if not is_tensor(leaf):
        raise InputError("not-tensor", f"Thing passed to transform API must be Tensor, got {type(leaf)}")
    name = _dtype_name(leaf)
    if "complex" in name:
        raise complex_error(name)
    if "float" not in name:
        if is_forward:
            raise InputError("not-floating-primal",
                             f"Expected primal to be floating point or complex, but got: torch.{name}")
        raise FunctionError("not-floating", "only Tensors of floating point dtype can require gradients")


def check_real(args: tuple[Any, ...], name: str, what: str = "inputs") -> None:
    for k, leaf in enumerate(tree.flatten(args)[0]):
        if is_tensor(leaf) and "complex" in _dtype_name(leaf):
            raise FunctionError("unsupported-complex", f"{name}: Expected all {what} to be real but received complex "
                                                       f"tensor at flattened input idx: {k}")


def _check_outputs(outputs: list[Any], api: str) -> None:
    if not outputs or (len(outputs) == 1 and outputs[0] is None):
        raise FunctionError("empty-output", f"{api}: Expected f to be a function that has non-empty output (got output "
                                            f"= {outputs})")
    for leaf in outputs:
        if not is_tensor(leaf):
            raise FunctionError("no-tensor-output", f"{api}: expected f(*primals) to return only tensors, got "
                                                    f"unsupported type {type(leaf)}")


def check_scalar(outputs: list[Any], found: Any) -> None:
    if not is_tensor(found):
        raise FunctionError("no-tensor-output", f"{GRAD}: Expected f(*args) to return a Tensor, got {type(found)}")
    if len(found.shape) != 0:
        raise FunctionError("not-scalar", f"{GRAD}: Expected f(*args) to return a scalar Tensor, got tensor with "
                                          f"{len(found.shape)} dims. Maybe you wanted to use the vjp or jacrev APIs "
                                          "instead?")


def check_reverse_outputs(outputs: list[Any], found: Any) -> None:
    for leaf in outputs:
        name = _dtype_name(leaf)
        if "complex" in name:
            check_real((leaf,), "jacrev", "outputs")
        if "float" not in name:
            raise FunctionError("not-floating-output", "vjp(f, ...): All outputs of f must be floating-point or "
                                                       f"complex Tensors, got Tensor with dtype torch.{name}")


def check_forward_outputs(outputs: list[Any], found: Any) -> None:
    check_real((outputs,), "jacfwd", "outputs")


def check_tensors(leaves: list[Any], what: str) -> None:
    if not leaves:
        raise FunctionError("bad-structure", f"{JVP}: Expected {what} to contain at least one Tensor.")
    for leaf in leaves:
        if not is_tensor(leaf):
            raise FunctionError("bad-structure", f"{JVP}: Expected {what} to only contain Tensors, got {type(leaf)}")


def check_sizes(primals: list[Any], tangents: list[Any]) -> None:
    for primal, tangent in zip(primals, tangents, strict=True):
        if tuple(primal.shape) != tuple(tangent.shape):
            raise FunctionError(
                "bad-v",
                "Trying to set a forward gradient that has a different size than that of the original Tensor, this is "
                f"not supported. Tensor is of size {list(primal.shape)} while the given forward gradient is of size "
                f"{list(tangent.shape)}.",
            )


def check_dependence(run: Evaluated, strict: bool) -> None:
    wrt = [run.scope.inputs[k].node for k in run.wrt]
    if strict and not all([depends(t.node, wrt) for t in run.outputs]):
        raise FunctionError("independent", "jvp(f, primals, tangents, strict=True): The output of f is independent of "
                                           "the inputs. This is not allowed with strict=True.")


def check_randomness(randomness: Any) -> None:
    if randomness not in RANDOMNESS:
        raise FunctionError("bad-randomness", "Only allowed values for randomness are 'error', 'different', or 'same'. "
                                              f"Got {randomness}")


def stand_in(tracer: Tracer) -> Tracer:
    """The output itself; for an integer one a floating zero in its place, whose derivatives are zeros too."""
    node = tracer.node
    if node.is_floating:
        return tracer
    return Tracer(tracer.trace, node.builder.zeros(node.shape, np.dtype(np.float64)))


def cast(block: Any, dtype: Any) -> Any:
    if isinstance(block, Node):
        return convert(block, dtype)
    return block.astype(dtype) if isinstance(block, np.ndarray) else block.to(torch_dtype(dtype))
