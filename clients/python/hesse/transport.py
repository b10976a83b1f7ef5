"""What can go wrong on the way to a service, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from hesse.errors import TransportError, TransportTimeoutError

SOUGHT = "Does `hesse serve` run there? Client(base_url=...), or HESSE_BASE_URL, says where it is sought."


@contextlib.contextmanager
def translated() -> Generator[list[TransportError]]:
    """Catch what the HTTP library raises; the yielded list then holds it as one of our errors."""
    import httpx2

    failed: list[TransportError] = []
    try:
        yield failed
    except httpx2.ConnectTimeout as error:
        text = f"The service{_place(error)} did not accept the connection in time."
        failed.append(_caused(TransportTimeoutError("connection-failed", text, hint=SOUGHT), error))
    except httpx2.TimeoutException as error:
        failed.append(_caused(TransportTimeoutError("timed-out", "The service did not answer in time.",
                                                    hint="Client(timeout=...) sets how long to wait."), error))
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        unreached = TransportError("connection-failed", f"The service{_place(error)} could not be reached: {error}.",
                                   hint=SOUGHT)
        failed.append(_caused(unreached, error))


def _place(error: Exception) -> str:
    """Where the service was sought: the base URL of the request that failed, without a name and password in it."""
    try:
        url = error.request.url  # type: ignore[attr-defined]  # checked by what is caught
    except (AttributeError, RuntimeError):  # it failed before there was a request
        return ""
    return f" at {url.scheme}://{url.netloc.decode()}{url.path.rpartition('/v1/')[0]}"


def _caused(error: TransportError, cause: Exception) -> TransportError:
    error.__cause__ = cause
    return error
