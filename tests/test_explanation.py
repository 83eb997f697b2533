"""docs/explanation.md says why of all that docs/architecture.md says must hold, and pages name tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/explanation.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
TEST = re.compile(r"`(tests/\w+\.py)::(\w+)`")


def invariants(architecture: str) -> list[tuple[str, str]]:
    """Number and name of each thing that always holds."""
    part = architecture.partition("## What holds always")[2].partition("\n## ")[0]
    return [(number, name.rstrip(".:")) for number, name in re.findall(r"^ ?(\d+)\. \*([^*]+)\*", part, re.MULTILINE)]


def explained(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^### (\d+)\. (.+)$", page, re.MULTILINE)


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_invariant_has_its_why_and_a_test() -> None:
    assert len(invariants(ARCHITECTURE)) >= 11
    assert explained(PAGE) == invariants(ARCHITECTURE)
    _, *parts = re.split(r"^### (?=\d)", PAGE.partition("\n## Against whom")[0], flags=re.MULTILINE)
    for part in parts:
        assert "*Else*: " in part, part[:40]
        assert "*How*: " in part, part[:40]
        assert TEST.search(part.partition("*Shown by*")[2]), part[:40]


def test_another_name_or_number_would_be_noticed() -> None:
    for here, changed in ((" 7. *No personal", " 7. *Any personal"), ("11. *Default", "12. *Default")):
        assert here in ARCHITECTURE
        assert explained(PAGE) != invariants(ARCHITECTURE.replace(here, changed))


@pytest.mark.parametrize(
    "page",
    sorted(page for page in (ROOT / "docs").rglob("*.md") if TEST.search(page.read_text("utf-8"))),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    missing = [f"{file}::{name}" for file, name in TEST.findall(page.read_text("utf-8")) if name not in functions(file)]
    assert not missing
