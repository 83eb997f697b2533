"""A desk for tests of the csv connector: a folder with a file, an instance that reads it, a bench around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from connectors.csv import CsvConnector, CsvSettings
from exchange.contracts import Contract
from exchange.publish import Outcome, Row
from tests.support.publishing import Bench, citizen

HEADER = "citizen_id,name,address,updated_at\r\n"
TIME = "2026-03-01 10:00:00"


class Desk:
    """A folder with a file, and a csv instance that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench(folder)

    def write(self, content: bytes | str, name: str = "people.csv", age: float = 60) -> Path:
        file = self.folder / name
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        self.age(file, age)
        return file

    def append(self, content: bytes | str, name: str = "people.csv") -> None:
        with (self.folder / name).open("ab") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        self.age(self.folder / name, 60)

    def age(self, file: Path, seconds: float) -> None:
        at = self.bench.now.timestamp() - seconds
        os.utime(file, (at, at))

    def connector(self, contract: Contract | None = None, **settings: Any) -> CsvConnector:
        table = {
            "name": "test", "connector": "csv", "contract": "civil.person", "path": "people.csv",
            "timezone": "Asia/Shanghai", "settle": 1,
        }  # fmt: skip
        if contract is not None:
            self.bench.contract = contract
        made = CsvConnector(
            CsvSettings.model_validate(table | settings), self.bench.contract, self.bench.means(self.folder)
        )
        self.bench.keeps = made.keeps
        return made

    def read(self, contract: Contract | None = None, **settings: Any) -> Outcome:
        return self.bench.read(self.connector(contract, **settings))

    def rows(self, contract: Contract | None = None, **settings: Any) -> list[Row]:
        """The rows as the connector reads them, before anything is published."""
        rows = [row for batch in self.connector(contract, **settings).read({}) for row in batch.rows]
        return [row if isinstance(row, Row) else row.read() for row in rows]

    def names(self) -> dict[str, str]:
        return {number: value["name"] for number, value in self.bench.facets().items()}

    def reasons(self) -> list[tuple[str, str | None, str]]:
        return self.bench.reasons()


def line(number: int, name: str = "甲某", address: str = "", time: str = TIME) -> str:
    return f"{citizen(number)},{name},{address},{time}\r\n"
