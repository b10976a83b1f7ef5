"""W3C trace context, and spans for OpenTelemetry where its SDK is installed and an exporter is named.

`traceparent` and `tracestate` are those of https://www.w3.org/TR/trace-context/ (level 1). What is malformed is ignored
as the recommendation says: the trace starts anew.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hesse_service.journal import Exchange

logger = logging.getLogger("hesse.service")

PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
MEMBER = re.compile(rf"(?:{_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
MOST_MEMBERS = 32
LONGEST_STATE = 512


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an exchange stands in a trace: hexadecimal ids, the caller's span ("" without one), flags and state."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: str = "00"
    state: str = ""

    @property
    def header(self) -> str:
        """The `traceparent` of what this exchange causes."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def parent_of(text: str) -> tuple[str, str, str] | None:
    """Trace id, span id and flags of a `traceparent`, or None where it is not one.

    A later version may append fields; version 00 may not.
    """
    match = PARENT.fullmatch(text)
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    return match[2], match[3], match[4]


def state_of(text: str) -> str:
    """The `tracestate` without empty members, or "" where it is malformed: it goes as a whole."""
    members = [m.strip(" \t") for m in text.split(",")]
    members = [m for m in members if m]
    keys = {m.partition("=")[0] for m in members}
    if len(members) > MOST_MEMBERS or len(keys) < len(members) or not all([MEMBER.fullmatch(m) for m in members]):
        return ""
    joined = ",".join(members)
    return joined if len(joined) <= LONGEST_STATE else ""


def trace_of(headers: list[tuple[bytes, bytes]], trace_id: str, span_id: str) -> Trace:
    """The trace that the headers continue, or a new one with these ids."""
    given = [value for name, value in headers if name == b"traceparent"]
    found = parent_of(given[0].decode("latin-1")) if len(given) == 1 else None
    if found is None:
        return Trace(trace_id, span_id)
    state = b",".join([value for name, value in headers if name == b"tracestate"]).decode("latin-1")
    return Trace(found[0], span_id, found[1], found[2], state_of(state) if state else "")


def trace_from(header: str) -> Trace:
    """The trace of work that a server process sent here with its `traceparent`."""
    found = parent_of(header)
    return Trace("", "") if found is None else Trace(found[0], found[1], "", found[2])


# ---- OpenTelemetry -------------------------------------------------------------------------------------------------
class Tracer(Protocol):
    """Makes spans of exchanges."""

    def start(self, exchange: Exchange) -> None: ...

    def end(self, exchanges: list[Exchange]) -> None: ...

    def close(self) -> None: ...


def tracer() -> Tracer | None:
    """A tracer where OTEL_TRACES_EXPORTER names an exporter, or the process has a provider already; else None."""
    names = [n.strip() for n in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") if n.strip() not in ("", "none")]
    if not names or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        return OpenTelemetry(names)
    except ImportError as error:
        logger.warning("no traces: OTEL_TRACES_EXPORTER is set, and %s is missing (pip install 'hesse[otel]')", error)
        return None


class OpenTelemetry:
    """Spans by the SDK: one of the server for each exchange, with one for each stage that it measured below it."""

    def __init__(self, names: list[str]) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._api = trace
        # the resource reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, the provider OTEL_TRACES_SAMPLER
        given = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "hesse"}
        self._provider = TracerProvider(resource=Resource.create(given), shutdown_on_exit=False)
        for name in names:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
        self._tracer = self._provider.get_tracer("hesse_service")

    def start(self, exchange: Exchange) -> None:
        """Open the server's span; the exchange takes its ids."""
        api, trace = self._api, exchange.trace
        context = None
        if trace.parent_id:
            parent = api.SpanContext(
                int(trace.trace_id, 16), int(trace.parent_id, 16), True, api.TraceFlags(int(trace.flags, 16)),
                api.TraceState.from_header([trace.state]) if trace.state else None,
            )
            context = api.set_span_in_context(api.NonRecordingSpan(parent))
        exchange.span = self._tracer.start_span("request", context, api.SpanKind.SERVER)
        own = exchange.span.get_span_context()
        exchange.trace = Trace(
            f"{own.trace_id:032x}", f"{own.span_id:016x}", trace.parent_id, f"{int(own.trace_flags):02x}", trace.state
        )

    def end(self, exchanges: list[Exchange]) -> None:
        """Close the spans of finished exchanges. The stages stand one after the other, as long as each was measured."""
        for exchange in exchanges:
            if exchange.span is not None:
                self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        span, end = exchange.span, int(exchange.ended_at * 1e9)
        span.update_name(exchange.operation)
        span.set_attributes(_attributes(exchange))
        if exchange.status >= 500:
            span.set_status(self._api.Status(self._api.StatusCode.ERROR, exchange.code))
        seconds = exchange.seconds or {}
        lengths = [(name, int(seconds.get(name, 0.0) * 1e9)) for name in STAGES]
        at = end - sum([length for _, length in lengths])
        if seconds:
            context = self._api.set_span_in_context(span)
            for name, length in lengths:
                stage = self._tracer.start_span(name, context, start_time=at)
                at += length
                stage.end(at)
        span.end(end)

    def close(self) -> None:
        """Export what is left; waits for it."""
        self._provider.shutdown()


STAGES = ("queue", "decode", "plan", "compute", "encode")


def _exporter(name: str) -> Any:
    """The exporter that an installed package has registered under this name of OTEL_TRACES_EXPORTER."""
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol)
        name = "otlp_proto_http" if protocol.startswith("http") else "otlp_proto_grpc"
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()()
    raise ImportError(f"the exporter {name}")


def _attributes(exchange: Exchange) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "hesse.operation": exchange.operation,
        "hesse.request_id": exchange.request_id,
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.body_bytes,
        "http.response.body.size": exchange.answer_bytes,
    }
    if exchange.outline is not None:
        found |= {"hesse.strategy": exchange.outline.strategy, "hesse.columns": exchange.outline.columns}
    if exchange.place:
        found["hesse.place"] = exchange.place
    if exchange.code != "ok":
        found["error.type"] = exchange.code
    return found
