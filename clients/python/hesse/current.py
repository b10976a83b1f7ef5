"""The current client: what functions that name none are computed by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hesse.async_client import AsyncClient
    from hesse.client import Client

_current: ContextVar[Client | AsyncClient | None] = ContextVar("hesse_client", default=None)
_default: list[Client] = []


def current_client() -> Client | AsyncClient:
    """The client of the innermost `with hesse.use(client)`, else the default one."""
    found = _current.get()
    if found is not None:
        return found
    if not _default:
        from hesse.client import Client  # which itself asks for this module

        _default.append(Client())
    return _default[0]


@contextlib.contextmanager
def use(client: Client | AsyncClient) -> Iterator[Client | AsyncClient]:
    """Make `client` the current one inside the `with` block, for this thread or task."""
    token = _current.set(client)
    try:
        yield client
    finally:
        _current.reset(token)
