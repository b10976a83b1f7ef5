"""One tree of errors, each with a stable code.

    HesseError
    ├── GraphError        (ValueError)          the graph itself is malformed
    ├── InputError        (ValueError)          a tensor, option or literal is not acceptable
    ├── ArgumentTypeError (TypeError)           an argument of the wrong Python type
    ├── FunctionError     (RuntimeError)        the function cannot be differentiated as asked (torch's RuntimeErrors)
    ├── IndexRangeError   (IndexError)          an index outside its axis
    ├── UnsupportedError  (NotImplementedError) known, but not offered
    ├── LimitError        (MemoryError)         over a stated limit; nothing was allocated
    └── StateError        (RuntimeError)        right request, wrong moment (unknown id, guard failed, deadline)

`code` is the contract: clients rebuild the same exception from it (`rebuild`), the service maps it to a status.
"""

from __future__ import annotations

import math
from typing import Any


class HesseError(Exception):
    """An error with a stable `code`; `str(error)` says what was given, what is allowed and what to do."""

    request_id: str | None = None  # of the request that was answered with it, set by the client
    retry_after_s: float | None = None  # how long to wait before the same request may succeed; infinity: it never will

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        pointer: str | None = None,
        node: str | None = None,
    ) -> None:
        super().__init__(message if hint is None else f"{message} {hint}")
        self.code, self.message, self.hint, self.pointer, self.node = code, message, hint, pointer, node

    @property
    def status(self) -> int:
        """The HTTP status that this code is answered with."""
        return STATUS.get(self.code, 422)

    @property
    def is_retryable(self) -> bool:
        return self.status in (429, 503, 504) and self.retry_after_s != math.inf

    def __reduce__(self) -> tuple[Any, ...]:
        made = rebuild, (self.code, self.message, self.hint, self.pointer, self.node)
        return made if self.retry_after_s is None else (*made, {"retry_after_s": self.retry_after_s})


class GraphError(HesseError, ValueError):
    """The graph or expression is malformed."""


class InputError(HesseError, ValueError):
    """A tensor, an option or a literal is not acceptable."""


class ArgumentTypeError(HesseError, TypeError):
    """An argument has a Python type that cannot be used."""


class FunctionError(HesseError, RuntimeError):
    """The function cannot be differentiated in the way asked for."""


class IndexRangeError(HesseError, IndexError):
    """An index lies outside its axis."""


class UnsupportedError(HesseError, NotImplementedError):
    """Known, but not offered."""


class LimitError(HesseError, MemoryError):
    """Over a stated limit; refused before anything was allocated."""


class StateError(HesseError, RuntimeError):
    """The request is right, the moment is not."""


class BranchError(HesseError, AssertionError):
    """Raised where torch raises AssertionError."""


# code -> class. A code belongs to one class, so an error that crossed the wire comes back as what it was.
CODES: dict[str, type[HesseError]] = {}
STATUS: dict[str, int] = {}


def _declare(cls: type[HesseError], status: int, *codes: str) -> None:
    for code in codes:
        if code in CODES:
            raise RuntimeError(f"error code {code!r} is declared twice")
        CODES[code], STATUS[code] = cls, status


_declare(GraphError, 422, "graph-format", "unknown-op", "graph-cycle", "dangling-id", "duplicate-id", "wrong-arity",
         "bad-attribute", "shape-mismatch", "dtype-mismatch", "expression-syntax", "unknown-name", "no-outputs")
_declare(InputError, 422, "bad-tensor", "bad-request", "bad-option", "wrong-inputs", "bad-chunk-size", "bad-device",
         "device-absent", "constant-overflow", "bad-layout", "vmap-in-dims", "vmap-size", "bad-dims",
         "not-floating-primal", "not-tensor", "ambiguous-array", "bad-rows", "bad-columns", "bad-weights", "bad-out")
_declare(InputError, 422, "not-positive-definite", "singular-matrix", "repeated-eigenvalues")
_declare(InputError, 400, "malformed-json", "non-finite-token")
_declare(ArgumentTypeError, 422, "bad-type", "cut-graph", "bad-outputs", "no-rule")
_declare(FunctionError, 422, "not-scalar", "not-single", "not-real", "not-floating", "not-floating-output", "bad-v",
         "independent", "strict-vectorize", "ambiguous-tensor", "vmap-branch", "vmap-item", "no-tensor-output",
         "empty-output", "unsupported-complex", "bad-argnums", "argnums-type", "bad-randomness", "bad-structure",
         "bad-aux", "empty-result", "nonfinite-result", "loop-branch", "random-operation", "random-once",
         "foreign-transform")
_declare(IndexRangeError, 422, "index-out-of-range")
_declare(UnsupportedError, 422, "unsupported", "forward-mode-needs-vectorize")
_declare(LimitError, 413, "too-many-nodes", "too-many-elements", "rank-too-high", "attribute-too-large",
         "too-many-steps", "expression-too-long", "body-too-large", "over-memory-budget", "result-too-large")
_declare(BranchError, 422, "bad-strategy")
_declare(StateError, 404, "unknown-function", "unknown-operation", "not-found")
_declare(StateError, 405, "method-not-allowed")
_declare(StateError, 409, "graph-point-specific")
_declare(StateError, 415, "unsupported-media-type")
_declare(StateError, 504, "deadline-exceeded")
_declare(StateError, 403, "cross-origin")
_declare(StateError, 408, "body-timeout")
_declare(StateError, 503, "busy", "not-ready", "worker-died", "store-unavailable")
_declare(StateError, 503, "draining")
_declare(StateError, 500, "internal")
_declare(LimitError, 413, "too-much-work", "function-too-large", "memory-exceeded", "inflated-too-large")
_declare(InputError, 400, "bad-frame", "bad-encoding", "bad-archive")
_declare(StateError, 401, "unauthorized")
_declare(StateError, 403, "forbidden")
_declare(StateError, 406, "not-acceptable")
_declare(StateError, 429, "over-quota", "too-many-requests")
_declare(StateError, 503, "shared-memory-full")
_declare(StateError, 404, "unknown-job")
_declare(StateError, 409, "job-not-finished", "job-canceled", "idempotency-running")
_declare(StateError, 410, "job-expired")
_declare(StateError, 422, "idempotency-conflict")
_declare(StateError, 429, "too-many-jobs")
_declare(InputError, 400, "bad-header")
_declare(InputError, 400, "malformed-http")
_declare(LimitError, 413, "too-many-parts")


def rebuild(
    code: str, message: str, hint: str | None = None, pointer: str | None = None, node: str | None = None
) -> HesseError:
    """The exception that `code` stands for; an unknown code gives a plain `HesseError`."""
    return CODES.get(code, HesseError)(code, message, hint=hint, pointer=pointer, node=node)
