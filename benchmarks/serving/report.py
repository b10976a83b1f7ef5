"""The figures as text, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.serving.measurements import Figure
from benchmarks.serving.servers import Machine


def verdict(figure: Figure) -> str:
    """'kept', 'missed', or nothing where there is no target or no figure."""
    if not figure.target or figure.value is None:
        return ""
    sign, number = figure.target.split()
    kept = {">=": figure.value >= float(number), "<=": figure.value <= float(number), "<": figure.value < float(number)}
    return "kept" if kept[sign] else "missed"


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    value = "-" if figure.value is None else f"{figure.value:.3g}" if figure.value < 1000 else f"{figure.value:.0f}"
    return figure.name, f"{value} {figure.unit}".strip(), figure.target, verdict(figure), figure.note


def text(figures: Sequence[Figure], machine: Machine) -> str:
    rows = [("", "figure", "target", "", ""), *[_cells(f) for f in figures]]
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    lines = ["  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]).rstrip() for row in rows]
    return "\n".join([f"{machine}; servers on cores {sorted(machine.servers)}, generator on {sorted(machine.own)}",
                      *lines])


def markdown(figures: Sequence[Figure], machine: Machine) -> str:
    rows = [f"| {' | '.join(_cells(f))} |" for f in figures]
    return "\n".join([f"Measured on {machine}.", "", "| | figure | target | | |", "|---|---|---|---|---|", *rows])


def document(figures: Sequence[Figure], machine: Machine) -> str:
    found = [{**asdict(f), "verdict": verdict(f)} for f in figures]
    return json.dumps({"cores": len(machine.cores), "memory_gib": round(machine.memory_gib, 1), "figures": found},
                      indent=1)
