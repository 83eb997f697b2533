"""The values of an inbox: from bytes that anybody may have written to the columns of a mapping."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal

from connectors.mapping import Columns, FieldMapping
from exchange.contracts import MAX_VALUE_BYTES, Shape, unframe
from exchange.errors import ContractRefused, Rejected, SourceRefused, UnknownSchema
from exchange.registry import Registry

KNOWN = 1_000  # schemas and sets of names that are remembered
LONGEST = 10_000  # characters of a set of names that is
LONGEST_NUMBER, MAGNITUDE = 1_000, 400  # characters of a number, and its powers of ten: doubles end at 308
UNKNOWN_SECONDS = 10.0  # an id that the registry does not know is not asked for again for so long


class Messages:
    """Reads the messages of one inbox: each schema, and each set of names, is fitted to the contract once."""

    def __init__(
        self,
        mapping: FieldMapping,
        form: Literal["avro", "json"],
        registry: Callable[[], Registry],
        topic: str,
        heartbeat: str | None = None,
    ) -> None:
        self._mapping = mapping
        self._heartbeat = None if heartbeat is None else (heartbeat,)
        self._registry = registry
        self._topic = topic
        self._read = self._avro if form == "avro" else self._json
        self._shapes: dict[int, tuple[Shape, Columns | None] | Rejected] = {}
        self._unknown: dict[int, float] = {}  # until when it need not be asked again
        self._columns: dict[tuple[str, ...], Columns | Rejected] = {}

    @property
    def sealed(self) -> Sequence[str]:
        """The level 4 fields that the mapping names."""
        return self._mapping.sealed

    def fitted(self, text: str) -> Sequence[str]:
        """The fields of the contract that records of this schema give. Raises ContractRefused, Rejected."""
        columns = self._bound(Shape.from_text(text).fields)
        return [] if columns is None else [name for name, _ in columns.bound]

    def read(self, value: bytes | None) -> tuple[Columns | None, Sequence[Any]]:
        """The mapping for this message, None for a heartbeat, and its cells. Raises Rejected; RegistryUnavailable."""
        if value is None:
            raise Rejected("a message without a value names nobody; say deletions by a field (`deleted_when`)")
        return self._read(value)

    def _avro(self, value: bytes) -> tuple[Columns | None, Sequence[Any]]:
        schema_id, datum = unframe(value)
        found = self._shapes.get(schema_id) or self._learn(schema_id)
        if isinstance(found, Rejected):
            raise Rejected(found.reason, found.field)
        shape, columns = found
        return columns, shape.cells(datum)

    def _learn(self, schema_id: int) -> tuple[Shape, Columns | None] | Rejected:
        found: tuple[Shape, Columns | None] | Rejected
        unknown = Rejected(f"the registry does not know its schema id {schema_id}")
        if time.monotonic() < self._unknown.get(schema_id, 0.0):
            return unknown
        try:
            shape = Shape.from_text(self._registry().schema(schema_id))
            found = shape, self._bound(shape.fields)
        except UnknownSchema:  # it may tomorrow
            if len(self._unknown) >= KNOWN:
                self._unknown.clear()
            self._unknown[schema_id] = time.monotonic() + UNKNOWN_SECONDS
            return unknown
        except ContractRefused as refused:
            found = Rejected(f"records of schema id {schema_id} are not taken: {refused.detail}")
        except Rejected as rejected:
            found = rejected.kept()
        if len(self._shapes) >= KNOWN:
            self._shapes.clear()
        self._shapes[schema_id] = found
        return found

    def _json(self, value: bytes) -> tuple[Columns | None, Sequence[Any]]:
        if len(value) > MAX_VALUE_BYTES:
            raise Rejected(f"the value has more than {MAX_VALUE_BYTES} bytes")
        try:
            form = json.loads(
                value.decode("utf-8"), parse_float=_decimal, parse_constant=_no_number, object_pairs_hook=_members
            )
            cells = [_inner(cell) for cell in form.values()] if isinstance(form, dict) else []
        except (ValueError, RecursionError):
            raise Rejected("one JSON object in UTF-8 is expected, no member twice and no NaN") from None
        if not isinstance(form, dict):
            raise Rejected("a JSON object is expected")
        return self._bound(tuple(form)), cells

    def _bound(self, names: tuple[str, ...]) -> Columns | None:
        """The mapping for these names; None if they are a heartbeat's. Raises Rejected."""
        if names == self._heartbeat:
            return None
        found = self._columns.get(names)
        if found is None:
            try:
                found = self._mapping.bind(names, len(names), "the message")
            except SourceRefused as refused:
                found = Rejected(refused.detail)
            if len(self._columns) >= KNOWN:
                self._columns.clear()
            if sum(map(len, names)) <= LONGEST:
                self._columns[names] = found
        if isinstance(found, Rejected):
            raise Rejected(found.reason, found.field)
        return found


def _decimal(text: str) -> Decimal:
    """A number with all its digits; none that would be a text of thousands of them."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise ValueError("no number") from None
    if len(text) > LONGEST_NUMBER or not (number.is_zero() or -MAGNITUDE < number.adjusted() < MAGNITUDE):
        raise ValueError("a number out of all bounds")
    return number


def _no_number(word: str) -> None:
    raise ValueError(word)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _inner(cell: Any) -> Any:
    """A value as a mapping takes it: of lists and objects the numbers are plain, as their JSON form has them."""
    return json.loads(json.dumps(cell, default=float)) if isinstance(cell, dict | list) else cell
