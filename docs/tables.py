"""The tables of the documentation that state what the code states.

`python docs/tables.py` rewrites them, a test compares. A page holds a table between `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.errors import CODES, HesseError
from hesse_engine.ir import ops, rows
from hesse_engine.options import Options
from hesse_service.schemas import OptionsModel
from hesse_service.settings import GIB, KIB, MIB, Settings

FOLDER = Path(__file__).parent
OF_THE_MACHINE = {"compute_processes": "cores", "max_threads": "cores"}  # defaults that differ from place to place


def errors() -> str:
    """Every code: status, exception, the built-in exception that it also is."""
    lines = []
    for code, cls in sorted(CODES.items()):
        builtin = next(b.__name__ for b in cls.__mro__ if not issubclass(b, HesseError) and issubclass(b, Exception))
        error = cls(code, "")
        lines.append((f"`{code}`", str(error.status), f"`{cls.__name__}`", f"`{builtin}`",
                      "yes" if error.is_retryable else ""))
    return _table(("code", "status", "exception", "is also a", "retryable"), lines)


def op_rows() -> str:
    """Every op with its kind, operands and attributes."""
    ops.ROWS.load()
    lines = [(f"`{r['name']}`", r["kind"], "any" if r["arity"] is None else str(r["arity"]),
              ", ".join(f"`{a}`" for a in r["attrs"]), r["doc"]) for r in rows.describe()]
    return _table(("op", "kind", "operands", "attributes", ""), lines)


def operations() -> str:
    """Every operation with its law."""
    lines = [(f"`{d.name}`", d.summary, f"`{d.law}`") for d in DERIVATIVES.values()]
    return _table(("operation", "", "shape law"), lines)


def options() -> str:
    """Every option of a request with its default."""
    documented = _attributes(Options.__doc__ or "")
    lines = [(f"`{name}`", _default(field.default), field.description or documented[name])
             for name, field in OptionsModel.model_fields.items()]
    return _table(("option", "default", ""), lines)


def settings() -> str:
    """Every setting of the service with its environment variable and default."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = OF_THE_MACHINE.get(name) or _default(field.get_default(call_default_factory=True), "_bytes" in name)
        lines.append((f"`HESSE_{name.upper()}`", default, field.description or ""))
    return _table(("variable", "default", ""), lines)


TABLES: dict[str, Callable[[], str]] = {
    "errors": errors, "ops": op_rows, "operations": operations, "options": options, "settings": settings,
}


def rewritten(page: str) -> str:
    """`page` with every table as the code has it now."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n(?:.*?\n)??<!-- end -->", table, page, flags=re.DOTALL)


def pages() -> list[Path]:
    return sorted(FOLDER.glob("*.md"))


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rule = tuple(["---"] * len(head))
    return "\n".join(["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in (head, rule, *lines)])


def _default(value: object, is_bytes: bool = False) -> str:
    if isinstance(value, int) and is_bytes:
        for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value >= size and value % size == 0:
                return f"{value // size} {unit}"
    if value is None or value == () or value == "":
        return "unset"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _attributes(docstring: str) -> dict[str, str]:
    """name -> text of a Google-style section of attributes."""
    return dict(re.findall(r"^ {8}(\w+): (.*)$", docstring, flags=re.MULTILINE))


def main() -> int:
    for page in pages():
        page.write_text(rewritten(page.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
