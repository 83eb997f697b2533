"""Every setting, metric and command is documented, and the documents speak of nothing that is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from exchange import metrics
from exchange.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"


def settings(model: type[BaseModel], table: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        nested = next(
            (
                kind
                for kind in (field.annotation, *get_args(field.annotation))
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            ),
            None,
        )
        if nested is None:
            yield table, name
        else:
            yield from settings(nested, f"{table}.{name}".removeprefix("."))


def documented_settings() -> set[tuple[str, str]]:
    found, table = set(), ""
    for line in (DOCS / "reference/settings.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            table = line.removeprefix("## ").strip("[]") if "[" in line else ""
        elif row := re.match(r"\| `(\w+)` \|", line):
            found.add((table, row[1]))
    return found


def test_every_setting_is_documented_and_no_other() -> None:
    assert documented_settings() == set(settings(Settings))


def test_every_metric_is_documented_and_no_other() -> None:
    page = (DOCS / "reference/metrics.md").read_text("utf-8")
    declared = {metric._name for metric in vars(metrics).values() if hasattr(metric, "_documentation")}
    assert set(re.findall(r"^\| `(exchange_\w+?)(?:_total)?` \|", page, re.MULTILINE)) == declared


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands() -> set[str]:
    import typer.main

    from exchange.cli import build

    def walk(command: object, path: str) -> Iterator[str]:
        nested = getattr(command, "commands", None)
        if nested is None:
            yield path
        else:
            for name, each in nested.items():
                yield from walk(each, f"{path} {name}")

    return set(walk(typer.main.get_command(build()), "exchange"))


def test_every_command_is_documented_and_no_other() -> None:
    page = (DOCS / "reference/commands.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(exchange(?: [a-z]+)+)", page, re.MULTILINE)) == commands()


def test_every_attack_of_the_threat_model_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (DOCS / "security.md").read_text("utf-8"))
    assert len(named) > 20
    missing = [
        f"{file}::{test}" for file, test in named if f"def {test}(" not in (DOCS.parent / file).read_text("utf-8")
    ]
    assert not missing
