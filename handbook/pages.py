"""All pages that are made from the code; a test holds the files against them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from handbook import commands, connectors, contracts, http, metrics, problems, settings

DOCS = Path(__file__).parent.parent / "docs"
MADE = "<!-- Made from the code by `make reference`; what you write here is lost. -->\n\n"


def pages() -> Mapping[str, str]:
    """Path below docs/ -> text."""
    made = {each.PAGE: each.page() for each in (settings, connectors, commands, metrics, http, contracts)} | dict(
        problems.pages()
    )
    return {path: MADE + text for path, text in made.items()}
