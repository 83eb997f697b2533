"""csv: delimited text files, as departments export them.

Options: CsvSettings below; docs/connectors.md explains each with an example.

    name = "person"                       [mapping]
    connector = "csv"                     citizen_id = "身份证号"
    contract = "civil.person"             name = 2
    path = "in/people-*.csv"              status = { column = "状态", values = { "有效" = "active" } }
    files = "newest"
    mode = "snapshot"

Behaviour: a snapshot is read whole when its bytes are not those of the one applied last; rows it no longer has are
deleted. In append mode a file is known by its content: one that is known goes on where it ended, and nothing is read
twice. A file that still grows waits. Nothing is moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from importlib.metadata import version
from typing import ClassVar, Literal

from pydantic import Field

from connectors.append import Known
from connectors.config import Duration, Instance
from connectors.files import Changed, Files, Found
from connectors.mapping import FieldMapping
from connectors.protocol import Finding, Means, NotReady, Weight
from connectors.tablefile import Form, TableFile
from exchange.contracts import Contract
from exchange.errors import SettingWrong, SourceRefused
from exchange.publish import Batch, End, Keeps
from exchange.publish.encoding import digest

SNAPSHOT = "snapshot"  # the position's name for the digest of the snapshot that was applied last
# What decides how bytes become rows: where one of these changes, known bytes are new.
_READ_BY = {
    "mapping", "formats", "null_values", "empty", "trim", "timezone", "deleted_when",
    "encoding", "delimiter", "quote", "header", "skip_lines",
}  # fmt: skip


class CsvSettings(Instance):
    """The settings of a csv instance."""

    path: str = Field(min_length=1)
    """a file, or a pattern with `*`, `?`, `[..]`"""
    files: Literal["all", "newest"] = "all"
    """of the files that the pattern means: `all` together, or the `newest` (by time of modification)"""
    mode: Literal["snapshot", "append"] = "snapshot"
    """`snapshot`: the files are the whole state, what is missing is deleted. `append`: they are additions"""
    encoding: Literal["auto", "utf-8", "gb18030", "gbk", "gb2312"] = "auto"
    """`auto`, `utf-8`, `gb18030` (`gbk` and `gb2312` mean the same). `auto` looks at the whole file before the first
    row"""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """one character; `"\\t"` for tabs"""
    quote: str = Field(default='"', max_length=1)
    """around values that hold the delimiter or a line break; `""` if nothing is quoted"""
    header: bool = True
    """whether the first line names the columns; if not, columns are mapped by position"""
    skip_lines: int = Field(default=0, ge=0, le=10_000)
    """lines of prose in front of the header"""
    settle: Duration = timedelta(seconds=2)
    """a file is read once size and time of modification have been the same for so long"""

    @property
    def codec(self) -> str:
        """`auto`, or the name of a codec; GBK and GB2312 are parts of GB18030."""
        return "gb18030" if self.encoding in ("gbk", "gb2312") else self.encoding


class CsvConnector:
    """Reads delimited text files."""

    Settings: ClassVar[type[Instance]] = CsvSettings

    def __init__(self, settings: CsvSettings, contract: Contract, means: Means) -> None:
        self._settings = settings
        self._mapping = FieldMapping(settings, contract)
        self._files = Files(means.root / settings.path, settings.settle, means.clock)
        if not settings.header and self._mapping.names:
            raise SettingWrong(
                f"mapping: without a header columns have positions, not names ({self._mapping.names[0]})"
            )
        read_by = (settings.model_dump_json(include=_READ_BY), contract.schema_text, version("exchange-bus"))
        self._read_by = digest(*[text.encode("utf-8") for text in read_by])
        self._form = Form(
            settings.delimiter,
            settings.quote or None,
            settings.header,
            settings.skip_lines,
            settings.batch_size,
            self._read_by if self.keeps is Keeps.KEYS else b"",
        )

    @property
    def keeps(self) -> Keeps:
        return Keeps.KEYS if self._settings.mode == "snapshot" else Keeps.FLIGHT

    def check(self) -> Sequence[Finding]:
        """Header and encoding of each file, without reading the rows."""
        findings = [
            Finding(Weight.NOTE, name, "a level 4 field stays at its department; its column is not read")
            for name in self._mapping.sealed
        ]
        found = self._chosen()
        if not found:
            findings.append(Finding(Weight.NOTE, self._settings.path, "no file of this name is there yet"))
        for file in found:
            try:
                survey = self._files.survey(file, self._settings.codec)
                with closing(TableFile(file, survey, self._form, self._mapping)) as opened:
                    findings.append(Finding(Weight.NOTE, file.name, opened.summary()))
            except SourceRefused as refused:
                findings.append(Finding(Weight.REFUSED, file.name, refused.detail))
            except Changed:
                findings.append(Finding(Weight.NOTE, file.name, "the file is being written"))
        return findings

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        """One reading of all files that the pattern means."""
        found, settle = self._chosen(), self._settings.settle
        if not found:
            raise NotReady(f"no file {self._settings.path} is there yet")
        if not self._files.at_rest(found):
            raise NotReady(f"a file of {self._settings.path} still grows", again=settle)
        try:
            yield from self._snapshot(found, position) if self.keeps is Keeps.KEYS else self._append(found, position)
        except Changed as changed:
            raise NotReady(f"{changed} changed while it was read; it is read again", again=settle) from None

    def ack(self, position: Mapping[str, str | None]) -> None:
        """Nothing: files are left as they are."""

    def close(self) -> None:
        """Nothing is held open between readings."""

    # -- inside --

    def _chosen(self) -> list[Found]:
        found = self._files.find()
        if self._settings.files == "newest" and found:
            return [max(found, key=lambda file: (file.modified, file.name))]
        return found

    def _snapshot(self, found: Sequence[Found], position: Mapping[str, str]) -> Iterator[Batch]:
        surveys = [self._files.survey(file, self._settings.codec) for file in found]
        as_of = min(file.modified for file in found)
        applied = digest(self._read_by, *(survey.digest.encode() for survey in surveys)).hex()
        if position.get(SNAPSHOT) == applied:
            yield Batch((), end=End(as_of), notes=("nothing new: these are the bytes of the snapshot applied last",))
            return
        with ExitStack() as stack:
            # All headers first: a file that is refused is refused before any row of any file.
            opened = [
                stack.enter_context(closing(TableFile(file, survey, self._form, self._mapping)))
                for file, survey in zip(found, surveys, strict=True)
            ]
            total, done = sum(file.size for file in found) or 1, 0
            for table in opened:
                for rows in table.batches():
                    yield Batch(rows, progress=(done + table.offset) / total)
                done += table.file.size
            for table in opened:
                table.unchanged()
        yield Batch((), {SNAPSHOT: applied}, End(as_of, whole=True), progress=1.0)

    def _append(self, found: Sequence[Found], position: Mapping[str, str]) -> Iterator[Batch]:
        known, nothing_new = Known(position), True
        for file in found:
            survey = self._files.survey(file, self._settings.codec)
            start = known.beginning(file, survey)
            if start is not None and start.offset == survey.size:
                continue
            nothing_new = False
            with closing(TableFile(file, survey, self._form, self._mapping, start)) as table:
                for rows in table.batches():
                    yield Batch(rows, known.moved(start, table.reached()), progress=table.offset / survey.size)
                table.unchanged()
                yield Batch((), known.moved(start, table.reached()), notes=(f"{file.name} was read to its end",))
        notes = ("nothing new: every file is known by its content",) if nothing_new else ()
        yield Batch((), end=End(max(file.modified for file in found)), progress=1.0, notes=notes)
