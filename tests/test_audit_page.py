"""docs/audit.md verifies: its scripts, taken from the page, are the second implementation of every format."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from exchange.audit import PublicKeys, Receipt, Signer
from exchange.audit.entries import Line
from exchange.audit.groups import seal
from exchange.audit.slots import Holder
from exchange.audit.writer import Writer, receipts
from tests.support.audit import KEYS, ORIGIN, SIGNER, Topic, entry, fresh_store, new_sealer, sqlite_url

PAGE = (Path(__file__).parent.parent / "docs" / "audit.md").read_text("utf-8")
BODY = '{"values":{"citizen.name":"张三"}}'.encode()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's scripts under their names."""
    folder = tmp_path_factory.mktemp("scripts")
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        name = re.match(r"# (\w+\.py) ", block)
        assert name, "a script begins with its name"
        (folder / name[1]).write_text(block, "utf-8")
    assert {file.name for file in folder.iterdir()} == {"verify_receipt.py", "verify_log.py"}
    return folder


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def verify(scripts: Path) -> Callable[..., tuple[str, int]]:
    """The page's `verify_receipt`, in this process."""
    names: dict[str, Callable[..., tuple[str, int]]] = {}
    exec((scripts / "verify_receipt.py").read_text("utf-8"), names)
    return names["verify_receipt"]


def lines(count: int) -> list[Line]:
    return [Line.of(entry(request=f"r-{index}"), BODY, bytes(range(16))) for index in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 255, 256])
def test_the_pages_script_verifies_every_receipt(verify: Callable[..., tuple[str, int]], count: int) -> None:
    some = lines(count)
    signed = seal("gateway-1", 11, None, [line.leaf for line in some], SIGNER)
    for made in receipts(signed, some):
        assert verify(made.encode(), BODY, KEYS.jwks()) == ("gateway-1", made.number)
    with pytest.raises(AssertionError, match="not the one that was signed"):
        verify(made.encode(), b"another body", KEYS.jwks())
    other = PublicKeys([Signer.generate().public]).jwks()["keys"][0]
    with pytest.raises(InvalidSignature):
        verify(made.encode(), BODY, {"keys": [{**other, "kid": SIGNER.kid}]})


def test_the_pages_scripts_verify_a_log_and_find_what_was_done(scripts: Path, tmp_path: Path) -> None:
    store, topic = fresh_store(sqlite_url(tmp_path)), Topic()
    sealer, made = new_sealer(store, topic), list[Receipt]()
    for writer, sizes in (("gateway-1", (3, 1)), ("gateway-2", (5,)), ("gateway-1", (2,))):
        own = Writer(store, SIGNER, writer, Holder("test"), patience_s=0.0)
        own.open()
        for size in sizes:
            made += own.append(lines(size))
        own.close()
        sealer.step()
    store.close()
    files = {
        "receipt.txt": made[1].encode().encode(),
        "body": BODY,
        "keys.json": json.dumps(KEYS.jwks()).encode(),
        "checkpoints": b"\n".join(topic.notes),  # as the console consumer of Kafka prints them
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    shown = run(scripts, "verify_receipt.py", *(tmp_path / name for name in ("receipt.txt", "body", "keys.json")))
    assert shown.stdout == "gateway-1 2\n", shown.stderr
    log = ("verify_log.py", tmp_path / "audit.db", tmp_path / "keys.json", ORIGIN, tmp_path / "checkpoints")
    shown = run(scripts, *log)
    assert shown.stdout == "11\n", shown.stderr

    for statement, found in (
        (
            "UPDATE audit_entries SET entry = CAST(entry || ' ' AS BLOB) WHERE number = 5",
            "gateway-1 5 to 6: the entries are not those",
        ),
        ("DELETE FROM audit_entries WHERE number = 4", "gateway-1 4 to 4: an entry is missing"),
        ("DELETE FROM audit_groups WHERE last = 4", "gateway-1 5 to 6: 4 is missing"),
        ("DELETE FROM audit_leaves WHERE position = 3", "the log ends at 3 groups, but 4 were signed"),
        ("UPDATE audit_leaves SET position = -position", "the first 2 groups are not those that were signed"),
    ):
        with sqlite3.connect(tmp_path / "audit.db") as db:
            before = list(db.iterdump())
            db.execute(statement)
        db.close()
        shown = run(scripts, *log)
        assert shown.returncode != 0
        assert found in shown.stderr
        (tmp_path / "audit.db").unlink()
        with sqlite3.connect(tmp_path / "audit.db") as db:
            db.executescript("\n".join(before))
        db.close()
    assert run(scripts, *log).stdout == "11\n"
