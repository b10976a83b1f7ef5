"""The client whose computations are awaited."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from hesse.embedded import Embedded
from hesse.errors import TransportError
from hesse.func import Func
from hesse.function import Function
from hesse.functional import Functional
from hesse.jobs import (
    AsyncJob,
    Refused,
    call_of,
    check_stream,
    converse_jobs,
    converse_submit,
    finish_of,
)
from hesse.listed import RegisteredFunction, converse_describe, converse_forget, converse_page
from hesse.local_jobs import AsyncLocalJob, LocalJob
from hesse.planning import planned
from hesse.protocol import (
    Call,
    Calls,
    Pause,
    Reply,
    Request,
    Steps,
    Wire,
    converse,
    converse_plan,
)
from hesse.remote import LOCAL, RETRIES, Server, keeps_nothing, server_of, setting, shown
from hesse.streaming import Download
from hesse.transport import translated
from hesse_engine.errors import UnsupportedError
from hesse_engine.ir.graph import Array

if TYPE_CHECKING:
    import httpx2

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
        url = setting(base_url, "HESSE_BASE_URL", LOCAL)
        assert url is not None
        self.base_url = url
        self.embedded: Embedded | None = None
        self._owned: httpx2.AsyncClient | None = None
        if url == LOCAL:
            self.embedded = Embedded()
        else:
            key = setting(api_key, "HESSE_API_KEY", None)
            self._server = server_of(url, key, timeout, max_retries, http_client is None,
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

    async def functions(self) -> AsyncIterator[RegisteredFunction]:
        """The functions that the service keeps for this client's key, oldest first; asked for page by page."""
        path: str | None = None
        while self.embedded is None:
            page = await self._perform(converse_page(path, self._server.retries))
            for found in page.functions:
                yield found
            path = page.next
            if path is None:
                return

    async def describe(self, id: str) -> RegisteredFunction:
        """A function that the service keeps, with its graph.

        Raises:
            RuntimeError: `unknown-function`.
        """
        self._check_kept()
        found: RegisteredFunction = await self._perform(converse_describe(id, self._server.retries))
        return found

    async def forget(self, id: str) -> None:
        """Have the service delete a function; a `hesse.function` that is called again sends it again.

        Raises:
            RuntimeError: `unknown-function`.
        """
        self._check_kept()
        await self._perform(converse_forget(id, self._server.retries))
        self._server.registered.discard(id)

    def _check_kept(self) -> None:
        if self.embedded is not None:
            raise keeps_nothing()

    # ---- jobs --------------------------------------------------------------------------------------------------------
    async def submit(
        self, operation: str, f: Callable[..., Any], *inputs: Any, **options: Any
    ) -> AsyncJob | AsyncLocalJob:
        """As `Client.submit`."""
        call = call_of(operation, f, inputs, options)
        if self.embedded is not None:
            embedded = self.embedded
            return AsyncLocalJob(LocalJob(lambda: embedded.run(call)))
        name = await self._perform(converse_submit(call, self._server.retries, self._server.wire))
        return self._job(name, call)

    def job(self, id: str) -> AsyncJob:
        """A job that was submitted before, by whatever program; its result comes as NumPy arrays."""
        return self._job(id)

    async def jobs(self, state: str | None = None) -> AsyncIterator[AsyncJob]:
        """The jobs that the service keeps for this key, the newest first; those of one state where it is given."""
        after = None
        while True:
            documents, after = await self._perform(converse_jobs(state, after, self._remote.retries))
            for document in documents:
                yield self._job(document["id"])
            if after is None:
                return

    @property
    def _remote(self) -> Server:
        if self.embedded is not None:
            raise UnsupportedError("unsupported", "The embedded client keeps no jobs beyond the objects of `submit`.")
        return self._server

    def _job(self, name: str, call: Call | None = None) -> AsyncJob:
        retries = self._remote.retries
        if call is None:
            return AsyncJob(name, self._perform, self._lines, retries)
        return AsyncJob(name, self._perform, self._lines, retries, call.operation, finish_of(call))

    @contextlib.asynccontextmanager
    async def _lines(self, request: Request) -> AsyncGenerator[AsyncIterator[str]]:
        with translated() as failed:
            arguments = self._server.arguments(request)
            async with self._http.stream(request.method, self._server.url(request), **arguments) as answer:
                if answer.status_code >= 400:
                    raise Refused(Reply(answer.status_code, answer.headers, await answer.aread()))
                check_stream(answer.status_code, answer.headers)
                yield answer.aiter_lines()
        if failed:
            raise failed[0]

    # ---- matrices larger than memory ---------------------------------------------------------------------------------
    async def stream_hessian(self, f: Callable[..., Any], *inputs: Any, **asked: Any) -> Array:
        """As `Client.stream_hessian`."""
        return await Download.of(f, inputs, "hessian", asked).run_async(self)

    async def stream_jacobian(self, f: Callable[..., Any], *inputs: Any, **asked: Any) -> Array:
        """As `Client.stream_jacobian`."""
        return await Download.of(f, inputs, "jacobian", asked).run_async(self)

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
            with translated() as failed:
                answer = await self._http.request(step.method, self._server.url(step), **self._server.arguments(step))
                reply = Reply(answer.status_code, answer.headers, answer.content)
            if failed:
                reply = failed[0]

    def __repr__(self) -> str:
        return f"AsyncClient({shown(self.base_url)!r})"

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
