"""docs/reference/settings.md, from exchange.settings: every table of exchange.toml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_origin

from pydantic import BaseModel

from exchange.settings import Settings
from handbook.models import introduction, nested, settings_table
from handbook.writing import prose

PAGE = "reference/settings.md"
_INTRODUCTION = """
One file, `exchange.toml`, made by `exchange init`. Each setting can also come from the environment, which wins:
`EXCHANGE_STORE__URL` is `url` of `[store]`, and a list or a table is written there as JSON.
Relative paths and `sqlite:///` URLs are taken from the folder of the file.
A secret is written as `file:PATH` (mode 0600) or `env:NAME`, never as the value itself. An unknown name is refused.
"""


def page() -> str:
    """The whole page."""
    sections = "".join(_section(model, name, listed) for model, name, listed in _tables(Settings, ""))
    return f"# Settings\n\n{prose(_INTRODUCTION)}\n{sections}"


def _tables(model: type[BaseModel], name: str, listed: bool = False) -> Iterator[tuple[type[BaseModel], str, bool]]:
    """Each table with its name, and whether there may be several of it; the whole file first."""
    yield model, name, listed
    for field, info in model.model_fields.items():
        if (inner := nested(info.annotation)) is not None:
            yield from _tables(inner, f"{name}.{field}".removeprefix("."), get_origin(info.annotation) is list)


def _section(model: type[BaseModel], name: str, listed: bool) -> str:
    rows = settings_table(model, PAGE)
    if not name:
        return f"## At the top\n\n{rows}"
    heading = f"[[{name}]]" if listed else f"[{name}]"
    first = f"{name.replace('.', '__')}__{next(iter(model.model_fields))}".upper()
    variable = "" if listed else f" In the environment: `EXCHANGE_{first}` and so on."
    return f"\n## {heading}\n\n{introduction(model, heading, PAGE)}{variable}\n\n{rows}"
