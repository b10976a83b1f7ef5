"""Binary frames, written from their description alone: JSON, then raw little-endian tensors in the order in which their
objects stand in it. The header `Inference-Header-Content-Length` says how long the JSON is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEDIA = "application/octet-stream"
HEADER = "Inference-Header-Content-Length"


class Broken(Exception):
    """The frame does not keep to its description."""


def request(function: dict[str, Any], x: NDArray[np.float64]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a call at `x` whose answer is asked for as a frame."""
    raw = x.astype("<f8").tobytes()
    tensor = {"shape": list(x.shape), "dtype": "float64", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"function": function, "inputs": [tensor]}).encode()
    return {"Content-Type": MEDIA, "Accept": MEDIA, HEADER: str(len(head))}, head + raw


def result(headers: Mapping[str, str], body: bytes) -> NDArray[np.float64]:
    """The one dense matrix of an answer.

    Raises:
        Broken: on anything else.
    """
    given = {k.lower(): v for k, v in headers.items()}
    if given.get("content-type", "").partition(";")[0] != MEDIA or HEADER.lower() not in given:
        raise Broken("the answer is no frame")
    length = int(given[HEADER.lower()])
    tensor = json.loads(body[:length])["result"]
    size = tensor["parameters"]["binary_data_size"]
    if "data" in tensor or tensor["dtype"] != "float64" or length + size != len(body):
        raise Broken(f"{len(body)} bytes, of which {length} JSON and {size} data")
    return np.frombuffer(body, "<f8", offset=length).reshape(tensor["shape"])
