"""docs/reference/settings.md, from exchange.settings: tables, types, defaults, and the sentence below each field."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import exchange.settings as source
from exchange.settings import Network, SecretReference, Settings, TimeZone
from handbook.writing import linked, one_line, prose, table

PAGE = "reference/settings.md"
_INTRODUCTION = """
One file, `exchange.toml`, made by `exchange init`. Each setting can also come from the environment, which wins:
`EXCHANGE_STORE__URL` is `url` of `[store]`, and a list or a table is written there as JSON.
Relative paths and `sqlite:///` URLs are taken from the folder of the file.
A secret is written as `file:PATH` (mode 0600) or `env:NAME`, never as the value itself. An unknown name is refused.
"""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}


def page() -> str:
    """The whole page. Raises LookupError for a setting without a sentence."""
    sections = "".join(_section(model, name, listed) for model, name, listed in _tables(Settings, ""))
    return f"# Settings\n\n{prose(_INTRODUCTION)}\n{sections}"


def _tables(model: type[BaseModel], name: str, listed: bool = False) -> Iterator[tuple[type[BaseModel], str, bool]]:
    """Each table with its name, and whether there may be several of it; the whole file first."""
    yield model, name, listed
    for field, info in model.model_fields.items():
        if (nested := _nested(info.annotation)) is not None:
            yield from _tables(nested, f"{name}.{field}".removeprefix("."), get_origin(info.annotation) is list)


def _nested(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _section(model: type[BaseModel], name: str, listed: bool) -> str:
    heading = f"[[{name}]]" if listed else f"[{name}]"
    sentences = _sentences(model)
    rows = [
        (f"`{field}`", _type(info), _default(info), linked(one_line(sentences[field]), PAGE))
        for field, info in model.model_fields.items()
        if not info.exclude and _nested(info.annotation) is None
    ]
    if not name:
        return f"## At the top\n\n{table(('setting', 'type', 'default', 'what it does'), rows)}"
    first = prose(inspect.getdoc(model) or "").removeprefix(heading).strip()
    first_field = rows[0][0].strip("`").upper()
    variable = (
        "" if listed else f" In the environment: `EXCHANGE_{name.upper().replace('.', '__')}__{first_field}` and so on."
    )
    return (
        f"\n## {heading}\n\n{first[0].upper()}{linked(first[1:], PAGE)}{variable}\n\n"
        f"{table(('setting', 'type', 'default', 'what it does'), rows)}"
    )


def _sentences(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field. Read from the source: a process that starts has no need of it."""
    tree = ast.parse(inspect.getsource(source))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == model.__name__)
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = ast.literal_eval(below.value)
    missing = [
        name
        for name, info in model.model_fields.items()
        if name not in found and not info.exclude and _nested(info.annotation) is None
    ]
    if missing:
        raise LookupError(f"{model.__name__}: {', '.join(missing)}: say below the field what it is for")
    return found


def _type(info: FieldInfo) -> str:
    bounds = {type(each): each for each in info.metadata}
    least, most = bounds.get(annotated_types.Ge), bounds.get(annotated_types.Le)
    words = _words(info.rebuild_annotation())
    if least is not None:
        words += f", from {least.ge:,}" + (f" to {most.le:,}" if most is not None else "")
    return words


def _words(annotation: Any) -> str:
    """A type in words; None is told by the default."""
    for kind, word in ((SecretReference, "secret"), (TimeZone, "time zone"), (Network, "network")):
        if annotation == kind:
            return word
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return (
            " or ".join(f'`"{word}"`' for word in inner)
            if len(inner) < 4
            else "one of " + ", ".join(f"`{one}`" for one in inner)
        )
    if origin is list:
        return f"list of {_plural(_words(inner[0]))}"
    if origin is dict:
        return f"table of {_plural(_words(inner[1]))}"
    if origin in (Union, UnionType):
        kinds = [kind for kind in inner if kind is not NoneType]
        return _words(kinds[0]) if len(kinds) == 1 else "value"
    return _words(inner[0])  # Annotated


def _plural(word: str) -> str:
    return word if word.startswith("one of") else re.sub(r"s?$", "s", word)


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    return "unset" if info.default is None else f"`{_toml(info.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{}" if not value else "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str | Path) else str(value)
