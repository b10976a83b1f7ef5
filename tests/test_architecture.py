"""What keeps the parts apart and small."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import hesse

ROOT = Path(__file__).parents[1]
SOURCES = ("engine", "service", "clients/python")
DANGEROUS = {"eval", "exec", "compile", "__import__", "pickle", "marshal", "shelve", "cloudpickle", "dill"}
LONGEST_FILE, LONGEST_FUNCTION = 450, 60  # lines; the aim is 400 and 40


def files() -> list[Path]:
    return [p for folder in SOURCES for p in sorted((ROOT / folder).rglob("*.py"))]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_imports_go_one_way() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["hesse", "hesse.numpy", "hesse.client", "hesse.cli"])
def test_the_sdk_loads_neither_the_compiler_nor_the_server(module: str) -> None:
    heavy = {"numba", "llvmlite", "scipy", "torch", "jax", "fastapi", "starlette", "pydantic", "uvicorn",
             "hesse_service", "hesse_engine.compute"}
    done = run(f"import sys, {module}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not heavy & set(done.stdout.split())


def test_the_service_loads_no_sdk_and_no_torch() -> None:
    done = run("import sys, hesse_service.app; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not {"hesse", "torch", "jax"} & set(done.stdout.split())


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" in project["project"]["dynamic"]
    home = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert [p for p in files() if f'"{hesse.__version__}"' in p.read_text("utf-8")] == [home]
    try:
        installed = version("hesse")
    except PackageNotFoundError:
        return  # run from the sources: nothing else can disagree
    assert installed == hesse.__version__


def test_every_package_is_typed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").exists()
        missing = [p.parent for p in (ROOT / package).rglob("*.py") if not (p.parent / "__init__.py").exists()]
        assert not missing


def test_nothing_runs_or_unpickles_what_was_sent() -> None:
    """The one exception compiles the virtual machine, whose text is made of the table of opcodes."""
    found: set[tuple[str, str]] = set()
    for path in files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = [node.func.id]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            found |= {(path.name, name) for name in {*names} & DANGEROUS}
    assert found == {("vm.py", "compile"), ("vm.py", "exec")}


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and length of every function, its decorators and docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - first.lineno + 1


def test_files_and_functions_are_short() -> None:
    long: list[str] = []
    for path in files():
        text, name = path.read_text("utf-8"), path.relative_to(ROOT)
        lines = text.count("\n")
        long += [f"{name}: {lines} lines"] * (lines > LONGEST_FILE)
        long += [f"{name}: {f} has {n} lines" for f, n in functions(ast.parse(text)) if n > LONGEST_FUNCTION]
    assert not long, "\n".join(long)
