"""Clients: to the engine in this process or to a service, waiting or awaited.

    Client(":local:")    embedded, no server                     Client("http://127.0.0.1:8000")    over HTTP
    AsyncClient          the same functions, awaited

What is said and what it means is `protocol`'s; here its steps are performed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hesse.embedded import Embedded
from hesse.errors import TransportError, TransportTimeoutError
from hesse.func import Func
from hesse.function import Function
from hesse.functional import Functional
from hesse.planning import planned
from hesse.protocol import (
    Call,
    Calls,
    Pause,
    Reply,
    Request,
    Steps,
    Wire,
    check_compression,
    converse,
    converse_plan,
)
from hesse_engine.errors import InputError

if TYPE_CHECKING:
    import httpx2

LOCAL = ":local:"
CONNECT_S, READ_S, RETRIES = 5.0, 600.0, 2


@dataclass(frozen=True, slots=True)
class Server:
    """Where a service is and how it is spoken to; `registered` are the functions that it was sent."""

    base_url: str
    headers: Mapping[str, str]
    retries: int
    timeout: Any
    wire: Wire
    registered: set[str] = field(default_factory=set)

    def arguments(self, request: Request) -> dict[str, Any]:
        found = {"content": request.body, "headers": {**self.headers, **request.headers}}
        return found if self.timeout is None else {**found, "timeout": self.timeout}

    def url(self, request: Request) -> str:
        return self.base_url + request.path


def _server(base_url: str, api_key: str | None, timeout: Any, retries: int, is_own: bool, wire: Wire) -> Server:
    import httpx2

    from hesse import __version__

    url = base_url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError("bad-option", f"The base URL must begin with http:// or https://, or be {LOCAL!r}; got "
                                       f"{base_url!r:.80}.")
    check_compression(wire.compression)
    headers = {**wire.headers, "User-Agent": f"hesse-python/{__version__}"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    if timeout is None and is_own:
        timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
    return Server(url, headers, retries, timeout, wire)


def _setting(value: str | None, name: str, default: str | None) -> str | None:
    return value if value is not None else os.environ.get(name) or default


class Client:
    """Computes for the calling thread; may be shared by threads.

    Args:
        base_url: of a service, or ':local:' for the engine in this process; default HESSE_BASE_URL, else ':local:'.
        api_key: sent as a bearer token; default HESSE_API_KEY.
        timeout: seconds, or an `httpx2.Timeout`; default 5 s to connect and 600 s to read.
        max_retries: how often a request is repeated after a lost connection, 408, 429 or 5xx.
        binary: whether tensors are sent and asked for as bytes rather than as JSON; default: sent so where that is
            cheaper, and asked for so.
        compression: 'gzip' or 'zstd' for large request bodies; answers then come in gzip. zstd needs zstandard.
        http_client: an `httpx2.Client` to send with; it is not closed, and its own timeouts hold unless `timeout` is
            given.

    Attributes:
        functional: the functions of `hesse.functional`.
        func: the transforms of `hesse.func`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | httpx2.Timeout | None = None,
        max_retries: int = RETRIES,
        binary: bool | None = None,
        compression: str | None = None,
        http_client: httpx2.Client | None = None,
    ) -> None:
        url = _setting(base_url, "HESSE_BASE_URL", LOCAL)
        assert url is not None
        self.base_url = url
        self.embedded: Embedded | None = None
        self._owned: httpx2.Client | None = None
        if url == LOCAL:
            self.embedded = Embedded()
        else:
            key = _setting(api_key, "HESSE_API_KEY", None)
            self._server = _server(url, key, timeout, max_retries, http_client is None,
                                   Wire(binary, compression))
            if http_client is None:
                import httpx2

                http_client = self._owned = httpx2.Client()
            self._http = http_client
        self.functional = Functional(self.send)
        self.func = Func(self.send, lambda: self.embedded is not None)

    def send(self, call: Call | Calls) -> Any:
        """The user's value of one computation."""
        if self.embedded is not None:
            return self.embedded.run(call)
        assert isinstance(call, Call)
        return self._perform(converse(call, self._server.registered, self._server.retries, self._server.wire))

    def send_plan(self, call: Call) -> Any:
        if self.embedded is not None:
            return self.embedded.plan(call)
        return self._perform(converse_plan(call, self._server.retries, self._server.wire))

    def function(self, f: Callable[..., Any]) -> Function:
        """`hesse.function(f)` over this client."""
        return Function(f, self)

    def plan(self, f: Callable[..., Any], inputs: Any, operation: str = "hessian", **options: Any) -> Any:
        """`hesse.plan` over this client."""
        return self.send_plan(planned(f, inputs, operation, **options))

    def _perform(self, steps: Steps) -> Any:
        reply: Reply | TransportError | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                reply = None
                continue
            with _translated() as failed:
                answer = self._http.request(step.method, self._server.url(step), **self._server.arguments(step))
                reply = Reply(answer.status_code, answer.headers, answer.content)
            if failed:
                reply = failed[0]

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClient:
    """As `Client`; whatever would compute there is awaited here. The embedded one computes in a worker thread."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | httpx2.Timeout | None = None,
        max_retries: int = RETRIES,
        binary: bool | None = None,
        compression: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        url = _setting(base_url, "HESSE_BASE_URL", LOCAL)
        assert url is not None
        self.base_url = url
        self.embedded: Embedded | None = None
        self._owned: httpx2.AsyncClient | None = None
        if url == LOCAL:
            self.embedded = Embedded()
        else:
            key = _setting(api_key, "HESSE_API_KEY", None)
            self._server = _server(url, key, timeout, max_retries, http_client is None,
                                   Wire(binary, compression))
            if http_client is None:
                import httpx2

                http_client = self._owned = httpx2.AsyncClient()
            self._http = http_client
        self.functional = Functional(self.send)
        self.func = Func(self.send, lambda: self.embedded is not None)

    async def send(self, call: Call | Calls) -> Any:
        """The user's value of one computation."""
        if self.embedded is not None:
            return await _in_thread(self.embedded.run, call)
        assert isinstance(call, Call)
        return await self._perform(converse(call, self._server.registered, self._server.retries, self._server.wire))

    async def send_plan(self, call: Call) -> Any:
        if self.embedded is not None:
            return await _in_thread(self.embedded.plan, call)
        return await self._perform(converse_plan(call, self._server.retries, self._server.wire))

    def function(self, f: Callable[..., Any]) -> Function:
        """`hesse.function(f)` over this client; its methods are awaited."""
        return Function(f, self)

    async def plan(self, f: Callable[..., Any], inputs: Any, operation: str = "hessian", **options: Any) -> Any:
        """`hesse.plan` over this client."""
        return await self.send_plan(planned(f, inputs, operation, **options))

    async def _perform(self, steps: Steps) -> Any:
        reply: Reply | TransportError | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Pause):
                await _sleep(step.seconds)
                reply = None
                continue
            with _translated() as failed:
                answer = await self._http.request(step.method, self._server.url(step), **self._server.arguments(step))
                reply = Reply(answer.status_code, answer.headers, answer.content)
            if failed:
                reply = failed[0]

    async def close(self) -> None:
        if self._owned is not None:
            await self._owned.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


async def _in_thread(function: Callable[[Any], Any], argument: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(function, argument)


async def _sleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


@contextlib.contextmanager
def _translated() -> Generator[list[TransportError]]:
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

