"""npy and npz as bodies both ways, written and read by NumPy itself."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from serving import call, register, tensor

Array = NDArray[Any]
NPY, NPZ = "application/x-npy", "application/x-npz"
SQUARES = {"expression": "sum(x**2)"}


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(compressed: bool = False, **arrays: Array) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def post(client: httpx2.Client, operation: str, body: bytes, media: str, accept: str = "*/*", **query: Any) -> Any:
    params = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in query.items()}
    return client.post(f"/v1/{operation}", content=body, params=params,
                       headers={"Content-Type": media, "Accept": accept})


def loaded(response: httpx2.Response) -> Any:
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content), allow_pickle=False)


def problem(response: httpx2.Response, status: int, code: str) -> Any:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    return response.json()


@pytest.mark.parametrize("point", [np.array([1.0, -2.0]), np.array([1.0, -2.0], np.float32),
                                   np.array([1.0, -2.0]).astype(">f8"), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
                                   np.array(3.0), np.empty((0, 2))],
                         ids=["float64", "float32", "big-endian", "fortran", "scalar", "empty"])
def test_an_array_goes_in_and_an_array_comes_out(client: httpx2.Client, point: Array) -> None:
    found = loaded(post(client, "grad", npy(point), NPY, NPY, **SQUARES))
    assert found.dtype == point.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, 2 * point)


def test_a_registered_function_and_options(client: httpx2.Client) -> None:
    name = register(client, function={"expression": "sum(x**3)"},
                    inputs=[{"name": "x", "shape": [2], "dtype": "float64"}])
    response = post(client, "hessian", npy(np.array([1.0, 2.0])), NPY, NPY, function=name,
                    options={"layout": "packed"})
    assert loaded(response).tolist() == [6.0, 0.0, 12.0]
    body = npz(x=np.array([1.0, 2.0]))
    assert loaded(post(client, "hessian", body, NPZ, NPY, function=name)).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    problem(post(client, "hessian", body, NPZ, function="0" * 64), 404, "unknown-function")


@pytest.mark.parametrize("compressed", [False, True])
def test_members_are_inputs_by_name_or_number(client: httpx2.Client, compressed: bool) -> None:
    x, y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    wanted = call(client, "grad", function={"expression": "sum(x**2*y)", "inputs": ["x", "y"]},
                  inputs=[x.tolist(), y.tolist()])["result"]
    name = register(client, function={"expression": "sum(x**2*y)", "inputs": ["x", "y"]},
                    inputs=[{"name": n, "shape": [2], "dtype": "float64"} for n in "xy"])
    ways = [({"x": x, "y": y}, {"expression": "sum(x**2*y)"}), ({"y": y, "x": x}, {"expression": "sum(x**2*y)",
                                                                                     "inputs": "x,y"}),
            ({"inputs.1": y, "inputs.0": x}, {"expression": "sum(x**2*y)", "inputs": "x,y"}),
            ({"y": y, "x": x}, {"function": name}), ({"inputs.0": x, "inputs.1": y}, {"function": name})]
    for arrays, query in ways:
        response = post(client, "grad", npz(compressed, **arrays), NPZ, **query)
        assert response.status_code == 200, response.text
        assert response.json()["result"] == wanted


def test_vectors_and_weights_are_members(client: httpx2.Client) -> None:
    body = npz(x=np.array([1.0, 2.0]), v=np.array([1.0, 0.0]))
    found = loaded(post(client, "hvp", body, NPZ, NPZ, expression="sum(x**3)"))
    assert found["result.product"].tolist() == [6.0, 0.0]
    assert found["result.output"] == 9.0
    body = npz(**{"x": np.array([1.0, 2.0]), "v.0": np.array([0.0, 1.0])})
    assert loaded(post(client, "hvp", body, NPZ, NPZ, expression="sum(x**3)"))["result.product"].tolist() == [0, 12]
    body = npz(**{"x": np.array([1.0, 2.0]), "weights.0": np.array([0.5, -1.0])})
    found = loaded(post(client, "hessian", body, NPZ, NPY, expression="x**2"))
    assert found.tolist() == [[1.0, 0.0], [0.0, -2.0]]


def test_an_archive_holds_the_parts_of_an_answer(client: httpx2.Client) -> None:
    body = npz(x=np.array([1.0, 2.0, 3.0]))
    found = loaded(post(client, "hessian", body, NPZ, NPZ, options={"layout": "csr"}, **SQUARES))
    assert found["result.shape"].tolist() == [3, 3]
    assert found["result.indptr"].tolist() == [0, 1, 2, 3]
    assert found["result.indices"].tolist() == [0, 1, 2]
    assert found["result.data"].tolist() == [2.0, 2.0, 2.0]
    assert "strategy" in json.loads(found["stats.json"])
    found = loaded(post(client, "value_grad_hessian", body, NPZ, NPZ, **SQUARES))
    names = {n.split(".")[1] for n in found.files if n.startswith("result")}
    assert names == {"value", "gradient", "hessian"}


def test_every_part_of_a_nested_answer_has_a_name(client: httpx2.Client) -> None:
    body = npz(x=np.array([1.0]), y=np.array([2.0, 3.0]))
    response = post(client, "hessian", body, NPZ, NPZ, expression="sum(x*y**2)")
    wanted = call(client, "hessian", function={"expression": "sum(x*y**2)", "inputs": ["x", "y"]},
                  inputs=[[1.0], [2.0, 3.0]])["result"]
    found = loaded(response)
    for i in range(2):
        for j in range(2):
            assert found[f"result.{i}.{j}"].tobytes() == tensor(wanted[i][j]).tobytes()


def test_several_arrays_are_no_npy(client: httpx2.Client) -> None:
    body = npz(x=np.array([1.0]), y=np.array([2.0, 3.0]))
    detail = problem(post(client, "hessian", body, NPZ, NPY, expression="sum(x*y**2)"), 406, "not-acceptable")["detail"]
    assert "result.0.1" in detail


class _Armed:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit",))


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([_Armed()], dtype=object), allow_pickle=True)
    return file.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    """An npy file with this header."""
    line = text.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + data


BAD: dict[str, tuple[bytes, int, str]] = {
    "empty magic": (b"\x93NUMPY", 400, "bad-archive"),
    "no npy": (b"hello, world, I am text", 400, "bad-archive"),
    "a pickle": (pickle.dumps([1, 2, 3]), 400, "bad-archive"),
    "objects": (objects(), 422, "bad-tensor"),
    "records": (npy(np.zeros(2, [("a", "f8")])), 422, "bad-tensor"),
    "texts": (npy(np.array(["a", "b"])), 422, "bad-tensor"),
    "dates": (npy(np.array(["2020-01-01"], "M8[D]")), 422, "bad-tensor"),
    "complex": (npy(np.array([1j])), 422, "unsupported-complex"),
    "half": (npy(np.zeros(2, np.float16)), 422, "bad-tensor"),
    "long double": (npy(np.zeros(2, np.longdouble)), 422, "bad-tensor"),
    "cut": (npy(np.arange(4.0))[:-1], 400, "bad-archive"),
    "cut in the header": (npy(np.arange(4.0))[:60], 400, "bad-archive"),
    "too long": (npy(np.arange(4.0)) + b"x", 400, "bad-archive"),
    "huge": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"), 413, "too-many-elements"),
    "negative": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8)), 422, "bad-tensor"),
    "rank": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 40 + ")}", bytes(8)), 413,
             "rank-too-high"),
    "code": (header("__import__('os').abort()"), 400, "bad-archive"),
    "boolean 2": (npy(np.zeros(2, bool))[:-1] + b"\x02", 422, "bad-tensor"),
    "version 9": (b"\x93NUMPY\x09\x00" + bytes(100), 400, "bad-archive"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_array_is_refused(client: httpx2.Client, name: str) -> None:
    body, status, code = BAD[name]
    found = problem(post(client, "hessian", body, NPY, **SQUARES), status, code)
    assert found["pointer"] == "/inputs/0" or found["pointer"].startswith("/inputs/0/")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.0.npy", body)
    problem(post(client, "hessian", file.getvalue(), NPZ, **SQUARES), status, code)


def zipped(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_what_is_no_archive_is_refused(client: httpx2.Client) -> None:
    good = npz(x=np.array([1.0, 2.0]))
    flipped = bytearray(npz(True, x=np.arange(100.0)))
    flipped[120] ^= 255
    for body in (b"PK\x03\x04", good[:-1], good[: len(good) // 2], bytes(flipped), b"x" * 100,
                 zipped(**{"x.txt": b"text"}), zipped(zipfile.ZIP_LZMA, **{"x.npy": npy(np.arange(2.0))})):
        problem(post(client, "hessian", body, NPZ, **SQUARES), 400, "bad-archive")
    assert post(client, "hessian", good, NPZ, **SQUARES).status_code == 200


def test_archives_that_inflate_too_far_are_refused_before(client: httpx2.Client) -> None:
    bomb = zipped(**{"x.npy": npy(np.zeros(3 << 20))})  # 24 MiB, where 16 are allowed
    assert len(bomb) < 100_000
    problem(post(client, "hessian", bomb, NPZ, **SQUARES), 413, "inflated-too-large")
    many = zipped(**{f"x{k}.npy": b"" for k in range(1001)})
    problem(post(client, "hessian", many, NPZ, **SQUARES), 413, "inflated-too-large")
    understated = bytearray(bomb)
    directory = understated.rindex(b"PK\x01\x02")
    understated[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")  # the size that the directory tells
    problem(post(client, "hessian", bytes(understated), NPZ, **SQUARES), 400, "bad-archive")


@pytest.mark.parametrize(("query", "status", "code"), [
    ("", 422, "bad-request"), ("function=abc", 422, "bad-request"), ("expression=sum(x)&function=" + "0" * 64, 422,
                                                                     "bad-request"),
    ("expression=sum(x)&expression=sum(x)", 422, "bad-request"), ("expression=sum(x)&more=1", 422, "bad-request"),
    ("expression=sum(x)&options={", 400, "malformed-json"), ("expression=sum(x)&options=[]", 422, "bad-request"),
    ("expression=sum(x)&options={\"layout\":\"best\"}", 422, "bad-layout"), ("expression=%ff", 422, "bad-request"),
    ("expression=sum(", 422, "expression-syntax"), ("&".join(["a=1"] * 20), 422, "bad-request"),
    ("expression", 422, "bad-request"), ("expression=sum(x)&inputs=x,y", 422, "wrong-inputs"),
])
def test_queries_are_checked(client: httpx2.Client, query: str, status: int, code: str) -> None:
    response = client.post(f"/v1/hessian?{query}", content=npy(np.arange(2.0)), headers={"Content-Type": NPY})
    problem(response, status, code)


def test_names_are_checked(client: httpx2.Client) -> None:
    x = np.array([1.0, 2.0])
    for arrays in ({"y": x}, {"x": x, "y": x}, {"inputs.1": x}, {"inputs.0": x, "x": x}, {"x": x, "v.1": x}):
        query = {"expression": "sum(x**2)", "inputs": "x"}
        problem(post(client, "hvp", npz(**arrays), NPZ, **query), 422, "wrong-inputs")


def test_plans_and_registrations_are_not_arrays(client: httpx2.Client) -> None:
    response = client.put("/v1/functions?expression=sum(x)", content=npy(np.arange(2.0)), headers={"Content-Type": NPY})
    problem(response, 415, "unsupported-media-type")
