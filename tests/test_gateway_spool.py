"""A pushed body: what counts as a record, whatever the chunks in which it is read."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.publish import BLANK, Unparsed
from gateway import spool, strictjson
from gateway.problems import BodyTooLarge, Busy
from gateway.spool import Form, Room, Spool, lines

CANARY = "110101190001010014"
MOST = 1 << 24
FOLDER = Path(tempfile.gettempdir())


def read(body: bytes, form: Form) -> list[Any]:
    kept = Spool(Room(MOST, FOLDER), "civil")
    try:
        for start in range(0, len(body), 7_000):
            kept.add(body[start : start + 7_000])
        first = list(lines(kept, form, 1_000))
        assert list(lines(kept, form, 1_000)) == first  # it can be read as often as it takes
        return first
    finally:
        kept.close()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", []),
        (b" \n\t", []),
        (b"[]", []),
        (b" [ ] \n", []),
        (b'[{"a":1}]', [{"a": 1}]),
        (b'[{"a":1} , {"b":[1,2]},\n7,"x",null,-1.5e3]', [{"a": 1}, {"b": [1, 2]}, 7, "x", None, -1500.0]),
    ],
)
def test_an_array(body: bytes, found: list[Any]) -> None:
    assert read(body, "array") == found


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"7", b"[", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"[1] [2]", b"[1]x", b"[1]]", b"[[1]", b"]",
        b'[{"a":1,"a":2}]', b'[{"a":NaN}]', b'["\\ud800"]', b"[1e400]", b'["\xff"]', b"[" * 40 + b"]" * 40,
        b"[" + b"[" * 100_000, b"\xef\xbb\xbf[]", b'[{"a":1}{"b":2}]', b"[" + b"9" * 50 + b"]", b"[tru]",
        b'["' + b"x" * 1_100_000,
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_an_array_that_is_broken_is_refused_whole(body: bytes) -> None:
    with pytest.raises(strictjson.Malformed):
        read(body, "array")


def test_lines_stand_each_for_itself() -> None:
    body = b"\n".join(
        [
            b'{"a":1}',
            b"",
            b'  {"b":2}\r',
            b'{"a":1,"a":2}',
            b'{"c":NaN}',
            b"\xff\xfe",
            b'{"id":"' + CANARY.encode(),
            b"[" * 100_000,
            b'{"x":"' + b"y" * 1_100_000 + b'"}',
            b'{"z":3}',
        ]
    )
    found = read(body, "lines")
    assert [value for value in found if not isinstance(value, Unparsed)] == [{"a": 1}, BLANK, {"b": 2}, {"z": 3}]
    broken = [value for value in found if isinstance(value, Unparsed)]
    assert len(broken) == 6
    assert "duplicate member" in broken[0].reason
    for each in broken:
        assert CANARY not in each.reason
    assert broken[-1].text == ""
    assert "1048576" in broken[-1].reason


def test_a_last_line_needs_no_line_break_and_two_long_lines_are_two() -> None:
    long = b'{"x":"' + b"y" * 1_200_000 + b'"}'
    found = read(b"\n".join([long, long, b"1"]), "lines")
    assert [type(value) for value in found] == [Unparsed, Unparsed, int]


def test_the_digest_is_of_the_bytes_and_large_bodies_leave_memory() -> None:
    room = Room(MOST, FOLDER)
    kept, other = Spool(room, "civil"), Spool(room, "tax")
    kept.add(b"ab")
    other.add(b"a")
    other.add(b"b")
    assert kept.digest == other.digest
    assert kept.size == 2
    kept.add(b"x" * 100_000)
    assert kept.file._rolled  # type: ignore[attr-defined]
    kept.close()
    other.close()


def test_all_bodies_together_have_a_bound_and_one_owner_half_of_it() -> None:
    room = Room(100, FOLDER)
    one, two, other = Spool(room, "civil"), Spool(room, "civil"), Spool(room, "tax")
    one.add(b"x" * 40)
    with pytest.raises(Busy):
        two.add(b"x" * 11)  # a department that pushes slowly and much leaves room for the others
    two.add(b"x" * 10)
    other.add(b"x" * 50)
    with pytest.raises(Busy):
        Spool(room, "health").add(b"x")
    assert room.taken == 100
    for each in (one, two, other):
        each.close()
    assert room.taken == 0
    Spool(room, "civil").add(b"x" * 50)


@pytest.mark.parametrize(
    ("body", "form"),
    [(b"0\n" * 4, "lines"), (b"\n" * 4, "lines"), (b"\r\n 1 \n\n\n", "lines"), (b"[0,0,0,0]", "array")],
)
def test_a_body_has_so_many_records_and_no_more(body: bytes, form: Form) -> None:
    kept = Spool(Room(MOST, FOLDER), "civil")
    kept.add(body)
    assert len(list(lines(kept, form, 4))) <= 4
    with pytest.raises(BodyTooLarge, match="at most 3 records"):
        list(lines(kept, form, 3))
    kept.close()


def test_bodies_are_kept_in_their_folder_and_a_full_disk_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(MOST, tmp_path / "missing")
    kept = Spool(room, "civil")
    kept.add(b"x" * 60_000)
    with pytest.raises(Busy, match=r"data folder \(No such file or directory\)"):
        kept.add(b"x" * 60_000)
    kept.close()
    assert room.taken == 0


ITEM = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ITEM, max_size=8), st.integers(1, 9), st.booleans(), st.sampled_from(["", " ", "\n\t "]))
def test_an_array_read_in_any_chunks_is_what_json_reads(
    items: list[Any], chunk: int, ascii_only: bool, gap: str
) -> None:
    body = ("[" + f"{gap},{gap}".join(json.dumps(item, ensure_ascii=ascii_only) for item in items) + gap + "]").encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "CHUNK", chunk)
        assert read(body, "array") == items
