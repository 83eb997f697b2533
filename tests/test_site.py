"""docs/ builds as a site where there is no network; it asks no other host for anything, and no link of it is broken."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.apart import run_apart
from tests.support.services import skip_or_fail

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SETTINGS = "zensical.toml"


def in_nav(entries: object) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    for each in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
        yield from in_nav(each)


def build(folder: Path, settings: str, pages: Path = DOCS) -> tuple[int, str]:
    """Exit status and output of a strict build of these pages, into folder/dist/site."""
    if importlib.util.find_spec("zensical") is None:
        skip_or_fail("zensical is not installed (`uv sync`)")
    shutil.copytree(pages, folder / "docs")
    shutil.copytree(ROOT / "handbook/theme", folder / "handbook/theme")
    (folder / SETTINGS).write_text(settings, "utf-8")
    done = run_apart([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder)
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    status, said = build(folder, (ROOT / SETTINGS).read_text("utf-8"))
    assert status == 0, said
    return folder / "dist/site"


def test_every_page_stands_in_the_navigation_and_no_other() -> None:
    nav = list(in_nav(tomllib.loads((ROOT / SETTINGS).read_text("utf-8"))["project"]["nav"]))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    by_index = {page for page in pages if page.startswith("errors/")} - {"errors/README.md"}  # which lists them
    assert sorted(nav) == sorted(pages - by_index)


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    """What a browser fetches by itself; a link that a reader follows may lead anywhere."""
    loading = re.compile(
        r"""<(?:script|img|iframe|source|video|audio|embed|object|input|use)\b"""
        r"""[^>]*\b(?:src|srcset|data|href)=["']?([^"' >]+)"""
        r"""|<link\b[^>]*\bhref=["']?([^"' >]+)|url\(["']?([^"')]+)|@import\s+["']([^"']+)"""
    )
    found = 0
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        for groups in loading.findall(file.read_text("utf-8")):
            address = next(filter(None, groups))
            found += 1
            assert not re.match(r"(?!data:)[a-z][a-z0-9+.-]*:|//", address), (file.name, address)
    assert found > 100


def test_what_the_scripts_could_load_from_elsewhere_is_not_asked_for(site: Path) -> None:
    """The theme's script fetches diagrams, editors and galleries from a CDN where a page has such a block."""
    for page in site.rglob("*.html"):
        assert not re.search(r'class="[^"]*\b(?:mermaid|pyodide|glightbox|doc-playground)\b', page.read_text("utf-8"))


def test_every_link_leads_to_a_page_and_every_anchor_to_a_place(site: Path) -> None:
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text("utf-8"))) for page in site.rglob("*.html")}
    followed = 0
    for page in anchors:
        if page.name == "404.html":
            continue
        for target in re.findall(r'<a\b[^>]*?\bhref="([^"]*)"', page.read_text("utf-8")):
            address = urlsplit(target)
            if address.scheme or address.netloc:
                continue
            there = (page.parent / unquote(address.path)).resolve() if address.path else page
            there = there / "index.html" if there.is_dir() else there
            assert there.is_file(), (page.name, target)
            if address.fragment and there in anchors and address.fragment != "__top":
                assert unquote(address.fragment) in anchors[there], (page.name, target)
            followed += 1
    assert followed > 1_000


def test_the_search_holds_every_page_and_knows_where_chinese_words_end(site: Path) -> None:
    index = json.loads((site / "search.json").read_text("utf-8"))
    held = {item["location"].partition("#")[0] for item in index["items"]}
    assert {
        str(page.relative_to(DOCS)).replace("README.md", "index.md")[:-3] + ".html" for page in DOCS.rglob("*.md")
    } <= held
    assert index["config"]["lang"] == ["zh-en"]  # the script's segmenter goes by the first two letters
    script = next((site / "assets/javascripts/workers").glob("search.*.js")).read_text("utf-8")
    assert '["zh","ja","ko"].includes(' in script
    assert "Intl.Segmenter" in script
    assert all('<html lang="en"' in page.read_text("utf-8") for page in site.rglob("*.html"))


def test_links_to_files_of_the_repository_are_names_unless_it_has_an_address(site: Path, tmp_path: Path) -> None:
    assert "deploy/nginx" in (site / "http.html").read_text("utf-8")
    assert 'href="../deploy' not in (site / "http.html").read_text("utf-8")
    settings = (
        (ROOT / SETTINGS).read_text("utf-8").replace('repository = ""', 'repository = "https://forge.invalid/x/"')
    )
    pages = tmp_path / "pages"
    (pages / "deep").mkdir(parents=True)
    (pages / "index.md").write_text("# One\n\n[gone](deep/two.md)\n", "utf-8")
    (pages / "deep/two.md").write_text("# Two\n\n[code](../../exchange/cli/up.py)\n", "utf-8")
    settings = re.sub(r"^nav = \[.*?^\]\n", "", settings, flags=re.MULTILINE | re.DOTALL)
    status, said = build(tmp_path / "built", settings, pages)
    assert status == 0, said
    assert 'href="https://forge.invalid/x/exchange/cli/up.py"' in (
        tmp_path / "built/dist/site/deep/two.html"
    ).read_text("utf-8")


def test_a_chinese_page_bears_its_language(site: Path) -> None:
    page = (site / "index.zh-CN.html").read_text("utf-8")
    assert '<p lang="zh-CN">' in page
    assert '<p lang="zh-CN">' not in (site / "index.html").read_text("utf-8")


def test_a_link_that_is_called_after_its_file_is_called_after_the_page(site: Path) -> None:
    assert '<a href="semantics.html">Semantics</a> sections 2 and 3' in (site / "contracts.html").read_text("utf-8")
    assert "broker.md</a>" not in (site / "reference/commands.html").read_text("utf-8")


@pytest.mark.parametrize("link", ["nowhere.md", "index.md#nowhere", "../exchange/nowhere.py"])
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path, link: str) -> None:
    settings = re.sub(r"^nav = \[.*?^\]\n", "", (ROOT / SETTINGS).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/index.md").write_text(f"# One\n\n[gone]({link})\n", "utf-8")
    status, said = build(tmp_path / "built", settings, tmp_path / "pages")
    assert status == 1, said
    assert "nowhere" in said
