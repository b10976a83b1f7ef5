"""Who is measured: one file a library, run in a process of its own. Each says how it makes and calls a Hessian."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.cases import Case

FILES = {  # by the module that has to be there
    "embedded": "hesse", "jax_jit": "jax", "torch_func": "torch", "casadi_functions": "casadi", "asdex_sparse": "asdex",
}
BUFFER = " buffer"  # ends the name of a contender that is listed but is no rival
Call = Callable[..., Any]


class Library(Protocol):
    """What a file offers as `library()`."""

    version: str

    def names(self, case: Case, is_short: bool) -> Sequence[str]:
        """The contenders that take part in `case`."""

    def make(self, name: str, case: Case, scale: float) -> Call:
        """The derivative of scale * f that `case` asks for, as that contender. A new scale: a function never seen."""

    def arguments(self, name: str, case: Case, x: NDArray[Any], v: NDArray[Any]) -> tuple[Any, ...]:
        """What a call takes at x (and v), in the library's own arrays."""

    def plain(self, name: str, case: Case, result: Any) -> NDArray[Any]:
        """A result to compare: the matrix; for large n its product with the probe; a product itself. Not timed."""


def load(file: str) -> Library:
    library: Library = importlib.import_module(f"benchmarks.peers.{file}").library()
    return library


def installed() -> tuple[list[str], list[str]]:
    """Files whose library is there, ours first, and the names of the absent ones."""
    found = [f for f, module in FILES.items() if importlib.util.find_spec(module) is not None]
    return found, [module for f, module in FILES.items() if f not in found]


class Namespace:
    """A library's functions, with those that it names differently."""

    def __init__(self, module: Any, **more: Any) -> None:
        self._module = module
        self.__dict__.update(more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
