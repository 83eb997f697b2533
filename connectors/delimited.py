"""Records of a delimited text: cells with physical line and record number, or why a line is none.

A quotation mark that is never closed costs its own line only: the lines behind it are read again, each for itself. The
same goes for a record of several lines that does not have the columns of the header, because it may be several records
that a stray quotation mark has glued together.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from connectors.textfile import Line
from exchange.errors import Rejected

MOST_CHARACTERS = 131_072  # of one field, csv's own limit


class Place(NamedTuple):
    """A place between records: the offset of the next one, and the lines and records in front of it."""

    offset: int
    line: int
    number: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """How records are written; `quote` is None where nothing is quoted."""

    delimiter: str
    quote: str | None
    encoding: str


@dataclass(slots=True)
class Cells:
    """One record. `line` is the physical line on which it begins, `number` counts records, both from 1.

    `rejected` says why it is none; `text` is then the line as it stands, and `cells` are at best its first ones.
    `begin` and `end` are the offsets of its first byte and behind its last.
    """

    cells: Sequence[str]
    line: int
    number: int
    begin: int
    end: int
    rejected: Rejected | None = None
    text: str = ""


class Records:
    """The records of lines, each with as many cells as `width` (None: as the first record has)."""

    def __init__(self, lines: Iterator[Line], dialect: Dialect, start: Place) -> None:
        self.width: int | None = None
        self.line = start.line
        self.number = start.number
        self._end = start.offset
        self._lines = lines
        self._dialect = dialect
        self._taken: list[Line] = []
        self._back: deque[Line] = deque()
        self._reader = self._new_reader()

    def __iter__(self) -> Iterator[Cells]:
        taken = self._taken
        while True:
            taken.clear()
            first = self.line + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._broken(first, _explain(error, taken[0]))
                continue
            if not cells:  # an empty line is no record
                self._end = taken[-1].end
                continue
            if self.width is not None and len(cells) != self.width:
                yield self._ragged(first, cells)
            elif len(taken) == 1 and taken[0].bad is None:  # nearly every record
                self.number += 1
                begin = self._end
                self._end = end = taken[0].end
                yield Cells(cells, first, self.number, begin, end)
            else:
                yield self._whole(first, cells)

    def peek(self) -> Line | None:
        """The next physical line, without taking it."""
        if not self._back:
            line = next(self._lines, None)
            if line is None:
                return None
            self._back.append(line)
        return self._back[0]

    def drop(self) -> int:
        """Pass over the line that `peek` showed; the offset behind it."""
        self.line += 1
        self._end = self._back.popleft().end
        return self._end

    # -- inside --

    def _new_reader(self) -> Iterator[list[str]]:
        dialect = self._dialect
        if dialect.quote is None:
            return csv.reader(self._feed(), delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(self._feed(), delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)

    def _feed(self) -> Iterator[str]:
        back, taken, lines = self._back, self._taken, self._lines
        while True:
            line = back.popleft() if back else next(lines, None)
            if line is None:
                return
            self.line += 1
            taken.append(line)
            yield line.text

    def _whole(self, first: int, cells: list[str]) -> Cells:
        self.number += 1
        taken = self._taken
        bad = None
        for line in taken:
            if line.bad is not None:
                bad = line.bad
                break
        begin, self._end = self._end, taken[-1].end
        record = Cells(cells, first, self.number, begin, self._end)
        if bad is not None:
            record.rejected = Rejected(self._undecodable(bad))
            record.text = "".join(line.text for line in taken).rstrip("\r\n")
        return record

    def _ragged(self, first: int, cells: list[str]) -> Cells:
        reason = f"expected {self.width} values, found {len(cells)}"
        if len(self._taken) > 1:
            return self._broken(first, reason)
        record = self._whole(first, cells)
        if record.rejected is None:
            record.rejected = Rejected(reason)
            record.text = self._taken[0].text.rstrip("\r\n")
        return record

    def _broken(self, first: int, reason: str) -> Cells:
        """Reject the first line of what was taken, and read the others again."""
        line, rest = self._taken[0], self._taken[1:]
        self._back.extendleft(reversed(rest))
        self.line = first
        self.number += 1
        self._reader = self._new_reader()
        if line.bad is not None:
            reason = self._undecodable(line.bad)
        text = line.text.rstrip("\r\n")
        begin, self._end = self._end, line.end
        return Cells(text.split(self._dialect.delimiter), first, self.number, begin, line.end, Rejected(reason), text)

    def _undecodable(self, offset: int) -> str:
        return f"bytes that are no {self._dialect.encoding.upper()}, from byte {offset} of the file on"


def _explain(error: csv.Error, line: Line) -> str:
    text = str(error)
    if "field larger" in text and len(line.text) > MOST_CHARACTERS:
        return f"a value of more than {MOST_CHARACTERS} characters"
    if "field larger" in text or "unexpected end" in text:
        return "a quotation mark that is not closed"
    if "expected after" in text:
        return "a quotation mark in the middle of a value (one inside a quoted value is written twice)"
    return "the line cannot be divided into values"
