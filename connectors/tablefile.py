"""One delimited file, open: its header fitted to the mapping, its records as rows in batches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from connectors.append import Beginning
from connectors.delimited import Cells, Dialect, Place, Records
from connectors.files import Found
from connectors.mapping import Columns, FieldMapping, same_name
from connectors.textfile import Survey, lines
from exchange.errors import Rejected, SourceRefused
from exchange.publish import Row, Unread
from exchange.publish.encoding import digest

_SEPARATOR = re.compile(r"\ufeff*\"?sep=(.)\"?[\r\n]*", re.IGNORECASE)
_WIDTH_SAMPLE = 200  # records from which the number of columns is taken where no header says it


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is divided: `quote` is None where nothing is quoted; `skip` counts lines in front of the header."""

    delimiter: str
    quote: str | None
    header: bool
    skip: int
    batch: int
    read_by: bytes = b""  # what decides how a record becomes a row; given for a snapshot, whose rows may be known


class TableFile:
    """A file that is being read, from its beginning or from where it ended. Close it.

    Raises SourceRefused, before any row, if there is no header, a column is missing, or a name stands for two columns;
    files.Changed.
    """

    def __init__(
        self, file: Found, survey: Survey, form: Form, mapping: FieldMapping, start: Beginning | None = None
    ) -> None:
        self.file = file
        self.modified = file.modified
        self._survey = survey
        self.read_by = form.read_by
        self._form = form
        self._start = start
        self._encoding = start.encoding if start is not None and start.encoding else survey.encoding
        self._handle = file.open()
        try:
            self._header, self._columns, place = self._open(mapping)
            if start is not None:
                place = self._resume(start)
        except BaseException:
            self._handle.close()
            raise
        self._last_name = self._header[-1] if self._header else None
        self.offset = place.offset
        self._last = place  # in front of the record that was read last
        self._records = self._new_records(place)
        self._records.width = self._width
        self._root = start.root if start is not None else survey.digest

    def summary(self) -> str:
        """What was found, for `check`."""
        named = "columns by position" if self._header is None else f"{self._width} columns"
        return f"{self._encoding}, {named}, {len(self._columns.bound)} fields mapped"

    def batches(self) -> Iterator[list[Row | Unread]]:
        """The rows, so many at a time; `offset` and `reached` stand behind the batch that was given last."""
        size, make = self._form.batch, self._row
        rows: list[Row | Unread] = []
        record = None
        for record in self._records:
            rows.append(make(record))
            if len(rows) == size:
                self._read_to(record)
                yield rows
                rows = []
        if record is not None:
            self._read_to(record)
        self.offset = self._survey.size
        if rows:
            yield rows

    def reached(self) -> Beginning:
        """How far the file was read."""
        whole = self.offset == self._survey.size
        return Beginning(
            digest=self._survey.digest,
            size=self._survey.size,
            offset=self.offset,
            line=self._records.line,
            number=self._records.number,
            root=self._root,
            encoding="" if self._survey.ascii else self._encoding,
            tail=self._last if whole and not self._survey.closed else None,
        )

    def unchanged(self) -> None:
        """Raise files.Changed if the file is not what it was when it was opened."""
        self.file.unchanged(self._handle)

    def close(self) -> None:
        self._handle.close()

    # -- opening --

    def _open(self, mapping: FieldMapping) -> tuple[list[str] | None, Columns, Place]:
        """Header, columns, and the place of the first record."""
        name, form = self.file.name, self._form
        records = self._new_records(Place(self._survey.start, 0, 0))
        offset = self._survey.start
        first = records.peek()
        found = _SEPARATOR.fullmatch(first.text) if first is not None else None
        if found is not None:
            if found[1] != form.delimiter:
                raise SourceRefused(f"{name}: its first line names another separator than `delimiter`: set it")
            offset = records.drop()
        for _ in range(form.skip):
            if records.peek() is not None:
                offset = records.drop()
        line = records.line
        if not form.header:
            widths = Counter(len(record.cells) for record in islice(records, _WIDTH_SAMPLE) if record.rejected is None)
            self._width = widths.most_common(1)[0][0] if widths else 0
            return None, mapping.bind(None, self._width or 10_000, name), Place(offset, line, 0)
        header = next(iter(records), None)
        if header is None:
            raise SourceRefused(f"{name}: the file is empty; a header line is expected")
        if header.rejected is not None:
            raise SourceRefused(f"{name}: the header line: {header.rejected.reason}")
        self._width = len(header.cells)
        names = [cell.strip("\ufeff") for cell in header.cells]
        return names, mapping.bind(names, self._width, name), Place(header.end, records.line, 0)

    def _resume(self, start: Beginning) -> Place:
        """The place of the record to go on with."""
        if start.offset < start.size or start.tail is None:
            return Place(start.offset, start.line, start.number)
        self._handle.seek(start.size)
        if self._handle.read(1) in (b"\n", b"\r"):  # only the line end of the last record was missing
            return Place(start.offset, start.line - 1, start.number)
        return start.tail

    def _new_records(self, place: Place) -> Records:
        dialect = Dialect(self._form.delimiter, self._form.quote, self._encoding)
        return Records(lines(self._handle, self._encoding, place.offset, self.file.name), dialect, place)

    def _read_to(self, record: Cells) -> None:
        self._last = Place(record.begin, record.line - 1, record.number - 1)
        self.offset = record.end

    # -- rows --

    def _row(self, record: Cells) -> Row | Unread:
        cells, columns, modified = record.cells, self._columns, self.modified
        if record.rejected is not None:
            value, place = columns.keys(cells), self._place(record)
            return Row(value, self._where(record), place, record.rejected, event_time=modified, line=record.text)
        if cells[0][:1] == "\ufeff":  # where two exports were joined
            record.cells = cells = [cells[0].lstrip("\ufeff"), *cells[1:]]
        if cells[-1] == self._last_name and self._is_header(cells):
            rejected = Rejected("a second header line in the middle of the file")
            return Row({}, self._where(record), self._place(record), rejected, event_time=modified, line=list(cells))
        if columns.may_delete and columns.deleted(cells):
            value, place = columns.remains(cells), self._place(record)
            return Row(value, self._where(record), place, deleted=True, event_time=modified)
        return _Record(record, self) if self.read_by else self.read(record, self._place(record))

    def _is_header(self, cells: Sequence[str]) -> bool:
        return self._header is not None and [*map(same_name, cells)] == [*map(same_name, self._header)]

    def _place(self, record: Cells) -> str:
        return f"{self._root}:{record.line}"

    def _where(self, record: Cells) -> str:
        return f"{self.file.name} line {record.line} (record {record.number})"

    def read(self, record: Cells, place: str = "", raw: bytes | None = None) -> Row:
        """A record as a row, which it was seen to be."""
        bad = None
        try:
            value = self._columns.read(record.cells)
        except Rejected as rejected:
            bad, value = rejected.kept(), self._columns.remains(record.cells)
        return Row(value, self._where(record), place, bad, False, self.modified, None, raw)

    def value(self, record: Cells) -> dict[str, Any]:
        """The value of a record's row. Raises Rejected if it cannot be read."""
        return self._columns.read(record.cells)

    def keys(self, record: Cells) -> Mapping[str, Any]:
        """The fields of subject and record key."""
        return self._columns.keys(record.cells)


class _Record:
    """A record of a snapshot that was not converted yet (exchange.publish.Unread)."""

    __slots__ = ("_record", "_table", "event_time", "raw")

    def __init__(self, record: Cells, table: TableFile) -> None:
        self._record = record
        self._table = table
        self.event_time = table.modified
        self.raw = digest(table.read_by, "\x1f".join(record.cells).encode("utf-8", "surrogateescape"))

    def keys(self) -> Mapping[str, Any]:
        return self._table.keys(self._record)

    def value(self) -> dict[str, Any]:
        return self._table.value(self._record)

    def read(self) -> Row:
        return self._table.read(self._record, "", self.raw)
