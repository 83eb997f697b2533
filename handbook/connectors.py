"""docs/reference/connectors.md, from the models of connectors: what an instance file may hold, for each kind."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from connectors.config import DeletedWhen, FieldSettings, Formats, Instance, RegistrySettings, kinds
from handbook.models import introduction, settings_table
from handbook.writing import linked, prose

PAGE = "reference/connectors.md"
_INTRODUCTION = """
One TOML file for each source; docs/connectors.md#an-instance-file shows whole ones. Relative paths are taken from its
folder, a duration is a number of seconds or a text such as `500ms`, `30s`, `5m`, `1h`, `1d`, and an unknown setting is
refused.
"""
_PARTS: Mapping[str, type[BaseModel]] = {
    "[mapping.<field>]": FieldSettings,
    "[formats]": Formats,
    "[deleted_when]": DeletedWhen,
    "[registry]": RegistrySettings,
}


def page() -> str:
    """The whole page: what every kind has, its tables, then what each kind that is installed has beside it."""
    parts = "".join(
        f"\n## `{heading}`\n\n{introduction(model, heading, PAGE)}\n\n{settings_table(model, PAGE)}"
        for heading, model in _PARTS.items()
    )
    own = "".join(_kind(name, entry.load().Settings) for name, entry in sorted(kinds().items()))
    return (
        f"# Instance files\n\n{linked(prose(_INTRODUCTION), PAGE)}\n## Every kind of connector\n\n"
        f"{settings_table(Instance, PAGE)}{parts}{own}"
    )


def _kind(name: str, model: Any) -> str:
    """What is new in this kind, or has another default there."""
    own = [field for field in model.model_fields if field in inspect.get_annotations(model)]
    return f"\n## {name}\n\n{settings_table(model, PAGE, own)}"
