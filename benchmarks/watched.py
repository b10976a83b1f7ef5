"""The embedded engine with a view of what it prepared last: a run is checked by its stats."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import hesse
from hesse.embedded import Embedded

_USED = ExitStack()  # never closed: for the rest of the process


class Watched(Embedded):
    """`last` is the prepared computation of the last call that was not answered by the short way."""

    last: Any = None

    def prepare(self, call: Any) -> Any:
        self.last = super().prepare(call)
        return self.last


def watch() -> Watched:
    """From here on `hesse` computes by the engine that is returned."""
    client, engine = hesse.Client(":local:"), Watched()
    client.embedded = engine
    _USED.enter_context(hesse.use(client))
    return engine
