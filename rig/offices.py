"""The offices: a register of enterprises as a file, and penalties as a table.

Each works in a thread of its own, tells the oracle before it says anything, and goes on whatever happens to the bus.
What they do is drawn from the run's seed; when they do it is not.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from random import Random
from threading import Event

from rig.identities import Identity, code
from rig.oracle import Oracle, Payload, Statement

REGISTRATION, PENALTY, ENTERPRISE = "market.registration", "market.penalty", "tax.enterprise"
CONTRACTS = (REGISTRATION, PENALTY, ENTERPRISE)
REGISTER, TABLE = "market/register", "market/penalties"
PUSHED = {REGISTRATION: "market/push", PENALTY: "market/push", ENTERPRISE: "tax/push"}

# Of the enterprises, by number, the file holds the first ones and pushes speak of the last ones; some are in both.
FILED, SHARED, PUSHED_TO = range(100), range(80, 100), range(80, 140)


def topic(contract: str) -> str:
    """A contract's topic."""
    return f"{contract}.v1"


def registration(number: int, serial: int) -> Payload:
    """An enterprise's registration, as the store keeps it."""
    return {
        "uscc": code(number),
        "name": f"企业{number}",
        "kind": "limited",
        "legal_representative": None,
        "capital": None,
        "currency": "CNY",
        "registered_on": "2020-05-06",
        "address": f"seat {serial}",
        "scope": None,
        "status": "active",
        "contact_phone": f"canary-{serial}",  # level 3: none of the desks may see it
    }


def penalty(number: int, decision: str, serial: int, edition: int) -> Payload:
    """A penalty, as the store keeps it."""
    return {
        "uscc": code(number),
        "decision_no": decision,
        "violation": f"case {serial}",
        "basis": None,
        "amount": None,
        "decided_on": "2024-02-03",
        "status": "decided",
        "authority": "市监局",
        "responsible_person": f"canary-{serial}",  # level 3
        "edition": edition,
    }


def enterprise(number: int, serial: int, revision: int) -> Payload:
    """An enterprise as a taxpayer, as the store keeps it."""
    return {
        "uscc": code(number),
        "name": f"企业{number}",
        "address": f"place {serial}",
        "legal_representative": None,
        "taxpayer_type": "general",
        "filing_status": "normal",
        "credit_grade": None,
        "annual_turnover": f"7777{serial}.77",  # level 3
        "arrears": "0.00",
        "last_filed_on": None,
        "revision": str(revision),
        "updated_at": "2026-01-01T00:00:00.000000Z",
    }


class Register:
    """The register, exported as a whole again and again (csv, a snapshot)."""

    INSTANCE = f"""
        name = "register"
        connector = "csv"
        contract = "{REGISTRATION}"
        path = "register.csv"
        settle = "0s"
        poll_interval = "200ms"
        batch_size = 40
        max_reject_share = 0.9  # a young register may hold more bad rows than good ones
        [mapping]
        uscc = "code"
        name = "name"
        kind = {{ value = "limited" }}
        registered_on = {{ value = "2020-05-06" }}
        address = "seat"
        status = {{ value = "active" }}
        currency = {{ value = "CNY" }}
        contact_phone = "phone"
    """

    def __init__(self, folder: Path, oracle: Oracle, dice: Random) -> None:
        self._file = folder / "register.csv"
        self._oracle = oracle
        self._dice = dice
        self._held: dict[int, int] = {}  # number of the enterprise -> serial of what the file says of it
        self.told = 0  # until when: the file's time, in microseconds

    def change(self) -> None:
        """A day at the office: some enterprises are new or changed, some are gone, some lines cannot be taken."""
        statements = []
        for number in self._dice.sample(FILED, 10):
            if number in self._held and self._dice.random() < 0.2:
                del self._held[number]
                statements.append(self._statement(number, self._oracle.serial(), gone=True))
            else:
                self._held[number] = self._oracle.serial()
                statements.append(self._statement(number, self._held[number]))
        wrong = [self._oracle.serial() for _ in range(self._dice.randrange(12))]
        for serial in wrong:
            refused = Identity(REGISTRATION, code(900_000 + serial, wrong=True))
            statements.append(Statement(serial, refused, REGISTER, {}, refused=True))
        self._oracle.say(*statements)
        self._export(wrong)

    def _statement(self, number: int, serial: int, *, gone: bool = False) -> Statement:
        identity = Identity(REGISTRATION, code(number))
        return Statement(serial, identity, REGISTER, None if gone else registration(number, serial))

    def _export(self, wrong: list[int]) -> None:
        lines = ["code,name,seat,phone"]
        lines += [f"{code(n)},企业{n},seat {serial},canary-{serial}" for n, serial in sorted(self._held.items())]
        lines += [f"{code(900_000 + each, wrong=True)},企业,seat {each},canary-{each}" for each in wrong]
        part = self._file.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n", "utf-8")
        self.told = time.time_ns() // 1_000_000 * 1_000
        os.utime(part, ns=(self.told * 1_000, self.told * 1_000))
        part.replace(self._file)


class Penalties:
    """The table of penalties (sql): editions grow, rows are marked as deleted, a wrong number is corrected."""

    INSTANCE = f"""
        name = "penalties"
        connector = "sql"
        contract = "{PENALTY}"
        url = "sqlite:///penalties.db"
        table = "penalty"
        key = "id"
        updated_at = "updated_at"
        safety_lag = "2s"
        poll_interval = "200ms"
        batch_size = 40
        timezone = "UTC"
        [mapping]
        uscc = "code"
        decision_no = "decision"
        violation = "violation"
        decided_on = {{ value = "2024-02-03" }}
        status = {{ value = "decided" }}
        authority = {{ value = "市监局" }}
        responsible_person = "person"
        edition = "edition"
        [deleted_when]
        column = "deleted"
        values = [1]
    """
    COLUMNS = (
        "id integer primary key, code text, decision text, violation text, person text, edition integer,"
        " updated_at text, deleted integer"
    )
    ROWS = range(80)

    def __init__(self, folder: Path, oracle: Oracle, dice: Random) -> None:
        self._path = folder / "penalties.db"
        self._oracle = oracle
        self._dice = dice
        self._editions: dict[int, int] = {}
        self.told = 0  # when the last change was committed, in microseconds
        with closing(sqlite3.connect(self._path)) as table, table:
            table.execute(f"create table penalty ({self.COLUMNS})")

    def change(self) -> None:
        """Some decisions get their next edition; some of these say that the decision is gone."""
        statements, rows = [], []
        for row in self._dice.sample(self.ROWS, 6):
            edition = self._editions[row] = self._editions.get(row, 0) + 1
            serial, gone = self._oracle.serial(), edition > 1 and self._dice.random() < 0.2
            number, decision = row // 2, decision_of(row)
            payload = penalty(number, decision, serial, edition)
            identity = Identity(PENALTY, code(number), decision)
            statements.append(Statement(serial, identity, TABLE, None if gone else payload, edition))
            rows.append((row, code(number), decision, f"case {serial}", f"canary-{serial}", edition, gone))
        self._oracle.say(*statements)
        with closing(sqlite3.connect(self._path, timeout=30)) as table, table:
            table.executemany(
                "insert or replace into penalty values (?, ?, ?, ?, ?, ?, strftime('%Y-%m-%d %H:%M:%f', 'now'), ?)",
                rows,
            )
        self.told = time.time_ns() // 1_000


def decision_of(row: int) -> str:
    """The number of the decision in a row of the table."""
    return f"市监罚〔2024〕{row}号"


def work(office: Register | Penalties, over: Event, pause: float) -> None:
    """Change what the office holds, again and again, until it is over."""
    while not over.wait(pause):
        office.change()
