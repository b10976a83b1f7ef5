"""torch: `torch.func.hessian(f)`, eager."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cases import PLAIN, Case
from benchmarks.peers import Call, Namespace

NAME = "torch.func"
NAMES = Namespace(torch, diagonal_of=torch.diagonal,
                  solve_lower=lambda a, b: torch.linalg.solve_triangular(a, b[:, None], upper=False)[:, 0])


def function(case: Case, scale: float) -> Call:
    """scale * f, of x alone or of x and the data."""
    if case.data_as == "arguments":
        keys = list(case.values())
        return lambda x, *given: scale * case.f(NAMES, x, dict(zip(keys, given, strict=True)))
    data = case.values() if case.data_as == "numbers" else {k: torch.from_numpy(v) for k, v in case.values().items()}
    return lambda x: scale * case.f(NAMES, x, data)


class Torch:
    version = torch.__version__

    def names(self, case: Case, is_short: bool) -> Sequence[str]:
        # above PLAIN inputs a dense result does not fit, and there is no sparse one
        is_too_large = case.peer_task == "hessian" and case.n > PLAIN
        skipped = is_too_large or NAME in case.without or (is_short and NAME in case.slow)
        return [] if skipped else [NAME]

    def make(self, name: str, case: Case, scale: float) -> Call:
        f = function(case, scale)
        if case.peer_task == "hvp":
            gradient = torch.func.grad(f)
            return lambda x, v: torch.func.jvp(gradient, (x,), (v,))[1]
        hessian: Call = torch.func.hessian(f)
        return torch.func.vmap(hessian) if case.task == "batched" else hessian

    def arguments(self, name: str, case: Case, x: NDArray[Any], v: NDArray[Any]) -> tuple[Any, ...]:
        if case.peer_task == "hvp":
            return torch.from_numpy(x), torch.from_numpy(v)
        data = case.values().values() if case.data_as == "arguments" else ()
        return (torch.from_numpy(x), *[torch.from_numpy(d) for d in data])

    def plain(self, name: str, case: Case, result: Any) -> NDArray[Any]:
        return np.asarray(result.detach().numpy())


def library() -> Torch:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return Torch()
