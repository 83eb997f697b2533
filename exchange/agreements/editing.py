"""Editing clients.toml as a person would: one entry added or struck, and every other byte as it was.

Pure: text in, text out. Whoever writes it checks the whole of the policies with it first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from exchange.errors import Conflict, NotFound, PolicyRefused

CLIENTS = "clients"
STRUCK = "struck"


def added(text: str, entry: Mapping[str, Any]) -> str:
    """The file with one more client at its end.

    Raises Conflict if one of this issuer and client id stands there, struck or not.
    """
    before = entries(text)
    for one in before:
        if _key(one) == _key(entry):
            raise Conflict(
                f"{_named(one)} was struck on {one[STRUCK]}; take its line `{STRUCK}` out of clients.toml to let it in"
                if STRUCK in one
                else f"{_named(one)} stands in clients.toml already"
            )
    table = tomlkit.table()
    for name, value in entry.items():
        table[name] = value
    document = tomlkit.document()
    document[CLIENTS] = tomlkit.aot()
    document[CLIENTS].append(table)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return _checked(text + gap + tomlkit.dumps(document), [*before, dict(entry)])


def struck(text: str, client_id: str, issuer: str | None, day: date) -> str:
    """The file with this client struck: its entry stays and says since when.

    `issuer` is needed where several have a client of this name. Raises NotFound; Conflict if it was struck before.
    """
    before = entries(text)
    place = _place(before, client_id, issuer)
    if STRUCK in before[place]:
        raise Conflict(f"{_named(before[place])} was struck on {before[place][STRUCK]} already")
    try:
        document = tomlkit.parse(text)
        document[CLIENTS][place][STRUCK] = day  # a list of tables: `entries` has seen it
        after = _behind_its_entry(text, tomlkit.dumps(document))
    except TOMLKitError as error:  # what tomllib reads and tomlkit does not
        raise PolicyRefused(f"clients.toml cannot be edited here ({error}); write `{STRUCK} = {day}` by hand") from None
    return _checked(after, [{**one, STRUCK: day} if at == place else one for at, one in enumerate(before)])


def _behind_its_entry(text: str, after: str) -> str:
    """The line that came in, above the blank lines and comments before the next entry: these are that one's."""
    old, new = text.splitlines(keepends=True), after.splitlines(keepends=True)
    at = next((at for at, line in enumerate(new) if at >= len(old) or old[at] != line), None)
    if at is None or len(new) != len(old) + 1 or not new[at].startswith(STRUCK):
        return after  # the last line had no end, and has one now
    line = new.pop(at)
    while at and (not new[at - 1].strip() or new[at - 1].lstrip().startswith("#")):
        at -= 1
    end = "\r\n" if new[at - 1].endswith("\r\n") else "\n"
    return "".join([*new[:at], line.rstrip("\r\n") + end, *new[at:]])


def _place(listed: list[dict[str, Any]], client_id: str, issuer: str | None) -> int:
    of = f" of {issuer}" if issuer else ""
    found = [
        at for at, one in enumerate(listed) if one.get("client_id") == client_id and issuer in (None, one.get("issuer"))
    ]
    if not found:
        raise NotFound(f"there is no client {client_id}{of} in clients.toml")
    if len(found) > 1:
        raise NotFound(f"{len(found)} issuers have a client {client_id}: name one with --issuer")
    return found[0]


def entries(text: str) -> list[dict[str, Any]]:
    """The entries of clients.toml as they stand there, struck ones too. Raises PolicyRefused for what is none."""
    try:
        found = tomllib.loads(text).get(CLIENTS, [])
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyRefused(f"clients.toml: is not TOML: {error}") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise PolicyRefused(f"clients.toml: write [[{CLIENTS}]], in double brackets, before each entry")
    return found


def _checked(text: str, expected: list[dict[str, Any]]) -> str:
    """The edited text, if it says what it should and nothing else: a list written in one line, say, has no place."""
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        said = {}
    if said != {CLIENTS: expected}:
        raise PolicyRefused(f"clients.toml cannot be edited here: write [[{CLIENTS}]] before each entry")
    return text


def _key(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("issuer"), entry.get("client_id")


def _named(entry: Mapping[str, Any]) -> str:
    return f"client {entry.get('client_id')} of {entry.get('issuer')}"
