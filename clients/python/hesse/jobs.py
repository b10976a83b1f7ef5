"""Long work that a service does while nobody waits.

    job = client.submit("hessian", f, x)
    job.state()            'queued', 'running', 'succeeded', 'failed', 'canceled' or 'expired'
    for event in job.events(): ...
    job.result()           what the direct call returns

What is said is written once, as conversations (see `protocol`); `Job` performs them, `AsyncJob` awaits them.
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from hesse.errors import TransportError, TransportTimeoutError
from hesse.function import Function
from hesse.protocol import (
    PAIRS,
    TRIPLES,
    Call,
    Finish,
    Pause,
    Reply,
    Request,
    Step,
    Steps,
    Wire,
    call_request,
    decode_result,
    delay,
    exchange,
    failure,
    is_worth_retrying,
)
from hesse.slow import watched
from hesse_engine.errors import InputError
from hesse_engine.result import Result

OPERATIONS = ("value", "grad", "jacobian", "hessian", "hessian_diag", "laplacian", "value_grad_hessian", *PAIRS)
UNFINISHED = ("queued", "running")
FIRST_POLL_S, LONGEST_POLL_S = 0.05, 2.0
RESTART_S = 60.0  # a job outlives its server: one that drains, starts again and warms up is back within this
AWAY = ("connection-failed", "draining", "not-ready")
BROKEN = ("incomplete", "timed-out")  # a stream of events that ended, or fell silent, is asked for again
EVENT_STREAM = "text/event-stream"
ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class JobEvent:
    """`kind` is 'state', 'progress' or 'end'; `data` what the service tells with it."""

    id: int
    kind: str
    data: dict[str, Any]


class _Caught:
    """Stands in for a client: a call that is sent is handed back instead."""

    embedded = None

    @staticmethod
    def send(call: Call) -> Call:
        return call


def call_of(operation: str, f: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]) -> Call:
    """The call that `hesse.function(f).<operation>(*inputs, **options)` would send."""
    if operation not in OPERATIONS:
        raise InputError("bad-option", f"The operations are {', '.join(OPERATIONS)}; got {operation!r:.40}.")
    function = Function(f, cast("Any", _Caught()))
    found: Call = getattr(function, operation)(inputs if len(inputs) != 1 else inputs[0], **options)
    return found


# ---- waiting ---------------------------------------------------------------------------------------------------------
class Refused(Exception):
    """An answer in the place of events."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Patience:
    """What is borne while a job is waited for: `retries` failures in a row, and a server that is away for RESTART_S.

    Without retries nothing is borne. `end` is when to give up in any case [s, monotonic]; `also` are more codes that
    are worth a repetition.
    """

    def __init__(self, retries: int, end: float | None = None, also: tuple[str, ...] = ()) -> None:
        self._retries, self._end, self._also = retries, end, also
        self.renew()

    def renew(self) -> None:
        """Begin anew: there was an answer."""
        self._attempt, self._away_until = 0, math.inf

    def after(self, answer: Reply | TransportError, final: str | None = None) -> float:
        """Seconds to wait before asking again; raises the error that is answered where that does not help.

        `final` is the code of an error that never changes.
        """
        status, headers = (answer.status, answer.headers) if isinstance(answer, Reply) else (None, {})
        error = failure(answer) if isinstance(answer, Reply) else answer
        assert error is not None
        now = time.monotonic()
        is_away = error.code in AWAY and self._is_away(now)
        is_worth = error.code in self._also or is_worth_retrying(status, error)
        if error.code == final or not (is_away or (is_worth and self._attempt < self._retries)):
            raise error
        left = math.inf if self._end is None else self._end - now
        if left <= 0:
            raise TransportTimeoutError("timed-out", "The service said nothing of the job in time.") from error
        seconds = delay(self._attempt, headers)
        self._attempt += 0 if is_away else 1
        return min(seconds, left, LONGEST_POLL_S if is_away else math.inf)

    def _is_away(self, now: float) -> bool:
        self._away_until = min(self._away_until, now + RESTART_S)
        return self._retries > 0 and now < self._away_until


def _asked(request: Request, patience: Patience,
           final: str | None = None) -> Generator[Step, Reply | TransportError | None, Reply]:
    """The successful reply to `request`."""
    while True:
        answer = yield request
        assert answer is not None
        if isinstance(answer, Reply) and answer.status < 400:
            patience.renew()
            return answer
        yield Pause(patience.after(answer, final))


# ---- conversations ---------------------------------------------------------------------------------------------------
def converse_submit(call: Call, retries: int, wire: Wire) -> Steps:
    """The id of a new job. It has the function itself, so that it needs nothing which the service may forget.

    One key goes with every repetition: a lost answer makes no second job.
    """
    asked = {"Prefer": "respond-async", "Idempotency-Key": f'"{uuid.uuid4()}"'}
    request = call_request(replace(call, id=None), wire)
    reply = yield from exchange(replace(request, headers={**request.headers, **asked}), retries)
    return _document(reply)["id"]


def converse_document(name: str, retries: int) -> Steps:
    """The job as the service describes it."""
    return _document((yield from exchange(Request("GET", _path(name), b""), retries)))


def converse_cancel(name: str, retries: int) -> Steps:
    """Cancel a job that is not finished; one that is, is left alone."""
    document = yield from converse_document(name, retries)
    if document["state"] in UNFINISHED:
        yield from exchange(Request("DELETE", _path(name), b""), retries)


def converse_result(name: str, operation: str, finish: Finish | None, timeout: float | None, retries: int) -> Steps:
    """The user's value, once the job is finished."""
    end, pause = None if timeout is None else time.monotonic() + timeout, FIRST_POLL_S
    patience = Patience(retries, end)
    while True:
        document = _document((yield from _asked(Request("GET", _path(name), b""), patience)))
        if document["state"] not in UNFINISHED:
            break
        left = LONGEST_POLL_S if end is None else end - time.monotonic()
        if left <= 0:
            raise TransportTimeoutError("timed-out", f"The job is {document['state']} after {timeout:g} s.")
        yield Pause(min(pause, left))
        pause = min(2 * pause, LONGEST_POLL_S)
    error = document.get("error")  # is kept as the answer: of a 429 or 503, too, there will be no other
    final = error.get("code") if isinstance(error, dict) else None
    reply = yield from _asked(Request("GET", _path(name, "/result"), b""), patience, final)
    operation = operation or document["operation"]
    return (finish or plain(operation))(decode_result(reply, operation))


def converse_jobs(state: str | None, after: str | None, retries: int) -> Steps:
    """A page of the caller's jobs: their documents, and where the next page begins."""
    query = "".join([f"&{k}={v}" for k, v in (("state", state), ("after", after)) if v is not None])
    reply = yield from exchange(Request("GET", f"/v1/jobs?limit=100{query}", b""), retries)
    body = _read(reply)
    if not isinstance(body.get("jobs"), list):
        raise _strange(reply)
    return body["jobs"], body.get("next")


def _path(name: str, more: str = "") -> str:
    """Where a job is; what is no id would lead elsewhere."""
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise InputError("bad-option", "An id of a job is the 32 hexadecimal digits that the service gave it.")
    return f"/v1/jobs/{name}{more}"


def _read(reply: Reply) -> dict[str, Any]:
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _strange(reply)
    return body


def _document(reply: Reply) -> dict[str, Any]:
    body = _read(reply)
    if not isinstance(body.get("id"), str) or not isinstance(body.get("state"), str):
        raise _strange(reply)
    return body


def _strange(reply: Reply) -> TransportError:
    return TransportError("bad-answer", f"The server answered {reply.status} with a body that is no job.",
                          hint="Is the base URL that of a Hesse service, and not of an older one?")


def plain(operation: str) -> Finish:
    """What becomes of the result of a job that this program did not submit: NumPy arrays, nested in tuples."""

    def nest(value: Any) -> Any:
        return tuple([nest(v) for v in value]) if isinstance(value, list) else value

    def finish(result: Result) -> Any:
        if operation in TRIPLES:
            return nest(result.output), nest(result.gradient), nest(result.value)
        return (nest(result.output), nest(result.value)) if operation in PAIRS else nest(result.value)

    return finish


def check_stream(status: int, headers: Mapping[str, str]) -> None:
    """Raises `TransportError` (`bad-answer`) where an answer is no stream of events."""
    found = headers.get("content-type", "")
    if status != 200 or found.partition(";")[0].strip().lower() != EVENT_STREAM:
        raise TransportError("bad-answer", f"The server answered {status} with {found or 'no type'!r:.80}, not with "
                                           f"{EVENT_STREAM!r}.", hint="Is the base URL that of a Hesse service?")


class Feed:
    """Server-sent events as they arrive, line by line; remembers the last, so that another connection goes on there."""

    def __init__(self, name: str, retries: int) -> None:
        self._name, self._lines, self.last = name, dict[str, str](), 0
        self._patience, self._is_alive = Patience(retries, also=BROKEN), False

    def request(self) -> Request:
        self._lines.clear()
        self._is_alive = False
        headers = {"Accept": EVENT_STREAM, "Last-Event-ID": str(self.last)}
        return Request("GET", _path(self._name, "/events"), b"", headers)

    def event(self, line: str) -> JobEvent | None:
        """The event that `line` completes, if any."""
        if line:
            name, _, value = line.partition(":")
            self._lines[name] = value.removeprefix(" ")
            return None
        found, self._lines = self._lines, {}
        if not {"id", "event", "data"} <= found.keys():
            self._is_alive |= "" in found  # a comment, which keeps the connection open
            return None
        try:
            number, data = int(found["id"]), json.loads(found["data"])
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise TransportError("bad-answer", "The server sent an event that Hesse does not send.",
                                 hint="Is the base URL that of a Hesse service?")
        self.last, self._is_alive = number, True
        return JobEvent(number, found["event"], data)

    def pause(self, lost: TransportError | Refused | None = None) -> float:
        """Seconds until the next connection, after one that was lost, refused, or ended before the job.

        Raises:
            HesseError: where another one would not help.
        """
        if self._is_alive:
            self._patience.renew()
            if lost is None:
                return delay(0, {})
        if lost is None:
            lost = TransportError("incomplete", "The service ends the events of the job before the job ends.")
        return self._patience.after(lost.reply if isinstance(lost, Refused) else lost)


# ---- jobs ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Job:
    """A computation of a service.

    Attributes:
        id: what the service calls it; `client.job(id)` finds it again, in another program too.
    """

    id: str
    _perform: Callable[[Steps], Any] = field(repr=False)
    _lines: Callable[[Request], AbstractContextManager[Iterator[str]]] = field(repr=False)
    _retries: int = field(repr=False)
    _operation: str = field(default="", repr=False)
    _finish: Finish | None = field(default=None, repr=False)

    def document(self) -> dict[str, Any]:
        """Everything that the service tells of the job."""
        found: dict[str, Any] = self._perform(converse_document(self.id, self._retries))
        return found

    def state(self) -> str:
        """'queued', 'running', 'succeeded', 'failed', 'canceled' or 'expired'."""
        return str(self.document()["state"])

    def progress(self) -> tuple[int, int] | None:
        """(chunks done, chunks in all), where the computation has chunks and the first is done."""
        return progress_of(self.document())

    def result(self, timeout: float | None = None) -> Any:
        """What the direct call returns; waits for it, and for a server that starts again.

        Args:
            timeout: how long to wait [s]; None is as long as it takes.

        Raises:
            TimeoutError: `timed-out`; the job goes on.
            HesseError: what the job failed with; `job-canceled`, `job-expired`, `unknown-job`.
            ValueError: `bad-option`, where `id` is none.
        """
        return self._perform(converse_result(self.id, self._operation, self._finish, timeout, self._retries))

    def cancel(self) -> None:
        """End the computation; a finished one is left alone."""
        self._perform(converse_cancel(self.id, self._retries))

    def events(self) -> Iterator[JobEvent]:
        """Every event from the first to 'end', once and in order, over lost connections and restarts too.

        Raises:
            ConnectionError: `connection-failed`; `bad-answer`, `incomplete`, where what answers sends no events.
        """
        feed = Feed(self.id, self._retries)
        while True:
            try:
                with self._lines(feed.request()) as lines:
                    for line in lines:
                        event = feed.event(line)
                        if event is not None:
                            yield event
                            if event.kind == "end":
                                return
            except (TransportError, Refused) as lost:
                pause = feed.pause(lost)
            else:
                pause = feed.pause()
            time.sleep(pause)


@dataclass(frozen=True, slots=True)
class AsyncJob:
    """As `Job`; everything is awaited."""

    id: str
    _perform: Callable[[Steps], Awaitable[Any]] = field(repr=False)
    _lines: Callable[[Request], AbstractAsyncContextManager[AsyncIterator[str]]] = field(repr=False)
    _retries: int = field(repr=False)
    _operation: str = field(default="", repr=False)
    _finish: Finish | None = field(default=None, repr=False)

    async def document(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._perform(converse_document(self.id, self._retries))
        return found

    async def state(self) -> str:
        return str((await self.document())["state"])

    async def progress(self) -> tuple[int, int] | None:
        return progress_of(await self.document())

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (as the waiting one has it)
        return await self._perform(converse_result(self.id, self._operation, self._finish, timeout, self._retries))

    async def cancel(self) -> None:
        await self._perform(converse_cancel(self.id, self._retries))

    async def events(self) -> AsyncIterator[JobEvent]:
        import asyncio

        feed = Feed(self.id, self._retries)
        while True:
            try:
                async with self._lines(feed.request()) as lines:
                    async for line in lines:
                        event = feed.event(line)
                        if event is not None:
                            yield event
                            if event.kind == "end":
                                return
            except (TransportError, Refused) as lost:
                pause = feed.pause(lost)
            else:
                pause = feed.pause()
            await asyncio.sleep(pause)


def progress_of(document: dict[str, Any]) -> tuple[int, int] | None:
    found = document.get("progress")
    return None if not found else (int(found["done"]), int(found["total"]))


def finish_of(call: Call) -> Finish:
    """The user's value of a call's result, with the warnings that the direct call gives."""
    return lambda result: call.finish(watched(call, result))
