"""Reading the `exchange` property: what the owner promises about a contract, beyond its types.

MEMBERS says what each member is for, here and in docs/reference/contracts.md.

    "exchange": {
      "major": 1, "owner": "civil", "title": {"zh-CN": "人口", "en": "Population register"},
      "subject": {"kind": "citizen", "scheme": "cn.ric", "field": "citizen_id"},
      "record_key": [], "sharing": "conditional", "reason": null, "cycle": "P1D",
      "version": "revision", "event_time": "updated_at",
      "fields": {"name": {"level": 2, "concept": "citizen.name", "lead": true}, ...}
    }

Every field at the top of the record has its level here; what is nested takes its parent's level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, get_args

from exchange.contracts.containers import Member, RecordNode
from exchange.contracts.logical import Day, Timestamp
from exchange.contracts.node import Node
from exchange.contracts.nullable import Nullable
from exchange.contracts.problems import Problems
from exchange.contracts.scalars import Int, Text
from exchange.subjects import SCHEMES, Kind

T = TypeVar("T")

Sharing = Literal["unconditional", "conditional", "withheld"]
SHARING: tuple[Sharing, ...] = get_args(Sharing)  # from the loosest to the strictest
LANGUAGES = ("zh-CN", "en")
SEALED_LEVEL = 4

# Member -> whether it is needed, and what it says.
MEMBERS: Mapping[str, tuple[str, str]] = {
    "major": (
        "yes",
        "The major version, from 1 to 999. Within a major no change breaks those who read; a change that must break"
        " them is the next major.",
    ),
    "owner": ("yes", "The department that owns the dataset: the one in the namespace."),
    "title": ("yes", "What people read in the catalogue, in `zh-CN` and `en`; more languages may stand beside them."),
    "subject": ("yes", "Whom a record is about: an object of `kind`, `scheme` and `field`, see below."),
    "record_key": (
        "no",
        "The fields that tell two records about one subject apart (a penalty's number): required, of type string, int"
        " or long. Left out or empty: one record per subject, and a new one replaces the old.",
    ),
    "sharing": ("yes", "The sharing class, see below."),
    "reason": ("if withheld", "Why it is withheld; no other contract has one."),
    "cycle": (
        "no",
        "How often you promise to have told everything: an ISO 8601 duration such as `PT1H`, `P1D`, `P1W`, `P1M`. A"
        " value is shown as stale when your connector last told everything longer ago than that. A month counts as 31"
        " days, a year as 366.",
    ),
    "version": (
        "no",
        "The field that counts or dates the changes of a record: a required int, long, date or timestamp. Of two"
        " records the one with the greater version stands, in whatever order they arrive.",
    ),
    "event_time": ("no", "The field that says when a record's content became so: a timestamp."),
    "fields": ("yes", "For each field of the record its terms: an object of `level`, `concept` and `lead`, see below."),
}
SUBJECT_MEMBERS: Mapping[str, tuple[str, str]] = {
    "kind": ("yes", "`citizen` or `enterprise`, as the scheme has it."),
    "scheme": ("yes", "The scheme of the identifier, see below."),
    "field": ("yes", "The field that holds the identifier: required, of type string, int or long."),
}
FIELD_MEMBERS: Mapping[str, tuple[str, str]] = {
    "level": ("yes", "Who may see it, see below. What is nested takes its parent's level."),
    "concept": (
        "no",
        "The shared name of the datum, two words with a dot between (`citizen.address`): where contracts of several"
        " departments use it, their values meet in the view. On contracts with one record per subject only.",
    ),
    "lead": (
        "no",
        "`true` where this contract leads its concept: its value is shown first. One contract leads a concept.",
    ),
}
SHARING_WORDS: Mapping[Sharing, str] = {
    "unconditional": "无条件共享: levels 1 and 2 are open to every listed client",
    "conditional": "有条件共享: an approved agreement is needed",
    "withheld": "不予共享: an entry in the catalogue with its reason; it has no topic and takes no records",
}
LEVELS: Mapping[int, tuple[str, str]] = {
    1: ("public", "with `unconditional` sharing every listed client; otherwise by agreement"),
    2: ("internal government use", "the same"),
    3: (
        "sensitive personal data",
        "only by agreement, for a purpose that is registered for this contract as sensitive, and with a case number",
    ),
    SEALED_LEVEL: (
        "never leaves your department",
        "nobody, you included: it is not published. It is nullable with default null",
    ),
}
_CONCEPT = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_CYCLE = re.compile(
    r"P(?=.)(?:(?P<years>\d{1,3})Y)?(?:(?P<months>\d{1,3})M)?(?:(?P<weeks>\d{1,4})W)?(?:(?P<days>\d{1,5})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,5})H)?(?:(?P<minutes>\d{1,6})M)?(?:(?P<seconds>\d{1,7})S)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class FieldTerms:
    """What the owner says of one field: its level, the concept it holds, whether this contract leads that concept."""

    level: int
    concept: str | None
    leads: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """The `exchange` property, read."""

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
    fields: Mapping[str, FieldTerms]


def read_terms(given: Any, record: RecordNode, problems: Problems) -> Terms | None:
    """The terms that go with `record`; None, with every problem, if they are refused."""
    if not isinstance(given, dict):
        problems.add("exchange", "the property is missing; docs/contracts.md says what it holds")
        return None
    return _TermsReader(given, {member.name: member for member in record.members}, problems).read()


class _TermsReader:
    def __init__(self, given: dict[str, Any], members: Mapping[str, Member], problems: Problems) -> None:
        self._given = given
        self._members = members
        self._problems = problems

    def read(self) -> Terms | None:
        before = len(self._problems)
        for name in sorted(set(self._given) - set(MEMBERS)):
            self._refuse(name, f"unknown; known are {', '.join(MEMBERS)}", None)
        kind, scheme, subject_field = self._subject()
        sharing, reason = self._sharing()
        terms = Terms(
            major=self._major(),
            owner=self._text("owner"),
            title=self._title(),
            kind=kind,
            scheme=scheme,
            subject_field=subject_field,
            record_key=self._record_key(),
            sharing=sharing,
            reason=reason,
            cycle=self._cycle(),
            version_field=self._version_field(),
            event_time_field=self._event_time_field(),
            fields=self._fields(),
        )
        self._concepts(terms)
        return terms if len(self._problems) == before else None

    def _major(self) -> int:
        major = self._given.get("major")
        if type(major) is not int or not 1 <= major <= 999:
            return self._refuse("major", "a whole number from 1 is needed", 0)
        return major

    def _title(self) -> dict[str, str]:
        title = self._given.get("title")
        if not isinstance(title, dict) or not all(isinstance(text, str) and text.strip() for text in title.values()):
            return self._refuse("title", 'an object is needed: {"zh-CN": "...", "en": "..."}', {})
        for language in LANGUAGES:
            if language not in title:
                self._refuse(f"title.{language}", "the title is missing in this language", None)
        return title

    def _subject(self) -> tuple[Kind, str, str]:
        subject = self._given.get("subject")
        nothing: tuple[Kind, str, str] = ("citizen", "", "")
        if not isinstance(subject, dict) or set(subject) != set(SUBJECT_MEMBERS):
            return self._refuse("subject", "an object of kind, scheme and field is needed", nothing)
        kind, scheme, field = subject["kind"], subject["scheme"], subject["field"]
        if not isinstance(scheme, str) or scheme not in SCHEMES:
            return self._refuse("subject.scheme", f"unknown; known are {', '.join(SCHEMES)}", nothing)
        if kind != SCHEMES[scheme].kind:
            return self._refuse("subject.kind", f"{scheme} names a subject of kind {SCHEMES[scheme].kind}", nothing)
        if not self._is_key(field):
            return self._refuse("subject.field", "a required field of type string, int or long is needed", nothing)
        return SCHEMES[scheme].kind, scheme, field

    def _record_key(self) -> tuple[str, ...]:
        names = self._given.get("record_key", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return self._refuse("record_key", "a list of field names is needed; empty: one record per subject", ())
        for name in names:
            if not self._is_key(name):
                self._refuse(f"record_key.{name}", "a required field of type string, int or long is needed", None)
        if len(set(names)) < len(names):
            self._refuse("record_key", "a field stands twice", None)
        return tuple(names)

    def _is_key(self, name: Any) -> bool:
        return isinstance(self._node(name), Text | Int)

    def _sharing(self) -> tuple[Sharing, str | None]:
        sharing, reason = self._given.get("sharing"), self._given.get("reason")
        if sharing not in SHARING:
            return self._refuse("sharing", f"one of {', '.join(SHARING)} is needed", ("withheld", None))
        if sharing == "withheld" and not (isinstance(reason, str) and reason.strip()):
            self._refuse("reason", "a withheld contract says why", None)
        if sharing != "withheld" and reason is not None:
            self._refuse("reason", "only a withheld contract has one", None)
        return sharing, reason

    def _cycle(self) -> timedelta | None:
        """An ISO 8601 duration. A month counts as 31 days and a year as 366: nothing is stale before its time."""
        text = self._given.get("cycle")
        if text is None:
            return None
        match = _CYCLE.fullmatch(text) if isinstance(text, str) else None
        parts = {name: int(count or 0) for name, count in match.groupdict().items()} if match else {}
        days = parts.pop("years", 0) * 366 + parts.pop("months", 0) * 31 + parts.pop("days", 0)
        cycle = timedelta(days=days, **parts)
        if not cycle:
            return self._refuse("cycle", "an ISO 8601 duration is needed, such as PT1H, P1D, P1W or P1M", None)
        return cycle

    def _version_field(self) -> str | None:
        name = self._optional("version")
        if name is not None and not isinstance(self._node(name), Int | Day | Timestamp):
            self._refuse("version", "a required field of type int, long, date or timestamp is needed", None)
        return name

    def _event_time_field(self) -> str | None:
        name = self._optional("event_time")
        node = self._node(name)
        if name is not None and not isinstance(node.inner if isinstance(node, Nullable) else node, Timestamp):
            self._refuse("event_time", "a field of type timestamp-millis or timestamp-micros is needed", None)
        return name

    def _fields(self) -> dict[str, FieldTerms]:
        given = self._given.get("fields")
        if not isinstance(given, dict):
            return self._refuse("fields", "an object is needed: for each field of the record its level", {})
        for name in given:
            if name not in self._members:
                self._refuse(f"fields.{name}", "the record has no such field", None)
        fields: dict[str, FieldTerms] = {}
        for name, member in self._members.items():
            if name not in given:
                self._refuse(f"fields.{name}", "the level is missing", None)
            elif (terms := self._field(f"fields.{name}", given[name])) is not None:
                fields[name] = terms
                if terms.level == SEALED_LEVEL and not _sealable(member):
                    self._refuse(f"fields.{name}.level", "a level 4 field is nullable with default null", None)
        return fields

    def _field(self, path: str, given: Any) -> FieldTerms | None:
        if not isinstance(given, dict) or not set(given) <= set(FIELD_MEMBERS):
            return self._refuse(path, "an object of level, and concept and lead where it has them, is needed", None)
        level, concept, leads = given.get("level"), given.get("concept"), given.get("lead", False)
        if type(level) is not int or not 1 <= level <= SEALED_LEVEL:
            return self._refuse(f"{path}.level", f"a whole number from 1 to {SEALED_LEVEL} is needed", None)
        if concept is not None and not (isinstance(concept, str) and _CONCEPT.fullmatch(concept)):
            return self._refuse(f"{path}.concept", "two words joined by a dot are needed: enterprise.address", None)
        if not isinstance(leads, bool) or (leads and concept is None):
            return self._refuse(f"{path}.lead", "true or false is needed, and a concept to lead", None)
        return FieldTerms(level, concept, leads)

    def _concepts(self, terms: Terms) -> None:
        seen: set[str] = set()
        for name, field in terms.fields.items():
            if field.concept is None:
                continue
            path = f"fields.{name}.concept"
            if terms.record_key:
                self._refuse(path, "concepts stand on contracts with one record per subject, without record_key", None)
            if field.concept in seen:
                self._refuse(path, f"the concept {field.concept} stands on two fields", None)
            seen.add(field.concept)

    def _text(self, name: str) -> str:
        text = self._given.get(name)
        return text if isinstance(text, str) else self._refuse(name, "text is needed", "")

    def _optional(self, name: str) -> str | None:
        text = self._given.get(name)
        return text if text is None or isinstance(text, str) else self._refuse(name, "a field's name is needed", None)

    def _node(self, name: Any) -> Node | None:
        member = self._members.get(name) if isinstance(name, str) else None
        return None if member is None else member.node

    def _refuse(self, path: str, reason: str, instead: T) -> T:
        self._problems.add(f"exchange.{path}", reason)
        return instead


def _sealable(member: Member) -> bool:
    node = member.node
    return isinstance(node, Nullable) and node.null_first and member.absent is not None
