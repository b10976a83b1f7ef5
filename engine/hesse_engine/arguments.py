"""Checks of what a call brings: inputs, what is differentiated, and v. Texts are torch's where torch has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse_engine.errors import FunctionError, InputError
from hesse_engine.ir.graph import Array, Node
from hesse_engine.options import Options

VERIFIED = ("hessian", "jacobian", "value_grad_hessian", "hvp", "vhp")

if TYPE_CHECKING:
    from hesse_engine.derivatives import Derivative


def check_inputs(wanted: Sequence[Node], given: Sequence[Any]) -> list[Array]:
    """`given` as C-contiguous arrays of the inputs' own shapes and dtypes."""
    if len(given) != len(wanted):
        raise InputError("wrong-inputs", f"The function has {len(wanted)} input(s), {len(given)} were given.",
                         pointer="/inputs")
    arrays = []
    for k, (node, value) in enumerate(zip(wanted, given, strict=True)):
        array = value if type(value) is np.ndarray else np.asarray(value)
        if array.shape != node.shape or array.dtype != node.dtype:
            raise InputError(
                "wrong-inputs",
                f"Input {node.attrs['name']!r} is {node.dtype}{list(node.shape)}; "
                f"{array.dtype}{list(array.shape)} was given.",
                pointer=f"/inputs/{k}",
            )
        is_ready = array.flags.c_contiguous and array.flags.aligned
        arrays.append(array if is_ready else np.require(array, None, ["C", "A"]))
    return arrays


def check_asked(row: Derivative, options: Options) -> None:
    """What `row` can be asked for: its layouts, and the options that only some operations have.

    Raises:
        InputError: `bad-layout`, `bad-option`, `bad-weights`.
    """
    if options.layout not in row.layouts:
        raise InputError("bad-layout", f"{row.name} cannot be given in the layout {options.layout!r}; it can in "
                                       f"{', '.join(row.layouts)}.", pointer="/options/layout")
    chosen = "rows" if options.rows is not None else "columns"
    if options.is_selective and not row.is_matrix:
        raise InputError("bad-option", f"{row.name} is not a matrix: it has no {chosen} to choose.",
                         pointer=f"/options/{chosen}")
    if options.is_selective and options.layout in ("diag", "packed"):
        raise InputError("bad-layout", f"The layout {options.layout!r} holds a whole Hessian; with {chosen}, ask for "
                                       "dense, csr or coo.", pointer="/options/layout")
    if options.batch is not None and (options.is_selective or options.layout != "dense"):
        raise InputError("bad-layout", "A batch of matrices is dense and whole: layout must be 'dense', rows and "
                                       "columns left out.", pointer="/options/layout")
    if options.tangents is not None and (row.vector == "none" or options.tangents < 1):
        raise InputError("bad-option", "tangents is a positive number of vectors, for jvp, vjp, hvp and vhp.",
                         pointer="/options/tangents")
    if options.weighted and not row.is_second_order:
        raise InputError("bad-weights", f"{row.name} takes no weights: they make one function of several outputs, for "
                                        "Hessians and what is read from them.", pointer="/weights")
    _check_verified(row, options)


def _check_verified(row: Derivative, options: Options) -> None:
    if not options.verify:
        return
    if row.name not in VERIFIED or options.layout == "diag":
        raise InputError("bad-option", f"verify checks {', '.join(VERIFIED)}, in every layout but diag.",
                         pointer="/options/verify")
    if options.batch is not None or options.tangents is not None:
        raise InputError("bad-option", "verify checks one point and one vector.", pointer="/options/verify")


def check_weights(wanted: Sequence[Node], given: Sequence[Any] | None) -> list[Array]:
    """`given` as arrays that fit the outputs.

    Raises:
        InputError: `bad-weights`.
    """
    if given is None:
        if wanted:
            raise InputError("bad-weights", f"{len(wanted)} weight(s) are needed, shaped as the outputs.",
                             pointer="/weights")
        return []
    if len(given) != len(wanted):
        raise InputError("bad-weights", f"There are {len(wanted)} output(s) to weigh; {len(given)} weights were given."
                         if wanted else "This computation was prepared without weights.", pointer="/weights")
    found = []
    for k, (node, value) in enumerate(zip(wanted, given, strict=True)):
        array = np.asarray(value)
        if array.shape != node.shape or array.dtype.kind not in "fiub":
            raise InputError("bad-weights", f"Weight {k} is {array.dtype}{list(array.shape)}; the output is "
                                            f"{node.dtype}{list(node.shape)}.", pointer=f"/weights/{k}")
        found.append(np.asarray(array, dtype=node.dtype, order="C"))
    return found


def check_differentiable(operation: str, outputs: Sequence[Node], wrt: Sequence[Node], options: Options) -> None:
    """Differentiated inputs are floating; under 'func' the outputs are, too ('functional': integers give zeros)."""
    for node in wrt:
        if not node.is_floating:
            is_forward = operation in ("hessian", "jvp") or (operation == "jacobian" and options.strategy == "forward")
            if options.api == "func" and is_forward:
                raise InputError("not-floating-primal",
                                 f"Expected primal to be floating point or complex, but got: torch.{node.dtype}")
            raise FunctionError("not-floating", "only Tensors of floating point dtype can require gradients")
    for node in outputs:
        if options.api == "func" and not node.is_floating:
            raise FunctionError(
                "not-floating-output",
                f"vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype "
                f"torch.{node.dtype}",
            )


def check_vector(row: Derivative, seeds: Sequence[Node], v: Sequence[Any] | None) -> list[Array]:
    """`v` as arrays that fit the seeds; None stands for 1 where there is a single seed of a single element.

    Raises:
        FunctionError: `bad-v`.
    """
    if row.vector == "none":
        if v is not None:
            raise FunctionError("bad-v", f"{row.name} takes no vector v.", pointer="/v")
        return []
    if v is None:
        if len(seeds) == 1 and seeds[0].size == 1:
            return [np.ones(seeds[0].shape, seeds[0].dtype)]
        returns = row.vector == "outputs"
        about = "user-provided function returns" if returns else "input to the user-provided function is"
        raise FunctionError("bad-v", f"The vector v can only be None if the {about} a single Tensor with a single "
                                     "element.", pointer="/v")
    if len(v) != len(seeds):
        raise FunctionError("bad-v", f"v is a tuple of invalid length: should be {len(seeds)} but got {len(v)}.",
                            pointer="/v")
    return [_check_one(k, seed, np.asarray(a), len(seeds)) for k, (seed, a) in enumerate(zip(seeds, v, strict=True))]


def _check_one(k: int, seed: Node, array: Array, count: int) -> Array:
    entry = f"Entry {k} in " if count > 1 else ""
    if array.shape != seed.shape:
        raise FunctionError(
            "bad-v",
            f"{entry}v has invalid size: should be torch.Size({list(seed.shape)}) but got "
            f"torch.Size({list(array.shape)}).",
            pointer=f"/v/{k}" if count > 1 else "/v",
        )
    if array.dtype.kind not in "fiub":
        raise FunctionError("bad-v", f"{entry}v has dtype {array.dtype}; it must be real.", pointer="/v")
    return np.asarray(array, dtype=seed.dtype, order="C")  # ascontiguousarray would make 0 dimensions 1
