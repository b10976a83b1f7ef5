"""The wheel as a user gets it: in an empty environment, with the base dependencies alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Server, running

ROOT = Path(__file__).parents[1]
BASE = {"hesse", "numpy", "httpx2"}  # and what these bring, which must be none of the following
HEAVY = {"numba", "llvmlite", "scipy", "fastapi", "starlette", "pydantic", "uvicorn", "pebble", "torch"}

pytestmark = pytest.mark.slow

USE = """
import sys
import numpy as np
import hesse
from hesse import func, functional

x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
blocks = functional.hessian(lambda x, y: (2 * x.pow(2) + 3 * y.pow(2)).sum(), (x, y))
np.testing.assert_array_equal(np.block([list(row) for row in blocks]), np.diag([4.0, 4.0, 6.0, 6.0]))
np.testing.assert_allclose(func.vmap(func.jacfwd(np.sin))(np.ones((3, 2))), np.cos(1.0) * np.stack([np.eye(2)] * 3))
g = hesse.function(lambda x: np.sum(x**3))
for point in (x, y):
    np.testing.assert_allclose(g.hessian(point), np.diag(6 * point))
try:
    functional.hessian(lambda x: x, x)
except hesse.HesseError as error:
    assert error.code == "not-scalar" and isinstance(error, RuntimeError)
else:
    raise AssertionError("a vector has no Hessian")
print(*sys.modules)
"""


def run(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run away from the sources, with none of our settings."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("HESSE_")}
    return subprocess.run([str(c) for c in command], cwd="/", env=kept | env, capture_output=True, text=True,
                          check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("hesse-*.whl")
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("packaging") / "server.log", compute_processes=1) as started:
        yield started


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packages = {n.split("/")[0] for n in names if ".dist-info/" not in n}
    assert packages == {"hesse", "hesse_engine", "hesse_service"}
    assert {f"{p}/py.typed" for p in packages} <= set(names)
    sources = {str(p.relative_to(ROOT / folder)) for folder in ("engine", "service", "clients/python")
               for p in (ROOT / folder).rglob("*.py")}
    assert sources == {n for n in names if n.endswith(".py")}


def test_the_wheel_depends_on_what_it_says(bare: Path) -> None:
    done = run(bare, "-c", "import importlib.metadata as m; print(*m.requires('hesse'), sep='\\n')")
    base = {re.split(r"[<>=!~ \[;]", line)[0] for line in done.stdout.splitlines() if "extra ==" not in line}
    assert base == BASE - {"hesse"}


def test_the_base_install_is_light(bare: Path) -> None:
    done = run(bare, "-c", "import importlib.metadata as m; print(*[d.name.lower() for d in m.distributions()])")
    installed = set(done.stdout.split())
    assert installed >= BASE
    assert not installed & HEAVY


def test_the_sdk_works_over_http_with_the_base_install(bare: Path, server: Server) -> None:
    done = run(bare, "-W", "error", "-c", USE, HESSE_BASE_URL=server.url)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & HEAVY


def test_serving_says_what_is_missing(bare: Path) -> None:
    done = run(bare.with_name("hesse"), "serve")
    assert done.returncode == 2
    assert "hesse[service]" in done.stderr


def test_the_command_tells_the_version(bare: Path, wheel: Path) -> None:
    done = run(bare.with_name("hesse"), "version")
    assert done.stdout.strip() == wheel.name.split("-")[1]
