"""Connections that cannot be held open for nothing: uvicorn's HTTP/1.1 protocol with bounds on slow clients.

uvicorn limits the size of a head, but waits without end for the rest of it, and for a client that reads no answer.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hesse_engine.errors import InputError, StateError
from hesse_service.journal import Exchange
from hesse_service.problems import MEDIA_TYPE, problem_response
from hesse_service.settings import Settings
from hesse_service.tracing import Trace

UNANSWERED = (h11.IDLE, h11.SEND_RESPONSE)
HEAD_BYTES = 64 << 10  # of a request; h11 keeps to a limit only where a head arrives in parts
CRUMB_BYTES, MAX_CRUMBS = 16, 20_000  # chunks of a body smaller than this, of which each costs as much as a large one


class Connection(H11Protocol):
    """One connection of a client; `settings` is the server process's."""

    settings: Settings | None = None
    count = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if Connection.settings is None:
            Connection.settings = Settings()
        self._bounds = Connection.settings
        self._crumbs = 0
        self.conn.next_event = self._next_event  # type: ignore[method-assign]
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        Connection.count += 1
        if Connection.count > self._bounds.max_connections:
            self._refuse(StateError("busy", "The server has as many connections as it may.", hint="Try again later."))
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        Connection.count -= 1
        self._stop_waiting()
        self._end_stall()
        super().connection_lost(exc)

    # ---- in ---------------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # a head is complete
            self._stop_waiting()
        elif self._head is None and not self.transport.is_closing() and self.timeout_keep_alive_task is None:
            self._await_head()

    def _next_event(self) -> Any:
        """h11's next event. A body in chunks of a byte each would hold the event loop for a minute."""
        event = h11.Connection.next_event(self.conn)
        if type(event) is h11.Data:
            if len(event.data) < CRUMB_BYTES:
                self._crumbs += 1
                if self._crumbs > MAX_CRUMBS:
                    raise h11.RemoteProtocolError("the body is in crumbs")
        elif type(event) is h11.Request:
            self._crumbs = 0
            if sum([len(name) + len(value) + 4 for name, value in event.headers]) + len(event.target) > HEAD_BYTES:
                raise h11.RemoteProtocolError("the head is too long")
        return event

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: some clients ask for HTTP/2 in every request, and are answered as if they had not."""

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self._bounds.head_timeout_s, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        self._head = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Called where HTTP itself is broken: nothing that follows on this connection can be trusted."""
        self._stop_waiting()
        text = "The bytes received are not a request of HTTP/1.1."
        if self._crumbs > MAX_CRUMBS:
            text = f"The body came in more than {MAX_CRUMBS} chunks of less than {CRUMB_BYTES} bytes."
        self._refuse(InputError("malformed-http", text))

    def _refuse(self, error: InputError | StateError) -> None:
        """Answer with a problem unless another answer has begun, and close."""
        if self.conn.our_state in UNANSWERED:
            fresh = os.urandom(16).hex()
            response = problem_response(error, Exchange(fresh, Trace(fresh, fresh[:16])))
            headers = [*response.raw_headers, (b"connection", b"close"), (b"x-content-type-options", b"nosniff")]
            assert response.media_type == MEDIA_TYPE
            self.transport.write(self.conn.send(h11.Response(status_code=error.status, headers=headers)))
            self.transport.write(self.conn.send(h11.Data(data=bytes(response.body))))
            self.transport.write(self.conn.send(h11.EndOfMessage()))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whatever it answers has no place here any more
            self.cycle.message_event.set()
        self.transport.close()

    # ---- out --------------------------------------------------------------------------------------------------------
    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_stall(-1)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def _watch_stall(self, before: int) -> None:
        """Give a client up that took nothing of its answer since the last look."""
        left = self.transport.get_write_buffer_size()
        if left == before:
            self.transport.abort()
            return
        self._stall = self.loop.call_later(self._bounds.stall_timeout_s, self._watch_stall, left)

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
