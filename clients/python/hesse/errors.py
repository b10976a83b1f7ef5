"""The errors of the engine and the service, and what else can go wrong on the way to them.

    HesseError
    ├── ...                                  hesse_engine.errors: rebuilt from the service's codes
    └── TransportError (ConnectionError)     no answer came: refused, reset, not HTTP      code connection-failed
        │                                    or not one of ours, or rows that ended short  bad-answer, incomplete
        └── TransportTimeoutError (TimeoutError)  no answer came in time                   code timed-out

    HesseWarning (UserWarning)
    ├── DetachedWarning                      a result was cut off from an outer derivative
    └── PerformanceWarning                   much of a computation runs in NumPy, op by op
"""

from __future__ import annotations

from typing import Any

from hesse_engine.errors import (
    ArgumentTypeError,
    BranchError,
    FunctionError,
    GraphError,
    HesseError,
    IndexRangeError,
    InputError,
    LimitError,
    StateError,
    UnsupportedError,
)


class TransportError(HesseError, ConnectionError):
    """The service could not be reached, or what answered is not the service."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self.code, self.message, self.hint)


def _made(kind: type[TransportError], code: str, message: str, hint: str | None) -> TransportError:
    return kind(code, message, hint=hint)


class TransportTimeoutError(TransportError, TimeoutError):
    """The service did not answer within the client's timeout."""


class HesseWarning(UserWarning):
    """Anything that is allowed, but probably not meant."""


class DetachedWarning(HesseWarning):
    """A result does not take part in the derivative around it."""


class PerformanceWarning(HesseWarning):
    """A computation is slower than it looks: much of it has no compiled form. Given once for each function.

    `warnings.filterwarnings("ignore", category=hesse.PerformanceWarning)` silences it, as does the environment variable
    HESSE_PERFORMANCE_WARNINGS=0.
    """


__all__ = [
    "ArgumentTypeError",
    "BranchError",
    "DetachedWarning",
    "FunctionError",
    "GraphError",
    "HesseError",
    "HesseWarning",
    "IndexRangeError",
    "InputError",
    "LimitError",
    "PerformanceWarning",
    "StateError",
    "TransportError",
    "TransportTimeoutError",
    "UnsupportedError",
]
