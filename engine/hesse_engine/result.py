"""What a computation gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hesse_engine.ir.graph import Array

Nested = Array | list["Nested"]


@dataclass(frozen=True, slots=True)
class Result:
    """`value` is the derivative (lists where torch nests tuples).

    `output` is f(x), for the operations that torch answers with a pair (jvp, vjp, hvp, vhp); `aux` are the auxiliary
    outputs; `stats` says how it was computed.
    """

    value: Any
    output: Any = None
    aux: list[Array] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
