"""The answers of jobs as files: each is the response that a direct request would have got."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import BinaryIO

from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from hesse_service.job_store import Job, unavailable
from hesse_service.responses import SegmentResponse
from hesse_service.rows import RowsResponse

ASGI = {"type": "http", "method": "GET", "headers": [], "asgi": {"version": "3.0", "spec_version": "2.4"},
        "extensions": {}}
NOT_KEPT = ("content-length",)
ONE_RANGE = re.compile(r"bytes=([0-9]{1,18})-[0-9]{0,18}")


async def write(response: Response, path: Path) -> tuple[list[tuple[str, str]], int]:
    """Send `response` into the file `path`, which appears whole or not at all: its headers and its size [bytes].

    Raises:
        StateError: `store-unavailable`.
    """
    headers: list[tuple[str, str]] = []
    made = path.with_name(f"{path.name}.new")
    try:
        file = await asyncio.to_thread(open, made, "xb")
    except BaseException as error:
        if isinstance(response, (SegmentResponse, RowsResponse)):
            await response.discard()
        if isinstance(error, OSError):
            raise unavailable() from error
        raise

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers.extend([(k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]])
            return
        try:
            await asyncio.to_thread(file.write, message.get("body", b""))
        except OSError as error:  # not to be taken for a client that left
            raise unavailable() from error

    try:
        await response(dict(ASGI), _silence, send)
        size = await asyncio.to_thread(_keep, file, made, path)
    except OSError as error:
        raise unavailable() from error
    finally:
        await asyncio.to_thread(file.close)
        made.unlink(missing_ok=True)
    return [(k, v) for k, v in headers if k not in NOT_KEPT], size


def _keep(file: BinaryIO, made: Path, path: Path) -> int:
    """Bring the file to the disk and give it its name."""
    file.flush()
    os.fsync(file.fileno())
    size = os.fstat(file.fileno()).st_size
    made.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


async def _silence() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


class ResultResponse(FileResponse):
    """A stored answer; a range of its bytes where one is asked for that there is, else all of them."""

    def __init__(self, job: Job, folder: Path) -> None:
        assert job.result is not None
        assert job.headers is not None
        path = folder / job.result
        headers = dict(json.loads(job.headers))
        super().__init__(path, headers=headers, media_type=headers.get("content-type"), stat_result=path.stat())
        self._size = job.size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(k, v) for k, v in scope["headers"] if k != b"range" or self._is_within(v.decode("latin-1"))]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def _is_within(self, value: str) -> bool:
        match = ONE_RANGE.fullmatch(value.strip())
        if match is None:
            return False
        last = value.partition("-")[2].strip()
        return int(match[1]) < self._size and (not last or int(match[1]) <= int(last))
