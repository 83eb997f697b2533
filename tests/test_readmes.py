"""README.md and README.zh-CN.md say the same: headings, commands, names, links and tables are compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text("utf-8")

HAN = r"[\u4e00-\u9fff]"
BLOCK = re.compile(r"^```\w*\n(?s:.*?)^```$|^(?: {4}.*\n|\n(?= {4}))+", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LANGUAGES = ("README.md", "README.zh-CN.md")  # each page's link to the other


def blocks(page: str) -> list[str]:
    """The blocks of code, without what a comment says and how it is set."""
    found = (re.sub(r"\s*(?:^|\s)#.*", "", each, flags=re.MULTILINE) for each in BLOCK.findall(page))
    return [each.strip() for each in found]


def is_drawing(block: str) -> bool:
    return "▼" in block


def verbs(drawing: str) -> str:
    return " ".join(re.findall(r"\b(?:publish|materialise|disclose)\b", drawing))


def sections(page: str) -> Iterator[tuple[str, str]]:
    """Each heading's marks, and the prose below it."""
    _, *parts = re.split(r"^(#+) .*\n", BLOCK.sub("", page), flags=re.MULTILINE)
    yield from zip(parts[::2], parts[1::2], strict=True)


def tables(prose: str) -> list[list[int]]:
    """Of each table the number of cells in each row."""
    return [
        [row.count("|") - 1 for row in table.splitlines()] for table in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE)
    ]


def differences(english: str, chinese: str) -> list[str]:
    """What the one page says to a machine or shows to a reader that the other does not."""
    found = []
    ours, theirs = blocks(english), blocks(chinese)
    if len(ours) != len(theirs):
        found.append(f"{len(ours)} and {len(theirs)} blocks of code")
    for one, other in zip(ours, theirs, strict=False):
        if is_drawing(one) and is_drawing(other):
            one, other = verbs(one), verbs(other)
        if one != other:
            found.append(f"blocks of code: {one!r}, {other!r}")
    parts = list(sections(english)), list(sections(chinese))
    if [marks for marks, _ in parts[0]] != [marks for marks, _ in parts[1]]:
        return [*found, "headings"]
    for number, ((_, one), (_, other)) in enumerate(zip(*parts, strict=True)):
        for what, of in (("names in code", CODE.findall), ("links", LINK.findall)):
            lost, new = (
                {each for each in (Counter(of(left)) - Counter(of(right))) if each not in LANGUAGES}
                for left, right in ((one, other), (other, one))
            )
            if lost or new:
                found.append(f"{what} of section {number}: only in English {lost}, only in Chinese {new}")
        if tables(one) != tables(other):
            found.append(f"tables of section {number}")
    return found


def test_both_say_the_same() -> None:
    assert not differences(ENGLISH, CHINESE)
    assert len(blocks(ENGLISH)) > 5, "else nothing was compared"
    assert len(list(sections(ENGLISH))) > 5


@pytest.mark.parametrize(
    ("here", "changed"),
    [
        ("make test  ", "make tests  "),
        ("exchange up  ", "exchange up --all  "),
        ('"conflict": true', '"conflict": false'),
        ("replication = 3", "replication = 2"),
        ("`exchange audit verify`", "`exchange audit check`"),
        ("(docs/keys.md)", "(docs/kays.md)"),
        ("## 两条命令", "### 两条命令"),
        ("## 两条命令", "两条命令"),
        ("| 审计人员 | [docs/audit.md](docs/audit.md) |\n", ""),
        ("| 运维人员 |", "| 运维人员 | |"),
        ("    export PATH", "export PATH"),
        ("materialise（物化）", "物化"),
    ],
)
def test_what_only_one_says_is_found(here: str, changed: str) -> None:
    assert CHINESE.count(here) == 1
    assert differences(ENGLISH, CHINESE.replace(here, changed))


def test_each_leads_to_the_other_before_anything_else() -> None:
    assert LINK.search(ENGLISH).group(1) == "README.zh-CN.md"  # type: ignore[union-attr]
    assert LINK.search(CHINESE).group(1) == "README.md"  # type: ignore[union-attr]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=LANGUAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    missing = [target for target in LINK.findall(page) if not (ROOT / target.partition("#")[0]).exists()]
    assert not missing


def test_nothing_is_left_in_english_and_chinese_has_its_own_marks() -> None:
    prose = LINK.sub("", CODE.sub("", BLOCK.sub("", CHINESE)))
    for paragraph in re.split(r"\n\n", prose):
        words = re.findall(r"[A-Za-z]{2,}", paragraph)
        assert len(re.findall(HAN, paragraph)) >= len(words) or paragraph.strip() in ("# Exchange", ""), paragraph
    assert not re.findall(rf"{HAN}\s?[,;:?!]|{HAN}\.(?!\w)|{HAN}[()]|[()]{HAN}", prose)
