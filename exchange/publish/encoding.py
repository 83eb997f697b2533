"""From a row to the bytes of a message: one spelling, the contract's check, Avro, framing, key, digest, headers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple

from exchange.contracts import Contract, frame
from exchange.errors import Rejected
from exchange.printable import shown
from exchange.publish.text import is_normal, normal, normal_value
from exchange.records import REJECT_LINE, REJECT_PAYLOAD, Message, Origin, Reject, canonical, headers_of, rfc3339
from exchange.subjects import KeyMaker, parse

DIGEST_BYTES = 16
_new = tuple.__new__  # a named tuple without the call of its own constructor
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNSAID = ("doc", "aliases", "default", "exchange")  # what can change in a schema without changing what bytes mean


class Encoded(NamedTuple):
    """A record as it goes into the topic. `digest` is equal for equal values under schemas that read bytes alike."""

    key: bytes
    value: bytes
    digest: bytes
    version: int | None
    event_time: datetime | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of whom a row speaks: the message key where all of it can be read, else the subject key alone."""

    subject_key: str
    message_key: bytes | None


class Encoder:
    """Encodes the values of one contract under one schema id."""

    def __init__(self, contract: Contract, keys: KeyMaker, schema_id: int) -> None:
        self.contract = contract
        self.schema_id = schema_id
        self._keys = keys
        self._shape = shape(contract.schema_text)
        self._sealed = frozenset(name for name, field in contract.fields.items() if field.level == 4)
        self._pack = contract.packer(is_normal)
        self._message_key = keys.message_keys(contract.scheme, contract.name)
        self._front = frame(schema_id, b"")

    def encode(self, value: Mapping[str, Any]) -> Encoded:
        """Check and encode native values. Raises Rejected, never with a value in it."""
        if self._pack is not None and type(value) is dict:
            try:
                identifier, record_key, version, event_time, datum = self._pack(value)
            except Exception:  # noqa: BLE001, S110  whatever is unusual, the plain way finds it and says what it is
                pass
            else:
                return _new(
                    Encoded,
                    (
                        self._message_key(identifier, record_key),
                        self._front + datum,
                        blake2b(self._shape + datum, digest_size=DIGEST_BYTES).digest(),
                        version,
                        event_time,
                    ),
                )
        return self.encode_plainly(value)

    def encode_plainly(self, value: Mapping[str, Any]) -> Encoded:
        """`encode` without the code that is made for the contract, which gives the same: its reference."""
        record = self.contract.check(normal_value(value))
        datum = self.contract.encode(record)
        return Encoded(
            key=self._keys.message_key(record.subject, self.contract.name, record.record_key),
            value=frame(self.schema_id, datum),
            digest=digest(self._shape, datum),
            version=record.version,
            event_time=record.event_time,
        )

    def identity(self, value: Mapping[str, Any]) -> Identity | None:
        """Whom a row speaks of that was rejected or asks for a deletion; None if not even the subject can be read."""
        subject_text = value.get(self.contract.subject_field)
        if not isinstance(subject_text, str | int) or isinstance(subject_text, bool):
            return None
        try:
            subject = parse(self.contract.scheme, normal(str(subject_text)))
        except Rejected:
            return None
        parts = [value.get(name) for name in self.contract.record_key]
        known = all(isinstance(part, str | int) and not isinstance(part, bool) and part != "" for part in parts)
        message_key = None
        if known:
            texts = [normal(str(part)) for part in parts]
            try:
                message_key = self._keys.message_key(subject, self.contract.name, texts)
            except UnicodeEncodeError:  # half of a surrogate pair: no record stands under such a key
                message_key = None
        return Identity(self._keys.subject(subject), message_key)

    def version(self, value: Mapping[str, Any]) -> int | None:
        """The version that the source gives a deletion, as Record.version would have it; None if it gives none."""
        name = self.contract.version_field
        found = None if name is None else value.get(name)
        if name is None or found is None:
            return None
        if isinstance(found, datetime):
            if found.tzinfo is None:
                return None
            unit = 1_000 if self.contract.fields[name].type == "timestamp-millis" else 1
            return (found - _EPOCH) // timedelta(microseconds=unit)
        if isinstance(found, date):
            return found.toordinal() - _EPOCH.toordinal()
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def payload(self, value: Mapping[str, Any], line: Any = None) -> str | None:
        """What the owner may see of a rejected row: JSON text, without level 4 fields; None if nothing can be shown.

        Of a row that could not be divided into fields (`line`) nothing is shown if the contract has a level 4 field.
        """
        if line is not None:
            shown: Any = None if self._sealed else line
        else:
            types = {name: field.type for name, field in self.contract.fields.items()}
            if self._sealed:  # a sealed value can stand under a wrong name, or inside a member that nobody knows
                value = {
                    name: part
                    for name, part in value.items()
                    if name in types and name not in self._sealed and not isinstance(part, Mapping | list)
                }
            shown = {name: form(part, types.get(name)) for name, part in value.items()}
        if shown is None:
            return None
        text = canonical(_printable(shown))
        return text if len(text) <= REJECT_PAYLOAD else None


class Stamp:
    """Makes the messages of one source in one epoch."""

    def __init__(self, encoder: Encoder, source: str, epoch: int) -> None:
        self._encoder = encoder
        self.source = source
        self.epoch = epoch
        self._source = f"{source}/{epoch}".encode("ascii")
        self._type = encoder.contract.topic.encode("ascii")

    def message(
        self, key: bytes, value: bytes | None, sequence: int, version: int | None, event_time: datetime
    ) -> Message:
        """A record, or a deletion (`value` None), with its headers."""
        headers = headers_of(self._source, sequence, self._type, event_time, version)
        return _new(Message, (key, value, headers))

    def reject(self, where: str, rejected: Rejected, payload: str | None, sequence: int, at: datetime) -> Reject:
        """A row that is set aside."""
        contract = self._encoder.contract
        return Reject(
            department=contract.department,
            contract=contract.name,
            place=_line(where),
            field=None if rejected.field is None else _line(rejected.field),
            reason=_line(rejected.reason),
            at=at,
            origin=Origin(self.source, self.epoch, sequence),
            schema_id=self._encoder.schema_id,
            payload=payload,
        )


def digest(*parts: bytes) -> bytes:
    """16 bytes that stand for these bytes in a cursor file."""
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def shape(schema_text: str) -> bytes:
    """What decides how a schema's bytes are read: its text without docs, aliases, defaults and `exchange`."""

    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: bare(inner) for name, inner in node.items() if name not in _UNSAID}
        if isinstance(node, list):
            return [bare(inner) for inner in node]
        return node

    return digest(canonical(bare(json.loads(schema_text))).encode("utf-8"))


def form(value: Any, type_: str | None = None) -> Any:
    """A native value in its JSON form (semantics, section 2), where no whole record can be shown.

    `type_` is the word of the contract's type: it tells a long (text) from an int (a number).
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value) if type_ == "long" or abs(value) >= 1 << 31 else value
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else rfc3339(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {str(name): form(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [form(inner) for inner in value]
    return value if isinstance(value, float) and isfinite(value) else str(value)


def _line(text: str) -> str:
    """A place, field or reason as a rejects topic takes it: a file's or a column's name can hold anything."""
    return shown(text)[:REJECT_LINE]


def _printable(value: Any) -> Any:
    """The value with half surrogate pairs replaced, which no UTF-8 has."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_printable(name): _printable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(inner) for inner in value]
    return value
