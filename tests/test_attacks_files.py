"""Attacks by file: settings, instance files and contracts that are malformed, huge, endless, recursive or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.config import load_instance
from exchange.contracts import load_catalogue
from exchange.errors import ContractRefused, ExchangeError, SettingWrong
from exchange.settings import Settings

CONTENTS = {
    "recursive": b"a = " + b"[" * 100_000,
    "recursive inline": b"a = " + b"{a=" * 100_000,
    "dotted on and on": b".".join([b"a"] * 2_000) + b" = 1",
    "huge": b"a = 1\n" + b"# x\n" * 400_000,
    "digits without end": b"a = " + b"9" * 100_000,
    "not utf-8": b'a = "\xff"',
    "utf-16": "a = 1".encode("utf-16"),
    "nulls": b"\0" * 1_000,
    "twice": b"a = 1\na = 2",
    "a table and a value": b"a = 1\n[a]\nb = 1",
    "our own word": b'root = "/"',
    "a list": b"[[broker]]\nurl = 1",
    "another language": b'{"a": 1}',
}


def loads(kind: str, folder: Path, content: bytes) -> Callable[[], object]:
    """A call that reads this content as a file of this kind."""
    if kind == "contract":
        (folder / "civil").mkdir()
        (folder / "civil" / "person.avsc").write_bytes(content)
        return lambda: load_catalogue(folder)
    file = folder / "file.toml"
    file.write_bytes(content)
    return lambda: Settings.load(file) if kind == "settings" else load_instance(file)


@pytest.mark.parametrize("kind", ["settings", "instance", "contract"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_hostile_file_is_refused_in_one_short_line(tmp_path: Path, kind: str, content: bytes) -> None:
    with pytest.raises((SettingWrong, ContractRefused)) as refused:
        loads(kind, tmp_path, content)()
    assert ("file.toml" if kind != "contract" else "person.avsc") in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["settings", "instance", "contract"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    call = loads(kind, tmp_path, b"")
    (place,) = [each for each in tmp_path.rglob("*") if each.is_file()]
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(ExchangeError, match="not a regular file"):
        call()
    place.unlink()
    place.mkdir()
    with pytest.raises(ExchangeError):
        call()
    place.rmdir()
    place.symlink_to(place)  # a circle
    with pytest.raises(ExchangeError):
        call()


def test_no_contract_is_read_from_outside_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.avsc"
    outside.write_text("{}", "utf-8")
    (tmp_path / "schemas" / "civil").mkdir(parents=True)
    (tmp_path / "schemas" / "civil" / "person.avsc").symlink_to(outside)
    with pytest.raises(ContractRefused, match="leads out of"):
        load_catalogue(tmp_path / "schemas")
