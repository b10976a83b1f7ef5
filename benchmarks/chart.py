"""The charts, as SVG written by hand: dots on a logarithmic axis, and lines on two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Series = Mapping[str, Sequence[tuple[float, float]]]  # points by name
COLORS = {"JAX jit": "#2f6db5", "torch.func": "#d1602f", "CasADi": "#3c8f5a", "asdex": "#8a5fb0"}
LINES = ("#2f6db5", "#d1602f", "#3c8f5a")
STYLE = ('<style>text{font:12px system-ui,sans-serif;fill:#555}.t{font-weight:600}.g{stroke:#8886;stroke-width:1}'
         '.one{stroke:#888;stroke-width:1.5}@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>')


def ratios(cases: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """For each case a line of dots: how many times a peer's median is ours. Peers by COLORS, the fastest of a kind."""
    left, row, top, width = 330, 22, 44, 480
    values = [r for _, found in cases for r in found.values()] or [1.0]
    low, high = math.floor(math.log10(min([*values, 1.0]))), math.ceil(math.log10(max([*values, 10.0])))
    high = max(high, low + 1)

    def at(value: float) -> float:
        return left + width * (math.log10(value) - low) / (high - low)

    height = top + row * len(cases) + 24
    parts = [_open(left + width + 30, height)]
    for k, (name, color) in enumerate(COLORS.items()):
        place = left + 110 * k
        parts.append(f'<circle cx="{place}" cy="14" r="5" fill="{color}"/><text x="{place + 10}" y="18">{name}</text>')
    for power in range(low, high + 1):
        x = at(10.0**power)
        kind = "one" if power == 0 else "g"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{height - 20}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle">{_power(power)}×</text>')
    for k, (title, found) in enumerate(cases):
        y = top + row * k + 6
        parts.append(f'<text x="{left - 14}" y="{y + 4}" text-anchor="end">{escape(title)}</text>')
        parts.append(f'<line class="g" x1="{left}" x2="{left + width}" y1="{y}" y2="{y}"/>')
        for name, ratio in found.items():
            parts.append(f'<circle cx="{at(ratio):.1f}" cy="{y}" r="5" fill="{COLORS[name]}">'
                         f"<title>{escape(name)}: {ratio:.3g}</title></circle>")
    return "\n".join([*parts, "</svg>", ""])


def lines(panels: Sequence[tuple[str, Series]]) -> str:
    """Panels side by side: title and, by series, points (x, y), both axes logarithmic."""
    size, gap, top = 300, 90, 40
    parts = [_open(len(panels) * (size + gap) + 20, top + size + 60)]
    names = list(dict.fromkeys([name for _, series in panels for name in series]))
    for k, name in enumerate(names):
        x, color = 70 + 170 * k, LINES[k % len(LINES)]
        y = top + size + 50
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{color}"/><text x="{x + 10}" y="{y}">{name}</text>')
    for k, (title, series) in enumerate(panels):
        parts += _panel(70 + k * (size + gap), top, size, title, series, names)
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, top: int, size: int, title: str, series: Series, names: Sequence[str]) -> list[str]:
    points = [p for found in series.values() for p in found if min(p) > 0]
    if not points:
        return []
    spans = [(math.floor(math.log10(min(v))), math.ceil(math.log10(max(v)))) for v in zip(*points, strict=True)]
    (x0, x1), (y0, y1) = [(a, max(b, a + 1)) for a, b in spans]

    def at(x: float, y: float) -> tuple[float, float]:
        return (left + size * (math.log10(x) - x0) / (x1 - x0), top + size * (1 - (math.log10(y) - y0) / (y1 - y0)))

    parts = [f'<text class="t" x="{left}" y="{top - 14}">{escape(title)}</text>']
    for power in range(x0, x1 + 1):
        x = at(10.0**power, 10.0**y0)[0]
        parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + size}"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + size + 18}" text-anchor="middle">{_power(power)}</text>')
    for power in range(y0, y1 + 1):
        y = at(10.0**x0, 10.0**power)[1]
        parts.append(f'<line class="g" x1="{left}" x2="{left + size}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_power(power)}</text>')
    for name, found in series.items():
        color = LINES[names.index(name) % len(LINES)]
        places = [at(*p) for p in found if min(p) > 0]
        path = " ".join([f"{x:.1f},{y:.1f}" for x, y in places])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
    return parts


def _open(width: int, height: int) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img">\n{STYLE}')


def _power(power: int) -> str:
    return f"{10**power:,}" if 0 <= power <= 3 else f"{10.0**power:g}" if -2 <= power < 0 else f"1e{power}"
