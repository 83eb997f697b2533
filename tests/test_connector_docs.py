"""docs/connectors.md has every setting of every kind of connector, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from connectors.config import DeletedWhen, FieldSettings, Formats, Instance, RegistrySettings, kinds
from connectors.csv import CsvSettings
from connectors.kafka import KafkaSettings
from connectors.sql import SqlSettings

PAGE = (Path(__file__).parent.parent / "docs/connectors.md").read_text("utf-8")
COMMON = "### Every kind of connector"


def documented(heading: str) -> set[str]:
    """The settings in the table behind a heading or a line."""
    behind = PAGE.split(f"\n{heading}\n", 1)[1]
    table = re.search(r"\| setting \|.*?(?=\n\n)", behind, re.DOTALL)
    assert table is not None
    return set(re.findall(r"^\| `(\w+)` \|", table[0], re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        (COMMON, Instance),
        ("`[mapping.<field>]`, or the same in braces:", FieldSettings),
        ("`[formats]`:", Formats),
        ("`[deleted_when]`:", DeletedWhen),
        ("`[registry]`:", RegistrySettings),
    ],
)
def test_every_setting_is_documented_and_no_other(heading: str, model: type[BaseModel]) -> None:
    assert documented(heading) == set(model.model_fields)


@pytest.mark.parametrize(("kind", "model"), [("csv", CsvSettings), ("kafka", KafkaSettings), ("sql", SqlSettings)])
def test_every_kind_has_its_table(kind: str, model: type[Instance]) -> None:
    assert kind in kinds()
    own = {name for name in model.model_fields if name in model.__annotations__}  # new, or with another default
    assert documented(f"### {kind}") == own


def test_defaults_are_as_documented() -> None:
    kinds = (Instance, COMMON), (CsvSettings, "### csv"), (KafkaSettings, "### kafka"), (SqlSettings, "### sql")
    for model, heading in kinds:
        behind = PAGE.split(f"\n{heading}\n", 1)[1].split("\n### ", 1)[0]
        for name, default in re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \|", behind, re.MULTILINE):
            field = model.model_fields.get(name)
            if field is not None and re.fullmatch(r"[0-9.]+s?|true|false|auto|all|snapshot|avro|refuse", default):
                given = field.default
                shown = f"{given.total_seconds():g}s" if hasattr(given, "total_seconds") else str(given).lower()
                assert shown == default, name
