"""What a caller may ask for, checked once, before anything is derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hesse_engine.backend.device import check_device, check_threads
from hesse_engine.errors import FunctionError, InputError

APIS = ("functional", "func")
HESSIAN_STRATEGIES = ("forward-over-reverse", "reverse-over-reverse", "forward-over-forward", "reverse-over-forward")
JACOBIAN_STRATEGIES = ("forward", "reverse")
LAYOUTS = ("dense", "csr", "coo", "diag", "packed")
NONFINITE = ("allow", "error")
TIERS = ("auto", "jit", "vm", "reference")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one computation; `checked` refuses what cannot be honored.

    Attributes:
        api: whose conventions for shapes and block dtypes: 'functional' (torch.autograd.functional) or 'func'.
        argnums: which inputs are differentiated; None is all of them ('functional') or the first ('func').
        chunk_size: most columns (forward) or rows (reverse) in flight at once; None leaves it to the plan.
        preallocate: write chunks into one result; False concatenates them (same bits, higher peak).
        device: 'cpu'.
        threads: how many threads one computation may use; None is 1.
        strategy: 'auto', or a composition for hessian ('forward-over-reverse', ...), or a mode for jacobian.
        layout: layout of a matrix result: 'dense' blocks; 'csr' or 'coo', a sparse matrix over the concatenated inputs;
            'diag', the diagonal in the shapes of the inputs; 'packed', the upper triangle, row by row.
        rows: which rows of a matrix result, by position among the concatenated flattened rows; None is all.
        columns: which columns, likewise. With either, the result is one matrix (rows, columns).
        weighted: differentiate sum_o <w_o, y_o> instead of a single output; w is given with each call.
        batch: inputs hold this many points, on a leading axis, and results too; None is a single point.
        tangents: v holds this many vectors, on a leading axis, and products come back so; None is one.
        max_memory_bytes: refuse, before allocating, what is predicted to need more.
        strict: refuse outputs that do not depend on an input, as torch does.
        aux: how many of the graph's last outputs are auxiliary: evaluated, not differentiated.
        nonfinite: 'allow', or 'error': refuse a result with a NaN or an infinity, naming the node that it comes from.
        verify: check the result in ways independent of how it was computed, and say so in `Result.verification`.
        tier: 'auto' (the reference interpreter answers until the VM is loaded, the VM until hot regions have kernels of
            their own), 'jit' (waits for those kernels), 'vm' or 'reference'.
    """

    api: str = "functional"
    argnums: int | tuple[int, ...] | None = None
    chunk_size: int | None = None
    preallocate: bool = True
    device: str = "cpu"
    threads: int | None = None
    strategy: str = "auto"
    layout: str = "dense"
    rows: tuple[int, ...] | None = None
    columns: tuple[int, ...] | None = None
    weighted: bool = False
    batch: int | None = None
    tangents: int | None = None
    max_memory_bytes: int | None = None
    strict: bool = False
    aux: int = 0
    nonfinite: str = "allow"
    verify: bool = False
    tier: str = "auto"

    def checked(self) -> Options:
        """The same options, or an `InputError` naming the first that is not acceptable."""
        _one_of("api", self.api, APIS)
        _one_of("layout", self.layout, LAYOUTS, "bad-layout")
        _one_of("tier", self.tier, TIERS)
        _one_of("nonfinite", self.nonfinite, NONFINITE)
        _one_of("strategy", self.strategy, ("auto", *HESSIAN_STRATEGIES, *JACOBIAN_STRATEGIES))
        check_device(self.device)
        check_threads(self.threads)
        check_chunk_size(self.chunk_size)
        check_positions("rows", self.rows)
        check_positions("columns", self.columns)
        for name in ("max_memory_bytes", "aux", "batch", "tangents"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 0):
                raise InputError("bad-option", f"{name} must be a non-negative integer.", pointer=f"/options/{name}")
        for name in ("strict", "preallocate", "weighted", "verify"):
            if type(getattr(self, name)) is not bool:
                raise InputError("bad-option", f"{name} must be a boolean.", pointer=f"/options/{name}")
        return self


    @property
    def is_selective(self) -> bool:
        """Whether some rows or columns are asked for instead of all."""
        return self.rows is not None or self.columns is not None


def check_positions(name: str, positions: Any) -> None:
    """None, or a tuple of integers; their range is known with the function."""
    if positions is None:
        return
    if not isinstance(positions, tuple) or any([type(k) is not int for k in positions]):
        raise InputError("bad-option", f"{name} must be a sequence of integers: positions among the concatenated "
                                       "flattened elements.", pointer=f"/options/{name}")


def _one_of(name: str, value: Any, allowed: Sequence[str], code: str = "bad-option") -> None:
    if not isinstance(value, str) or value not in allowed:
        raise InputError(code, f"{name} must be one of {', '.join(allowed)}.", pointer=f"/options/{name}")


def check_chunk_size(chunk_size: Any) -> None:
    """torch's meaning: None, or a positive integer."""
    if chunk_size is None:
        return
    if type(chunk_size) is not int:
        raise InputError("bad-chunk-size", "`chunk_size` should be an integer greater than 0, or None.",
                         pointer="/options/chunk_size")
    if chunk_size <= 0:
        raise InputError("bad-chunk-size", "`chunk_size` should be greater than 0.", pointer="/options/chunk_size")


def normalized_argnums(argnums: Any, count: int) -> tuple[int, ...]:
    """Positions in [0, count); torch's words for what is wrong."""
    at = "/options/argnums"
    if isinstance(argnums, bool) or not isinstance(argnums, (int, tuple)):
        raise FunctionError("argnums-type", f"argnums must be int or Tuple[int, ...], got: {type(argnums)}", pointer=at)
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    for k in numbers:
        if type(k) is not int:
            raise FunctionError("argnums-type", f"argnum must be int, got: {type(k)}", pointer=at)
        if not -count <= k < count:
            raise FunctionError("bad-argnums", f"Got argnum={k}, but only {count} positional inputs", pointer=at)
    if not numbers:
        raise FunctionError("bad-argnums", "argnums must be non-empty", pointer=at)
    positions = tuple([k % count for k in numbers])
    if len(set(positions)) != len(positions):
        raise FunctionError("bad-argnums", f"argnums elements must be unique, got {positions}", pointer=at)
    return positions
