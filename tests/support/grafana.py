"""The dashboards of deploy/grafana: their panels and queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"


@dataclass(frozen=True)
class Query:
    """One query. `text` is what Grafana sends when every variable is set to all."""

    board: str
    panel: str
    text: str
    legend: str


def boards() -> dict[str, dict[str, Any]]:
    """The dashboards, by their file's name."""
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("dashboards/*.json"))}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query of every panel, annotation and variable."""
    for name, board in boards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                yield Query(name, panel["title"], _filled(target["expr"]), target["legendFormat"])
        for note in board["annotations"]["list"]:
            yield Query(name, note["name"], note["expr"], note["titleFormat"])
        for variable in board["templating"]["list"]:
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found is not None, variable
            yield Query(name, variable["label"], f"count by ({found[2]}) ({found[1]})", "")


def _filled(text: str) -> str:
    return re.sub(r"\$\w+", ".*", text)
