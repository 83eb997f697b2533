"""A contract: one dataset's promise, compiled once, and the only maker of a Record."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import fastavro
import orjson

from exchange.contracts.compatibility import breaks
from exchange.contracts.compiled import Unpack, Unpacked, unpacker
from exchange.contracts.containers import Member, RecordNode
from exchange.contracts.logical import Day, Timestamp
from exchange.contracts.node import within
from exchange.contracts.nullable import Nullable, Sealed
from exchange.contracts.packing import Packer, packer
from exchange.contracts.problems import Problems, read_json
from exchange.contracts.schema import FIELD_NAME, MAX_NAME, read_record
from exchange.contracts.terms import SEALED_LEVEL, Sharing, Terms, read_terms
from exchange.contracts.wire import MAX_DATUM_BYTES, MAX_VALUES, Budget
from exchange.errors import ContractRefused, InvalidIdentifier, Rejected
from exchange.records import Record, canonical
from exchange.subjects import Kind, Subject, parse


@dataclass(frozen=True, slots=True)
class Field:
    """A field at the top of a contract's record.

    `type` is the word of its type without nullability: boolean, int, long, float, double, string, bytes, enum, decimal,
    uuid, date, time-millis, time-micros, timestamp-millis, timestamp-micros, record, array, map. `level` is 1 (public)
    to 4 (never leaves the department).
    """

    name: str
    aliases: tuple[str, ...]
    level: int
    concept: str | None
    leads: bool
    doc: str
    type: str
    nullable: bool


@dataclass(frozen=True, eq=False, slots=True)
class Contract:
    """One dataset of one department, in one major. Contracts are equal if their normalised texts are.

    `name` is `<department>.<dataset>`, `title` by language (`zh-CN`, `en`), `cycle` how often the owner promises to
    tell all; `record_key` names the fields that tell two records about one subject apart. `schema_text` is the whole
    schema, `exchange` property included, with sorted members and no blanks: whatever changes in it is a new version.
    """

    name: str
    department: str
    dataset: str
    major: int
    owner: str
    title: Mapping[str, str]
    kind: Kind
    scheme: str
    subject_field: str
    record_key: tuple[str, ...]
    sharing: Sharing
    reason: str | None
    cycle: timedelta | None
    version_field: str | None
    event_time_field: str | None
    fields: Mapping[str, Field]
    schema_text: str = field(repr=False)
    record_node: RecordNode = field(repr=False)
    _version: Callable[[Any], int] = field(repr=False)  # the version field's value as a number
    _unpacker: Callable[[], Unpack | None] = field(repr=False)  # makes the fast way, once
    _packer: Callable[[Callable[[str], bool]], Packer | None] = field(repr=False)
    _writer: Any = field(repr=False)  # the schema as fastavro keeps it

    @classmethod
    def from_text(cls, text: str) -> Contract:
        """The contract that a schema's text holds. Raises ContractRefused: every reason with its path, one a line."""
        problems = Problems()
        schema = read_json(text, problems)
        contract = None if problems else _build(schema, problems)
        if contract is None:
            raise ContractRefused("\n".join(problems))
        return contract

    @property
    def topic(self) -> str:
        """`<department>.<dataset>.v<major>`. A withheld contract has the name, never the topic."""
        return f"{self.name}.v{self.major}"

    @property
    def registry_subject(self) -> str:
        """The registry's name for the schemas of the topic's values."""
        return f"{self.topic}-value"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contract) and self.schema_text == other.schema_text

    def __hash__(self) -> int:
        return hash(self.schema_text)

    def check(self, value: Mapping[str, Any]) -> Record:
        """The record that `value` is: native Python values, by the fields' names.

        Strict: no member is unknown, or missing without a default; nothing is coerced (a bool is no int, an int no
        text) and nothing rounded (1.100 is 1.10 under scale 2, 1.105 is rejected); times have a zone; text has no NUL
        and no lone surrogate; a level 4 field is not there; the subject's identifier passes its scheme. The record
        holds normal forms: identifiers in capitals, times in UTC, decimals with their scale.

        Raises Rejected with the field and the reason, never the value.
        """
        self._takes_records()
        checked = self.record_node.check(value)
        if self.record_node.unfolds and self.record_node.surplus(checked) > MAX_VALUES:
            raise Rejected(f"more than {MAX_VALUES} values in one record")
        return self._record(checked)

    def encode(self, record: Record) -> bytes:
        """The record as an Avro datum, without framing. Raises Rejected if the framed value would exceed 1 MiB."""
        datum = io.BytesIO()
        fastavro.schemaless_writer(datum, self._writer, record.value)
        if datum.tell() > MAX_DATUM_BYTES:
            raise Rejected("the record takes more than 1 MiB")
        return datum.getvalue()

    def packer(self, is_normal: Callable[[str], bool]) -> Packer | None:
        """What `check` and `encode` give, in one pass, for values whose texts are `is_normal`; see contracts.packing.

        None where no code is made for this schema. What the function does not take, for whatever reason, it raises:
        `check` and `encode` have the last word on it.
        """
        return self._packer(is_normal)

    def decode(self, datum: bytes) -> Record:
        """The record that a datum of this very schema holds. The bytes may come from anybody.

        All that `check` promises holds for it. Raises Rejected with the field and the reason before memory grows, for
        bytes left over as for bytes that are missing.
        """
        self._takes_records()
        if len(datum) > MAX_DATUM_BYTES:
            raise Rejected("the record takes more than 1 MiB")
        value, end = self.record_node.read(datum, 0, Budget())
        if end != len(datum):
            raise Rejected("bytes are left over behind the record")
        return self._record(value)

    def unpack(self, datum: bytes) -> Unpacked:
        """What a facet keeps of a datum: what `decode` and `to_json` give, in one pass where `compiled`.

        Raises Rejected as `decode` does.
        """
        unpack = self.compiled
        if unpack is not None:
            try:
                identifier, record_key, version, payload = unpack(datum, 0)
            except Exception:  # noqa: BLE001, S110  whatever is unusual, `decode` finds it and says what it is
                pass
            else:
                return Unpacked(Subject(self.scheme, identifier), record_key, version, payload)
        record = self.decode(datum)
        return Unpacked(record.subject, record.record_key, record.version, self.to_json(record.value))

    @property
    def compiled(self) -> Unpack | None:
        """The code made for this schema that `unpack` tries first. It raises any exception for what it does not take.

        None: the schema has types that such code does not serve.
        """
        return self._unpacker()

    def from_json(self, form: Mapping[str, Any]) -> dict[str, Any]:
        """A parsed JSON object as native values, for `check`: the inverse of `to_json`.

        Each type takes its one form (contracts.node lists them); a nullable value is null or the plain form. Raises
        Rejected with the field and the form expected there; unknown and missing members are named.
        """
        return self.record_node.parse(form)

    def to_json(self, value: Mapping[str, Any]) -> str:
        """A record's value (`Record.value`) as canonical JSON text: sorted members, no blanks."""
        return orjson.dumps(self.record_node.show(value), option=orjson.OPT_SORT_KEYS).decode("utf-8")

    def parse_field(self, name: str, form: Any) -> Any:
        """The checked native value of one top-level field's JSON form.

        Raises Rejected if it does not fit; KeyError if the contract has no such field.
        """
        node = self.record_node.member(name).node
        try:
            return node.check(node.parse(form))
        except Rejected as fault:
            raise within(name, fault) from None

    def breaks(self, older: Contract) -> list[str]:
        """What of this contract breaks those who rely on `older`, each with its path; empty if nothing does."""
        return breaks(self, older)

    def _takes_records(self) -> None:
        if self.sharing == "withheld":
            raise Rejected("a withheld contract takes no records")

    def _record(self, value: dict[str, Any]) -> Record:
        """The record of a checked value."""
        given = value[self.subject_field]
        try:
            subject = parse(self.scheme, str(given))
        except InvalidIdentifier as fault:
            raise InvalidIdentifier(fault.reason, self.subject_field) from None
        if isinstance(given, str):
            value[self.subject_field] = subject.identifier
        return Record(
            contract=self.name,
            major=self.major,
            subject=subject,
            record_key=tuple([str(value[name]) for name in self.record_key]),
            value=value,
            version=None if self.version_field is None else self._version(value[self.version_field]),
            event_time=None if self.event_time_field is None else value[self.event_time_field],
        )


def _build(schema: Any, problems: Problems) -> Contract | None:
    record = read_record(schema, problems)
    if record is None:
        return None
    department, dataset = _names(record.fullname, problems)
    terms = read_terms(schema.get("exchange"), record, problems)
    if terms is None or problems:
        return None
    if terms.owner != department:
        problems.add("exchange.owner", f"the namespace says that {department} owns it")
        return None
    try:
        writer = fastavro.parse_schema(schema)
    except Exception as error:  # noqa: BLE001  (whatever it raises, a foreign reader would not take the schema)
        problems.add("", f"fastavro does not take the schema: {type(error).__name__}")
        return None
    node = RecordNode(record.fullname, [_sealed(member, terms) for member in record.members])
    return Contract(
        name=f"{department}.{dataset}",
        department=department,
        dataset=dataset,
        major=terms.major,
        owner=terms.owner,
        title=MappingProxyType(dict(terms.title)),
        kind=terms.kind,
        scheme=terms.scheme,
        subject_field=terms.subject_field,
        record_key=terms.record_key,
        sharing=terms.sharing,
        reason=terms.reason,
        cycle=terms.cycle,
        version_field=terms.version_field,
        event_time_field=terms.event_time_field,
        fields=MappingProxyType({member.name: _field(member, terms) for member in record.members}),
        schema_text=canonical(schema),
        record_node=node,
        _version=_numbering(record, terms.version_field),
        # Made when it is first asked for: most processes load every contract and unpack no record.
        _unpacker=cache(partial(unpacker, node, terms)),
        _packer=cache(partial(packer, node, terms)),
        _writer=writer,
    )


def _field(member: Member, terms: Terms) -> Field:
    said = terms.fields[member.name]
    return Field(
        name=member.name,
        aliases=member.aliases,
        level=said.level,
        concept=said.concept,
        leads=said.leads,
        doc=member.doc,
        type=member.node.name,
        nullable=isinstance(member.node, Nullable),
    )


def _sealed(member: Member, terms: Terms) -> Member:
    if terms.fields[member.name].level < SEALED_LEVEL:
        return member
    return replace(member, node=Sealed(member.node))


def _numbering(record: RecordNode, version_field: str | None) -> Callable[[Any], int]:
    node = None if version_field is None else record.member(version_field).node
    return node.number if isinstance(node, Day | Timestamp) else int


def _names(fullname: str, problems: Problems) -> tuple[str, str]:
    """Department and dataset of a record's full name: `gov.civil.HouseholdMember` is civil, household_member."""
    namespace, _, name = fullname.rpartition(".")
    department = namespace.removeprefix("gov.")
    if not namespace.startswith("gov.") or not FIELD_NAME.fullmatch(department) or len(department) > MAX_NAME:
        problems.add("namespace", "gov.<department> is needed, the department in snake_case")
    if department == "exchange":
        problems.add("namespace", "no department can be named exchange")
    dataset = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    if dataset == "rejects":
        problems.add("name", "no dataset can be named rejects")
    return department, dataset
