"""Clients: to the engine in this process or to a service, waiting or awaited.

    Client(":local:")    embedded, no server                     Client("http://127.0.0.1:8000")    over HTTP
    AsyncClient          the same functions, awaited

What is said and what it means is `protocol`'s; here its steps are performed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from hesse.embedded import Embedded
from hesse.errors import TransportError
from hesse.func import Func
from hesse.function import Function
from hesse.functional import Functional
from hesse.jobs import (
    Job,
    Refused,
    call_of,
    check_stream,
    converse_jobs,
    converse_submit,
    finish_of,
)
from hesse.listed import RegisteredFunction, converse_describe, converse_forget, converse_page
from hesse.local_jobs import LocalJob
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
        url = setting(base_url, "HESSE_BASE_URL", LOCAL)
        assert url is not None
        self.base_url = url
        self.embedded: Embedded | None = None
        self._owned: httpx2.Client | None = None
        if url == LOCAL:
            self.embedded = Embedded()
        else:
            key = setting(api_key, "HESSE_API_KEY", None)
            self._server = server_of(url, key, timeout, max_retries, http_client is None,
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

    def functions(self) -> Iterator[RegisteredFunction]:
        """The functions that the service keeps for this client's key, oldest first; asked for page by page."""
        path: str | None = None
        while self.embedded is None:
            page = self._perform(converse_page(path, self._server.retries))
            yield from page.functions
            path = page.next
            if path is None:
                return

    def describe(self, id: str) -> RegisteredFunction:
        """A function that the service keeps, with its graph.

        Raises:
            RuntimeError: `unknown-function`.
        """
        self._check_kept()
        found: RegisteredFunction = self._perform(converse_describe(id, self._server.retries))
        return found

    def forget(self, id: str) -> None:
        """Have the service delete a function; a `hesse.function` that is called again sends it again.

        Raises:
            RuntimeError: `unknown-function`.
        """
        self._check_kept()
        self._perform(converse_forget(id, self._server.retries))
        self._server.registered.discard(id)

    def _check_kept(self) -> None:
        if self.embedded is not None:
            raise keeps_nothing()

    # ---- jobs --------------------------------------------------------------------------------------------------------
    def submit(self, operation: str, f: Callable[..., Any], *inputs: Any, **options: Any) -> Job | LocalJob:
        """Have `client.function(f).<operation>(inputs, **options)` computed while nobody waits.

        Embedded, a thread computes. Over HTTP the job outlives this program: keep its `id`.

        Raises:
            StateError: `too-many-jobs`, `store-unavailable`.
        """
        call = call_of(operation, f, inputs, options)
        if self.embedded is not None:
            embedded = self.embedded
            return LocalJob(lambda: embedded.run(call))
        name = self._perform(converse_submit(call, self._server.retries, self._server.wire))
        return self._job(name, call)

    def job(self, id: str) -> Job:
        """A job that was submitted before, by whatever program; its result comes as NumPy arrays."""
        return self._job(id)

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """The jobs that the service keeps for this key, the newest first; those of one state where it is given."""
        after = None
        while True:
            documents, after = self._perform(converse_jobs(state, after, self._remote.retries))
            for document in documents:
                yield self._job(document["id"])
            if after is None:
                return

    @property
    def _remote(self) -> Server:
        if self.embedded is not None:
            raise UnsupportedError("unsupported", "The embedded client keeps no jobs beyond the objects of `submit`.")
        return self._server

    def _job(self, name: str, call: Call | None = None) -> Job:
        retries = self._remote.retries
        if call is None:
            return Job(name, self._perform, self._lines, retries)
        return Job(name, self._perform, self._lines, retries, call.operation, finish_of(call))

    @contextlib.contextmanager
    def _lines(self, request: Request) -> Generator[Iterator[str]]:
        with translated() as failed:
            arguments = self._server.arguments(request)
            with self._http.stream(request.method, self._server.url(request), **arguments) as answer:
                if answer.status_code >= 400:
                    raise Refused(Reply(answer.status_code, answer.headers, answer.read()))
                check_stream(answer.status_code, answer.headers)
                yield answer.iter_lines()
        if failed:
            raise failed[0]

    # ---- matrices larger than memory ---------------------------------------------------------------------------------
    def stream_hessian(self, f: Callable[..., Any], *inputs: Any, **asked: Any) -> Array:
        """The Hessian of a one-element f as an (n, n) array in a file, row by row; see `hesse.streaming`."""
        return Download.of(f, inputs, "hessian", asked).run(self)

    def stream_jacobian(self, f: Callable[..., Any], *inputs: Any, **asked: Any) -> Array:
        """The Jacobian of f as an (m, n) array in a file, row by row; see `hesse.streaming`."""
        return Download.of(f, inputs, "jacobian", asked).run(self)

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
            with translated() as failed:
                answer = self._http.request(step.method, self._server.url(step), **self._server.arguments(step))
                reply = Reply(answer.status_code, answer.headers, answer.content)
            if failed:
                reply = failed[0]

    def __repr__(self) -> str:
        return f"Client({shown(self.base_url)!r})"

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
