"""Subjects: identifiers checked and brought to one form, and the keyed hashes that stand for them everywhere else.

A subject is (scheme, identifier). `parse` is the way in: it checks an identifier by its scheme's standard and gives the
normal form (blanks and tabs at the ends dropped, ASCII letters in capitals). What goes into message keys, facets, logs
and URLs is never the identifier but the subject key that a `KeyMaker` makes of it.

A later scheme adds a row to `SCHEMES`; it never changes a key, because the scheme's name is part of what is hashed.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from operator import mul
from types import MappingProxyType
from typing import Literal

from exchange.errors import InvalidIdentifier, Rejected, SettingWrong

Kind = Literal["citizen", "enterprise"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A citizen or an enterprise, known by an identifier in normal form. Made by `parse`.

    Its text shows the scheme only, so that no log line or traceback can hold the identifier.
    """

    scheme: str
    identifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the identifiers of one kind of subject are checked.

    `check` takes ASCII digits and capitals and answers why they are no identifier of this scheme, or None. `says` is
    what people call the identifier.
    """

    name: str
    kind: Kind
    check: Callable[[str], str | None]
    says: str


def parse(scheme: str, text: str) -> Subject:
    """The subject that `text` names under `scheme`.

    Raises InvalidIdentifier, whose reason says what is wrong and where, never the value; ValueError for a scheme that
    does not exist (a contract or a request has been checked for that before).
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme}")
    normal = text.strip(" \t").upper() if text.isascii() else text
    if not _PLAIN.fullmatch(normal):
        raise InvalidIdentifier(_foreign_text(text))
    reason = SCHEMES[scheme].check(normal)
    if reason is not None:
        raise InvalidIdentifier(reason)
    return Subject(scheme, normal)


def holds_identifier(text: str, kind: Kind | None = None) -> bool:
    """Whether a valid identifier (of a scheme for this kind) stands somewhere in `text`, in small letters too."""
    capitals = text.upper()
    schemes = [scheme for scheme in SCHEMES.values() if kind in (None, scheme.kind)]
    starts = range(len(capitals) - _LENGTH + 1)
    windows = (capitals[start : start + _LENGTH] for start in starts)
    return any(_PLAIN.fullmatch(window) and scheme.check(window) is None for window in windows for scheme in schemes)


def holds_split_identifier(text: str, separators: str) -> bool:
    """Whether a valid identifier stands in `text` once the separators are taken away.

    A person's number counts wherever it begins: its check character and its date leave little to chance. The number of
    an enterprise counts only where it is made of whole parts, because one in 31 runs of 18 characters passes its check.
    """
    parts = [part for part in re.split(f"[{re.escape(separators)}]", text) if part]
    if holds_identifier("".join(parts), "citizen"):
        return True
    ends = range(1, len(parts) + 1)
    joined = ("".join(parts[start:end]) for end in ends for start in range(end))
    return any(len(whole) == _LENGTH and holds_identifier(whole) for whole in joined)


# --- the two standards ------------------------------------------------------------------------------------------------

_LENGTH = 18
_PLAIN = re.compile(r"[0-9A-Z]+")
_CITIZEN = re.compile(r"[0-9]{17}[0-9X]")
_CITIZEN_CHECKS = "10X98765432"
# GB 32100 leaves out I, O, S, V and Z, and weighs the characters with the powers of 3 modulo 31.
_ENTERPRISE_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_ENTERPRISE = re.compile(f"[{_ENTERPRISE_ALPHABET}]{{18}}")
_ENTERPRISE_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))

_SPREADSHEET = "number damaged by a spreadsheet; export the column as text"
_ROUNDED = re.compile(r"[+-]?[0-9]+([.,][0-9]*)?E\+?[0-9]+|[0-9]{15,21}[.,]0*", re.IGNORECASE)


def _citizen(identifier: str) -> str | None:
    """GB 11643-1999: 6 digits of area, birth date, 3 digits of sequence, check character.

    The area is not looked up: counties are abolished while their people live on, 81, 82 and 83 are the residents of
    Hong Kong, Macao and Taiwan, and a 9 in front is a foreign permanent resident.
    """
    if not _CITIZEN.fullmatch(identifier):
        if len(identifier) == 15 and identifier.isdigit():
            return "15 digits: an old number; ask for the present one of 18"
        return _shape(identifier) or "a letter where GB 11643 has a digit"
    # ISO 7064 MOD 11-2 weighs the digits with the powers of 2 modulo 11; so does a number in base 13.
    if identifier[17] != _CITIZEN_CHECKS[2 * int(identifier[:17], 13) % 11]:
        return _SPREADSHEET if identifier.endswith("000") else "the check character is wrong (GB 11643)"
    try:
        date.fromisoformat(identifier[6:14])
    except ValueError:
        return "digits 7 to 14 are no date (GB 11643)"
    return None


def _enterprise(identifier: str) -> str | None:
    """GB 32100-2015: 17 characters of the alphabet without I, O, S, V and Z, and a check character modulo 31."""
    if not _ENTERPRISE.fullmatch(identifier):
        if len(identifier) in (13, 15) and identifier.isdigit():
            return f"{len(identifier)} digits: an old registration number; ask for the credit code of 18"
        return _shape(identifier) or _left_out(identifier)
    total = sum(map(mul, map(_ENTERPRISE_ALPHABET.index, identifier), _ENTERPRISE_WEIGHTS))
    if identifier[17] != _ENTERPRISE_ALPHABET[-total % 31]:
        spoilt = identifier.isdigit() and identifier.endswith("000")
        return _SPREADSHEET if spoilt else "the check character is wrong (GB 32100)"
    return None


def _left_out(identifier: str) -> str:
    place = next(place for place, character in enumerate(identifier) if character not in _ENTERPRISE_ALPHABET)
    return f"letter {identifier[place]} at position {place + 1}, which GB 32100 leaves out"


def _shape(identifier: str) -> str | None:
    if _ROUNDED.fullmatch(identifier):
        return _SPREADSHEET
    if len(identifier) != _LENGTH:
        return f"{_LENGTH} characters expected, {len(identifier)} found"
    return None


def _foreign_text(text: str) -> str:
    """Why `text` is not plain digits and capitals. Names a code point only where it cannot be part of a name."""
    stripped = text.strip(" \t")
    if not stripped:
        return "the identifier is empty"
    if _ROUNDED.fullmatch(stripped):
        return _SPREADSHEET
    if stripped.startswith("="):
        return 'a formula (="...") around the number; export the column as text'
    if stripped[0] in "'\"`" or stripped[-1] in "'\"`":
        return "a quotation mark around the number; export the column as text"
    begin = text.index(stripped[0])
    places = range(begin, begin + len(stripped))
    foreign = [place for place in places if not (text[place].isascii() and text[place].isalnum())]
    # A blank inside is named only if nothing stranger is there: the blank before a U+3000 is not what is wrong.
    place = next((place for place in foreign if text[place] not in " \t"), foreign[0])
    character = text[place]
    if unicodedata.category(character)[0] in "LNM":
        wide = unicodedata.normalize("NFKC", character).isascii()
        kind = "a full-width character" if wide else "a character other than an ASCII digit or letter"
        return f"{kind} at position {place + 1}"
    return f"character U+{ord(character):04X} at position {place + 1}"


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            Scheme("cn.ric", "citizen", _citizen, "resident identity card number (公民身份号码), GB 11643"),
            Scheme("cn.uscc", "enterprise", _enterprise, "unified social credit code (统一社会信用代码), GB 32100"),
        )
    }
)


# --- keys -------------------------------------------------------------------------------------------------------------

_HASH_BYTES = 16
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_KID = re.compile(r"[a-z0-9]{1,8}")
# The last of 22 base64url characters carries two bits only, so each hash has one spelling.
_KEY = re.compile(rb"([a-z0-9]{1,8}\.[A-Za-z0-9_-]{21}[AQgw])(?:\.([A-Za-z0-9_-]{21}[AQgw]))?")


class KeyMaker:
    """Makes the keys of one secret: BLAKE2b, 16 bytes, keyed and personalised, as 22 characters of base64url.

    `kid` (`[a-z0-9]{1,8}`) stands in front of every subject key; another secret or function is another kid. The secret
    is the file's bytes without blanks at the ends, 16 to 64 of them. Raises SettingWrong for any other.
    """

    def __init__(self, kid: str, secret: bytes) -> None:
        if not _KID.fullmatch(kid):
            raise SettingWrong("a key id is 1 to 8 small letters or digits")
        key = secret.strip()
        if not 16 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise SettingWrong(
                f"the secret {kid} has {len(key)} bytes; 16 to 64 are needed (`exchange init` makes one)"
            )
        self.kid = kid
        self._subject = hashlib.blake2b(digest_size=_HASH_BYTES, key=key, person=b"subject")
        self._record = hashlib.blake2b(digest_size=_HASH_BYTES, key=key, person=b"record")

    def __repr__(self) -> str:
        return f"KeyMaker({self.kid!r})"

    @property
    def mark(self) -> str:
        """Tells this secret and key id from others, and nothing else of them: the key of a subject that is none."""
        return self.subject(Subject("backup", "check"))

    def subject(self, subject: Subject) -> str:
        """The subject key, `k1.<22>`: the only form of an identifier in keys, logs and URLs."""
        return f"{self.kid}.{_digest(self._subject, f'{subject.scheme}:{subject.identifier}')}"

    def subjects(self, scheme: str) -> Callable[[str], bytes]:
        """`subject` for many identifiers of one scheme, each in normal form; the keys come as a message has them."""
        state = self._subject.copy()
        state.update(f"{scheme}:".encode())
        copy, kid = state.copy, f"{self.kid}.".encode()

        def key(identifier: str) -> bytes:
            state = copy()
            state.update(identifier.encode())
            return kid + _spelled(state.digest())

        return key

    def record(self, contract: str, values: Sequence[str]) -> str:
        """The record key's hash, 22 characters without kid, over the JSON array [contract, *values] (RFC 8785).

        `contract` is `<department>.<dataset>`; `values` are the record key's values as text, in the contract's order.
        """
        # For an array of strings this is what RFC 8785 prescribes, and 20 times as fast as the general function.
        return _digest(self._record, _COMPACT([contract, *values]))

    def keys(self, subject: Subject, contract: str, record_key: Sequence[str]) -> tuple[str, str]:
        """The subject key, and the record key's hash: "" where the contract has no record key."""
        return self.subject(subject), self.record(contract, record_key) if record_key else ""

    def message_key(self, subject: Subject, contract: str, record_key: Sequence[str]) -> bytes:
        """The message key: `k1.<subject>`, or `k1.<subject>.<record>` where the contract has a record key."""
        return message_key(*self.keys(subject, contract, record_key))

    def message_keys(self, scheme: str, contract: str) -> Callable[[str, Sequence[str]], bytes]:
        """`message_key` for those who make a million of one contract: from a subject's identifier in normal form."""
        subject = self.subjects(scheme)

        def make(identifier: str, record_key: Sequence[str]) -> bytes:
            key = subject(identifier)
            return b"%b.%b" % (key, self.record(contract, record_key).encode("ascii")) if record_key else key

        return make


def message_key(subject_key: str, record_key: str) -> bytes:
    """The message key of a subject key and a record key's hash, "" for none: the inverse of `split_key`."""
    return (f"{subject_key}.{record_key}" if record_key else subject_key).encode("ascii")


def split_key(key: bytes) -> tuple[str, str]:
    """(subject key `k1.<22>`, record key hash or ""). Raises Rejected for anything that no KeyMaker makes."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise Rejected("the message key is not a subject key")
    return match[1].decode("ascii"), (match[2] or b"").decode("ascii")


def _digest(keyed: hashlib.blake2b, text: str) -> str:
    state = keyed.copy()
    state.update(text.encode("utf-8"))
    return _spelled(state.digest()).decode("ascii")


def _spelled(digest: bytes) -> bytes:
    """base64url (RFC 4648, section 5) of a hash, without the padding."""
    return b2a_base64(digest)[:22].translate(_URL_SAFE)
