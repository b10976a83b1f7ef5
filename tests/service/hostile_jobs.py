"""Hostile jobs, idempotency keys, quota headers and lists. The rows run where the server offers these."""

from __future__ import annotations

from hostile_row import CANARY, GOOD, Family, Row, formula

_job, _key = Family("job", ("/v1/jobs/{id}",)), Family("idempotency", ("idempotency-conflict",))
_list, _auth = Family("list", ("FunctionList",)), Family("credentials", ("unauthorized",))
UNKNOWN = "404 unknown-job"
ASYNC = "Prefer: respond-async"
LOOSE = "400 bad-header | 422 bad-request"

JOB_ROWS: list[Row] = [
    *[_job.bare(f"{method} {name[:20]}{tail}", method, f"/v1/jobs/{name}{tail}", f"{UNKNOWN} | 404 not-found")
      for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events"))
      for name in ("0" * 32, CANARY, "..%2f..", "%00", "0" * 20_000, "'%20OR%201=1--", "%ff")],
    _job.bare("events from afar", "GET", f"/v1/jobs/{'0' * 32}/events", UNKNOWN, [f"Last-Event-ID: {CANARY}"]),
    _job.bare("events from 2^80", "GET", f"/v1/jobs/{'0' * 32}/events", UNKNOWN, [f"Last-Event-ID: {1 << 80}"]),
    _job.bare("wrong method", "PATCH", f"/v1/jobs/{'0' * 32}", "405 method-not-allowed"),
    *[_job.row(f"Prefer {p[:20]}", GOOD, f"200 | 202 | {LOOSE}", headers=[f"Prefer: {p}"])
      for p in ("wait=-1", "wait=1e9", "wait=" + "9" * 400, "respond-async=" + CANARY, "wait=0.0001", ",,,;;==",
          "a" * 9000,
                "wait=\"1\"", "respond-async, respond-async, wait=1, wait=2", '"' * 5000)],
    _job.row("a malformed body", b"{", "202 | 400 malformed-json", headers=[ASYNC]),
    _job.row("a bad formula", formula(f"sum({CANARY})"), "202 | 422 unknown-name", headers=[ASYNC]),
    _job.row("an empty body", b"", "400 malformed-json", headers=[ASYNC]),
    _job.row("a wrong media type", GOOD, "415 unsupported-media-type", headers=[ASYNC], media="text/plain"),
]
KEY_ROWS: list[Row] = [
    *[_key.row(f"key {k[:18]!r}", GOOD, LOOSE, headers=[ASYNC, f"Idempotency-Key: {k}"])
      for k in ("", '""', "a" * 300, '"' + "a" * 10_000 + '"', '"unclosed', 'a"b', "a b", '"a\\x"', "a, b")],
    _key.row("two keys", GOOD, LOOSE, headers=[ASYNC, 'Idempotency-Key: "a"', 'Idempotency-Key: "b"']),
    _key.row("a key", GOOD, "202", headers=[ASYNC, f'Idempotency-Key: "{CANARY}"']),
    _key.row("the key again, another payload", formula("sum(x**3)"), "422 idempotency-conflict",
             headers=[ASYNC, f'Idempotency-Key: "{CANARY}"']),
    _key.row("the key again, another operation", GOOD, "422 idempotency-conflict", path="/v1/grad",
             headers=[ASYNC, f'Idempotency-Key: "{CANARY}"']),
    _key.row("the key again, the same", GOOD, "200 | 202", headers=[ASYNC, f'Idempotency-Key: "{CANARY}"']),
]
LIST_ROWS: list[Row] = [
    _list.bare(f"?{q[:20]}", "GET", f"/v1/functions?{q}", "422 bad-request")
    for q in ("limit=-1", "limit=0", "limit=" + "9" * 40, "limit=x", f"cursor={CANARY}", "cursor=%00",
        "cursor=" + "a" * 9000,
              "limit=1&limit=2", f"{CANARY}=1", "limit=1.5", "cursor=%ff%fe", "cursor=' OR 1=1 --".replace(" ", "%20"))
]
AUTH_ROWS: list[Row] = [
    _auth.row(f"{h[:30]}", GOOD, "200 | 401 unauthorized", headers=[h])
    for h in (f"Authorization: Bearer {CANARY}", "Authorization: Bearer", "Authorization: ",
        "Authorization: Basic !!!!",
              f"Authorization: Negotiate {CANARY}", f"X-API-Key: {CANARY}", "X-API-Key: ", "X-API-Key: " + "a" * 50_000,
              "Authorization: Bearer " + "a" * 50_000, "Authorization: Bearer a b c", "Authorization: bearer\tx")
]
ROWS: list[Row] = [*JOB_ROWS, *KEY_ROWS, *LIST_ROWS, *AUTH_ROWS]
