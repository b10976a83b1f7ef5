"""The error tree: every code that is raised is declared, once, for the class that raises it, and survives a copy."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

from hesse_engine import errors
from hesse_engine.errors import CODES, STATUS, HesseError, rebuild

ROOT = Path(__file__).parents[2]
SOURCES = [p for folder in ("engine", "service", "clients") for p in sorted((ROOT / folder).rglob("*.py"))]
CLASSES = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, HesseError)}


def raised() -> list[tuple[str, str, str]]:
    """(place, class, code) of every `SomeError("code", ...)` in the sources."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node.func.id, code.value))
    return found


def test_what_is_raised_is_declared() -> None:
    assert len(raised()) > 100
    wrong = [(place, name, code) for place, name, code in raised() if CODES.get(code, HesseError).__name__ != name]
    assert not wrong


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_rebuilds_its_error(code: str) -> None:
    error = rebuild(code, "What happened.", hint="What to do.", pointer="/inputs/0", node="n1")
    assert type(error) is CODES[code]
    assert str(error) == "What happened. What to do."
    assert 400 <= STATUS[code] < 600
    assert error.status == STATUS[code]
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy), copy.pointer, copy.node) == (
        type(error), code, str(error), "/inputs/0", "n1")


def test_an_unknown_code_is_still_an_error() -> None:
    error = rebuild("from-a-newer-server", "Something.")
    assert type(error) is HesseError
    assert error.status == 422


def test_each_class_is_a_builtin_exception_too() -> None:
    for cls in set(CODES.values()):
        assert any(b.__module__ == "builtins" and b is not Exception for b in cls.__mro__ if b not in (
            BaseException, Exception, object)), cls
