"""torch.nn.functional: activations, losses, convolutions, pooling, padding."""

from __future__ import annotations

from conformance.cases import Case

CASES: list[Case] = []
