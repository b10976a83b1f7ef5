"""What can go wrong on the way to a service, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from hesse.errors import TransportError, TransportTimeoutError


@contextlib.contextmanager
def translated() -> Generator[list[TransportError]]:
    """Catch what the HTTP library raises; the yielded list then holds it as one of our errors."""
    import httpx2

    failed: list[TransportError] = []
    try:
        yield failed
    except httpx2.ConnectTimeout as error:
        failed.append(_caused(TransportTimeoutError("connection-failed", "The service did not accept the connection in "
                                                                         "time."), error))
    except httpx2.TimeoutException as error:
        failed.append(_caused(TransportTimeoutError("timed-out", "The service did not answer in time.",
                                                    hint="Client(timeout=...) sets how long to wait."), error))
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        unreached = TransportError("connection-failed", f"The service could not be reached: {error}.")
        failed.append(_caused(unreached, error))


def _caused(error: TransportError, cause: Exception) -> TransportError:
    error.__cause__ = cause
    return error
