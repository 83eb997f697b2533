"""From a source's columns to a contract's fields: which column, and how it is read.

A field that the instance file does not mention is read from the column of its own name. A field of level 4 is never
read: it stays at its department.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from connectors.config import DeletedWhen, FieldSettings, Instance
from connectors.values import MARKS, Converter, constant, converter
from exchange.contracts import Contract, Field
from exchange.errors import Rejected, SettingWrong, SourceRefused

SEALED = 4
_INVISIBLE = dict.fromkeys(
    map(ord, "\ufeff\u200b\u200c\u200d\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
)


def same_name(column: str) -> str:
    """A column's name as names are compared: without blanks and invisible characters around it, case and width."""
    return unicodedata.normalize("NFKC", column.translate(_INVISIBLE)).strip().casefold()


class FieldMapping:
    """The mapping of one instance to one contract. `bind` fits it to the columns that a source really has.

    Raises SettingWrong if the mapping names a field that the contract does not have, or a setting does not fit.
    """

    def __init__(self, settings: Instance, contract: Contract) -> None:
        unknown = sorted(set(settings.mapping) - set(contract.fields))
        if unknown:
            raise SettingWrong(f"mapping.{unknown[0]}: {contract.name} has no such field")
        self.contract = contract
        self.sealed = [name for name in settings.mapping if contract.fields[name].level == SEALED]
        self._deleted_when = settings.deleted_when
        self._columns: list[tuple[Field, FieldSettings, bool, Converter]] = []  # with whether the file names the column
        self._constants: dict[str, Any] = {}
        for field in contract.fields.values():
            if field.level == SEALED:
                continue
            said = settings.field_settings(field.name)
            if said is not None and said.value is not None:
                self._constants[field.name] = constant(field, said, settings, contract)
            else:
                asked = said or FieldSettings(column=field.name)
                self._columns.append((field, asked, said is not None, converter(field, asked, settings, contract)))

    @property
    def names(self) -> list[str]:
        """The columns that the instance file asks for by name."""
        named = [said.column for _, said, mentioned, _ in self._columns if mentioned]
        named += [self._deleted_when.column] if self._deleted_when else []
        return [column for column in named if isinstance(column, str)]

    def bind(self, header: Sequence[str] | None, width: int, where: str) -> Columns:
        """The mapping for a source with these columns; `header` is None where columns have no names.

        Raises SourceRefused, naming column and positions, if a column is missing or a name stands for two columns.
        """
        finder = _Finder(header, width, where)
        fields: list[tuple[str, int, Converter]] = []
        for field, said, mentioned, convert in self._columns:
            at = finder.find(said.column, optional=not mentioned)
            if at is not None:
                fields.append((field.name, at, convert))
            elif self.contract.record_node.member(field.name).absent is None:
                raise SourceRefused(
                    f"{where}: no column for the field {field.name}; name its column in [mapping], or give its position"
                )
        deleted = None
        if self._deleted_when is not None:
            at = finder.find(self._deleted_when.column, optional=False)
            deleted = (at if at is not None else 0, self._deleted_when)
        return Columns(fields, self._constants, deleted, self.contract)


class Columns:
    """A mapping that is fitted to columns: reads one row after another."""

    def __init__(
        self,
        fields: Sequence[tuple[str, int, Converter]],
        constants: dict[str, Any],
        deleted: tuple[int, DeletedWhen] | None,
        contract: Contract,
    ) -> None:
        self._fields = fields
        self._constants = constants
        self._deleted = deleted
        self._marks = frozenset() if deleted is None else frozenset(map(_mark, deleted[1].values))
        self._contract = contract
        keys = {contract.subject_field, *contract.record_key}
        self._key_fields = [each for each in fields if each[0] in keys]
        self._key_constants = {name: value for name, value in constants.items() if name in keys}
        self.bound = [(name, at) for name, at, _ in fields]
        self.may_delete = deleted is not None

    @property
    def used(self) -> list[int]:
        """The indexes of all columns that are read."""
        return [at for _, at, _ in self._fields] + ([] if self._deleted is None else [self._deleted[0]])

    def moved(self, places: Mapping[int, int]) -> Columns:
        """The same mapping for rows that have only some of the columns, by their new indexes."""
        deleted = None if self._deleted is None else (places[self._deleted[0]], self._deleted[1])
        fields = [(name, places[at], convert) for name, at, convert in self._fields]
        return Columns(fields, self._constants, deleted, self._contract)

    def read(self, cells: Sequence[Any]) -> dict[str, Any]:
        """The native values of a row, by field. Raises Rejected naming the field; see `remains`."""
        try:
            return self._made(cells)
        except Exception:  # noqa: BLE001  whatever is wrong, the plain way finds it and says where
            return self.read_plainly(cells)

    def read_plainly(self, cells: Sequence[Any]) -> dict[str, Any]:
        """`read` without the code that is made for the mapping, which gives the same: its reference."""
        value = self._constants.copy()
        name = ""
        try:
            for name, at, convert in self._fields:
                value[name] = convert.read(cells[at])
        except Rejected as rejected:
            raise Rejected(rejected.reason, rejected.field or name) from None
        return value

    def remains(self, cells: Sequence[Any]) -> dict[str, Any]:
        """What can be read of a rejected row: native values, and as they stand those that cannot be converted."""
        return self._constants | self._remains(cells, self._fields)

    def keys(self, cells: Sequence[Any]) -> dict[str, Any]:
        """The fields of subject and record key alone, as far as the row has them; as they stand if need be."""
        return self._key_constants | self._remains(cells, self._key_fields)

    @cached_property
    def _made(self) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Code for this mapping: what `read_plainly` does, without a call for each column of text.

        It raises any exception for what the other has to judge.
        """
        bound: dict[str, Any] = {"marks": MARKS}
        lines, members = [], []
        for number, (name, value) in enumerate(self._constants.items()):
            bound[f"c{number}"] = value
            members.append(f"{name!r}: c{number}")
        for number, (name, at, convert) in enumerate(self._fields):
            bound |= {f"read{number}": convert.read, f"nulls{number}": convert.nulls, f"typed{number}": convert.typed}
            members.append(f"{name!r}: v{number}")
            if not convert.direct:
                lines.append(f"v{number} = read{number}(cells[{at}])")
                continue
            trim, typed = (
                ".strip()" if convert.trim else "",
                "text" if convert.typed is None else f"typed{number}(text)",
            )
            lines += [
                f"text = cells[{at}]",
                f"if type(text) is not str: v{number} = read{number}(text)",
                "else:",
                f"    text = text{trim}",
                f"    if text and text[0] in marks: v{number} = read{number}(text)",
                f"    elif text in nulls{number}: v{number} = None",
                f"    else: v{number} = {typed}",
            ]
        source = "\n    ".join(["def read(cells):", *lines, f"return {{{', '.join(members)}}}"])
        exec(compile(source, "<mapping>", "exec"), bound)  # noqa: S102 made of checked names and our own lines
        made: Callable[[Sequence[Any]], dict[str, Any]] = bound["read"]
        return made

    @staticmethod
    def _remains(cells: Sequence[Any], fields: Sequence[tuple[str, int, Converter]]) -> dict[str, Any]:
        value = {}
        for name, at, convert in fields:
            if at >= len(cells):
                continue
            try:
                value[name] = convert.read(cells[at])
            except Rejected:
                value[name] = cells[at]
        return value

    def deleted(self, cells: Sequence[Any]) -> bool:
        """Whether the source marks the row as deleted."""
        if self._deleted is None:
            return False
        given = cells[self._deleted[0]]
        if self._marks:
            return _mark(given) in self._marks
        return given is not None and (not isinstance(given, str) or bool(given.strip()))


class _Finder:
    """Finds columns by name or position."""

    def __init__(self, header: Sequence[str] | None, width: int, where: str) -> None:
        self._width = width
        self._where = where
        self._positions: dict[str, list[int]] | None = None
        if header is not None:
            self._positions = {}
            for index, column in enumerate(header):
                self._positions.setdefault(same_name(column), []).append(index)

    def find(self, column: str | int | None, *, optional: bool) -> int | None:
        if isinstance(column, int):
            if column > self._width:
                raise SourceRefused(f"{self._where}: there is no column {column}; the source has {self._width}")
            return column - 1
        if column is None or self._positions is None:
            if optional:
                return None
            raise SettingWrong(f"{self._where}: without a header, columns are mapped by position: {column} = <number>")
        found = self._positions.get(same_name(column), [])
        if len(found) > 1:
            places = " and ".join(str(index + 1) for index in found)
            raise SourceRefused(
                f"{self._where}: the column {column} stands at positions {places}; map the field by the position of one"
            )
        if not found and not optional:
            raise SourceRefused(f"{self._where}: there is no column {column}")
        return found[0] if found else None


def _mark(given: Any) -> str:
    """A value as a mark is compared: its text without blanks, true and 1 alike."""
    if isinstance(given, bool):
        return "1" if given else "0"
    text = str(given).strip()
    return {"true": "1", "false": "0"}.get(text.lower(), text)
