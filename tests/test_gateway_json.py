"""The gateway's JSON reader: one meaning or none, and never a byte of it in an error."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import strictjson

ID = "110101190001010014"

HOSTILE = {
    "duplicate": b'{"id":"110101190001010014","id":"110101190001010022"}',
    "duplicate deep": b'{"a":[{"b":1,"b":2}]}',
    "duplicate by escape": b'{"id":"110101190001010014","\\u0069d":"x"}',
    "nan": b'{"amount":NaN}',
    "infinity": b'{"amount":Infinity}',
    "minus infinity": b'{"amount":-Infinity}',
    "1e400": b'{"price":1e400}',
    "-1e400": b'{"price":-1e400}',
    "surrogate": b'{"amount":"\\ud800"}',
    "surrogate in a name": b'{"\\uDC00":1}',
    "surrogates swapped": b'{"amount":"\\udc00\\ud800"}',
    "5000 digits": b'{"n":' + b"9" * 5000 + b"}",
    "5000 digits of a float": b'{"n":1.' + b"9" * 5000 + b"}",
    "100000 brackets": b"[" * 100_000,
    "100000 braces": b'{"a":' * 100_000,
    "33 levels": b"[" * 33 + b"]" * 33,
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"id":"x"}'.encode("utf-16"),
    "bad utf-8": b'{"id":"\xff"}',
    "overlong utf-8": b'{"id":"\xc0\xaf"}',
    "encoded surrogate": b'{"id":"\xed\xa0\x80"}',
    "single quotes": b"{'id':'x'}",
    "trailing comma": b'{"id":"x",}',
    "two values": b"{} {}",
    "comment": b'{"id":"x"/*c*/}',
    "control in a string": b'{"id":"a\x00b"}',
    "leading zero": b'{"n":01}',
    "empty": b"",
    "blank": b" \n",
    "unterminated": b'{"id":"110101190001010014',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_what_two_readers_could_take_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(strictjson.Malformed) as caught:
        strictjson.read(body)
    assert ID not in str(caught.value)
    assert "amount" not in str(caught.value)


def test_a_duplicate_member_is_called_that() -> None:
    with pytest.raises(strictjson.Malformed, match="duplicate member"):
        strictjson.read(b'{"id":"110101190001010014","fields":["name"],"fields":["name","address"]}')


@pytest.mark.parametrize(
    "body", [b'{"a":"\\ud83d\\ude00"}', b"[" * 32 + b"]" * 32, b'{"a":"[[[[{{{{ \\" \\\\ud800"}', b"1e300", b"null"]
)
def test_what_has_one_meaning_is_read(body: bytes) -> None:
    assert strictjson.read(body) == json.loads(body)


def test_time_stays_linear_for_brackets_hidden_behind_quotes() -> None:
    body = (b"[" * 40 + b'"\\"' * 250_000)[:1_000_000]
    began = time.perf_counter()
    with pytest.raises(strictjson.Malformed):
        strictjson.read(body)
    assert time.perf_counter() - began < 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_whatever_json_can_say_is_read_as_python_reads_it(value: object) -> None:
    for ascii_only in (True, False):
        assert strictjson.read(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")) == value
