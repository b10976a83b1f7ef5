"""Hostile heads, framing and connections."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hostile_row import CANARY, GOOD, JSON, Family, Piece, Row, head

_method, _header, _framing = Family("method"), Family("header"), Family("framing")
_slow, _gone = Family("slow client"), Family("aborted")
TEXT = json.dumps(GOOD).encode()
BROKEN = "400 malformed-http | closed"
TYPE = f"Content-Type: {JSON}"
ABSENT = "404 not-found"
WRONG = "405 method-not-allowed"


def _raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode() + body


def _parted(length: int) -> Iterable[Piece]:
    """A good call whose head has a header of this length, in parts that arrive one by one."""
    sent = _raw("POST /v1/hessian HTTP/1.1", "Host: a", TYPE, f"X-A: {'a' * length}", f"Content-Length: {len(TEXT)}",
                body=TEXT)
    for at in range(0, len(sent), 20_000):
        yield sent[at : at + 20_000]
        yield 0.05


def _framed(name: str, *headers: str, body: bytes = TEXT, answers: str = BROKEN) -> Row:
    """A call with these framing headers."""
    sent = _raw("POST /v1/hessian HTTP/1.1", "Host: a", TYPE, *headers, body=body)
    return _framing.raw(name, sent, answers)


METHOD_ROWS: list[Row] = [
    *[_method.bare(f"{m} {p}", m, p, a) for m, p, a in (
        ("GET", "/v1/hessian", WRONG), ("DELETE", "/v1/hessian", WRONG), ("PATCH", "/v1/functions", WRONG),
        ("POST", "/v1/functions", "405 method-not-allowed | 404 unknown-operation"), ("POST", "/livez", WRONG),
        ("TRACE", "/v1/ops", WRONG), ("OPTIONS", "/v1/hessian", WRONG), ("CONNECT", "/v1/hessian", WRONG),
        ("PROPFIND", "/v1/ops", WRONG), (CANARY, "/v1/ops", WRONG), ("get", "/v1/ops", WRONG),
        ("DELETE", "/livez", WRONG), ("POST", "/openapi.json", WRONG), ("PUT", "/v1/plan", WRONG),
        ("DELETE", "/v1/ops", WRONG))],
    _method.raw("HEAD of an operation", _raw("HEAD /v1/hessian HTTP/1.1", "Host: a", "Connection: close"), "405"),
    _method.raw("a method of 60 KB", _raw("A" * 60_000 + " /livez HTTP/1.1", "Host: a"), f"{BROKEN} | {WRONG}"),
    _method.raw("a method with a bracket", _raw("G(T /livez HTTP/1.1", "Host: a"), BROKEN),
]

HEADER_ROWS: list[Row] = [
    _header.row("one of 100 KB", GOOD, f"200 | {BROKEN}", headers=[f"X-A: {CANARY * 8000}"]),
    _header.row("one of 10 MB", GOOD, BROKEN, headers=[f"X-A: {'a' * 10_000_000}"]),
    _header.row("1000 of them", GOOD, "200", headers=[f"X-{k}: {CANARY}" for k in range(1000)]),
    _header.row("20k of them", GOOD, BROKEN, headers=[f"X-{k}: {CANARY}" for k in range(20_000)]),
    _header.row("name of 60 KB", GOOD, f"200 | {BROKEN}", headers=[f"{'X' * 60_000}: 1"]),
    _header.row("name with a space", GOOD, BROKEN, headers=["X A: 1"]),
    _header.row("space before the colon", GOOD, BROKEN, headers=["X-A : 1"]),
    _header.row("no colon", GOOD, BROKEN, headers=[CANARY]),
    _header.row("no name", GOOD, BROKEN, headers=[": 1"]),
    _header.row("folded", GOOD, f"200 | {BROKEN}", headers=["X-A: 1\r\n  2"]),
    _header.row("folded first", GOOD, f"200 | {BROKEN}", headers=["  X-A: 1"]),
    _header.row("NUL", GOOD, BROKEN, headers=["X-A: a\x00b"]),
    _header.row("bare CR", GOOD, BROKEN, headers=["X-A: a\rX-B: b"]),
    _header.row("high bytes", GOOD, f"200 | {BROKEN}", headers=["X-A: \udcff\udcfe"]),
    *[_header.row(f"request id {i[:16]!r}", GOOD, "200", headers=[f"X-Request-ID: {i}"])
      for i in (f"{CANARY} <script>", CANARY * 100, "../../etc", "a;b", "%0d%0aSet-Cookie: a", "")],
    _header.row("request id that injects", GOOD, "200", headers=[f"X-Request-ID: a\r\nSet-Cookie: {CANARY}"]),
    *[_header.row(f"traceparent {t[:16]}", GOOD, "200", headers=[f"traceparent: {t}", f"tracestate: {CANARY}"])
      for t in (CANARY, "00-0-0-0", "ff-" + "0" * 32 + "-" + "0" * 16 + "-01",
          "00-" + "z" * 32 + "-" + "1" * 16 + "-01",
                "0" * 50_000)],
    *[_header.row(f"Accept {a[:16]}", GOOD, "200 | 406 not-acceptable", headers=[f"Accept: {a}"])
      for a in (CANARY, "text/html", ";q=2", "*/*;q=nan", "a/b;q=-1", ",,,,", "application/json;q=0", "*" * 50_000,
                ",".join(["a/b;q=0.1"] * 5000))],
    *[_header.row(f"Accept-Encoding {a[:16]}", GOOD, "200 | 406 not-acceptable", headers=[f"Accept-Encoding: {a}"])
      for a in (CANARY, "gzip;q=nan", "*;q=0", "identity;q=0", ",".join(["gzip"] * 8000))],
    *[_header.row(f"Origin {o[:20]}", GOOD, "403 cross-origin", headers=[f"Origin: {o}"])
      for o in ("null", f"http://{CANARY}", "http://localhost.evil", "localhost", "http://localhost/", "file://",
                "http://localhost:1", "", "http://evil@localhost", "http://\udcff")],
    _header.row("Origin twice", GOOD, "403 cross-origin", headers=["Origin: http://localhost",
        f"Origin: http://{CANARY}"]),
    _header.raw("no Host", _raw("GET /livez HTTP/1.1"), BROKEN),
    _header.raw("two Hosts", _raw("GET /livez HTTP/1.1", "Host: a", "Host: b"), BROKEN),
    *[_header.raw(f"Host {h[:16]!r}", _raw("GET /livez HTTP/1.1", f"Host: {h}"), f"200 | {BROKEN}")
      for h in ("", CANARY, "a:99999999", "[::1", "../", "a b", "\xff")],
    _header.row("Upgrade: websocket", GOOD, "200", headers=[
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13"]),
    _header.row("Upgrade: h2c", GOOD, "200", headers=["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                                                      "HTTP2-Settings: AAMAAABkAAQAAP__"]),
    _header.row("Connection nonsense", GOOD, "200", headers=[f"Connection: {CANARY}, close, keep-alive, ,,"]),
    _header.row("Expect: 100-continue", GOOD, "200", headers=["Expect: 100-continue"]),
    _header.row("Expect nonsense", GOOD, "200 | 417", headers=[f"Expect: {CANARY}"]),
    _header.row("method override", GOOD, "200", headers=["X-HTTP-Method-Override: DELETE", "X-Original-URL: /livez"]),
    _header.row("forwarded by nobody", GOOD, "200", headers=["X-Forwarded-For: 1.2.3.4, " + "9" * 5000,
                                                              "X-Forwarded-Proto: javascript", "Forwarded: for=_x"]),
    _header.row("Range", GOOD, "200", headers=["Range: bytes=0-0,1-1,-1"]),
    _header.row("cookies", GOOD, "200", headers=[f"Cookie: a={CANARY}; a; =; {'b=1; ' * 3000}"]),
    _header.row("Prefer nonsense", GOOD, "200 | 202 | 400 | 422 bad-request",
        headers=[f"Prefer: {CANARY}, wait=-1, wait=x"]),
]

FRAMING_ROWS: list[Row] = [
    *[_framed(f"Content-Length {v[:16]!r}", f"Content-Length: {v}")
      for v in ("-1", "+5", "0x10", "1e3", "1.0", "5 5", CANARY, "", "٣", "9" * 30)],
    _framed("Content-Length of 2^63", f"Content-Length: {1 << 63}", answers=f"413 body-too-large | {BROKEN}"),
    _framed("Content-Length of 1 TB", f"Content-Length: {10**12}", answers="413 body-too-large"),
    _framed("two lengths", f"Content-Length: {len(TEXT)}", f"Content-Length: {len(TEXT) + 1}"),
    _framed("two lengths in one", f"Content-Length: {len(TEXT)}, {len(TEXT) + 1}"),
    _framed("one length twice", f"Content-Length: {len(TEXT)}", f"Content-Length: {len(TEXT)}",
            answers=f"200 | {BROKEN}"),
    _framed("length 0", "Content-Length: 0", body=b"", answers="400 malformed-json"),
    _framed("no length", body=b"", answers="400 malformed-json"),
    _framed("length and chunks", f"Content-Length: {len(TEXT)}", "Transfer-Encoding: chunked",
            body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(TEXT), TEXT), answers=f"200 | {BROKEN}"),
    _framed("smuggled: chunks end before the length", "Content-Length: 44", "Transfer-Encoding: chunked",
            body=b"0\r\n\r\nDELETE /" + CANARY.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            answers=f"400 malformed-json | {BROKEN}"),
    *[_framed(f"Transfer-Encoding {t!r}", f"Transfer-Encoding: {t}", answers="400 malformed-http | 501 | closed")
      for t in ("gzip", "gzip, chunked", "chunked, identity", "identity", "xchunked", "chunked, chunked", CANARY, "")],
    _framed("Transfer-Encoding behind a tab", "Transfer-Encoding:\tchunked", body=b"0\r\n\r\n",
            answers=f"400 malformed-json | {BROKEN}"),
    _framed("Transfer-Encoding twice", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    *[_framed(f"chunk size {c[:18]!r}", "Transfer-Encoding: chunked", body=c)
      for c in (b"zz\r\n", b"-1\r\nab\r\n", b"0x5\r\nabcde\r\n", b"5\nabcde\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n",
                b"f" * 30 + b"\r\n", b"\r\n\r\n", b" 5\r\nabcde\r\n", b"5;" + b"a" * 200_000,
                    CANARY.encode() + b"\r\n")],
    _framed("chunk of 2^63", "Transfer-Encoding: chunked", body=b"7fffffffffffffff\r\n" + TEXT,
            answers=f"408 body-timeout | {BROKEN}"),
    _framed("chunk of 2^80", "Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\n" + TEXT,
            answers=f"408 body-timeout | {BROKEN}"),
    _framed("200 KB of trailers", "Transfer-Encoding: chunked",
        body=b"2\r\n{}\r\n0\r\n" + b"X-A: b\r\n" * 25_000 + b"\r\n"),
    _framed("trailers", "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\nX-Request-ID: %b\r\n\r\n" % (
        len(TEXT), TEXT, CANARY.encode()), answers="200"),
    _framed("100k chunks of one byte", "Transfer-Encoding: chunked", body=b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n",
            answers="400 malformed-http"),
    _framing.raw("a head of 60 KB in parts", lambda: _parted(60_000), "200"),
    _framing.raw("a head of 70 KB in parts", lambda: _parted(70_000), "400 malformed-http"),
    _framing.raw("a head of 70 KB at once", lambda: [b"".join([p for p in _parted(70_000) if isinstance(p, bytes)])],
                 "400 malformed-http"),
    _framing.raw("chunked past 64 MiB", lambda: [
        _raw("POST /v1/hessian HTTP/1.1", "Host: a", TYPE, "Transfer-Encoding: chunked"),
        *[b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 66, b"0\r\n\r\n"], "413 body-too-large | closed"),
    _framing.raw("refused early, then a broken chunk", lambda: [
        _raw("POST /v1/hessian HTTP/1.1", "Host: a", "Content-Type: text/plain", "Transfer-Encoding: chunked"), 0.2,
        b"zz\r\n" + CANARY.encode()], "415 unsupported-media-type"),
    _framing.raw("computing, then bytes too many", lambda: [
        _raw("POST /v1/hessian HTTP/1.1", "Host: a", TYPE, f"Content-Length: {len(TEXT)}", body=TEXT),
            b"\x00\xff zz\r\n\r\n"],
        f"200 | {BROKEN}"),
    _framing.raw("absolute form", _raw(f"GET http://{CANARY}/livez HTTP/1.1", "Host: a"), f"200 | {ABSENT}"),
    _framing.raw("asterisk form", _raw("OPTIONS * HTTP/1.1", "Host: a"), f"{ABSENT} | {WRONG} | {BROKEN}"),
    _framing.raw("authority form", _raw(f"CONNECT {CANARY}:443 HTTP/1.1", "Host: a"), f"{ABSENT} | {WRONG} | {BROKEN}"),
    _framing.raw("HTTP/0.9", b"GET /livez\r\n\r\n", BROKEN),
    _framing.raw("HTTP/1.0", _raw("GET /livez HTTP/1.0"), "200"),
    _framing.raw("HTTP/9.9", _raw("GET /livez HTTP/9.9", "Host: a"), f"200 | {BROKEN}"),
    _framing.raw("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        f"{ABSENT} | {BROKEN}"),
    _framing.raw("TLS hello", bytes.fromhex("16030100a5010000a10303") + bytes(range(160)), BROKEN),
    _framing.raw("SSH", b"SSH-2.0-OpenSSH_9.9\r\n", BROKEN),
    _framing.raw("SMTP", b"EHLO " + CANARY.encode() + b"\r\n", BROKEN),
    _framing.raw("pickle", b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.\r\n\r\n", BROKEN),
    _framing.raw("noise", bytes([(k * 7919) % 251 for k in range(5000)]) + b"\r\n\r\n", BROKEN),
    _framing.raw("1 MB of empty lines", b"\r\n" * 500_000, BROKEN),
    _framing.raw("bare LF", b"GET /livez HTTP/1.1\nHost: a\n\n", f"200 | {BROKEN}"),
    _framing.raw("spaces in the target", _raw("GET /livez a HTTP/1.1", "Host: a"), BROKEN),
    _framing.raw("a fragment", _raw(f"GET /livez#{CANARY} HTTP/1.1", "Host: a"), f"200 | {ABSENT} | {BROKEN}"),
    _framing.raw("high bytes in the target", b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", BROKEN),
    _framing.raw("a target of 100 KB", _raw("GET /" + "a" * 100_000 + " HTTP/1.1", "Host: a"), f"{ABSENT} | {BROKEN}"),
    _framing.raw("a body with GET", _raw("GET /v1/ops HTTP/1.1", "Host: a", f"Content-Length: {len(TEXT)}", body=TEXT),
        "200"),
    _framing.raw("100 pipelined", _raw("GET /livez HTTP/1.1", "Host: a") * 100, "200"),
    _framing.raw("pipelined behind a bad one", head("POST", "/v1/hessian", [TYPE], 2) + b"{}" + TEXT,
        "422 bad-request"),
]


def _drip(data: bytes, pause_s: float, count: int) -> Iterable[Piece]:
    for k in range(count):
        yield data[k : k + 1]
        yield pause_s


SLOW_ROWS: list[Row] = [
    _slow.raw("nothing at all", lambda: [3.0], "closed"),
    _slow.raw("half a head", lambda: [b"GET /livez HT", 3.0], BROKEN),
    _slow.raw("a head by the byte", lambda: _drip(b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 50, 0.1, 40), BROKEN),
    _slow.raw("a head by the byte, after a good request", lambda: [
        _raw("GET /livez HTTP/1.1", "Host: a"), 0.1, *_drip(b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 50, 0.1, 40)],
            "200"),
    _slow.raw("a body that stops", lambda: [head("POST", "/v1/hessian", [TYPE], len(TEXT)) + TEXT[:20], 6.0],
              "408 body-timeout"),
    _slow.raw("a body by the byte", lambda: [head("POST", "/v1/hessian", [TYPE], len(TEXT)), *_drip(TEXT, 0.1, 60)],
              "408 body-timeout"),
    _slow.raw("a chunk that stops", lambda: [
        _raw("POST /v1/hessian HTTP/1.1", "Host: a", TYPE, "Transfer-Encoding: chunked"), b"fff\r\n{", 6.0],
            "408 body-timeout"),
]
GONE_ROWS: list[Row] = [
    _gone.raw("before a byte", b"", "closed", stops=True),
    _gone.raw("in the head", b"POST /v1/hessian HT", "closed", stops=True),
    _gone.raw("behind the head", head("POST", "/v1/hessian", [TYPE], 1000), "closed", stops=True),
    _gone.raw("in the body", head("POST", "/v1/hessian", [TYPE], len(TEXT)) + TEXT[:30], "closed", stops=True),
    _gone.raw("in a body of 60 MB", lambda: [head("POST", "/v1/hessian", [TYPE], 60_000_000), b" " * 20_000_000],
              "closed", stops=True),
    _gone.raw("in a chunk", _raw("POST /v1/hessian HTTP/1.1", "Host: a", TYPE, "Transfer-Encoding: chunked",
                                 body=b"10\r\n{"), "closed", stops=True),
    _gone.raw("behind the body", head("POST", "/v1/hessian", [TYPE], len(TEXT)) + TEXT, "closed", stops=True),
]
ROWS = [*METHOD_ROWS, *HEADER_ROWS, *FRAMING_ROWS, *SLOW_ROWS, *GONE_ROWS]
