"""JSON as the gateway reads it: RFC 8259 and nothing that two readers could take in two ways.

Refused: two members of one name (RFC 8259 leaves open which one counts), NaN and infinities, numbers that only fit a
float as infinity, lone surrogates, a byte order mark, bytes that are not UTF-8, deep nesting. No error repeats a byte
of what was sent.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from exchange.errors import BadRequest

MAX_DEPTH = 32
# No type of a contract takes a longer number: longs and decimals travel as strings.
MAX_DIGITS = 40
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
# Possessive, and a string that does not end runs to the end of the text: the time stays linear for any input.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")


class Malformed(BadRequest):
    """The body is not JSON that can be read in one way only"""


def read(body: bytes) -> Any:
    """The value of a JSON text. Raises Malformed."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}") from None
    return read_text(text)


def read_text(text: str) -> Any:
    """The value of a JSON text that is decoded already. Raises Malformed."""
    check_depth(text)
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON at character {error.pos}") from None
    check_surrogates(text, value)
    return value


def check_depth(text: str) -> None:
    """Refuse deep nesting before the parser recurses into it."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:  # true for nearly every request, at the speed of C
        return
    depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise Malformed(TOO_DEEP)


def check_surrogates(text: str, value: Any) -> None:
    """Refuse a value that holds half a surrogate pair: such a text has no UTF-8 form and breaks whoever writes it."""
    if "\\ud" not in text and "\\uD" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed("a string holds half of a surrogate pair") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("duplicate member: one object has two members of the same name")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Malformed(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits) if len(digits) <= 10 * MAX_DIGITS else math.inf
    if not math.isfinite(number):
        raise Malformed("a number is too large")
    return number


def _constant(_: str) -> NoReturn:
    raise Malformed("NaN and infinities are not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant)
