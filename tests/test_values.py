"""From cells to native values: nothing is guessed, nothing rounded, and no reason repeats what was found."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import Rejected, SettingWrong, TooManyRejects
from exchange.publish import Outcome, Tolerance
from exchange.publish.text import normal
from tests.support.contracts import contract, field
from tests.support.desk import HEADER, TIME, Desk, line
from tests.support.publishing import MILLIS, NULLABLE_TEXT, citizen

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def values(desk: Desk, type_: Any, cells: list[str], **settings: Any) -> list[Any]:
    """What becomes of the cells of one column `x`: native values, or the reasons for which they are rejected."""
    made = contract(field("x", type_, **({"default": None} if isinstance(type_, list) else {})))
    quoted = "".join(
        f'{citizen(number)},"{cell.replace(chr(34), chr(34) * 2)}"\r\n' for number, cell in enumerate(cells, 1)
    )
    desk.write("citizen_id,x\r\n" + quoted)
    found: list[Any] = []
    for row in desk.rows(made, **settings):
        try:
            found.append(row.rejected.reason if row.rejected else made.check(row.value).value["x"])
        except Rejected as rejected:
            found.append(rejected.reason)
    return found


def test_the_placeholder_of_change_data_capture_is_no_value(desk: Desk) -> None:
    """Taken as a text it would overwrite the value that did not change."""
    cells = ["__debezium_unavailable_value", " __debezium_unavailable_value ", "_", "__debezium"]
    mapping = {"x": {"column": "x", "values": {"a": "b"}, "other_values": "keep"}}
    for settings in ({}, {"null_values": ["N/A"]}, {"mapping": mapping}):
        *placeholders, first, second = values(desk, NULLABLE_TEXT, cells, **settings)
        assert all("left a placeholder" in reason for reason in placeholders)
        assert (first, second) == ("_", "__debezium")


def test_empty_is_null_and_the_word_null_is_a_text_unless_it_is_mapped(desk: Desk) -> None:
    cells = ["", " ", "NULL", "N/A"]
    assert values(desk, NULLABLE_TEXT, cells) == [None, None, "NULL", "N/A"]
    assert values(desk, NULLABLE_TEXT, cells, null_values=["NULL", "N/A"]) == [None] * 4
    assert values(desk, NULLABLE_TEXT, cells, empty="text") == ["", "", "NULL", "N/A"]
    assert values(desk, "string", [""]) == ["text expected, null found"]


def test_an_empty_subject_is_a_reject(desk: Desk) -> None:
    desk.write(HEADER + f'"",甲某,,{TIME}\r\n')
    assert desk.read().rejected == 1
    assert desk.reasons()[0][1] == "citizen_id"


def test_leading_zeros_stay(desk: Desk) -> None:
    assert values(desk, "string", ["0571", "057100000000", "010000"]) == ["0571", "057100000000", "010000"]


def test_booleans_only_by_the_value_mapping(desk: Desk) -> None:
    cells = ["false", "FALSE", "0", "N", "是", "否", "2"]
    reason = "a word for true or false that is not in the value mapping (`values` of the field)"
    assert values(desk, "boolean", cells) == [reason] * 7
    mapping = {"x": {"column": "x", "values": {"是": True, "否": False, "N": False}}}
    unlisted = "a word that is not in the value mapping"
    assert values(desk, "boolean", cells, mapping=mapping) == [unlisted] * 3 + [False, True, False, unlisted]
    assert values(desk, ["null", "boolean"], ["", "是"], mapping=mapping) == [None, True]
    with pytest.raises(SettingWrong, match="must be true or false"):
        values(desk, "boolean", [], mapping={"x": {"column": "x", "values": {"是": "true"}}})


def test_value_mappings_are_closed_unless_they_keep(desk: Desk) -> None:
    said: dict[str, Any] = {"column": "x", "values": {"1": "male", "2": "female"}}
    assert values(desk, "string", ["1", "3"], mapping={"x": said}) == [
        "male",
        "a word that is not in the value mapping",
    ]
    assert values(desk, "string", ["1", "3"], mapping={"x": said | {"other_values": "keep"}}) == ["male", "3"]
    counted = {"column": "x", "values": {"one": 1}}
    assert values(desk, "int", ["one"], mapping={"x": counted}) == [1]
    assert values(desk, "string", ["a", "b"], mapping={"x": {"value": "常量"}}) == ["常量", "常量"]


def test_dates_only_in_the_forms_that_are_named(desk: Desk) -> None:
    cells = ["46082", "03/04/2026", "20260301", "2026/3/1", "2026-02-30", "2026年3月1日", "2026-03-01"]
    day = {"type": "int", "logicalType": "date"}
    expected = "a date in the form %Y-%m-%d expected"
    assert values(desk, day, cells) == [expected] * 4 + [f"no such date; {expected}", expected, date(2026, 3, 1)]
    forms = {"date": ["%Y年%m月%d日", "%Y%m%d", "%Y/%m/%d"]}
    found = values(desk, day, cells, formats=forms)
    assert found[2:4] == [date(2026, 3, 1)] * 2
    assert found[5] == date(2026, 3, 1)
    assert all("%Y年%m月%d日 or %Y%m%d or %Y/%m/%d" in found[index] for index in (0, 1, 4, 6))
    assert all(cell not in str(reason) for cell, reason in zip(cells, found, strict=True) if isinstance(reason, str))


def test_times_have_a_zone_or_are_rejected(desk: Desk) -> None:
    cells = [TIME, "2026-03-01T10:00:00Z", "2026-03-01T10:00:00.125+08:00", "2026/3/1 8:05"]
    two, ten = datetime(2026, 3, 1, 2, tzinfo=UTC), datetime(2026, 3, 1, 10, tzinfo=UTC)
    found = values(desk, MILLIS, cells)
    assert found[:3] == [two, ten, two + timedelta(milliseconds=125)]
    assert "in the form" in found[3]
    assert values(desk, MILLIS, cells, timezone=None)[0] == "a time without a zone; set `timezone` in the instance file"
    mapping = {"x": {"column": "x", "formats": ["%Y/%m/%d %H:%M"]}}
    assert values(desk, MILLIS, cells, mapping=mapping)[3] == datetime(2026, 3, 1, 0, 5, tzinfo=UTC)


def test_a_local_time_that_came_twice_or_never_is_rejected(desk: Desk) -> None:
    cells = ["2025-11-02 01:30:00", "2025-11-02 03:00:00", "2025-03-09 02:30:00"]
    found = values(desk, MILLIS, cells, timezone="America/New_York")
    assert "showed twice" in found[0]
    assert found[1] == datetime(2025, 11, 2, 8, tzinfo=UTC)
    assert "skipped" in found[2]


def test_decimals_digit_by_digit(desk: Desk) -> None:
    cells = ["12345678901234567.89", "1.100", "1.105", "-0.00", "NaN", "1,234.50", "1e2"]
    found = values(desk, ["null", DECIMAL], cells)
    assert found[:2] == [Decimal("12345678901234567.89"), Decimal("1.10")]
    assert found[2] == "more than 2 decimals"
    assert str(found[3]) == "0.00"
    assert found[4:] == ["a number such as 1234.50 expected"] * 3


def test_thousands_separators_only_where_they_are_named_and_belong(desk: Desk) -> None:
    said = {"column": "x", "thousands": ","}
    cells = ["1,234,567.80", "1580000", "1,23", "12,3456"]
    found = values(desk, ["null", DECIMAL], cells, mapping={"x": said})
    assert found[:2] == [Decimal("1234567.80"), Decimal("1580000.00")]
    assert found[2:] == ["thousands separators that do not stand before groups of three digits"] * 2
    european = {"column": "x", "thousands": ".", "decimal": ","}
    assert values(desk, ["null", DECIMAL], ["1.234,5", "1.5"], mapping={"x": european})[0] == Decimal("1234.50")
    assert values(desk, "long", ["5,000", "-1"], mapping={"x": said}) == [5000, -1]


def test_what_a_spreadsheet_puts_around_a_number_is_taken_off(desk: Desk) -> None:
    desk.write(
        f'sep=,\r\n{HEADER}="{citizen(1)}",甲某,,{TIME}\r\n\'{citizen(2)},乙某,,{TIME}\r\n{citizen(3)}\t,丙某,,{TIME}\r\n'
    )
    assert desk.read().published == 3
    assert set(desk.names()) == {"1", "2", "3"}
    assert values(desk, "string", ["'t Hart", '="x"', '=""']) == ["'t Hart", "x", "text expected, null found"]


def test_numbers_that_a_spreadsheet_damaged_stop_the_connector_and_lose_no_good_row(desk: Desk) -> None:
    desk.bench.tolerance = Tolerance()
    damaged = ["1.10101E+17", "110101190001010000", "1.10101190001010E+17"]
    desk.write(HEADER + "".join(f"{number},某,,{TIME}\r\n" for number in damaged) + line(4), age=60)
    with pytest.raises(TooManyRejects, match=r"civil/test: 3 of 4 rows \(75%; max_reject_share is 10%\)"):
        desk.read()
    assert set(desk.names()) == {"4"}
    reason = "number damaged by a spreadsheet; export the column as text"
    assert [(field, text) for _, field, text in desk.reasons()] == [("citizen_id", reason)] * 3


def test_identifiers_have_one_form(desk: Desk) -> None:
    x = next(citizen(number) for number in range(200) if citizen(number).endswith("X"))
    desk.write(HEADER + f"{x},甲某,,{TIME}\r\n{x.lower()},甲某,,{TIME}\r\n")
    assert desk.read() == Outcome(read=2, published=1, unchanged=1)


DOTS = ["\u00b7", "\u30fb", "\u2022", "\uff65", "\u2027"]


def test_the_dot_in_a_name_has_one_spelling(desk: Desk) -> None:
    desk.write(HEADER + "".join(line(number, f"阿甲{dot}乙丙") for number, dot in enumerate(DOTS, 1)))
    desk.read()
    assert set(desk.names().values()) == {"阿甲\u00b7乙丙"}
    desk.write(
        (HEADER + line(1, "阿甲"))
        .encode("gb18030")
        .replace("阿甲".encode("gb18030"), "阿甲".encode("gb18030") + b"\xa1\xa4" + "乙丙".encode("gb18030"))
    )
    desk.read(encoding="gb2312")
    assert desk.names() == {"1": "阿甲\u00b7乙丙"}


def test_look_alikes_are_folded_and_a_bullet_stays_a_bullet() -> None:
    assert normal("\uf92c某") == "\u90ce某"
    assert normal("\u2f00\u2f45") == "\u4e00\u65b9"
    assert normal("e\u0301") == "\u00e9"
    assert normal("• 预包装食品") == "• 预包装食品"
    assert normal("ジョン・スミス") == "ジョン・スミス"


SEALED = contract(
    field("name", "string"), field("note", NULLABLE_TEXT, default=None), fields={"note": {"level": 4}},
)  # fmt: skip


def test_level_4_never_leaves_not_even_in_a_reject(desk: Desk) -> None:
    desk.write(f"citizen_id,name,note\r\n{citizen(1)},甲某,secret\r\n{citizen(2)},,secret\r\n{citizen(3)},secret\r\n")
    desk.read(SEALED)
    assert desk.bench.facets()["1"] == {"citizen_id": citizen(1), "name": "甲某", "note": None}
    payloads = [reject.payload for reject in desk.bench.rejects()]
    assert all("secret" not in str(payload) for payload in payloads)
    assert payloads[0] is not None
    assert payloads[1] is None  # a line that cannot be divided may hold it anywhere
    findings = desk.connector(SEALED, mapping={"note": "note"}).check()
    assert any(found.subject == "note" and "level 4" in found.text for found in findings)


def test_a_list_is_read_from_json_in_a_contract_that_has_other_fields_too(desk: Desk) -> None:
    cells = ["[1, 2]", "", '["1"]', "[1,"]
    assert values(desk, ["null", {"type": "array", "items": "int"}], cells) == [
        [1, 2], None, "a whole number expected, a string found", "JSON of a array expected"
    ]  # fmt: skip
    assert [row.rejected.field for row in desk.rows(desk.bench.contract) if row.rejected] == ["x[0]", "x"]
