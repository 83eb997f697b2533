"""Finds in bytes what must not be there: the canaries of a city and every form of its subjects' identifiers.

One regular expression over the form that canaries have, then a look-up; what was encoded in base64 (receipts, tokens)
is decoded and searched too.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from binascii import Error
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# A text with its origin in it; a day of the years from 3000 on; a number of ten digits, beginning with 1.
_CANARY = re.compile(rb"canary-[a-z_]+\.[a-z_]+-[a-z0-9_]+-\d+-\d+-\d+|(?<!\d)[3-9]\d{3}-\d\d-\d\d|(?<!\d)1\d{9}(?!\d)")
_STEM = 15  # an old number has so many signs, and in a new one the birth date is behind the sixth
_IDENTIFIER = re.compile(rb"(?=((?:29\d{13}|9129[0-9A-Z]{11})[0-9A-Z]{0,3}))")
_ENCODED = re.compile(rb"[A-Za-z0-9_+/-]{40,}")


@dataclass(frozen=True, order=True)
class Canary:
    """Where a planted value stands: `subject` is the number of the citizen or enterprise."""

    contract: str
    field: str
    subject: int


@dataclass
class Canaries:
    """Everything of a city that can be recognised wherever it turns up."""

    planted: dict[str, set[Canary]] = field(default_factory=lambda: defaultdict(set))
    identifiers: dict[str, str] = field(default_factory=dict)  # each in capitals, and what it is

    def read(self, file: Path) -> None:
        """Read canaries.ndjson; what was read before stays."""
        for line in file.read_text("utf-8").splitlines():
            note = json.loads(line)
            self.plant(note["value"], note["contract"], note["field"], note["subject"])

    def plant(self, value: str, contract: str, field: str, subject: int) -> None:
        self.planted[mark(value)].add(Canary(contract, field, subject))

    def know(self, identifier: str, what: str) -> None:
        """An identifier, sound or not, of which nothing may be seen."""
        if len(identifier.strip()) >= _STEM:
            self.identifiers[identifier.strip().upper()] = what

    def found(self, data: bytes) -> set[str]:
        """The canaries in these bytes, each by its mark; every one is in `planted`."""
        seen = {text.decode("ascii") for text in _CANARY.findall(data)}
        return {text for text in seen if text in self.planted}

    def named(self, data: bytes) -> set[str]:
        """The identifiers in these bytes, whatever stands around them, small letters too."""
        seen = set()
        for text in _IDENTIFIER.findall(data.upper()):
            for length in range(_STEM, len(text) + 1):
                if (part := text[:length].decode("ascii")) in self.identifiers:
                    seen.add(part)
        return seen

    def leaks(self, data: bytes) -> set[str]:
        """Canaries and identifiers in these bytes and in what they hold in base64."""
        return {one for layer in layers(data) for one in self.found(layer) | self.named(layer)}


def mark(value: str) -> str:
    """By what a planted value is recognised: a text whole, of a time its day, of a number what is before its point."""
    if value.startswith("canary-"):
        return value
    return value[:10]


def layers(data: bytes, depth: int = 3) -> Iterable[bytes]:
    """The bytes, and what is encoded in them, and in that."""
    yield data
    if depth == 0:
        return
    for text in _ENCODED.findall(data):
        try:
            inner = urlsafe_b64decode(text.replace(b"+", b"-").replace(b"/", b"_") + b"=" * (-len(text) % 4))
        except (Error, ValueError):
            continue
        yield from layers(inner, depth - 1)
