"""A Markdown extension for the site (zensical.toml): pages link to files of the repository, which the site has not.

On a forge such a link works as it stands. In the site it leads to the same file at `repository` if that is set, such as
`https://forge.example/exchange/blob/main/`; else it is shown as the name of the file. The blocks of a page whose name
ends in `.zh-CN.md` bear their language, for fonts and screen readers.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from zensical.extensions.context import ContextPreprocessor

ROOT = Path(__file__).parent.parent
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|[/#]")
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
        for link in list(root.iter("a")):
            if (file := outside(path, link.get("href", ""))) is not None:
                self._change(link, file)

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
    file = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target.partition("#")[0]))
    if file.startswith("docs/"):
        return None
    if file.startswith("..") or not (ROOT / file).exists():
        raise FileNotFoundError(f"docs/{page} links to {target}")
    return file


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
