"""A Markdown extension for the site (zensical.toml): pages link to files of the repository, which the site has not.

On a forge such a link works as it stands. In the site it leads to the same file at `repository` if that is set, such as
`https://forge.example/exchange/blob/main/`; else it is shown as the name of the file. A link to a page that is called
after its file, `broker.md`, is called in the site what the navigation calls the page. The blocks of a page whose name
ends in `.zh-CN.md` bear their language, for fonts and screen readers.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from zensical.extensions.context import ContextPreprocessor

ROOT = Path(__file__).parent.parent
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|[/#]")
_FILE = re.compile(r"[\w./-]+\.md")
_LANGUAGE = re.compile(r"\.([a-z]{2}-[A-Z]{2})\.md$")


class Leaving(Treeprocessor):  # type: ignore[misc]  # Markdown has no types
    """Finds what leaves docs/, and changes it."""

    def __init__(self, md: Markdown, repository: str) -> None:
        super().__init__(md)
        self.repository = repository

    def run(self, root: Element) -> None:
        """Change the page's tree in place. Raises FileNotFoundError for a link to a file that is not there."""
        context = ContextPreprocessor.from_markdown(self.md)
        if context is None:
            return
        path = context.page.path
        if language := _LANGUAGE.search(path):
            for block in root:
                block.set("lang", language[1])
        titles = dict(_titles(context.config["nav"], ""))
        for link in list(root.iter("a")):
            target = link.get("href", "")
            if (file := outside(path, target)) is not None:
                self._change(link, file)
            elif _FILE.fullmatch(link.text or "") and len(link) == 0:
                link.text = titles.get(_resolved(path, target).removeprefix("docs/"), link.text)

    def _change(self, link: Element, file: str) -> None:
        if self.repository:
            link.set("href", self.repository + file)
            return
        link.tag = "span"
        del link.attrib["href"]
        if "".join(link.itertext()).strip("./") not in file:  # what it says is not yet where it is
            link.set("title", file)


def outside(page: str, target: str) -> str | None:
    """Which file of the repository a link of a page (its path below docs/) leads to; None where it stays in docs/."""
    if not target or _ELSEWHERE.match(target):
        return None
    file = _resolved(page, target)
    if file.startswith("docs/"):
        return None
    if file.startswith("..") or not (ROOT / file).exists():
        raise FileNotFoundError(f"docs/{page} links to {target}")
    return file


def _resolved(page: str, target: str) -> str:
    """The path in the repository, of a link from a page."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target.partition("#")[0]))


def _titles(entries: list[dict[str, Any]], section: str) -> Iterator[tuple[str, str]]:
    """Page -> what the navigation calls it; a page without a title of its own is called as its section."""
    for entry in entries:
        title = entry["title"] or section
        if entry["url"] is not None:
            yield entry["url"], title
        yield from _titles(entry["children"], title)


class LeavingExtension(Extension):  # type: ignore[misc]
    """`repository`: the address in front of a file's path, with its final slash."""

    def __init__(self, **options: Any) -> None:
        self.config = {"repository": ["", "where the files of the repository are shown"]}
        super().__init__(**options)

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  (the library's name)
        """Registered behind the inline patterns, which make the links."""
        md.treeprocessors.register(Leaving(md, self.getConfig("repository")), "leaving", 5)


def makeExtension(**options: Any) -> LeavingExtension:  # noqa: N802  (the library's name)
    """What Markdown calls for `handbook.links`."""
    return LeavingExtension(**options)
