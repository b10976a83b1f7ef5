"""What a plan says, wherever it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """How a computation would be done and what it would cost; nothing was computed.

    The fields (`operation`, `strategy`, `threads`, `columns`, `chunk_size`, `chunks`, `flops`, `result_bytes`,
    `predicted_peak_bytes`, ...) are attributes; `str(plan)` is a few readable lines.
    """

    fields: dict[str, Any]
    text: str

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"a plan has no {name!r}; it has {', '.join(self.fields)}") from None

    def as_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def __str__(self) -> str:
        return self.text
