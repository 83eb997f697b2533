"""Evidence: a receipt proves a view without the log, the log proves itself, a copy with one bit changed does not."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from exchange import sqlite
from exchange.audit import AuditStore, PublicKeys, Receipt, find, verify_log, verify_receipt
from exchange.audit.tables import entries
from exchange.audit.verify import Report
from exchange.cli.administration import open_audit
from exchange.cli.audit import published_checkpoints
from exchange.cli.demo.stage import Stage
from exchange.cli.demo.steps import Table, Told
from exchange.errors import ReceiptInvalid
from exchange.store.database import sqlite_path
from exchange.wiring import audit_url, public_keys

FOLDER = "receipt"
_SEALED = 5.0  # seconds: a checkpoint leaves the store within one


def receipt(stage: Stage, told: Told) -> None:
    """The answer as it came, its receipt, the published keys: no more is needed, years later too."""
    view, folder = stage.kept(), stage.town.folder / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "view.json").write_bytes(view.body)
    (folder / "receipt.txt").write_text(view.receipt, "ascii")
    (folder / "exchange-keys.json").write_bytes(stage.desks.signing_keys())
    told.show(view)
    proof = Receipt.decode((folder / "receipt.txt").read_text("ascii"))
    keys = PublicKeys.from_jwks(json.loads((folder / "exchange-keys.json").read_bytes()))
    body = (folder / "view.json").read_bytes()
    group = verify_receipt(proof, body, keys)
    told.check(
        True, f"offline: {proof.writer} number {proof.number}, in a group signed by {next(iter(keys)).kid[:12]}…"
    )
    told.check(group.first <= proof.number <= group.last, f"the group signs numbers {group.first} to {group.last}")
    told.check(
        not _proves(proof, _one_bit(body, len(body) // 2), keys), "with one bit of the answer changed it proves nothing"
    )
    with open_audit(stage.town.settings) as log:
        stored = json.loads(find(log, proof, body, keys).entry)
    told.show(Table(("the entry in the log", ""), [[name, _brief(value)] for name, value in stored.items()]))
    told.check(
        stage.town.citizen not in json.dumps(stored),
        "the log holds this very entry: a key instead of a number, no value",
    )


def log(stage: Stage, told: Told) -> None:
    """Every entry, every signature and the whole tree, against the checkpoints that left the store."""
    deadline = time.monotonic() + _SEALED
    with open_audit(stage.town.settings) as store:
        report = _verify(stage, store)
        while report and report.uncovered and time.monotonic() < deadline:
            time.sleep(0.2)
            report = _verify(stage, store)
    told.show(
        f"{report.entries} entries in {report.groups} groups, {report.checkpoints} checkpoints; "
        + ", ".join(f"{writer} up to number {number}" for writer, number in sorted(report.writers.items()))
    )
    for finding in report.findings:
        told.show(str(finding))
    told.check(bool(report), "the log verifies")
    told.check(report.uncovered == 0, "and a checkpoint outside the store covers every entry")


def tampered(stage: Stage, told: Told) -> None:
    """Somebody who holds the database makes one purpose another one, in a copy of the log."""
    proof = Receipt.decode(stage.kept().receipt)
    original, copy = sqlite_path(audit_url(stage.town.settings)), stage.town.folder / "tampered-audit.db"
    _copy(original, copy)
    store = AuditStore.open(f"sqlite:///{copy}")
    try:
        clean = _verify(stage, store)
        before, after = _change(store, proof.writer, proof.number)
        report = _verify(stage, store)
    finally:
        store.close()
    told.show(Table(("one bit of the entry", ""), [["before", before], ["after", after]]))
    for finding in report.findings[:3]:
        told.show(str(finding))
    told.check(bool(clean), "the copy verifies as long as nothing is changed")
    told.check(not report, f"with the bit changed it does not: {report.found} finding{'s' * (report.found > 1)}")
    told.check(
        any((one.writer, one.first, one.last) == (proof.writer, proof.number, proof.number) for one in report.findings),
        f"and the entry is named: {proof.writer}, number {proof.number}",
    )


def _verify(stage: Stage, store: AuditStore) -> Report:
    settings = stage.town.settings
    return verify_log(store, published_checkpoints(settings), public_keys(settings), settings.audit.origin)


def _proves(proof: Receipt, body: bytes, keys: PublicKeys) -> bool:
    try:
        verify_receipt(proof, body, keys)
    except ReceiptInvalid:
        return False
    return True


def _copy(original: Path, copy: Path) -> None:
    """A consistent copy of a database that is being written, mode 0600."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite.connect(original, readonly=True)) as db:
        db.execute("VACUUM INTO ?", (str(copy),))


def _change(store: AuditStore, writer: str, number: int) -> tuple[str, str]:
    """Change one bit of an entry, in its purpose; what stood there, and what stands there now."""
    here = (entries.c.writer == writer) & (entries.c.number == number)
    with store.writing() as connection:
        stored = bytes(connection.execute(sa.select(entries.c.entry).where(here)).scalar_one())
        place = stored.index(b'"purpose":"') + len(b'"purpose":"')
        changed = _one_bit(stored, place)
        connection.execute(entries.update().where(here).values(entry=changed))
    shown = slice(place - len(b'"purpose":"'), place + 20)
    return stored[shown].decode("utf-8", "replace"), changed[shown].decode("utf-8", "replace")


def _one_bit(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 70 else f"{text[:69]}…"
