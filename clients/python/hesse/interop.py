"""Arrays in and out: what goes in as a NumPy array, a torch tensor or another array-API array comes back as one.

torch is never imported here: a tensor can only be given where it has been imported already.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError
from hesse_engine.frontends.operands import values_of
from hesse_engine.ir.graph import DTYPES, Array
from hesse_engine.result import SparseMatrix

Wrap = Callable[[Array], Any]
NATIVE = frozenset(DTYPES.values())


@dataclass(frozen=True, slots=True)
class Library:
    """Where arrays come from: `name` decides which methods mean what in a trace, `wrap` makes results of its kind."""

    name: str
    wrap: Wrap


def _same(array: Array) -> Any:
    return array


NUMPY = Library("numpy", _same)


def is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    # while torch is being imported by another thread, the module is there and the name is not
    tensor = getattr(torch, "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def is_array(value: Any) -> bool:
    """Whether `value` is what torch's texts call a Tensor: an array of any library, but no Python number or list."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "fiubc"
    return is_torch(value) or (hasattr(value, "__array_namespace__") and not isinstance(value, type))


def library_of(values: Iterable[Any]) -> Library:
    """The library of the first value that is not NumPy's; NumPy when there is none."""
    for value in values:
        if isinstance(value, (np.ndarray, np.generic)):
            continue
        if is_torch(value):
            return Library("torch", sys.modules["torch"].from_numpy)
        if hasattr(value, "__array_namespace__"):
            return Library("numpy", value.__array_namespace__().asarray)
    return NUMPY


def read(value: Any) -> Array:
    """`value` as a NumPy array of a dtype that a graph can hold; tensors are read through `detach`, without a copy.

    Raises:
        InputError: `device-absent` for a tensor that is not on the CPU, `bad-tensor` for a dtype or layout not offered.
        FunctionError: `unsupported-complex`.
        ArgumentTypeError: `bad-type`.
    """
    if type(value) is np.ndarray and value.dtype in NATIVE:
        return value
    array = _read_torch(value) if is_torch(value) else _read_array(value)
    if array.dtype.kind == "c":
        raise complex_error(array.dtype)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in NATIVE:
        raise InputError("bad-tensor", f"The dtype {array.dtype} is not supported.",
                         hint=f"Allowed are {', '.join(DTYPES)}.")
    return array


def wrap_sparse(matrix: SparseMatrix, library: Library) -> Any:
    """A sparse result as the user's kind: a torch sparse tensor, else SciPy's array, else (without SciPy) itself.

    The index arrays are shared by all results of a computation and read-only.
    """
    if library.name == "torch":
        return _torch_sparse(matrix, library)
    try:
        from scipy.sparse import coo_array, csr_array
    except ImportError:
        return matrix
    if matrix.layout == "coo":
        found = coo_array((matrix.data, (matrix.rows, matrix.indices)), shape=matrix.shape)
    else:
        found = csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    found.has_canonical_format = True  # sorted, each entry once
    return found


def _torch_sparse(matrix: SparseMatrix, library: Library) -> Any:
    torch, values = sys.modules["torch"], library.wrap(matrix.data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*beta state", category=UserWarning)
        if matrix.layout == "coo":
            at = torch.from_numpy(np.stack([matrix.row_numbers(), matrix.indices]).astype(np.int64))
            return torch.sparse_coo_tensor(at, values, matrix.shape, is_coalesced=True,
                                           check_invariants=False)
        starts, at = (torch.from_numpy(np.array(a)) for a in (matrix.indptr, matrix.indices))
        return torch.sparse_csr_tensor(starts, at, values, matrix.shape, check_invariants=False)


def complex_error(dtype: Any) -> FunctionError:
    """torch's words for a complex function."""
    return FunctionError(
        "unsupported-complex", f"grad can be implicitly created only for real scalar outputs but got torch.{dtype}"
    )


def _read_torch(value: Any) -> Array:
    if value.device.type != "cpu":
        raise InputError("device-absent", f"A tensor lies on device '{value.device}'; available: 'cpu'.",
                         hint="Pass x.cpu() and move the result back.")
    if value.layout is not sys.modules["torch"].strided:
        raise InputError("bad-tensor", f"A tensor has the layout {value.layout}; only dense tensors are supported.",
                         hint="Pass x.to_dense().")
    if value.dtype.is_complex:
        raise complex_error(str(value.dtype).removeprefix("torch."))
    try:
        return values_of(value)
    except TypeError:
        raise InputError("bad-tensor", f"The dtype {value.dtype} is not supported.",
                         hint=f"Allowed are {', '.join(DTYPES)}.") from None


def _read_array(value: Any) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise InputError("bad-tensor", "A masked array cannot be differentiated: the mask would be lost.",
                         hint="Pass x.filled(value).")
    if not is_array(value):
        raise ArgumentTypeError("bad-type", f"An array was expected, got {type(value)}.")
    try:
        return np.from_dlpack(value) if not isinstance(value, (np.ndarray, np.generic)) else np.asarray(value)
    except (BufferError, TypeError, RuntimeError, ValueError, AttributeError):
        return np.asarray(value)


def dtype_name(value: Any) -> str:
    """The dtype of an array of any library under the name that all of them have for it: 'float64'."""
    dtype = value.dtype
    return dtype.name if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]


def torch_dtype(dtype: Any) -> Any:
    """torch's name for a NumPy dtype that a graph can hold."""
    return getattr(sys.modules["torch"], str(dtype))


def torch_size(shape: tuple[int, ...]) -> str:
    """A shape as torch prints it."""
    return f"torch.Size({list(shape)})"
