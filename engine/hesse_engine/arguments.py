"""Checks of what a call brings: inputs, what is differentiated, and v. Texts are torch's where torch has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse_engine.errors import FunctionError, InputError
from hesse_engine.ir.graph import Array, Node
from hesse_engine.options import Options

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
