"""Bytes to a server and back over a plain socket, however wrong they are."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hostile_row import Piece


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer on a connection. `status` is 0 where there was none."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float  # from the last byte or pause of the request on, at most `patience_s`

    @property
    def kind(self) -> str:
        """As a row of the table names it: "422 bad-tensor", "200", "closed"."""
        if not self.status:
            return "closed"
        code = self.problem.get("code", "")
        return f"{self.status} {code}".strip()

    @property
    def problem(self) -> dict[str, Any]:
        if dict(self.headers).get("content-type") != "application/problem+json" or not self.body:
            return {}
        found: dict[str, Any] = json.loads(self.body)
        return found


class _Recorded:
    """What `http.client` reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def connect(url: str, patience_s: float = 60.0) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 80), patience_s)


def converse(url: str, pieces: Iterable[Piece], stops: bool = False, patience_s: float = 60.0) -> Answer:
    """Send `pieces` on a new connection, reading meanwhile; the answer, or that the server closed without one."""
    with connect(url, patience_s) as peer:
        sent = threading.Event()
        sender = threading.Thread(target=_send, args=(peer, pieces, sent), daemon=True)
        sender.start()
        if stops:
            sender.join(patience_s)
            return Answer(0, [], b"", 0.0)
        data, seconds = _read(peer, sent, patience_s)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)
        sender.join(patience_s)
    return _parsed(data, seconds)


def _send(peer: socket.socket, pieces: Iterable[Piece], sent: threading.Event) -> None:
    """A server that has answered may close before everything was sent."""
    with contextlib.suppress(OSError):
        for piece in pieces:
            if isinstance(piece, bytes):
                peer.sendall(piece)
            else:
                time.sleep(piece)
    sent.set()


def _read(peer: socket.socket, sent: threading.Event, patience_s: float) -> tuple[bytes, float]:
    data, end, since = b"", time.monotonic() + patience_s, time.monotonic()
    peer.settimeout(0.25)
    while time.monotonic() < end:
        try:
            chunk = peer.recv(1 << 16)
        except TimeoutError:
            if not sent.is_set():
                since = time.monotonic()
            continue
        except OSError:
            break
        if not chunk:
            break
        data += chunk
        if _is_complete(data):
            break
    else:
        raise AssertionError("no answer and no end of the connection")
    return data, time.monotonic() - since


def _is_complete(data: bytes) -> bool:
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank or head.startswith(b"HTTP/1.1 100"):
        return b"\r\n\r\n" in body and _is_complete(body) if blank else False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


def _parsed(data: bytes, seconds: float) -> Answer:
    if data.startswith(b"HTTP/1.1 100"):
        data = data.partition(b"\r\n\r\n")[2]
    if not data:
        return Answer(0, [], b"", seconds)
    response = http.client.HTTPResponse(_Recorded(data))  # type: ignore[arg-type]
    response.begin()
    try:
        body = response.read()
    except http.client.IncompleteRead as cut:
        body = cut.partial
    return Answer(response.status, [(k.lower(), v) for k, v in response.getheaders()], body, seconds)
