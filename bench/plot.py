"""A plot of lines over whole numbers, as SVG text: one panel a question, with the numbers that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 300, 240, 56, 40, 44
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    '<rect width="100%" height="100%" fill="white"/>'
)


def panels(drawn: Mapping[str, Sequence[tuple[int, float]]], unit: str) -> str:
    """One panel for each title: its points (how many, how much) joined; the first axis is logarithmic."""
    parts = [_HEAD.format(width=WIDTH * len(drawn), height=HEIGHT)]
    highest = max(much for points in drawn.values() for _, much in points) * 1.15
    for number, (title, points) in enumerate(drawn.items()):
        parts.append(_panel(WIDTH * number, title, points, highest, unit))
    return "\n".join([*parts, "</svg>\n"])


def _panel(x: int, title: str, points: Sequence[tuple[int, float]], highest: float, unit: str) -> str:
    right, bottom = WIDTH - 24, HEIGHT - BOTTOM
    many = [math.log10(how_many) for how_many, _ in points]
    span = (max(many) - min(many)) or 1.0
    places = [
        (LEFT + (at - min(many)) / span * (right - LEFT), bottom - much / highest * (bottom - TOP))
        for at, (_, much) in zip(many, points, strict=True)
    ]
    line = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    parts = [
        f'<g transform="translate({x})">',
        f'<text x="{LEFT}" y="20" font-size="13">{escape(title)}</text>',
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#888"/>',
        f'<text x="{LEFT - 6}" y="{TOP - 4}" text-anchor="end" fill="#555">{escape(unit)}</text>',
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end" fill="#555">0</text>',
        f'<polyline points="{line}" fill="none" stroke="#1a5fb4" stroke-width="2"/>',
    ]
    for (how_many, much), (left, top) in zip(points, places, strict=True):
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="#1a5fb4"/>')
        parts.append(f'<text x="{left:.1f}" y="{top - 8:.1f}" text-anchor="middle">{much:,.0f}</text>')
        parts.append(f'<text x="{left:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{how_many:,}</text>')
    return "\n".join([*parts, "</g>"])
