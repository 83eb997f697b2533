"""The house is as docs/architecture.md says: one direction of imports, one user of each dangerous library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# In reading order: a module imports only from those above it.
ORDER = [
    "errors",
    "printable",
    "files",
    "clock",
    "settings",
    "credentials",
    "metrics",
    "logs",
    "sqlite",
    "standing",
    "randomness",
    "subjects",
    "records",
    "contracts",
    "topics",
    "kafka",
    "store",
    "registry",
    "publish",
    "materialise",
    "agreements",
    "decisions",
    "principals",
    "views",
    "merkle",
    "audit",
    "disclosure",
    "erasure",
    "rekeying",
    "backup",
    "wiring",
    "city",
    "cli",
    "doctor",
]

ONLY_USER = {
    "fastavro": {"exchange.contracts"},
    "avro": {"exchange.contracts"},
    "confluent_kafka": {"exchange.kafka"},
    "kafka": {"exchange.kafka"},
    "cedarpy": {"exchange.decisions"},
    "pysqlite3": {"exchange.sqlite"},
}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for file in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, file


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            assert node.module is not None
            yield node.module
            if node.module == "exchange":
                yield from (f"exchange.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "exchange" and len(parts) > 1 else None


@pytest.mark.parametrize(("name", "file"), list(modules("exchange")), ids=lambda value: str(value))
def test_a_module_imports_only_from_those_above_it(name: str, file: Path) -> None:
    here = room(name)
    if here is None:
        return
    assert here in ORDER, f"exchange/{here} has no place in the order"
    for imported in imports(file):
        there = room(imported)
        if there is not None and there != here:
            assert ORDER.index(there) < ORDER.index(here), f"{name} imports {imported}, which stands below it"


@pytest.mark.parametrize("package", ["exchange", "connectors", "gateway"])
def test_connectors_and_gateway_never_meet(package: str) -> None:
    foreign = {"exchange": {"connectors", "gateway"}, "connectors": {"gateway"}, "gateway": {"connectors"}}[package]
    for name, file in modules(package):
        met = {imported for imported in imports(file) if imported.split(".")[0] in foreign}
        assert not met, f"{name} imports {met}"


@pytest.mark.parametrize("library", sorted(ONLY_USER))
def test_a_library_that_bites_has_one_user(library: str) -> None:
    users = {
        name
        for package in ("exchange", "connectors", "gateway")
        for name, file in modules(package)
        if any(imported.split(".")[0] == library for imported in imports(file))
    }
    allowed = ONLY_USER[library]
    assert {".".join(user.split(".")[:2]) for user in users} <= allowed


def test_a_connector_never_meets_the_store() -> None:
    for name, file in modules("connectors"):
        met = [
            imported for imported in imports(file) if room(imported) in {"store", "audit", "disclosure", "decisions"}
        ]
        assert not met, f"{name} imports {met}"


def test_the_process_of_a_connector_loads_what_it_needs_and_no_store() -> None:
    code = "import sys; from exchange.cli import build; build('connector'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "connectors.runner" in loaded
    assert not {"exchange.store", "exchange.audit", "gateway", "cedarpy", "sqlalchemy"}.intersection(loaded)


def test_modules_stay_small() -> None:
    """A module that outgrows about 300 lines becomes a package; 400 is where this test stops waiting."""
    long = {
        name: lines
        for package in ("exchange", "connectors", "gateway")
        for name, file in modules(package)
        if (lines := len(file.read_text("utf-8").splitlines())) > 400
    }
    assert not long


def test_data_folders_hold_data_only() -> None:
    for folder, suffixes in {
        "schemas": {".avsc", ".md"},
        "policies": {".cedar", ".cedarschema", ".toml", ".json", ".md"},
    }.items():
        strangers = [file for file in (ROOT / folder).rglob("*") if file.is_file() and file.suffix not in suffixes]
        assert not strangers
