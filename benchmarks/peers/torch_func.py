"""torch: `torch.func.hessian(f)`, eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.peers import Contender


def make(case: Case, scale: float) -> Callable[[Any], Any]:
    data = {name: torch.from_numpy(value) for name, value in case.data.items()}
    hessian: Callable[[Any], Any] = torch.func.hessian(lambda x: scale * case.f(torch, x, data))
    return hessian


def contenders() -> list[Contender]:
    return [Contender("torch.func", torch.__version__, make, torch.from_numpy, lambda result, case: result.numpy())]
