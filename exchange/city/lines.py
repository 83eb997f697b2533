"""NDJSON: what a department's own program pushes over HTTP, one file for each day, in the contract's JSON form."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from exchange.city.life import Fault, State
from exchange.city.offices import TWICE, Later, Office, Planting
from exchange.city.sources import Dataset, Push
from exchange.city.world import BEIJING, DAY_ZERO, Subject


class PushOffice(Office):
    """New rows and new editions as lines, deletions as delete lines."""

    def __init__(self, dataset: Dataset, source: Push, folder: Path, day: int, plant: Planting) -> None:
        super().__init__(dataset, day, plant)
        self._source = source
        delivered = (DAY_ZERO + timedelta(days=day)).astimezone(BEIJING).date()
        self._path = folder / f"{dataset.contract.partition('.')[2]}-{delivered}.ndjson"
        self._file: TextIO = self._path.open("w", encoding="utf-8", newline="\n")
        self._later: Later[str] = Later(self._put)

    def _write(self, subject: Subject, slot: int, before: State | None, now: State) -> None:
        if not now.present:
            return
        known = before is not None and before.present
        if not known or (before is not None and before.edition != now.edition):
            if before is not None and before.fault is Fault.WRONG_OWNER and now.fault is None:
                self._delete(subject, slot, before, now)
            self._tell(subject, slot, now)
        if now.deleted and not (before is not None and before.deleted):
            self._delete(subject, slot, now, now)

    def _tell(self, subject: Subject, slot: int, now: State) -> None:
        line = self._line(subject, slot, now)
        self._put(line)
        if now.fault in (None, Fault.WRONG_OWNER):
            self.count.publish()
        else:
            self.count.reject(now.fault)
        if not now.deleted and self._again(subject, slot, now, "twice", TWICE, 10):
            self.count.publish()
            self._later.add(line)
        self._later.passed()

    def _line(self, subject: Subject, slot: int, now: State) -> str:
        values = self._held(subject, slot, now)
        match now.fault:
            case Fault.NO_VALUE:
                del values[self.dataset.required]
            case Fault.UNKNOWN_MEMBER:
                values["remark"] = "已核实"
            case Fault.LEVEL_4 if self._source.level_4:
                slip = {self._source.level_4: "GN-0000"}
                values |= self._plant(self.dataset, slip, subject.index, slot, now.edition)
            case Fault.CUT_LINE:
                return _json(values)[:-12]
        return _json(values)

    def _delete(self, subject: Subject, slot: int, held: State, now: State) -> None:
        """A delete line for the key that was told, with a version above every one of it."""
        values = self._held(subject, slot, held)
        named = {field: values[field] for field in (self.dataset.subject_field, *self.dataset.key)}
        if self.dataset.version is not None:
            version = values[self.dataset.version]
            later = now.at + timedelta(seconds=1)
            named[self.dataset.version] = later if isinstance(version, datetime) else version + 1
        self._put(_json({"delete": named}))
        self.count.delete()

    def _put(self, line: str) -> None:
        self._file.write(line + "\n")

    def close(self) -> None:
        self._later.close()
        self._file.close()


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=_wire)


def _wire(value: Any) -> str:
    """Dates and times in the JSON form that contracts define."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")
