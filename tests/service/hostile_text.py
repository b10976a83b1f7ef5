"""Hostile JSON and tensors."""

from __future__ import annotations

import json
from typing import Any

from hostile_row import CANARY, GOOD, Family, Row, call, formula

_json, _media, _tensor = Family("json"), Family("media type"), Family("tensor")
TEXT = json.dumps(GOOD).encode()
MALFORMED = "400 malformed-json"


def _with(text: bytes) -> bytes:
    """A good request whose data is `text`."""
    return b'{"function": {"expression": "sum(x**2)"}, "inputs": [' + text + b"]}"


def _data(value: Any, dtype: str = "float64", **members: Any) -> dict[str, Any]:
    return call({"expression": "sum(x**2)"}, [{"dtype": dtype, "data": value, **members}])


def _nested(depth: int, inner: str = "1.0") -> bytes:
    return b"[" * depth + inner.encode() + b"]" * depth


def _many_nodes() -> bytes:
    rows = b",".join([b'{"id":"n%d","op":"sin","args":["x"]}' % k for k in range(1_000_000)])
    return (b'{"function":{"graph":{"format":"hesse-graph/1","inputs":[{"name":"x","shape":[2]}],"nodes":[' + rows
            + b'],"outputs":["n7"]}},"inputs":[[1.0,2.0]]}')


JSON_ROWS: list[Row] = [
    *[_json.row(f"truncated at {k}", TEXT[:k], MALFORMED) for k in (1, 2, 11, 25, 40, len(TEXT) // 2, len(TEXT) - 1)],
    _json.row("empty", b"", MALFORMED),
    _json.row("white space", b" \n\t ", MALFORMED),
    _json.row("a word", CANARY.encode(), MALFORMED),
    _json.row("trailing comma in a list", _with(b"[1.0,]"), MALFORMED),
    _json.row("trailing comma in an object", b'{"function": {}, }', MALFORMED),
    _json.row("two values", TEXT + TEXT, MALFORMED),
    _json.row("garbage behind", TEXT + CANARY.encode(), MALFORMED),
    _json.row("comments", b"/* " + CANARY.encode() + b" */" + TEXT, MALFORMED),
    _json.row("single quotes", TEXT.replace(b'"', b"'"), MALFORMED),
    _json.row("unquoted members", b"{function: 1}", MALFORMED),
    _json.row("leading zero", _with(b"[01.0]"), MALFORMED),
    _json.row("hexadecimal", _with(b"[0x10]"), MALFORMED),
    _json.row("plus sign", _with(b"[+1.0]"), MALFORMED),
    _json.row("bare point", _with(b"[.5]"), MALFORMED),
    _json.row("point at the end", _with(b"[5.]"), MALFORMED),
    _json.row("exponent without digits", _with(b"[1e]"), MALFORMED),
    _json.row("underscore in a number", _with(b"[1_000]"), MALFORMED),
    _json.row("Python words", _with(b"[True]"), MALFORMED),
    _json.row("NaN token", _with(b"[NaN]"), "400 non-finite-token"),
    _json.row("Infinity token", _with(b"[Infinity]"), "400 non-finite-token"),
    _json.row("-Infinity token", _with(b"[-Infinity]"), "400 non-finite-token"),
    _json.row("nan in lower case", _with(b"[nan]"), MALFORMED),
    _json.row("NaN token, then cut", b'{"inputs": [[NaN', MALFORMED),
    _json.row("invalid UTF-8", b'{"a": "\xff\xfe' + CANARY.encode() + b'"}', MALFORMED),
    _json.row("overlong UTF-8", b'{"a": "\xc0\xaf"}', MALFORMED),
    _json.row("UTF-8 surrogate", b'{"a": "\xed\xa0\x80"}', MALFORMED),
    _json.row("cut UTF-8", b'{"a": "\xe2\x82', MALFORMED),
    _json.row("UTF-8 beyond Unicode", b'{"a": "\xf5\x80\x80\x80"}', MALFORMED),
    _json.row("UTF-16 with a mark", TEXT.decode().encode("utf-16"), MALFORMED),
    _json.row("UTF-16 without one", TEXT.decode().encode("utf-16-le"), MALFORMED),
    _json.row("UTF-32", TEXT.decode().encode("utf-32-be"), MALFORMED),
    _json.row("byte order mark", b"\xef\xbb\xbf" + TEXT, MALFORMED),
    _json.row("lone surrogate", b'{"a": "\\ud800"}', MALFORMED),
    _json.row("reversed surrogates", b'{"a": "\\udc00\\ud800"}', MALFORMED),
    _json.row("short escape", b'{"a": "\\u12"}', MALFORMED),
    _json.row("unknown escape", b'{"a": "\\x41"}', MALFORMED),
    _json.row("NUL byte", b'{"a": "\x00"}', MALFORMED),
    _json.row("NUL behind", TEXT + b"\x00", MALFORMED),
    _json.row("NULs only", bytes(1000), MALFORMED),
    _json.row("escaped NUL in a formula", b'{"function":{"expression":"sum(x)\\u0000"},"inputs":[[1.0]]}',
              "422 expression-syntax"),
    _json.row("control character", b'{"a": "\x01"}', MALFORMED),
    _json.row("newline in a string", b'{"a": "\n"}', MALFORMED),
    _json.row("100k open brackets", b"[" * 100_000, MALFORMED),
    _json.row("100k open braces", b'{"a":' * 100_000, MALFORMED),
    _json.row("100k closed brackets", _nested(100_000), MALFORMED),
    _json.row("10M open brackets", lambda: b"[" * 10_000_000, f"413 too-many-parts | {MALFORMED}"),
    _json.row("deep in data", lambda: _with(_nested(100_000)), MALFORMED),
    _json.row("data 40 deep", lambda: _with(_nested(40)), "413 rank-too-high"),
    _json.row("data 190 deep", lambda: _with(_nested(190)), f"413 rank-too-high | {MALFORMED}"),
    _json.row("deep in args", b'{"function":{"graph":{"format":"hesse-graph/1","inputs":[{"name":"x","shape":[2]}],'
              b'"nodes":[{"id":"y","op":"sum","args":' + _nested(150) + b'}],"outputs":["y"]}},"inputs":[[1.0,2.0]]}',
              "422 graph-format"),
    _json.row("deep in attrs", b'{"function":{"graph":{"format":"hesse-graph/1","inputs":[{"name":"x","shape":[2]}],'
              b'"nodes":[{"id":"y","op":"sum","args":["x"],"attrs":{"axis":' + _nested(150) + b'}}],"outputs":["y"]}},'
              b'"inputs":[[1.0,2.0]]}', "422 bad-attribute"),
    _json.row("deep in options", b'{"function":{"expression":"sum(x)"},"inputs":[[1.0]],"options":' + _nested(150)
              + b"}", "422 bad-request"),
    _json.row("deep in a strange member", b'{"' + CANARY.encode() + b'":' + _nested(150) + b"}", "422 bad-request"),
    _json.row("member twice: the last counts",
              b'{"function":{"expression":"' + CANARY.encode() + b'"},"inputs":[[1.0]],'
              b'"function":{"expression":"sum(x**2)"}}', "200"),
    _json.row("member twice, the last is bad", TEXT[:-1] + b', "inputs": "' + CANARY.encode() + b'"}',
              "422 bad-request"),
    _json.row("a list", [CANARY], "422 bad-request"),
    _json.row("a string", CANARY, "422 bad-request"),
    _json.row("a number", b"12345678901234567890", "422 bad-request"),
    _json.row("null", b"null", "422 bad-request"),
    _json.row("__proto__", {**GOOD, "__proto__": {CANARY: 1}}, "422 bad-request"),
    _json.row("__class__", {**GOOD, "__class__": CANARY}, "422 bad-request"),
    _json.row("empty member name", {**GOOD, "": CANARY}, "422 bad-request"),
    _json.row("member name of 1 MB", lambda: {**GOOD, CANARY * 70_000: 1}, "422 bad-request"),
    _json.row("100k members", lambda: {**GOOD, **{f"{CANARY} {k}": k for k in range(100_000)}}, "422 bad-request"),
    _json.row("20M empty lists", lambda: b"[" + b"[]," * 20_000_000 + b"1]", "413 too-many-parts"),
    _json.row("8M objects", lambda: b"[" + b'{"a":1},' * 8_000_000 + b"1]", "413 too-many-parts"),
    _json.row("6M distinct members", lambda: b"{" + b",".join([b'"%x":1' % k for k in range(6_000_000)]) + b"}",
              "413 too-many-parts"),
    _json.row("a million nodes", _many_nodes, "413 too-many-parts | 413 too-many-nodes"),
    _json.row("60 MB of spaces", lambda: b" " * 60_000_000, MALFORMED),
    _json.row("a string of 60 MB", lambda: b'{"function":"' + b"a" * 60_000_000 + b'"}', "422 bad-request"),
    _json.row("more than 64 MiB", lambda: b" " * ((64 << 20) + 1), "413 body-too-large | closed"),
]

_types = ("text/plain", "text/html", "application/xml", "multipart/form-data; boundary=x", "application/json-seq",
          "application/x-www-form-urlencoded", "application/problem+json", "application/jsonx", "json", "*/*", "/",
          f"application/{CANARY}", "application/json, application/json", "application/x-python-pickle",
          "application/json; charset=utf-16", "application/json; charset=utf-7", "application/json; charset=latin-1",
          f"application/json; charset={CANARY}", "application/json; charset=utf-8; charset=utf-16")
MEDIA_ROWS: list[Row] = [
    *[_media.row(t, TEXT, "415 unsupported-media-type", media=t) for t in _types],
    _media.row("none", TEXT, "415 unsupported-media-type", media=None),
    _media.row("empty", TEXT, "415 unsupported-media-type", media=""),
    _media.row("form feed", TEXT, "415 unsupported-media-type | 400 malformed-http", media="application/json\x0c"),
    _media.row("50 KB of parameters", TEXT, "415 unsupported-media-type", media=f"application/json; a={'b' * 50_000}"),
    _media.row("upper case", TEXT, "200", media="APPLICATION/JSON; Charset=UTF-8"),
    *[_media.row(f"Content-Encoding {c[:8]}", TEXT, "415 unsupported-media-type", headers=[f"Content-Encoding: {c}"])
      for c in ("br", "compress", CANARY, "gzip, gzip, gzip", "x" * 10_000)],
    *[_media.row(f"on {p}", TEXT, "415 unsupported-media-type", path=p, method=m, media="text/plain")
      for m, p in (("PUT", "/v1/functions"), ("POST", "/v1/plan"), ("POST", "/v1/hvp"))],
]

BAD = "422 bad-tensor"
TENSOR_ROWS: list[Row] = [
    _tensor.row("1e999", _with(b"[1e999, 1.0]"), BAD),
    _tensor.row("-1e999", _with(b"[-1e999]"), BAD),
    _tensor.row("1e400 digits long", _with(b"[1" + b"0" * 400 + b"]"), BAD),
    _tensor.row("an integer of 5000 digits", _with(b"[1" + b"0" * 5000 + b"]"), f"{BAD} | {MALFORMED}"),
    _tensor.row("an exponent of 50 digits", _with(b"[1e" + b"9" * 50 + b"]"), f"{BAD} | {MALFORMED}"),
    _tensor.row("a fraction of 100k digits", _with(b"[0." + b"3" * 100_000 + b"]"), f"200 | {MALFORMED}"),
    _tensor.row("minus zero", _with(b"[-0.0]"), "200"),
    _tensor.row("denormal", _with(b"[5e-324]"), "200"),
    _tensor.row("below the least denormal", _with(b"[1e-999]"), "200"),
    _tensor.row("float32 overflow", _data([1e39], "float32"), BAD),
    *[_tensor.row(f"{t} overflow", _data([v], t), BAD, path="/v1/value")
      for t, v in (("int8", 128), ("int16", 1 << 15), ("int32", 1 << 31), ("int64", 1 << 63), ("uint8", 256),
                   ("int8", -129), ("int64", -(1 << 63) - 1))],
    _tensor.row("a fraction as an integer", _data([1.5], "int32"), BAD, path="/v1/value"),
    _tensor.row("2 as a boolean", _data([2], "bool"), BAD, path="/v1/value"),
    *[_tensor.row(f"the word {w[:9]}", _data([w, 1.0]), BAD)
      for w in (CANARY, "nan", "NAN", "inf", "+Infinity", "Infinity ", "1.0", "", "0x1p3", "١")],
    _tensor.row("NaN for an integer", _data(["NaN"], "int64"), BAD, path="/v1/value"),
    *[_tensor.row(f"dtype {str(t)[:12]}", _data([1.0], t), BAD)
      for t in (CANARY, "object", "O", "f8", ">f8", "float128", "datetime64", "str", "", "float64 ")],
    *[_tensor.row(f"dtype of type {type(t).__name__}", call(inputs=[{"dtype": t, "data": [1.0]}]), BAD)
      for t in (8, ["float64"], {CANARY: 1}, True)],
    _tensor.row("complex", _data([1.0], "complex128"), "422 unsupported-complex"),
    *[_tensor.row(f"shape {str(s)[:24]}", _data([1.0, 2.0], shape=s), a)
      for s, a in (
          ([-2], BAD), ([-1], BAD), ([2.0], BAD), ([True, 2], BAD), (["2"], BAD), ([None], BAD), ("2", BAD),
          ({}, BAD), (2, BAD), ([[2]], BAD), ([3], BAD), ([1], BAD), ([], BAD), ([0], BAD), ([2, 0], BAD),
          ([10**6, 10**6], "413 too-many-elements"), ([1 << 62], "413 too-many-elements"),
          ([1 << 63, 0], f"{BAD} | 413 too-many-elements"), ([1 << 64], f"{BAD} | 413 too-many-elements"),
          ([1 << 32, 1 << 32], f"{BAD} | 413 too-many-elements"),
          ([-1, -2], BAD), ([10**400], f"{BAD} | 413 too-many-elements"), ([1] * 33, "413 rank-too-high"),
          ([1] * 1000, "413 rank-too-high"),
      )],
    _tensor.row("rank 100k", lambda: _data([1.0], shape=[1] * 100_000), "413 rank-too-high"),
    _tensor.row("shape against the nest", _data([[1.0, 2.0], [3.0, 4.0]], shape=[4, 1]), BAD),
    _tensor.row("ragged", _data([[1.0, 2.0], [3.0]]), BAD),
    _tensor.row("ragged at the end", _data([[1.0]] * 1000 + [[]]), BAD),
    _tensor.row("mixed depth", _data([1.0, [2.0]]), BAD),
    _tensor.row("an object in the data", _data([1.0, {CANARY: 1}]), BAD),
    _tensor.row("null in the data", _data([1.0, None]), BAD),
    _tensor.row("a boolean in the data", _data([1.0, False]), BAD),
    _tensor.row("no data", call(inputs=[{"shape": [2], "dtype": "float64"}]), BAD),
    _tensor.row("data null", _data(None), BAD),
    _tensor.row("data a string", _data(CANARY), BAD),
    _tensor.row("data an object", _data({CANARY: 1}), BAD),
    _tensor.row("a path", _data("file:///etc/passwd"), BAD),
    _tensor.row("other members", call(inputs=[{"data": [1.0], "buffer": CANARY}]), BAD),
    _tensor.row("binary without a frame",
                call(inputs=[{"shape": [1], "dtype": "float64", "parameters": {"binary_data_size": 8}}]),
                f"{BAD} | 400 malformed-frame | 422 bad-request"),
    _tensor.row("16M numbers", lambda: _with(b"[" + b"1.5," * 16_000_000 + b"1]"), "413 too-many-parts"),
    _tensor.row("4M numbers", lambda: _with(b"[" + b"1.5," * 3_999_900 + b"1]"), "413 over-memory-budget"),
    _tensor.row("the sum overflows", formula("sum(x**2)", [1e300, 1e300]), "200"),
    _tensor.row("2000 inputs", call(inputs=[[1.0]] * 2000), "422 bad-request"),
    _tensor.row("inputs an object", call(inputs={CANARY: [1.0]}), "422 bad-request"),
]

ROWS = [*JSON_ROWS, *MEDIA_ROWS, *TENSOR_ROWS]
