"""docs/reference/commands.md, from the command line itself: what `--help` says of each, and the exit statuses."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from exchange.cli import build, installed
from exchange.cli.options import STATUS
from handbook.writing import anchor, linked, one_line, prose, table

PAGE = "reference/commands.md"
_INTRODUCTION = """
`exchange COMMAND --help` says the same in the terminal. The settings are found by `--config FILE` (`-c`), by the
variable `EXCHANGE_CONFIG`, else in `exchange.toml` of this folder; only `exchange city` needs none. `--json` prints one
JSON document instead of a table.
"""
_STATUS = {
    0: "nobody: it is done",
    1: "the answer is no: an audit log that does not verify, a step of the demo that did not hold, something that "
    "`exchange doctor` or `exchange broker check` found",
    2: "whoever typed it: the command line is wrong",
    70: "whoever develops Exchange: a defect; the log has it without values",
}
_EVERYWHERE = {"config", "json", "as_json"}


def page() -> str:
    """The whole page, in the order in which a city meets the commands."""
    root = typer.main.get_command(build())
    nouns: dict[str, Any] = {name: root.commands[name] for name in installed()}  # type: ignore[attr-defined]
    leaves = {name: list(_leaves(command, f"exchange {name}")) for name, command in nouns.items()}
    overview = [
        (f"[`{path}`](#{anchor(path)})", linked(_first_line(command), PAGE))
        for each in leaves.values()
        for path, command in each
    ]
    sections = "".join(_noun(nouns[name], f"exchange {name}", each) for name, each in leaves.items())
    statuses = [(str(status), who) for status, who in sorted((_STATUS | dict(_by_error())).items())]
    return (
        f"# Commands\n\n{prose(_INTRODUCTION)}\n{table(('command', 'what it does'), overview)}\n"
        f"## Exit status\n\n{table(('status', 'who must act'), statuses)}{sections}"
    )


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    nested = getattr(command, "commands", None)
    if nested is None:
        yield path, command
    else:
        for name, each in nested.items():
            yield from _leaves(each, f"{path} {name}")


def _noun(command: Any, path: str, leaves: list[tuple[str, Any]]) -> str:
    if leaves[0][0] == path:
        return _section(path, command, "##")
    told = prose(command.help).removeprefix(f"`{path}`: ")
    return f"\n## {path}\n\n{linked(told[0].upper() + told[1:], PAGE)}" + "".join(
        _section(leaf, each, "###") for leaf, each in leaves
    )


def _section(path: str, command: Any, heading: str) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    records = (each.get_help_record(context) for each in command.params if each.name not in _EVERYWHERE)
    rows = [(f"`{name}`", linked(one_line(text), PAGE)) for name, text in records]
    json = (
        "\n`--json`: one JSON document.\n" if _EVERYWHERE & {each.name for each in command.params} - {"config"} else ""
    )
    usage = command.get_usage(context).removeprefix("Usage: ")
    told = f"\n{table(('argument or option', 'what it says'), rows)}" if rows else ""
    return f"\n{heading} {path}\n\n    {usage}\n\n{linked(prose(command.help), PAGE)}{told}{json}"


def _first_line(command: Any) -> str:
    return prose(command.help).split("\n", 1)[0]


def _by_error() -> Iterator[tuple[int, str]]:
    for kind, status in STATUS:
        if status not in _STATUS:
            yield status, one_line((inspect.getdoc(kind) or "").split("\n", 1)[0]).lower()
