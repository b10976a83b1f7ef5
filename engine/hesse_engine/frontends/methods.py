"""The methods of a tracer: those of `np.ndarray` and those of `torch.Tensor`, by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from hesse_engine.errors import InputError
from hesse_engine.frontends import (
    arrangement,
    condition,
    convolution,
    elementary,
    interpolation,
    linear_algebra,
    manipulation,
    ordering,
    padding,
    polynomials,
    reductions,
    scattering,
    special,
    statistics,
    torch_arrays,
    torch_functions,
    torch_layers,
    torch_linear_algebra,
    torch_losses,
    torch_neural,
    torch_norms,
    torch_ordering,
    torch_pooling,
    torch_products,
    torch_scattering,
    torch_shapes,
    torch_statistics,
    torch_windows,
)
from hesse_engine.frontends.guarded import GUARDED
from hesse_engine.frontends.operands import is_elementwise, tensor
from hesse_engine.frontends.table import NUMPY, TORCH, TORCH_ROWS, numpy_function
from hesse_engine.ir.graph import Node, apply

_TORCH_KEYWORDS = {"dim", "keepdim", "dims", "unbiased"}
# what a torch.Tensor can be and a traced one is not
FLAGS = frozenset({"is_nested", "is_sparse", "is_quantized", "is_cuda", "is_mkldnn", "is_meta"})


# ---- methods of ndarray whose signature is not that of the function of the same name, under a name of their own ------
@numpy_function("ndarray.reshape")
def reshape(a: Node, *shape: Any) -> Node:
    return apply("reshape", a, shape=shape[0] if len(shape) == 1 else shape)


@numpy_function("ndarray.transpose")
def transpose(a: Node, *axes: Any) -> Node:
    order = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes or None
    return apply("permute_dims", a, axes=order)


@numpy_function("ndarray.clip")
def clip(a: Node, min: Any = None, max: Any = None) -> Node:
    return reductions.clip(a, min, max)


@numpy_function("ndarray.diagonal")
def diagonal(a: Node, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    return manipulation.diagonal(a, offset, axis1, axis2)


@numpy_function("ndarray.flatten", "ndarray.ravel")
def flatten(a: Node, order: str = "C") -> Node:
    return manipulation.ravel(a if order in "CKA" else apply("permute_dims", tensor(a)))


@numpy_function("ndarray.to_device")
def to_device(a: Node, device: Any, /, *, stream: None = None) -> Node:
    if device != "cpu" or stream is not None:
        raise InputError("device-absent", f"Device {device!r} is not offered, only 'cpu' is, and without streams.")
    return tensor(a)


def find(name: str, library: str) -> tuple[str, str] | None:
    """(library, function) that the method `name` stands for; one that has no rule is found too, and refused on call."""
    if name.startswith("__"):
        return None
    order = ("torch", "numpy") if library == "torch" else ("numpy", "torch")
    for candidate in order:
        if candidate == "numpy":
            if hasattr(np.ndarray, name) and callable(getattr(np.ndarray, name)):
                known = [n for n in (f"ndarray.{name}", name) if n in NUMPY or n in GUARDED["numpy"]]
                if known:
                    return "numpy", known[0]
        elif f"Tensor.{name}" in TORCH:
            return "torch", f"Tensor.{name}"
        elif name in TORCH or is_elementwise(TORCH_ROWS.get(name, name)):
            return "torch", name
    torch = sys.modules.get("torch") if library == "torch" else None
    for candidate, owner in ((library, np.ndarray if torch is None else torch.Tensor), ("numpy", np.ndarray)):
        if callable(getattr(owner, name, None)):
            return candidate, name
    return None


def is_torch_call(name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether the keywords are torch's."""
    return not _TORCH_KEYWORDS.isdisjoint(kwargs) and (name in TORCH)


def names() -> list[str]:
    return [n for n in NUMPY if hasattr(np.ndarray, n)] + list(TORCH)


__all__ = [
    "arrangement", "condition", "convolution", "elementary", "find", "interpolation", "is_torch_call",
    "linear_algebra", "names", "ordering", "padding", "polynomials", "scattering", "special", "statistics",
    "torch_arrays", "torch_functions", "torch_layers", "torch_linear_algebra", "torch_losses", "torch_neural",
    "torch_norms", "torch_ordering", "torch_pooling", "torch_products", "torch_scattering", "torch_shapes",
    "torch_statistics", "torch_windows",
]
