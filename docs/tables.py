"""The tables of the documentation that state what the code states.

`python docs/tables.py` rewrites them, a test compares. A page holds a table between `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from hesse_engine.backend import calls
from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.errors import CODES, HesseError
from hesse_engine.frontends import trace  # noqa: F401  (fills the tables of functions)
from hesse_engine.frontends.guarded import GUARDED
from hesse_engine.frontends.operands import is_elementwise
from hesse_engine.frontends.table import NUMPY, NUMPY_ROWS, TORCH, TORCH_ROWS, find
from hesse_engine.ir import ops, rows
from hesse_engine.ir.graph import Builder, apply
from hesse_engine.ir.ops.special import Unknown
from hesse_engine.options import Options
from hesse_service.metrics import REGISTRY
from hesse_service.schemas import OptionsModel
from hesse_service.settings import GIB, KIB, MIB, Settings

FOLDER = Path(__file__).parent
OF_POSITIONS = {"argmax", "argmin", "argsort", "argmode", "cumulative_argmax", "searchsorted", "last_writer"}
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
    """Every op: what it takes, under which names it is traced, what is differentiated, and how it runs."""
    lines = []
    for r in rows.describe():
        row = ops.ROWS[r["name"]]
        notes = [text for text in (r["doc"], f"Domain: {r['domain']}." if r["domain"] else "",
                                   f"Kinks: {r['kink']}." if r["kink"] else "") if text]
        lines.append((f"`{r['name']}`", r["kind"], "any" if r["arity"] is None else str(r["arity"]),
                      ", ".join(f"`{a}`" for a in r["attrs"]), _spellings(row.name, "numpy"),
                      _spellings(row.name, "torch"), _derivatives(row), _runs(row), " ".join(notes)))
    return _table(("op", "kind", "operands", "attributes", "NumPy", "torch", "derivatives", "runs as", ""), lines)


def functions(library: str) -> str:
    """The functions of a library that can be traced, one after the other."""
    table = {"numpy": NUMPY, "torch": TORCH}[library]
    aliases = {"numpy": NUMPY_ROWS, "torch": TORCH_ROWS}[library]
    elementwise = {n for n, row in ops.ROWS.load().items() if is_elementwise(n) and not row.attrs}
    known = {*table, *GUARDED[library], *aliases, *elementwise}
    return ", ".join(f"`{n}`" for n in sorted(known) if not n.startswith(("_", "ndarray.", "Tensor.")))


def _spellings(name: str, library: str) -> str:
    """The names under which a library's function becomes this op itself."""
    aliases = {"numpy": NUMPY_ROWS, "torch": TORCH_ROWS}[library]
    own = [name] if find(name, library) is not None and (library == "torch" or hasattr(np, name)) else []
    return ", ".join(f"`{n}`" for n in [*own, *sorted(a for a, row in aliases.items() if row == name and a != name)])


def _derivatives(row: rows.Row) -> str:
    """In which operands there are derivatives: `all`, their numbers, or `none`."""
    operands = range(row.arity or 0)
    found = [k for k in operands if row.differentiable(k)]
    if row.kind == "pointwise" and row.rule is not None and not row.attrs:
        builder = Builder()
        inputs = [builder.input(f"x{k}", (), np.dtype(np.float64)) for k in operands]
        try:
            partials = row.rule(apply(row.name, *inputs), *inputs)
        except HesseError:  # of integers only
            partials = ()
        found = [k for k, p in enumerate(partials) if p is not None and not isinstance(p, Unknown)]
    if row.kind == "nonlinear" and row.name in OF_POSITIONS:
        found = []
    if row.arity is None or len(found) == len(operands):
        return "all"
    return ", ".join(str(k + 1) for k in found) or "none"


def _runs(row: rows.Row) -> str:
    if row.kind == "composite":
        return "other ops"
    if row.vm is not None or row.name in ("convert", "sum", "take", "scatter_add", "unslice"):
        return "VM"
    if row.name in rows.VIEWS:
        return "view"
    return "one call" if row.name in calls._READY else "NumPy, a fallback"


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
    """Every setting of the service: environment variable, unit, default, and the codes of what exceeds it."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = OF_THE_MACHINE.get(name) or _default(field.get_default(call_default_factory=True), "_bytes" in name)
        stated, _, _ = (field.description or "").partition(" -> ")
        text, _, unit = stated.removesuffix(".").rpartition(" [")
        codes = [c for c in CODES if re.search(rf"(?<![\w-]){c}(?![\w-])", field.description or "")]
        lines.append((f"`HESSE_{name.upper()}`", unit.rstrip("]"), default, ", ".join(f"`{c}`" for c in sorted(codes)),
                      f"{text}." if text else stated))
    return _table(("variable", "unit", "default", "error code", ""), lines)


def metrics() -> str:
    """Every metric with its type and labels, as a scrape names it."""
    lines = []
    for collector in REGISTRY._collector_to_names:
        kind = collector._type  # type: ignore[attr-defined]
        name = collector._name + ("_total" if kind == "counter" else "")  # type: ignore[attr-defined]
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)  # type: ignore[attr-defined]
        lines.append((f"`{name}`", kind, labels, collector._documentation))  # type: ignore[attr-defined]
    return _table(("metric", "type", "labels", ""), lines)


TABLES: dict[str, Callable[[], str]] = {
    "errors": errors, "ops": op_rows, "operations": operations, "options": options, "settings": settings,
    "metrics": metrics,
    "numpy": partial(functions, "numpy"), "torch": partial(functions, "torch"),
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
    """Rewrite the pages named on the command line, or all."""
    for page in [FOLDER / name for name in sys.argv[1:]] or pages():
        page.write_text(rewritten(page.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
