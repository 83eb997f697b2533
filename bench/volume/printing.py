"""A run as tables for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MIB = 1024 * 1024


def tables(run: Mapping[str, Any]) -> str:
    """The document of a run, as text."""
    city, rows = run["city"], run["rows"]
    head = [
        f"{run['at']}  {city['citizens']:,} citizens, {city['enterprises']:,} enterprises, seed {city['seed']}",
        f"{run['backing']}; {'; '.join(f'{name} {value}' for name, value in run['machine'].items())}",
        "",
        f"generated   {rows:,} rows, {run['source_bytes'] / _MIB:,.0f} MiB in {run['generated_seconds']:,.1f} s",
        f"delivered   in {run['wall_seconds']:,.1f} s of wall time, the start of all processes included"
        f" ({run['rows_per_second']:,.0f} rows/s)",
        f"stands      {run['facets']:,} records, {run['rejects']:,} rows set aside; "
        + ("each dataset as truth.json says, every row accounted for" if run["ok"] else "NOT AS IT SHOULD"),
        *(f"            {wrong}" for wrong in run["wrong"]),
    ]
    sources = [
        (name, *(f"{one[part]:,}" for part in ("rows", "published", "rejected")), *_moments(one))
        for name, one in sorted(run["sources"].items())
    ]
    processes = [
        (name, f"{one['peak_mib']:,.0f}", f"{one['cpu_seconds']:,.1f}", f"{one['idle_percent']:.1f}")
        for name, one in run["processes"].items()
    ]
    sizes = [(name, f"{size / _MIB:,.1f}") for name, size in run["bytes"].items()]
    return "\n".join(
        [
            *head,
            *_table(("dataset", "rows in", "published", "rejected", "began s", "ended s"), sources),
            *_table(("process", "peak MiB", "cpu s", "idle cpu %"), processes),
            *_table(("on disk", "MiB"), sizes),
        ]
    )


def _moments(source: Mapping[str, Any]) -> tuple[str, str]:
    return f"{source['began']:,.1f}", f"{source['ended']:,.1f}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines; the first column to the left, figures to the right."""
    widths = [max(len(row[place]) for row in (names, *rows)) for place in range(len(names))]
    lines = []
    for row in (names, *rows):
        cells = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return ["", *lines]
