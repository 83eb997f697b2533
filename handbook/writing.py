"""Markdown from sentences that stand in the code."""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterable, Sequence

_PAGE = re.compile(r"\bdocs/([\w./-]+\.md)(#[\w-]+)?")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what stands in a cell stays in it."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def prose(text: str) -> str:
    """A docstring's paragraphs, each on one line, with a final newline."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs) + "\n"


def one_line(text: str) -> str:
    """The same for a cell of a table."""
    return " ".join(text.split())


def linked(text: str, page: str) -> str:
    """`docs/broker.md` in a sentence as a link, from the page of that path below docs/; `<word>` stays what it is."""

    def link(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        there = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"[{posixpath.basename(target)}]({there}{anchor})"

    parts = re.split(r"(`[^`]*`)", text)  # code spans stand at the odd places
    return "".join(
        each if place % 2 else _PAGE.sub(link, each.replace("<", "&lt;")) for place, each in enumerate(parts)
    )


def anchor(heading: str) -> str:
    """The anchor of a heading, as forges and the site make it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
