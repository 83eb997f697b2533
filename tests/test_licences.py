"""What is shipped stands under licences that a city can live with, and docs/licences.md lists each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"

# SPDX ids. LGPL is taken for a library that is used as it is, and can be put in another's place (its section 4).
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "LGPL-3.0-only", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0",
    "Zlib",
}  # fmt: skip
_CLASSIFIED = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
}
# Whose metadata say nothing, or not exactly; what their own licence file says.
_KNOWN = {"cedarpy": "Apache-2.0", "pysqlite3": "Zlib", "uvloop": "MIT OR Apache-2.0"}


def shipped() -> set[str]:
    """Every package that the project brings along, by the lock file; those for other systems too."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    packages = {each["name"]: each for each in lock["package"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    found: set[tuple[str, ...]] = set()
    waiting = list(_needed(packages[project], []))
    while waiting:
        name, extras = waiting.pop()
        if (name, *extras) not in found:
            found.add((name, *extras))
            waiting += _needed(packages[name], extras)
    return {name for name, *_ in found}


def _needed(package: dict[str, Any], extras: list[str]) -> Iterator[tuple[str, list[str]]]:
    optional = package.get("optional-dependencies", {})
    lists = [package.get("dependencies", []), *(optional.get(one, []) for one in extras)]
    return ((each["name"], each.get("extra", [])) for every in lists for each in every)


def licence(name: str) -> str | None:
    """The SPDX expression of an installed package; None where it is not installed here, or says nothing."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if name in _KNOWN:
        return _KNOWN[name]
    if expression := found.get("License-Expression"):
        return str(expression)
    lines = [one.rpartition(" :: ")[2] for one in found.get_all("Classifier", []) if one.startswith("License ::")]
    classified = [_CLASSIFIED[line] for line in lines if line in _CLASSIFIED]
    return classified[0] if classified else found.get("License")


def listed() -> dict[str, str]:
    """Name -> licence, as the page has them."""
    return dict(re.findall(r"^\| `([a-z0-9.-]+)` \| ([^|]+?) \|", PAGE.read_text("utf-8"), re.MULTILINE))


def test_the_page_lists_what_is_shipped_and_nothing_else() -> None:
    assert set(listed()) == shipped()


def test_each_licence_is_the_one_that_the_package_states() -> None:
    said = {name: licence(name) for name in shipped()}
    assert len([one for one in said.values() if one is not None]) > 40
    assert {name: one for name, one in said.items() if one is not None} == {
        name: one for name, one in listed().items() if said[name] is not None
    }


def test_each_licence_is_one_that_we_take() -> None:
    for name, expression in listed().items():
        alternatives = [set(re.findall(r"[A-Za-z0-9.-]+", part)) - {"AND"} for part in expression.split(" OR ")]
        assert any(part <= ALLOWED for part in alternatives), (name, expression)
