"""Logs: one JSON object a line (or text for a terminal), written by a thread so that no request waits for a disk.

Neither payloads nor expressions nor keys are logged; of an owner only a short hash. A line holds no line break but its
last, whatever a message contains.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import logging.config
import logging.handlers
import os
import queue
import sys
import time
import traceback
from typing import Any

from hesse_service.journal import CURRENT, Exchange
from hesse_service.tracing import STAGES

ACCESS = logging.getLogger("hesse.access")
UNLOGGED = ("livez", "readyz")  # a probe asks every few seconds
PID = os.getpid()
LOGGERS = ("hesse.service", "hesse.access", "uvicorn.error")


def format_of(chosen: str) -> str:
    """`json` or `text`; `auto` is text on a terminal."""
    if chosen == "auto":
        return "text" if sys.stderr.isatty() else "json"
    return chosen


def log_config(level: str, chosen: str = "auto", *, is_background: bool = True) -> dict[str, Any]:
    """Configuration of a process, for `logging.config.dictConfig`: to standard error, in the background or at once."""
    handler = "hesse_service.logs.Background" if is_background else "logging.StreamHandler"
    lines = {"json": "JsonLines", "text": "TextLines"}[format_of(chosen)]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": f"hesse_service.logs.{lines}"}},
        "handlers": {"stderr": {"()": handler, "formatter": "line"}},
        "loggers": {name: {"handlers": ["stderr"], "level": level, "propagate": False} for name in LOGGERS},
        "root": {"handlers": ["stderr"], "level": "WARNING"},  # what libraries say: lines of the same format
    }


def configure_process(chosen: str) -> None:
    """Log of a compute process: few lines, each written before the next step."""
    level = os.environ.get("HESSE_LOG_LEVEL", "INFO").upper()
    logging.config.dictConfig(log_config(level, chosen, is_background=False))


class Background(logging.handlers.QueueHandler):
    """Hands records to a thread that formats and writes them; closing it writes what is left."""

    def __init__(self) -> None:
        self.stream = logging.StreamHandler()
        # of the standard library's queues the one whose `put` takes no lock, also within a signal handler
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        super().__init__(records)
        self._listener: Any = logging.handlers.QueueListener(records, self.stream)
        self._listener.start()

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        self.stream.setFormatter(fmt)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Note whose request it is: the thread that writes does not know."""
        record.exchange = CURRENT.get()
        return record

    def emit(self, record: logging.LogRecord) -> None:
        if self._listener is None:
            self.stream.handle(self.prepare(record))
        else:
            super().emit(record)

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
        super().close()


def access(chosen: str, batch: list[Exchange]) -> None:
    """Log a batch of finished exchanges as one record of many lines; `chosen` is all, errors or none."""
    if chosen == "none" or not ACCESS.isEnabledFor(logging.INFO):
        return
    lines = [
        e for e in batch if e.operation not in UNLOGGED and (chosen == "all" or e.status >= 400 or not e.is_complete)
    ]
    if lines:
        ACCESS.info("requests", extra={"exchanges": lines})


# ---- lines ---------------------------------------------------------------------------------------------------------
class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        exchanges = getattr(record, "exchanges", None)
        if exchanges is not None:
            return "\n".join([access_line(e) for e in exchanges])
        found: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        exchange = getattr(record, "exchange", None) or CURRENT.get()
        if exchange is not None:
            found |= {"request_id": exchange.request_id, "trace_id": exchange.trace.trace_id,
                      "span_id": exchange.trace.span_id}
        if record.exc_info and record.exc_info[0] is not None:
            found["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(found, separators=(",", ":"))  # escapes every control and every non-ASCII character


class TextLines(logging.Formatter):
    """For people: one line an event; only a traceback has more."""

    def format(self, record: logging.LogRecord) -> str:
        exchanges = getattr(record, "exchanges", None)
        if exchanges is not None:
            return "\n".join([_text(e) for e in exchanges])
        line = f"{rfc3339(record.created)} {record.levelname} {record.name} {_escaped(record.getMessage())}"
        exchange = getattr(record, "exchange", None) or CURRENT.get()
        if exchange is not None:
            line += f" request_id={exchange.request_id}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def access_line(exchange: Exchange) -> str:
    """The object of an exchange. Every text in it is ours or matched a pattern without quotes: nothing to escape.

    Measured: 4 us; by `json.dumps` of a dictionary, 17.
    """
    trace, measured = exchange.trace, exchange.seconds
    stages = "" if measured is None else "".join([f'"{name}":{measured.get(name, 0.0):.6f},' for name in STAGES])
    optional = f',"parent_id":"{trace.parent_id}"' if trace.parent_id else ""
    if exchange.place:
        optional += f',"place":"{exchange.place}"'
    if exchange.owner:
        optional += f',"owner":"{owner_hash(exchange.owner)}"'
    if not exchange.is_complete:
        optional += ',"is_complete":false'
    return (
        f'{{"time":"{rfc3339(exchange.ended_at)}","level":"INFO","logger":"hesse.access","message":"request",'
        f'"process":{PID},"request_id":"{exchange.request_id}","trace_id":"{trace.trace_id}",'
        f'"span_id":"{trace.span_id}","operation":"{exchange.operation}","status":{exchange.status},'
        f'"code":"{exchange.code}","seconds":{{{stages}"total":{exchange.total:.6f}}},'
        f'"body_bytes":{exchange.body_bytes},"answer_bytes":{exchange.answer_bytes}{optional}}}'
    )


def _text(exchange: Exchange) -> str:
    return (
        f"{rfc3339(exchange.ended_at)} INFO hesse.access {exchange.operation} {exchange.status} {exchange.code} "
        f"{1e3 * exchange.total:.3f} ms {exchange.answer_bytes} bytes request_id={exchange.request_id}"
    )


def _escaped(text: str) -> str:
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


def rfc3339(seconds: float) -> str:
    """UTC with microseconds, `2026-11-21T17:19:52.000001Z`."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06d}Z"


@functools.lru_cache(4)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


@functools.lru_cache(1024)
def owner_hash(owner: str) -> str:
    """Tells owners apart in logs without naming them."""
    return hashlib.sha256(owner.encode()).hexdigest()[:12]
