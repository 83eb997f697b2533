"""What is registered, and under which name."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from exchange.registry.faults import InvalidSubject

# A topic's name with what Confluent's strategies add to it: `-key`, `-value`, `-<full name of a record>`.
_SUBJECT = re.compile(r"[A-Za-z0-9_.-]{1,255}", re.ASCII)
# Whatever looks like the values of a contract's topic is one: nothing may stand beside a contract and pass for it.
_CONTRACT = re.compile(r"[^.]+\.[^.]+\.v[0-9]+-value", re.ASCII)

DEFAULT_CONTEXT = ":.:"


class Reference(NamedTuple):
    """A version of a subject whose types a schema uses, under the name that it gives to it."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Form:
    """A schema's text with what belongs to it; `metadata` and `rule_set` are JSON, kept as they were sent.

    Two forms that differ in any of it are two schemas with two ids.
    """

    text: str
    references: tuple[Reference, ...] = ()
    metadata: str | None = None
    rule_set: str | None = None

    @property
    def digest(self) -> str:
        """64 hex digits that stand for all of it. Of a text alone they are the text's own SHA-256."""
        if not self.references and self.metadata is None and self.rule_set is None:
            return hashlib.sha256(self.text.encode()).hexdigest()
        parts = [self.text, self.references, *(each and json.loads(each) for each in (self.metadata, self.rule_set))]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def guid(self) -> str:
        """The same form has the same guid in every registry of this kind."""
        return str(UUID(hex=self.digest[:32]))


class Version(NamedTuple):
    """A schema as it stands under a subject. One that is `deleted` softly is shown only to who asks for such."""

    subject: str
    version: int
    id: int
    form: Form
    deleted: bool


def plain(subject: str) -> str:
    """A subject's name without the default context, which some clients write before it."""
    return subject.removeprefix(DEFAULT_CONTEXT)


def is_name(subject: str) -> bool:
    """Whether a subject can have this name. No other is registered, so no other needs to be looked for."""
    return _SUBJECT.fullmatch(subject) is not None


def check_owned(subject: str) -> None:
    """Raise InvalidSubject unless a department can have a subject of this name."""
    if not is_name(subject) or not department(subject):
        raise InvalidSubject("<department>.<dataset>..., of ASCII letters, digits, dots, underscores and hyphens")


def is_contract(subject: str) -> bool:
    """Whether the subject is that of a contract: `<department>.<dataset>.v<major>-value`."""
    return _CONTRACT.fullmatch(subject) is not None


def department(subject: str) -> str:
    """Whose subject it is: what stands before the first dot."""
    return subject.partition(".")[0] if "." in subject else ""
