"""The reference is what the code says, and the documents speak of nothing that is gone."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from connectors.config import Instance, kinds
from exchange.cli import GROUP, OWN
from exchange.contracts import schema
from exchange.settings import Part, Settings
from gateway.problems import TABLE
from handbook.models import settings_table
from handbook.pages import MADE, pages
from handbook.writing import linked, table

DOCS = Path(__file__).parent.parent / "docs"


def test_the_reference_is_what_the_code_says() -> None:
    made = pages()
    stale = [path for path, text in made.items() if (DOCS / path).read_text("utf-8") != text]
    assert not stale, "run `make reference`"
    assert {
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page.read_text("utf-8").startswith(MADE)
    } == set(made), "a page of something that is gone"


def test_the_reference_names_every_setting_metric_command_and_problem() -> None:
    """By ways of its own, so that a generator that leaves out a part is noticed."""
    made = pages()
    tables = [each for each in Part.__subclasses__() if each.__module__ == Settings.__module__]
    for model in (Settings, *tables):
        for name, field in model.model_fields.items():
            known = f"| `{name}` |" in made["reference/settings.md"] or re.search(
                rf"^## \[+(\w+\.)?{name}\]+$", made["reference/settings.md"], re.MULTILINE
            )
            assert known or field.exclude, (model, name)
    assert len(re.findall(r"^## \[", made["reference/settings.md"], re.MULTILINE)) == len(tables)
    families = {family.name for family in REGISTRY.collect() if family.name.startswith("exchange_")}
    assert (
        set(re.findall(r"^\| `(exchange_\w+?)(?:_total)?` \|", made["reference/metrics.md"], re.MULTILINE)) == families
    )
    nouns = {*OWN, *(entry.name for entry in entry_points(group=GROUP))}
    assert nouns == set(re.findall(r"^## exchange ([a-z]+)$", made["reference/commands.md"], re.MULTILINE))
    assert {f"errors/{problem.slug}.md" for problem in TABLE.values()} < set(made)


def test_every_kind_of_connector_has_its_settings() -> None:
    page = pages()["reference/connectors.md"]
    for kind, entry in kinds().items():
        section = page.split(f"\n## {kind}\n", 1)[1].split("\n## ", 1)[0]
        own = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        common = {
            name for name, field in Instance.model_fields.items() if f"| `{name}` |" in page.split("\n## `", 1)[0]
        }
        assert common == set(Instance.model_fields)
        assert own | common == set(entry.load().Settings.model_fields)


def test_every_type_that_a_contract_may_have_is_shown() -> None:
    shown = pages()["reference/contracts.md"].split("## Types")[1]
    for word in (*schema._PRIMITIVES, *schema._LOGICAL, *schema._COMPLEX, "decimal", "null"):
        assert f'"{word}"' in shown, word


class Mute(Part):
    told: int = 1
    """so often"""
    silent: int = 1


def test_a_setting_without_a_sentence_is_refused() -> None:
    with pytest.raises(LookupError, match=r"Mute\.silent"):
        settings_table(Mute, "reference/settings.md")
    assert "| `told` | whole number | `1` | so often |" in settings_table(Mute, "reference/settings.md", ["told"])


def test_words_in_angle_brackets_stay_words_and_pages_become_links() -> None:
    assert linked("a <word>, `<code>`, docs/http.md#errors", "errors/busy.md") == (
        "a &lt;word>, `<code>`, [http.md](../http.md#errors)"
    )
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_attack_of_the_threat_model_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (DOCS / "security.md").read_text("utf-8"))
    assert len(named) > 20
    missing = [
        f"{file}::{test}" for file, test in named if f"def {test}(" not in (DOCS.parent / file).read_text("utf-8")
    ]
    assert not missing
