"""Tables of settings, from models of pydantic: types and defaults in words, and the sentence below each field."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from connectors.config import Duration
from exchange.settings import Network, SecretReference, TimeZone
from handbook.writing import linked, one_line, prose, table

_WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    NoneType: "nothing",
}
_NAMED = ((SecretReference, "secret"), (TimeZone, "time zone"), (Network, "network"), (Duration, "duration"))


def settings_table(model: type[BaseModel], page: str, names: Iterable[str] | None = None) -> str:
    """The fields of a model, or those of `names`. A field that is a table of its own is there if it has a sentence.

    Raises LookupError for another one without a sentence.
    """
    sentences = _sentences(model)
    rows = []
    for name in model.model_fields if names is None else names:
        info = model.model_fields[name]
        if info.exclude or (nested(info.annotation) is not None and name not in sentences):
            continue
        if name not in sentences:
            raise LookupError(f"{model.__name__}.{name}: say below the field what it is for")
        rows.append((f"`{name}`", _type(info), _default(info), linked(one_line(sentences[name]), page)))
    return table(("setting", "type", "default", "what it does"), rows)


def introduction(model: type[BaseModel], heading: str, page: str) -> str:
    """What the model's docstring says behind its heading, as a sentence."""
    told = prose(inspect.getdoc(model) or "").removeprefix(heading).strip()
    return linked(told[0].upper() + told[1:], page)


def nested(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a table, or a list of tables."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _sentences(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each field. Read from the source: a process that starts has no need of it."""
    tree = ast.parse(inspect.getsource(sys.modules[model.__module__]))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == model.__name__)
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = ast.literal_eval(below.value)
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
    for kind, word in _NAMED:
        if annotation == kind:
            return word
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
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
        return " or ".join(_words(kind) for kind in kinds) if len(kinds) < 3 else "value"
    return _words(inner[0])  # Annotated


def _plural(word: str) -> str:
    return word if word.startswith("one of") else re.sub(r"s?$", "s", word)


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    if info.default is None or isinstance(info.default, BaseModel):
        return "unset"
    return f"`{_toml(info.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{}" if not value else "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, timedelta):
        return f'"{value.total_seconds():g}s"'
    return json.dumps(str(value), ensure_ascii=False) if isinstance(value, str | Path) else str(value)
