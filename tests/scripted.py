"""A real HTTP server on the loopback interface that answers what a script says, one entry a request."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """`status` 0 closes the connection without an answer; `pause` is slept before answering."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


def problem(status: int, code: str, detail: str = "No.", **more: Any) -> Answer:
    return Answer(status, {"code": code, "detail": detail, "status": status, **more})


def tensor(values: list[float]) -> dict[str, Any]:
    return {"shape": [len(values)], "dtype": "float64", "data": values}


GRADIENT = Answer(200, {"result": [tensor([2.0, 4.0])], "stats": {}})


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[str, list[Seen]]]:
    """(base URL, requests seen so far); the last answer is repeated."""
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {k.lower(): v for k, v in self.headers.items()}
            seen.append(Seen(self.command, self.path, headers, json.loads(body) if body else None))
            chosen = answers[min(len(seen), len(answers)) - 1]
            time.sleep(chosen.pause)
            if chosen.status == 0:
                self.close_connection = True
                return
            content = chosen.body if isinstance(chosen.body, bytes) else json.dumps(chosen.body).encode()
            self.send_response(chosen.status)
            for name, value in {"Content-Length": str(len(content)), **chosen.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (the names that the standard library calls)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
