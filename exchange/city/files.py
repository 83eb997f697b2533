"""CSV: a snapshot in place of yesterday's, or what is new and changed in a file of its own or at the end of one."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from exchange.city import words
from exchange.city.life import Fault, State
from exchange.city.offices import CLASH, LATE, TWICE, Later, Office, Planting
from exchange.city.sources import Append, Dataset, Encoding, Snapshot, Values
from exchange.city.world import BEIJING, DAY_ZERO, Subject

_NO_TEXT = b"\xff\xff"  # neither UTF-8 nor GB 18030
_NO_DAY = "2026-02-30"


class _Layout(Protocol):
    @property
    def encoding(self) -> Encoding: ...

    @property
    def delimiter(self) -> str: ...


class _Lines:
    """Turns the rows of one dataset into lines of bytes."""

    def __init__(self, dataset: Dataset, source: _Layout) -> None:
        self._dataset = dataset
        # The mark at the start of a file is written once, by `header`.
        self._encoding = "utf-8" if source.encoding == "utf-8-sig" else source.encoding
        self._mark = b"\xef\xbb\xbf" if source.encoding == "utf-8-sig" else b""
        self._buffer = io.StringIO()
        end = "\r\n" if source.encoding == "gb18030" else "\n"
        self._writer = csv.writer(self._buffer, delimiter=source.delimiter, lineterminator=end)

    def header(self) -> bytes:
        return self._mark + self._line([column.header for column in self._dataset.columns])

    def row(self, values: Values, fault: Fault | None) -> bytes:
        """One line; with a fault, as a careless export leaves it."""
        cells = [column.text(values[column.field]) for column in self._dataset.columns]
        match fault:
            case Fault.SHORT_LINE:
                cells.pop()
            case Fault.LONG_LINE:
                cells.append("待核")
            case Fault.BAD_DAY:
                cells[self._place(self._dataset.dated)] = _NO_DAY
            case Fault.BAD_BYTES:
                marker = "\u0001"
                cells[1] = marker
                return self._line(cells).replace(marker.encode(), _NO_TEXT)
        return self._line(cells)

    def _place(self, field: str) -> int:
        return next(place for place, column in enumerate(self._dataset.columns) if column.field == field)

    def _line(self, cells: list[str]) -> bytes:
        self._writer.writerow(cells)
        line = self._buffer.getvalue().encode(self._encoding)
        self._buffer.seek(0)
        self._buffer.truncate()
        return line


class SnapshotOffice(Office):
    """The whole state, in one file or one for each district, each put in the place of the day before's at the end."""

    def __init__(self, dataset: Dataset, source: Snapshot, folder: Path, day: int, plant: Planting) -> None:
        super().__init__(dataset, day, plant)
        self._lines = _Lines(dataset, source)
        name = dataset.contract.partition(".")[2]
        names = [f"{name}-{code}.csv" for code, _ in words.DISTRICTS] if source.split else [f"{name}.csv"]
        self._paths = [folder / name for name in names]
        self._files: list[BinaryIO] = [_part(path).open("wb") for path in self._paths]
        self._later: Later[tuple[BinaryIO, bytes]] = Later(lambda item: _write(*item))
        for file in self._files:
            file.write(self._lines.header())

    def _write(self, subject: Subject, slot: int, before: State | None, now: State) -> None:
        self.count.gone += _left(before, now)
        if not now.present or now.deleted:
            return
        line = self._lines.row(self._held(subject, slot, now), now.fault)
        file = self._files[subject.index % len(self._files)]
        file.write(line)
        if now.rejected and now.fault is not None:
            self.count.reject(now.fault)
        elif before is not None and before.good and (before.edition, before.fault) == (now.edition, now.fault):
            self.count.keep()
        else:
            self.count.publish()
        if self._again(subject, slot, now, "twice", TWICE, 10):
            self.count.keep()
            self._later.add((file, line))
        elif self._again(subject, slot, now, "clash", CLASH, 3):
            self.count.reject("a second row of the same key differs")
            self._later.add((file, self._lines.row(self._other(subject, slot, now), None)))
        self._later.passed()

    def _other(self, subject: Subject, slot: int, now: State) -> Values:
        """The same key with another content."""
        other = State(now.present, now.deleted, now.fault, now.edition + 1, now.born, now.at)
        return self._held(subject, slot, other)

    def close(self) -> None:
        self._later.close()
        for path, file in zip(self._paths, self._files, strict=True):
            file.close()
            _part(path).replace(path)


class AppendOffice(Office):
    """What the day added: new rows and new editions, with some of the old ones once more behind them."""

    def __init__(self, dataset: Dataset, source: Append, folder: Path, day: int, plant: Planting) -> None:
        super().__init__(dataset, day, plant)
        self._source = source
        self._lines = _Lines(dataset, source)
        name = dataset.contract.partition(".")[2]
        delivered = (DAY_ZERO + timedelta(days=day)).astimezone(BEIJING).date()
        self._path = folder / (f"{name}.csv" if source.grows else f"{name}-{delivered}.csv")
        self._file: BinaryIO | None = None
        self._later: Later[bytes] = Later(self._put)

    def _write(self, subject: Subject, slot: int, before: State | None, now: State) -> None:
        if not now.present:
            return
        if before is not None and before.present and before.edition == now.edition:
            return
        line = self._lines.row(self._held(subject, slot, now), now.fault)
        self._put(line)
        if now.fault is not None:
            self.count.reject(now.fault)
        else:
            self.count.publish()
        if self._again(subject, slot, now, "twice", TWICE, 10):
            self.count.publish()
            self._later.add(line)
        elif before is not None and before.good and self._stale(subject, slot, before):
            self.count.publish()
            self._later.add(self._lines.row(self._held(subject, slot, before), None))
        self._later.passed()

    def _stale(self, subject: Subject, slot: int, before: State) -> bool:
        """Whether the earlier edition comes again behind the newer one; only a version tells that it is the older."""
        return self.dataset.version is not None and self._again(subject, slot, before, "stale", LATE, 200)

    def _put(self, line: bytes) -> None:
        if self._file is None:  # a day without rows leaves no file
            grown = self._source.grows and self.day > 0
            self._file = self._path.open("ab") if grown else _part(self._path).open("wb")
            if self._source.header and not grown:
                self._file.write(self._lines.header())
        self._file.write(line)

    def close(self) -> None:
        self._later.close()
        if self._file is not None:
            self._file.close()
            if _part(self._path).exists():
                _part(self._path).replace(self._path)


def _left(before: State | None, now: State) -> bool:
    """Whether a key that was published is no longer there: the row is gone, or its identifier was corrected."""
    return before is not None and before.good and (not now.good or (before.fault is not None and now.fault is None))


def _part(path: Path) -> Path:
    """Where a file grows until it is whole; no connector's pattern finds this name."""
    return path.with_name(f".{path.name}.part")


def _write(file: BinaryIO, line: bytes) -> None:
    file.write(line)
