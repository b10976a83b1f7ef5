"""Jobs of the embedded client: threads of this process, with the face of a service's jobs."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from hesse.errors import TransportTimeoutError
from hesse.jobs import JobEvent
from hesse_engine.errors import HesseError, StateError, rebuild


class LocalJob:
    """A computation in a thread of this process. A thread cannot be ended: canceling forgets its result."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.id = uuid.uuid4().hex
        self._run, self._changed = run, threading.Condition()
        self._state, self._value, self._error = "running", None, cast("BaseException | None", None)
        threading.Thread(target=self._work, name=f"hesse-{self.id}", daemon=True).start()

    def _work(self) -> None:
        value, error = None, cast("BaseException | None", None)
        try:
            value = self._run()
        except BaseException as raised:  # noqa: BLE001 (raised again where the result is asked for)
            error = raised
        with self._changed:
            if self._state == "running":
                self._state = "succeeded" if error is None else "failed"
                self._value, self._error = value, error
            self._changed.notify_all()

    def __repr__(self) -> str:
        return f"LocalJob(id={self.id!r})"

    def document(self) -> dict[str, Any]:
        return {"id": self.id, "state": self._state, "progress": None}

    def state(self) -> str:
        return self._state

    def progress(self) -> tuple[int, int] | None:
        return None

    def result(self, timeout: float | None = None) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: self._state != "running", timeout):
                raise TransportTimeoutError("timed-out", f"The job is running after {timeout:g} s.")
        if self._state == "canceled":
            raise StateError("job-canceled", "The job was canceled before it was finished.")
        if isinstance(self._error, HesseError):  # a new one each time: a traceback grows with every raise
            error = self._error
            raise rebuild(error.code, error.message, error.hint, error.pointer, error.node) from error
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self) -> None:
        with self._changed:
            if self._state == "running":
                self._state = "canceled"
            self._changed.notify_all()

    def events(self) -> Iterator[JobEvent]:
        yield JobEvent(1, "state", {"state": "running"})
        with contextlib.suppress(Exception):
            self.result()
        yield JobEvent(2, "end", {"state": self._state})


class AsyncLocalJob:
    """As `LocalJob`; everything is awaited."""

    def __init__(self, job: LocalJob) -> None:
        self._job, self.id = job, job.id

    def __repr__(self) -> str:
        return f"AsyncLocalJob(id={self.id!r})"

    async def document(self) -> dict[str, Any]:
        return self._job.document()

    async def state(self) -> str:
        return self._job.state()

    async def progress(self) -> tuple[int, int] | None:
        return self._job.progress()

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (as the waiting one has it)
        import asyncio

        return await asyncio.to_thread(self._job.result, timeout)

    async def cancel(self) -> None:
        self._job.cancel()

    async def events(self) -> AsyncIterator[JobEvent]:
        yield JobEvent(1, "state", {"state": "running"})
        with contextlib.suppress(Exception):
            await self.result()
        yield JobEvent(2, "end", {"state": self._job.state()})
