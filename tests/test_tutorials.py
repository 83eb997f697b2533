"""docs/tutorials are walked as they stand; what walks them is tried too."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from exchange.cli.demo.town import free_ports
from tests.support.services import LocalServices, skip_or_fail
from tests.support.tutorials import BLOCK, Differs, Step, Walk, matches, steps

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "tutorials"


NAMES = ["department", "agency", "operator"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("department", marks=pytest.mark.slow),
        pytest.param("agency", marks=pytest.mark.slow),
        pytest.param("operator", marks=pytest.mark.services),
    ],
)
def test_a_tutorial_is_walked_as_it_stands(tmp_path: Path, name: str) -> None:
    """In a folder with what a clone has, and no environment of ours; only the ports are others."""
    if name == "operator" and not all(map(shutil.which, ("java", "mvn", "pg_dump"))):
        skip_or_fail("Java, Maven or pg_dump is missing")
    for part in ("schemas", "policies"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for part in (".venv", ".services", "deploy"):
        (tmp_path / part).symlink_to(ROOT / part)
    ports = [str(port) for port in free_ports(3)]
    names = ("GATEWAY__PORT", "GATEWAY__METRICS_PORT", "MATERIALISE__METRICS_PORT")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "COLUMNS": "200",
        **{f"EXCHANGE_{setting}": port for setting, port in zip(names, ports, strict=True)},
    }  # fmt: skip
    here = {"127.0.0.1:8080": f"127.0.0.1:{ports[0]}", "127.0.0.1:9464": f"127.0.0.1:{ports[1]}"}
    walk = Walk(tmp_path, here, environment)
    try:
        for step in steps((PAGES / f"{name}.md").read_text("utf-8")):
            walk.take(step)
    finally:
        walk.end()
        services = tmp_path / "tutorial" / "services"
        if services.exists():  # of a walk that ended before its end
            LocalServices(services).halt()


@pytest.mark.parametrize("name", NAMES)
def test_the_chinese_page_goes_the_same_way(name: str) -> None:
    """Its files and commands are those that are walked, and its parts stand in the same order."""
    english, chinese = ((PAGES / f"{name}{language}.md").read_text("utf-8") for language in ("", ".zh-CN"))
    assert BLOCK.sub("", chinese) != BLOCK.sub("", english)
    assert [block[0] for block in BLOCK.finditer(chinese)] == [block[0] for block in BLOCK.finditer(english)]
    numbers = [re.findall(r"^#+ (\d*)", BLOCK.sub("", page), re.MULTILINE) for page in (english, chinese)]
    assert numbers[0] == numbers[1]
    linked = [set(re.findall(r"\]\(\.\./([^)]+)\)", page)) for page in (english, chinese)]
    assert linked[0] == linked[1]
    prose = re.sub(r"\[[^\]]*\]\([^)]*\)|`[^`]*`", "", BLOCK.sub("", chinese))
    assert not re.findall(r"[\u4e00-\u9fff][,;!?]", prose), "punctuation of half a width"


def test_a_page_is_read_in_its_order() -> None:
    page = "\n".join([
        "# A", '```toml title="a/b.toml"', "x = 1", "```", "```console", "$ one \\", "  two", "said", "…", "$ three '{",
        "}'", "```", "```", "$ not", "```", "",
    ])  # fmt: skip
    assert list(steps(page)) == [
        Step("a/b.toml", "x = 1\n"),
        Step(None, "one \\\n  two", "said\n…\n"),
        Step(None, "three '{\n}'", ""),
    ]


@pytest.mark.parametrize(
    ("shown", "said", "expected"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a  \n", True),
        ("a\n", "a", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("a.c\n", "abc\n", False),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a b\n c\n", False),
        ("…\n", "", True),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\nd\n", "a\nd\n", True),
        ("a\n…\nd\n", "a\nb\n", False),
        ("", "", True),
        ("", "a\n", False),
    ],
)
def test_what_is_shown_and_what_is_said(shown: str, said: str, expected: bool) -> None:
    assert matches(shown, said) is expected


def test_a_walk_keeps_variables_and_its_folder_and_stops_where_the_page_is_wrong(tmp_path: Path) -> None:
    walk = Walk(tmp_path, {"8080": "1"}, {"PATH": os.environ["PATH"]})
    walk.take(Step(None, "export WORD=8080; mkdir sub && cd sub"))
    walk.take(Step("file.txt", "here\n"))
    walk.take(Step(None, "cat file.txt; echo $WORD; pwd", f"here\n1\n{tmp_path}/sub\n"))
    with pytest.raises(Differs, match="shown"):
        walk.take(Step(None, "echo one", "two\n"))
    with pytest.raises(Differs, match="status 3"):
        walk.take(Step(None, "exit 3"))
    walk.take(Step(None, "sleep 60 &"))
    walk.end()
