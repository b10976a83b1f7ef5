"""Content codings both ways: round trips, bombs, damage, preferences."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hesse_engine.errors import HesseError
from hesse_service import compression
from serving import Server, running, wait_for

JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}).encode()
CODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
LIMIT = 16 << 20  # the fixture's
POINT = np.linspace(0.1, 1.0, 40).tolist()


def post(client: httpx2.Client, content: bytes, coding: str, **headers: str) -> httpx2.Response:
    return client.post("/v1/hessian", content=content, headers={**JSON, "Content-Encoding": coding, **headers})


def problem(response: httpx2.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"


def raw(client: httpx2.Client, accept: str, **more: Any) -> httpx2.Response:
    """The answer to a Hessian of 40 inputs, with its body as it travelled."""
    body = {"function": {"expression": "sum(x)**3"}, "inputs": [POINT]}
    headers = {"Accept-Encoding": accept, **more}
    with client.stream("POST", "/v1/hessian", json=body, headers=headers) as response:
        response.extensions["raw"] = b"".join(response.iter_raw())
    return response


# ---- in -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("coding", CODERS)
def test_compressed_bodies_are_read(client: httpx2.Client, coding: str) -> None:
    response = post(client, CODERS[coding](BODY), coding)
    assert response.status_code == 200, response.text
    assert response.json()["result"]["data"] == [2.0, 0.0, 0.0, 2.0]
    assert post(client, CODERS[coding](BODY), coding.upper()).status_code == 200


@pytest.mark.parametrize("coding", CODERS)
def test_compressed_frames_are_read(client: httpx2.Client, coding: str) -> None:
    point = np.zeros(20_000)
    part = {"shape": [20_000], "dtype": "float64", "parameters": {"binary_data_size": point.nbytes}}
    header = json.dumps({"function": {"expression": "sum(x**2)"}, "inputs": [part]}).encode()
    response = client.post("/v1/laplacian", content=CODERS[coding](header + point.tobytes()), headers={
        "Content-Type": "application/octet-stream", "Content-Encoding": coding,
        "Inference-Header-Content-Length": str(len(header))})
    assert response.status_code == 200, response.text
    assert response.json()["result"]["data"] == [40_000.0]


@pytest.mark.parametrize("coding", CODERS)
def test_bombs_are_stopped_at_the_limit(client: httpx2.Client, coding: str) -> None:
    problem(post(client, CODERS[coding](bytes(LIMIT + 1)), coding), 413, "inflated-too-large")
    assert post(client, CODERS[coding](BODY + b" " * (LIMIT - len(BODY))), coding).status_code == 200


@pytest.mark.parametrize("coding", CODERS)
def test_bombs_take_no_memory(tmp_path: Path, coding: str) -> None:
    bomb = CODERS[coding](bytes(256 << 20))
    assert len(bomb) < 1 << 20
    with (
        running(tmp_path / "log", compute_processes=1, max_inflated_bytes=8 << 20) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        wait_for(lambda: client.get("/readyz").status_code == 200, 120)
        post(client, CODERS[coding](BODY), coding).raise_for_status()
        before = peak(server)
        for _ in range(3):
            problem(post(client, bomb, coding), 413, "inflated-too-large")
        assert peak(server) - before < 64 << 20


def peak(server: Server) -> int:
    """Most memory that a compute process ever had [bytes]."""
    texts = [Path(f"/proc/{p}/status").read_text() for p in server.children()]
    return max([1024 * int(t.split("VmHWM:")[1].split()[0]) for t in texts])


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda b: b[:-1], "cut to one byte": lambda b: b[:1], "cut in the middle": lambda b: b[: len(b) // 2],
    "followed": lambda b: b + b"x", "twice": lambda b: b + b, "plain": lambda b: BODY,
    "flipped": lambda b: b[:-5] + bytes([b[-5] ^ 255]) + b[-4:], "zeros": lambda b: bytes(100),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("coding", CODERS)
def test_damage_is_refused(client: httpx2.Client, coding: str, damage: str) -> None:
    whole = CODERS[coding](BODY)
    if coding == "zstd":
        whole = zstandard.ZstdCompressor(write_checksum=True).compress(BODY)
    problem(post(client, DAMAGE[damage](whole), coding), 400, "bad-encoding")


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "gzip, zstd", "x-gzip", "compress", "gzip;q=1"])
def test_other_codings_are_not_supported(client: httpx2.Client, coding: str) -> None:
    problem(post(client, gzip.compress(BODY), coding), 415, "unsupported-media-type")


def test_a_large_window_is_refused(client: httpx2.Client) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    problem(post(client, writer.compress(BODY) + writer.flush(), "zstd"), 400, "bad-encoding")


@pytest.mark.parametrize("coding", CODERS)
@given(content=st.binary(max_size=2000), cut=st.integers(1, 2000), limit=st.integers(0, 2500))
def test_inflating_gives_back_what_was_compressed_or_says_why(
    coding: str, content: bytes, cut: int, limit: int
) -> None:
    whole = CODERS[coding](content)
    if len(content) <= limit:
        assert compression.inflate(whole, coding, limit) == content
    else:
        with pytest.raises(HesseError) as caught:
            compression.inflate(whole, coding, limit)
        assert caught.value.code == "inflated-too-large"
    with pytest.raises(HesseError):
        compression.inflate(whole[:-cut] if cut < len(whole) else b"", coding, 10_000)


@pytest.mark.parametrize("coding", CODERS)
@given(body=st.binary(max_size=300))
def test_any_bytes_are_inflated_or_refused(coding: str, body: bytes) -> None:
    error = refusal(body, coding)
    assert error is None or error.code in ("bad-encoding", "inflated-too-large")


def refusal(body: bytes, coding: str) -> HesseError | None:
    """What inflating `body` is refused with."""
    try:
        compression.inflate(body, coding, 1000)
    except HesseError as error:
        return error
    return None


# ---- out ------------------------------------------------------------------------------------------------------------
PREFERRED = [("", None), ("identity", None), ("gzip", "gzip"), ("zstd", "zstd"), ("gzip, zstd", "zstd"),
             ("gzip;q=1, zstd;q=0.5", "gzip"), ("gzip;q=0", None), ("gzip, identity;q=0", "gzip"), ("*", "zstd"),
             ("*;q=0.1, gzip", "gzip"), ("br, deflate", None), ("gzip;q=0.5, identity", None),
             ("deflate, gzip, br, zstd;q=0", "gzip"), ("identity;q=0", None), ("GZIP", "gzip")]


@pytest.mark.parametrize(("accept", "coding"), PREFERRED)
def test_answers_are_compressed_as_asked(client: httpx2.Client, accept: str, coding: str | None) -> None:
    response = raw(client, accept)
    if accept == "identity;q=0":  # nothing else is named, and what is not named is not offered
        assert response.status_code == 406
        return
    assert response.headers.get("content-encoding") == coding
    assert "accept-encoding" in response.headers["vary"].lower()
    sent = response.extensions["raw"]
    assert len(sent) == int(response.headers["content-length"])
    if coding == "gzip":
        sent = gzip.decompress(sent)
    elif coding == "zstd":
        sent = zstandard.ZstdDecompressor().decompressobj().decompress(sent)
    assert json.loads(sent)["result"]["data"][0] == pytest.approx(6 * sum(POINT))


def test_small_answers_are_not_compressed(client: httpx2.Client) -> None:
    assert "content-encoding" not in post(client, BODY, "identity", **{"Accept-Encoding": "gzip"}).headers
    strict = post(client, BODY, "identity", **{"Accept-Encoding": "gzip, identity;q=0"})
    assert strict.headers["content-encoding"] == "gzip"
    assert strict.json()["result"]["data"] == [2.0, 0.0, 0.0, 2.0]


def test_frames_are_compressed_only_for_who_names_one_coding(client: httpx2.Client) -> None:
    frame = {"Accept": "application/octet-stream"}
    assert "content-encoding" not in raw(client, "gzip, deflate, br, zstd", **frame).headers
    response = raw(client, "zstd", **frame)
    assert response.headers["content-encoding"] == "zstd"
    body = zstandard.ZstdDecompressor().decompressobj().decompress(response.extensions["raw"])
    head = json.loads(body[: int(response.headers["inference-header-content-length"])])
    assert head["result"]["parameters"]["binary_data_size"] == 8 * 40 * 40


@pytest.mark.parametrize("accept", ["identity;q=0", "*;q=0", "br, *;q=0", "gzip;q=0, zstd;q=0, identity;q=0"])
def test_who_refuses_everything_gets_nothing(client: httpx2.Client, accept: str) -> None:
    response = client.post("/v1/hessian", content=BODY, headers={**JSON, "Accept-Encoding": accept})
    problem(response, 406, "not-acceptable")


def test_documents_are_compressed(client: httpx2.Client) -> None:
    plain = client.get("/v1/ops", headers={"Accept-Encoding": "identity"})
    packed = client.get("/v1/ops", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert zlib.crc32(packed.content) == zlib.crc32(plain.content)
