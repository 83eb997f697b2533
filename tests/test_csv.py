"""Delimited files as they come: marks, encodings, quotation marks, headers. Each case once met somebody."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.files import Found
from connectors.protocol import Weight
from exchange.errors import SettingWrong, SourceRefused
from exchange.publish import Outcome, Row
from tests.support.desk import HEADER, TIME, Desk, line
from tests.support.publishing import citizen


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(
    ("marks", "encoding"),
    [
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xef\xbb\xbf\xef\xbb\xbf", "utf-8"),
        (b"\x84\x31\x95\x33", "gb18030"),
        (b"\xef\xbb\xbf\x84\x31\x95\x33", "gb18030"),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", None])
def test_marks_at_the_beginning_vanish_however_many(
    desk: Desk, marks: bytes, encoding: str, wanted: str | None
) -> None:
    desk.write(marks + (HEADER + line(1)).encode(encoding))
    desk.read(encoding=wanted or encoding)
    assert desk.names() == {"1": "甲某"}


def test_a_second_header_with_a_mark_in_mid_file_is_one_reject(desk: Desk) -> None:
    desk.write(HEADER + line(1) + "\ufeff" + HEADER + line(2) + "\ufeff" + line(3))
    assert desk.read() == Outcome(read=4, published=3, rejected=1)
    assert desk.reasons() == [("people.csv line 3 (record 2)", None, "a second header line in the middle of the file")]
    assert set(desk.names()) == {"1", "2", "3"}


def test_a_rejected_line_keeps_no_rows_in_memory(desk: Desk) -> None:
    wrong = f"{citizen(7)},甲某,,no time\r\n"  # the connector sets it aside
    unknown = f"{citizen(8)[:-1]}?,甲某,,{TIME}\r\n"  # the contract's check does
    desk.write(HEADER + "".join(line(number) for number in range(10, 60)) + wrong + unknown)
    gc.collect()
    before = sum(isinstance(one, Row) for one in gc.get_objects())
    gc.disable()
    try:
        assert desk.read().rejected == 2
        assert sum(isinstance(one, Row) for one in gc.get_objects()) == before
    finally:
        gc.enable()


def test_one_chinese_name_behind_much_ascii_decides_for_gb18030(desk: Desk) -> None:
    plain = (HEADER + line(1, "AA") * 6000).encode()
    desk.write(plain + line(2, "张某").encode("gb18030"))
    desk.read()
    assert desk.names() == {"1": "AA", "2": "张某"}


@pytest.mark.parametrize("edge", [4096, 65536, 1 << 20])
def test_a_character_across_the_edge_of_a_block_is_one_character(desk: Desk, edge: int) -> None:
    row = line(1, "A" * 1000).encode()
    head = HEADER.encode() + row * (edge // len(row) - 1) + f"{citizen(2)},".encode()
    desk.write(head + b"A" * (edge - len(head) - 1) + f"张某,,{TIME}\r\n".encode())
    assert desk.rows()[-1].value["name"].lstrip("A") == "张某"


def test_a_value_beyond_all_measure_costs_its_row_only(desk: Desk) -> None:
    desk.write(HEADER + line(1, "A" * 200_000) + line(2))
    assert desk.read() == Outcome(read=2, published=1, rejected=1)
    assert desk.reasons()[0][2] == "a value of more than 131072 characters"


@pytest.mark.parametrize(("codec", "found"), [("utf-16", "little"), ("utf-16-le", "little"), ("utf-16-be", "big")])
def test_utf16_is_refused_with_what_to_do(desk: Desk, codec: str, found: str) -> None:
    desk.write((HEADER + line(1)).encode(codec))
    with pytest.raises(
        SourceRefused, match=rf"people\.csv: the encoding is UTF-16 \({found} endian\); save it as UTF-8"
    ):
        desk.rows()
    assert [finding.weight for finding in desk.connector().check()] == [Weight.REFUSED]


def test_bytes_of_no_encoding_cost_their_row_only(desk: Desk) -> None:
    first = (HEADER + line(1) + line(2)).encode()
    desk.write(first + f"{citizen(3)},".encode() + b"\xff\xfe" + f",,{TIME}\r\n".encode() + line(4).encode())
    assert desk.read() == Outcome(read=4, published=3, rejected=1)
    offset = len(first) + 19
    assert desk.reasons() == [
        ("people.csv line 4 (record 3)", None, f"bytes that are no UTF-8, from byte {offset} of the file on")
    ]
    assert desk.names()["4"] == "甲某"


def test_a_gbk_row_in_a_utf8_file_is_a_reject_and_not_another_encoding(desk: Desk) -> None:
    desk.write((HEADER + line(1) + line(2)).encode() + line(3, "张某").encode("gbk") + line(4).encode())
    assert desk.read().rejected == 1
    assert desk.names() == {"1": "甲某", "2": "甲某", "4": "甲某"}


def test_a_file_cut_within_a_character_gives_a_reject_for_its_last_row(desk: Desk) -> None:
    desk.write((HEADER + line(1)).encode() + f"{citizen(2)},乙".encode()[:-1])
    assert desk.read() == Outcome(read=2, published=1, rejected=1)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_every_line_end_and_none_at_the_end(desk: Desk, end: str, last: bool) -> None:
    text = (HEADER + line(1) + line(2)).replace("\r\n", end)
    desk.write(text if last else text.removesuffix(end))
    assert desk.read().published == 2


def test_padding_of_nul_is_one_reject(desk: Desk) -> None:
    desk.write((HEADER + line(1)).encode() + bytes(3000))
    assert desk.read() == Outcome(read=2, published=1, rejected=1)


def test_nul_in_a_text_is_a_reject_and_the_next_row_is_published(desk: Desk) -> None:
    desk.write(HEADER + line(1, "甲\0某") + line(2))
    assert desk.read() == Outcome(read=2, published=1, rejected=1)
    assert desk.reasons()[0][1] == "name"


def test_a_file_without_line_ends_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.textfile.LONGEST_LINE", 1 << 20)
    desk.write(HEADER.encode() + b"x" * (3 << 20))
    with pytest.raises(SourceRefused, match="this is no table"):
        desk.rows()


def test_ragged_rows_are_rejected_with_counts(desk: Desk) -> None:
    desk.write(
        HEADER
        + f"{citizen(1)},甲某,东街1号\r\n"
        + f"{citizen(2)},乙某,西街2号,{TIME},多一列\r\n"
        + f"{citizen(3)},丙某,南街3号,巷4号,{TIME}\r\n"
        + line(4)
    )
    assert desk.read() == Outcome(read=4, published=1, rejected=3)
    assert [(place.split()[2], reason) for place, _, reason in desk.reasons()] == [
        ("2", "expected 4 values, found 3"),
        ("3", "expected 4 values, found 5"),
        ("4", "expected 4 values, found 5"),
    ]


def test_places_are_physical_lines(desk: Desk) -> None:
    desk.write(
        HEADER + f'{citizen(1)},甲某,"东街1号\r\n二层",{TIME}\r\n' + "\r\n" + line(2, time="not-a-date") + line(3)
    )
    assert desk.read() == Outcome(read=3, published=2, rejected=1)
    assert desk.reasons()[0][:2] == ("people.csv line 5 (record 2)", "updated_at")
    assert desk.bench.facets()["1"]["address"] == "东街1号\r\n二层"


def test_a_quotation_mark_that_is_not_closed_costs_its_line_only(desk: Desk) -> None:
    desk.write(HEADER + line(1) + line(2, '"乙某') + line(3) + line(4) + line(5))
    assert desk.read() == Outcome(read=5, published=4, rejected=1)
    assert desk.reasons() == [("people.csv line 3 (record 2)", None, "a quotation mark that is not closed")]


def test_a_stray_quotation_mark_does_not_swallow_the_rows_up_to_the_next_one(desk: Desk) -> None:
    desk.write(HEADER + line(1, '"甲某') + line(2) + line(3, '"丙某"') + line(4))
    outcome = desk.read()
    assert set(desk.names()) == {"2", "3", "4"}
    assert outcome == Outcome(read=4, published=3, rejected=1)


def test_a_quotation_mark_within_a_quoted_value_is_written_twice(desk: Desk) -> None:
    desk.write(HEADER + line(1, '"甲""某"') + line(2, '"乙"某'))
    desk.read()
    assert desk.names() == {"1": '甲"某'}
    assert "written twice" in desk.reasons()[0][2]


def test_no_quoting_at_all(desk: Desk) -> None:
    desk.write((HEADER + line(1, '"甲某')).replace(",", "|"))
    desk.read(quote="", delimiter="|")
    assert desk.names() == {"1": '"甲某'}


def test_a_name_for_two_columns_is_refused_before_any_row(desk: Desk) -> None:
    desk.write(f"citizen_id,name,address, ADDRESS ,updated_at\r\n{citizen(1)},甲某,户籍地址,现住地址,{TIME}\r\n")
    with pytest.raises(SourceRefused, match="the column address stands at positions 3 and 4; map the field by the pos"):
        desk.read()
    assert desk.bench.facets() == {}
    desk.read(mapping={"address": 4})
    assert desk.bench.facets()["1"]["address"] == "现住地址"


@pytest.mark.parametrize("name", ["\u200bcitizen_id", " citizen_id\u00a0", "ｃｉｔｉｚｅｎ_ｉｄ", "Citizen_ID"])
def test_names_are_compared_without_blanks_invisible_signs_width_and_case(desk: Desk, name: str) -> None:
    desk.write((HEADER + line(1)).replace("citizen_id", name))
    assert desk.read().published == 1


def test_the_line_that_names_the_separator_is_no_header(desk: Desk) -> None:
    desk.write("sep=,\r\n" + HEADER + line(1))
    assert desk.read().published == 1
    desk.write("sep=;\r\n" + HEADER + line(1))
    with pytest.raises(SourceRefused, match="another separator"):
        desk.read()


def test_lines_of_prose_in_front_are_skipped(desk: Desk) -> None:
    desk.write("A fact sheet,can be found\r\n,,,\r\n" + HEADER + line(1, time="x"))
    desk.read(skip_lines=2)
    assert desk.reasons()[0][0] == "people.csv line 4 (record 1)"


def test_without_a_header_columns_have_positions(desk: Desk) -> None:
    desk.write(f"甲某,{citizen(1)},x,{TIME}\r\n乙某,{citizen(2)},x,{TIME}\r\n丙某\r\n")
    mapping = {"citizen_id": 2, "name": 1, "updated_at": 4}
    assert desk.read(header=False, mapping=mapping) == Outcome(read=3, published=2, rejected=1)
    assert desk.names() == {"1": "甲某", "2": "乙某"}
    with pytest.raises(SettingWrong, match="positions, not names"):
        desk.connector(header=False, mapping=mapping | {"name": "name"})


def test_a_column_that_is_missing_is_refused(desk: Desk) -> None:
    desk.write("citizen_id,updated_at\r\n")
    with pytest.raises(SourceRefused, match="no column for the field name"):
        desk.read()
    with pytest.raises(SourceRefused, match="there is no column 姓名"):
        desk.read(mapping={"name": "姓名"})
    with pytest.raises(SourceRefused, match="there is no column 7; the source has 2"):
        desk.read(mapping={"name": 7})
    with pytest.raises(SettingWrong, match=r"mapping\.nam: civil\.person has no such field"):
        desk.connector(mapping={"nam": "x"})


def test_an_empty_file_is_refused_and_never_an_empty_snapshot(desk: Desk) -> None:
    desk.write(HEADER + line(1))
    desk.read()
    desk.write("")
    with pytest.raises(SourceRefused, match="the file is empty"):
        desk.read()
    assert set(desk.names()) == {"1"}


def test_a_files_time_is_taken_to_the_microsecond_that_had_begun() -> None:
    found = Found(Path("people.csv"), (1, 1, 1, 1_795_594_570_160_123_999, 1))
    assert found.modified == datetime(2026, 11, 25, 8, 16, 10, 160_123, tzinfo=UTC)
