"""Market regulation's register of enterprises, held as a file or as a table, in three deliveries.

The second delivery is the one that is broken off; the third undoes, changes and goes on with what was half-way through.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from stdnum.cn import uscc

CONTRACT = "market.registration"
TOPIC = "market.registration.v1"

State = dict[int, tuple[int, str]]  # row -> number of the enterprise, its seat; a negative number is no valid code


def code(number: int) -> str:
    """The code of an enterprise; of a negative number one whose check character is wrong."""
    body = f"91290101{abs(number):09d}"
    right = str(uscc.calc_check_digit(body))
    return body + (right if number >= 0 else "0" if right != "0" else "1")


def record(number: int, seat: str) -> dict[str, Any]:
    """What is pushed of an enterprise."""
    return {
        "uscc": code(number), "name": f"企业{abs(number)}", "kind": "limited", "currency": "CNY",
        "registered_on": "2020-05-06", "address": seat, "status": "active",
    }  # fmt: skip


def expected(state: State) -> dict[str, str]:
    """The records that must stand: code -> seat."""
    return {code(number): seat for number, seat in state.values() if number >= 0}


# The first delivery; the one that is broken off; the one that comes after it.
FIRST: State = {row: (row, "first") for row in range(10, 70)}
SECOND: State = {
    **{row: (row, "second" if row % 3 == 0 else "first") for row in range(10, 60)},  # 60 to 69 are gone
    **{row: (row, "second") for row in range(70, 90)},  # new
    20: (120, "first"),  # was given the wrong enterprise
    **{row: (-row, "second") for row in (1, 2, 3)},  # cannot be taken
}
THIRD: State = {
    **{row: said for row, said in SECOND.items() if row not in (70, 71, 12)},  # gone again before it was there
    **{row: (row, "third") for row in (15, 18, 72, 85)},  # what was broken off says something else now
    21: (21, "first"),  # taken back
    1: (1, "third"),  # mended
    4: (-4, "third"),
}


class Source(Protocol):
    """An office that holds enterprises, and the instance file that reads it."""

    instance: Path

    def hold(self, state: State) -> None: ...


MAPPING = """
    uscc = "code"
    name = "name"
    kind = { value = "limited" }
    registered_on = { value = "2020-05-06" }
    address = "seat"
    status = { value = "active" }
    currency = { value = "CNY" }
"""


class Register:
    """A file that is written anew each time."""

    def __init__(self, folder: Path) -> None:
        self.instance = folder / "register.toml"
        self.instance.write_text(
            f'name = "register"\nconnector = "csv"\ncontract = "{CONTRACT}"\npath = "register.csv"\nsettle = "0s"\n'
            f'poll_interval = "100ms"\nbatch_size = 20\ntimezone = "Asia/Shanghai"\n[mapping]{MAPPING}'
        )
        self._file = folder / "register.csv"
        self.told = 0  # until when: its watermark in microseconds, once it is read

    def hold(self, state: State) -> None:
        """The rows in order, so that a rejected one stays where it was."""
        lines = ["code,name,seat", *(f"{code(n)},企业{abs(n)},{seat}" for _, (n, seat) in sorted(state.items()))]
        part = self._file.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n", "utf-8")
        self.told = time.time_ns() // 1_000_000 * 1_000
        os.utime(part, ns=(self.told * 1_000, self.told * 1_000))
        part.replace(self._file)


class Table:
    """A table in which rows are changed and marked as deleted."""

    def __init__(self, folder: Path) -> None:
        self.instance = folder / "register.toml"
        self.instance.write_text(
            f'name = "register"\nconnector = "sql"\ncontract = "{CONTRACT}"\nurl = "sqlite:///market.db"\n'
            'table = "enterprise"\nkey = "id"\nupdated_at = "updated_at"\npoll_interval = "100ms"\nbatch_size = 20\n'
            f'timezone = "UTC"\n[mapping]{MAPPING}\n[deleted_when]\ncolumn = "deleted"\nvalues = [1]\n'
        )
        self._path = folder / "market.db"
        self._held: State = {}

    def hold(self, state: State) -> None:
        """Write what has changed; a row that is there no more is marked."""
        now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
        with closing(sqlite3.connect(self._path)) as table, table:
            table.execute(
                "create table if not exists enterprise (id integer primary key, code text, name text, seat text,"
                " updated_at text not null, deleted integer)"
            )
            for row in sorted(self._held.keys() | state.keys()):
                if row not in state:
                    table.execute(f"update enterprise set deleted = 1, updated_at = {now} where id = ?", (row,))
                elif self._held.get(row) != state[row]:
                    number, seat = state[row]
                    values = (row, code(number), f"企业{abs(number)}", seat)
                    table.execute(f"insert or replace into enterprise values (?, ?, ?, ?, {now}, 0)", values)
        self._held = dict(state)
