"""Trim before merge: what a view shows, in which order, and that nothing forbidden ever changes a byte of it."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.agreements import Condition, FieldTerms, Terms
from exchange.agreements.conditions import compiled
from exchange.decisions import Decision
from exchange.errors import BadRequest, StoreUnavailable
from exchange.records import Facet, Origin
from exchange.views import Trimmed, Trimmer, merge, select
from exchange.views.comparison import compared

NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def field(name: str, type_: str = "string", *, concept: str | None = None, **more: Any) -> FieldTerms:
    known = {"aliases": (), "level": 1, "leads": False, "nullable": True, "doc": "d"} | more
    return FieldTerms(name=name, type=type_, concept=concept, **known)


def terms_of(contract: str, *fields: FieldTerms, key: tuple[str, ...] = (), cycle_s: int | None = 86_400) -> Terms:
    return Terms(
        contract=contract,
        major=1,
        owner=contract.split(".")[0],
        title={},
        kind="citizen",
        scheme="cn.ric",
        sharing="conditional",
        reason=None,
        cycle_s=cycle_s,
        record_key=key,
        fields={one.name: one for one in fields},
    )


CIVIL = terms_of(
    "civil.person",
    field("name", concept="citizen.name", leads=True),
    field("address", concept="citizen.address"),
    field("birth_date", "date"),
    field("religion", level=4),
)
SOCIAL = terms_of(
    "social.insurance",
    field("full_name", concept="citizen.name", aliases=("name",)),
    field("address", concept="citizen.address"),
    field("paid", "decimal"),
    field("number", "long"),
)
TAX = terms_of("tax.person", field("address", concept="citizen.address"), cycle_s=None)
PENALTY = terms_of("market.penalty", field("number"), field("amount", "decimal"), field("officer"), key=("number",))
TERMS = {(one.contract, one.major): one for one in (CIVIL, SOCIAL, TAX, PENALTY)}
WATERMARKS = {("civil.person", "civil/csv"): NOW - HOUR, ("social.insurance", "social/csv"): NOW - DAY - HOUR}


def facet(contract: str, payload: dict[str, Any] | str | None, at: datetime = NOW - HOUR, **more: Any) -> Facet:
    text = payload if payload is None or isinstance(payload, str) else json.dumps(payload)
    department = contract.split(".")[0]
    known: dict[str, Any] = {
        "subject_key": "k1.subject",
        "major": 1,
        "record_key": "",
        "schema_id": 7,
        "origin": Origin(f"{department}/csv", 1, 42),
        "partition": 0,
        "offset": 9,
        "version": None,
        "event_time": at,
    }
    return Facet.of(contract=contract, payload=text, **known | more)


def trim(decision: Decision, terms: Terms, facet: Facet) -> Trimmed | None:
    return Trimmer(decision, terms)(facet)


def decision(contract: str, *names: str, masks: dict[str, Any] | None = None, condition: Any = ()) -> Decision:
    terms = TERMS[contract, 1]
    fields = {name: (masks or {}).get(name) for name in names or [one for one in terms.fields if one != "religion"]}
    terms_ = tuple(Condition(field=name, op=op, literal=literal) for name, op, literal in condition)
    return Decision(contract, 1, allowed=True, permit="agreement", fields=fields, condition=terms_)


def shown(contract: str, payload: dict[str, Any], at: datetime = NOW - HOUR, **more: Any) -> Trimmed:
    masks = more.pop("masks", None)
    found = trim(decision(contract, masks=masks), TERMS[contract, 1], facet(contract, payload, at, **more))
    assert found is not None
    return found


def view(*trimmed: Trimmed, now: datetime = NOW, **more: Any) -> dict[str, Any]:
    return merge(trimmed, TERMS, WATERMARKS, now, **more)


class TestTrim:
    def test_only_permitted_fields_are_left(self) -> None:
        payload = {"name": "甲", "address": "canary", "birth_date": None, "religion": "canary", "unknown": "canary"}
        found = trim(decision("civil.person", "name", "birth_date"), CIVIL, facet("civil.person", payload))
        assert found is not None
        assert found.values == {"name": "甲", "birth_date": None}
        assert "canary" not in repr(found)
        assert "k1.subject" not in repr(found)

    def test_level_4_and_unknown_fields_are_left_out_whatever_the_decision_says(self) -> None:
        wrong = decision("civil.person", "name", "religion", "unknown")
        found = trim(wrong, CIVIL, facet("civil.person", {"name": "甲", "religion": "x", "unknown": "x"}))
        assert found is not None
        assert set(found.values) == {"name"}

    def test_a_field_is_found_by_its_present_name_then_by_its_aliases(self) -> None:
        assert shown("social.insurance", {"name": "old"}).values == {"full_name": "old"}
        assert shown("social.insurance", {"name": "old", "full_name": "new"}).values == {"full_name": "new"}
        assert shown("social.insurance", {"name": "old", "full_name": None}).values == {"full_name": None}
        assert shown("social.insurance", {}).values == {}

    def test_a_long_that_was_written_as_an_int_has_the_form_of_a_long(self) -> None:
        assert shown("social.insurance", {"number": 5}).values == {"number": "5"}
        assert shown("social.insurance", {"number": "9007199254740993"}).values == {"number": "9007199254740993"}

    def test_masks_are_put_on_and_remembered(self) -> None:
        found = shown("civil.person", {"name": "王小明", "birth_date": "1990-05-01"}, masks={"name": "initial"})
        assert found.values == {"name": "王**", "birth_date": "1990-05-01"}
        assert found.masked == {"name"}

    def test_a_deletion_and_a_denied_decision_show_nothing(self) -> None:
        assert trim(decision("civil.person"), CIVIL, facet("civil.person", None)) is None
        denied = Decision("civil.person", 1, allowed=False, fields={"name": None})
        assert trim(denied, CIVIL, facet("civil.person", {"name": "甲"})) is None

    def test_of_another_contract_or_major_it_refuses_to_say_anything(self) -> None:
        with pytest.raises(ValueError):
            trim(decision("civil.person"), CIVIL, facet("tax.person", {}))
        with pytest.raises(ValueError):
            trim(decision("civil.person"), CIVIL, facet("civil.person", {}, major=2))
        with pytest.raises(ValueError):
            trim(decision("civil.person"), TAX, facet("civil.person", {}))

    @pytest.mark.parametrize("payload", ["", "[]", "null", "{", '"x"'])
    def test_a_payload_that_is_no_object_is_the_stores_fault(self, payload: str) -> None:
        with pytest.raises(StoreUnavailable) as error:
            trim(decision("civil.person"), CIVIL, facet("civil.person", payload))
        assert payload not in error.value.detail or not payload

    def test_a_row_that_fails_the_condition_is_as_if_it_did_not_exist(self) -> None:
        # The condition's field is not among those that are shown.
        only_east = decision("social.insurance", "paid", condition=[("address", "=", "east")])
        east, west = {"paid": "1.00", "address": "east"}, {"paid": "1.00", "address": "west"}
        found = trim(only_east, SOCIAL, facet("social.insurance", east))
        assert found is not None
        assert found.values == {"paid": "1.00"}
        for payload in (west, {"paid": "1.00", "address": None}, {"paid": "1.00"}):
            assert trim(only_east, SOCIAL, facet("social.insurance", payload)) is None

    def test_all_terms_must_hold_and_aliases_count(self) -> None:
        both = decision("social.insurance", "paid", condition=[("full_name", "=", "a"), ("number", ">", "5")])
        assert trim(both, SOCIAL, facet("social.insurance", {"name": "a", "number": "10"})) is not None
        assert trim(both, SOCIAL, facet("social.insurance", {"name": "a", "number": "5"})) is None
        assert trim(both, SOCIAL, facet("social.insurance", {"name": "b", "number": "10"})) is None


class TestConditions:
    @pytest.mark.parametrize(
        ("type_", "op", "literal", "matching", "others"),
        [
            ("int", "<", 10, [9, -1], [10, 11, "x", True, 9.5 + 1]),
            ("int", "!=", 10, [9, 11], [10, True, "x", []]),
            ("long", ">=", "9007199254740993", ["9007199254740993", "10000000000000000"], ["9007199254740992", "1e99"]),
            ("long", "=", "5", ["5", 5], ["05 ", "5.5", " 5"]),
            ("double", "<", 0.5, [0.1, -1, "0"], [0.5, 1, "NaN"]),
            ("float", "=", 0.1, [0.1], [0.2]),
            ("decimal", "=", "1.10", ["1.10", "1.1", "1.100"], ["1.11", "1,10", "1e0"]),
            ("decimal", ">", "9.99", ["10.00", "100"], ["9.99", "-10.00"]),
            ("string", "<", "b", ["a", "B", ""], ["b", "ba", 1]),
            ("string", "!=", "east", ["west", "east ", "East"], ["east", 1, {}]),
            ("string", "in", ("a", "b"), ["a", "b"], ["c", "A", ["a"]]),
            ("boolean", "=", True, [True], [False, 1, "true"]),
            ("boolean", "!=", True, [False], [True, 0]),
            ("enum", "in", ("registered",), ["registered"], ["moved"]),
            ("date", "<=", "2000-01-01", ["2000-01-01", "1999-12-31"], ["2000-01-02", "20000101", "1999-W01-1", 5]),
            ("time-millis", "<", "08:30:00", ["08:29:59.999"], ["08:30:00.000", "08:29:59Z"]),
            (
                "timestamp-millis",
                "<",
                "2026-01-01T00:00:00.000Z",
                ["2025-12-31T23:59:59.999Z", "2026-01-01T07:59:59.999+08:00"],
                ["2026-01-01T00:00:00.000Z", "2025-12-31T23:59:59"],
            ),
        ],
    )
    def test_values_are_compared_by_type_and_exactly(
        self, type_: str, op: Any, literal: Any, matching: list[Any], others: list[Any]
    ) -> None:
        test = compiled(Condition(field="x", op=op, literal=literal), type_)
        assert [value for value in matching if not test(value)] == []
        assert [value for value in others if test(value)] == []

    @pytest.mark.parametrize("op", ["=", "!=", "<", "<=", ">", ">="])
    @pytest.mark.parametrize(
        ("type_", "literal"),
        [("string", "a"), ("int", 1), ("long", "1"), ("decimal", "1"), ("date", "2026-01-01"), ("double", 1)],
    )
    def test_null_never_matches(self, type_: str, literal: Any, op: Any) -> None:
        assert not compiled(Condition(field="x", op=op, literal=literal), type_)(None)
        assert not compiled(Condition(field="x", op="in", literal=(literal,)), type_)(None)


class TestValues:
    def test_the_shape_of_an_answer(self) -> None:
        answer = view(
            shown("civil.person", {"name": "甲", "birth_date": "1990-01-01"}, version=3),
            not_available=["b", "a", "b"],
        )
        said = {
            "contract": "civil.person",
            "department": "civil",
            "version": "3",
            "event_time": "2026-11-25T03:00:00.000Z",
            "as_of": "2026-11-25T03:00:00.000Z",
            "stale": False,
        }
        assert answer == {
            "values": {
                "citizen.name": {"value": "甲", "conflict": False, "said_by": [{"value": "甲", **said}]},
                "civil.person.birth_date": {
                    "value": "1990-01-01",
                    "conflict": False,
                    "said_by": [{"value": "1990-01-01", **said}],
                },
            },
            "records": {},
            "not_available": ["a", "b"],
        }

    def test_nothing_there_is_an_empty_view(self) -> None:
        assert view() == {"values": {}, "records": {}, "not_available": []}

    def test_the_lead_source_stands_first_then_the_newest(self) -> None:
        name = view(
            shown("social.insurance", {"full_name": "new"}, NOW - HOUR),
            shown("civil.person", {"name": "lead"}, NOW - 9 * DAY),
        )["values"]["citizen.name"]
        assert (name["value"], name["conflict"]) == ("lead", True)
        address = view(
            shown("civil.person", {"address": "old"}, NOW - 3 * DAY),
            shown("tax.person", {"address": "newest"}, NOW - DAY),
            shown("social.insurance", {"address": "newer"}, NOW - 2 * DAY),
        )["values"]["citizen.address"]
        assert [one["value"] for one in address["said_by"]] == ["newest", "newer", "old"]
        assert address["value"] == "newest"

    def test_a_time_later_than_now_counts_as_now(self) -> None:
        address = view(
            shown("tax.person", {"address": "tax"}, NOW + 300 * DAY),
            shown("civil.person", {"address": "civil"}, NOW + DAY),
            shown("social.insurance", {"address": "social"}, NOW - DAY),
        )["values"]["citizen.address"]
        assert [one["value"] for one in address["said_by"]] == ["civil", "tax", "social"]
        assert address["said_by"][1]["event_time"] == "2027-09-21T04:00:00.000Z"

    def test_null_is_kept_behind_those_who_say_something_and_contradicts_nobody(self) -> None:
        name = view(
            shown("civil.person", {"name": None}), shown("social.insurance", {"full_name": "甲"}, NOW - 9 * DAY)
        )["values"]["citizen.name"]
        assert ([one["value"] for one in name["said_by"]], name["conflict"]) == (["甲", None], False)
        alone = view(shown("civil.person", {"name": None}))["values"]["citizen.name"]
        assert (alone["value"], alone["conflict"]) == (None, False)

    def test_a_masked_value_makes_no_conflict(self) -> None:
        masked = shown("civil.person", {"name": "王小明"}, masks={"name": "initial"})
        name = view(masked, shown("social.insurance", {"full_name": "王小明"}))["values"]["citizen.name"]
        assert (name["value"], name["conflict"]) == ("王**", False)
        both = view(masked, shown("social.insurance", {"full_name": "李"}, masks={"full_name": "initial"}))
        assert both["values"]["citizen.name"]["conflict"] is False

    @pytest.mark.parametrize(
        ("as_of", "cycle_s", "stale"),
        [
            (NOW - DAY, 86_400, False),
            (NOW - DAY - timedelta(seconds=1), 86_400, True),
            (NOW + HOUR, 86_400, False),
            (None, 86_400, True),
            (None, None, False),
            (NOW - 900 * DAY, None, False),
        ],
    )
    def test_stale_is_what_was_confirmed_too_long_ago_not_what_is_old(
        self, as_of: datetime | None, cycle_s: int | None, stale: bool
    ) -> None:
        terms = {("tax.person", 1): TAX.model_copy(update={"cycle_s": cycle_s})}
        marks = {("tax.person", "tax/csv"): as_of} if as_of else {}
        marks["tax.person", "tax/other"] = NOW  # another source of the contract says nothing about this one
        answer = merge([shown("tax.person", {"address": "x"}, NOW - 9000 * DAY)], terms, marks, NOW)
        (said,) = answer["values"]["citizen.address"]["said_by"]
        assert said["stale"] is stale
        assert (said["as_of"] is None) is (as_of is None)


class TestConflicts:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("阿甲·乙丙", "阿甲・乙丙"),
            ("阿甲·乙丙", "阿甲•乙丙"),
            ("阿甲·乙丙", "阿甲･乙丙"),
            ("阿甲·乙丙", b"\xb0\xa2\xbc\xd7\xa1\xa4\xd2\xd2\xb1\xfb".decode("gbk")),
            ("阿甲·乙丙", b"\xb0\xa2\xbc\xd7\xa1\xa4\xd2\xd2\xb1\xfb".decode("gb2312")),
            ("\u90ce某", "\uf92c某"),
            ("一方", "⼀⽅"),
            ("长沙西站", "⻓沙⻄站"),
            ("é", "e\u0301"),
            ("某某（北京）有限公司", "某某(北京)有限公司"),
            ("ＡＢＣ１２３", "ABC123"),
            ("东城区 幸福路 1号", "东城区幸福路1号"),
            ("东城区\u3000幸福路\u00a01号\u200b\ufeff", "东城区幸福路1号"),
            (" a b\t", "ab"),
        ],
    )
    def test_what_is_no_difference(self, one: str, other: str) -> None:
        assert compared(one, "string") == compared(other, "string")
        address = view(shown("civil.person", {"address": one}), shown("tax.person", {"address": other}))
        assert address["values"]["citizen.address"]["conflict"] is False
        assert [said["value"] for said in address["values"]["citizen.address"]["said_by"]] == [one, other]

    @pytest.mark.parametrize(
        ("one", "other"),
        [("ABC", "abc"), ("王小明", "王晓明"), ("1号", "11号"), ("", "x"), ("东城区", "西城区"), ("甲·乙", "甲乙")],
    )
    def test_what_is_one(self, one: str, other: str) -> None:
        address = view(shown("civil.person", {"address": one}), shown("tax.person", {"address": other}))
        assert address["values"]["citizen.address"]["conflict"] is True

    @pytest.mark.parametrize(
        ("one", "one_type", "other", "other_type", "same"),
        [
            ("1.10", "decimal", "1.1", "decimal", True),
            ("5", "long", 5, "int", True),
            (0.5, "double", "0.50", "decimal", True),
            (0.1, "double", "0.1", "decimal", True),
            ("1.10", "decimal", "1.11", "decimal", False),
            ("9007199254740993", "long", "9007199254740992", "long", False),
            (True, "boolean", 1, "int", False),
            (True, "boolean", False, "boolean", False),
            (["甲 乙", None], "array", ["甲乙", None], "array", True),
            ({"a": "１"}, "record", {"a": "1"}, "record", True),
            ({"a": "1"}, "record", {"a": "2"}, "record", False),
            ("2026-01-01", "date", "2026-01-02", "date", False),
            ("x", "decimal", "1", "decimal", False),
        ],
    )
    def test_other_types(self, one: Any, one_type: str, other: Any, other_type: str, same: bool) -> None:
        assert (compared(one, one_type) == compared(other, other_type)) is same


def penalty(number: str, at: datetime, **more: Any) -> Trimmed:
    return shown("market.penalty", {"number": number, "amount": "1.00"}, at, record_key=f"hash-{number}", **more)


class TestLists:
    def test_the_newest_event_time_stands_first(self) -> None:
        answer = view(*(penalty(str(day), NOW - day * DAY) for day in (3, 1, 2)))
        assert answer["values"] == {}
        page = answer["records"]["market.penalty"]
        assert [item["value"]["number"] for item in page["items"]] == ["1", "2", "3"]
        assert (page["more"], page["next"]) == (False, None)
        assert page["items"][0] == {
            "value": {"number": "1", "amount": "1.00"},
            "contract": "market.penalty",
            "department": "market",
            "version": "42",
            "event_time": "2026-11-24T04:00:00.000Z",
            "as_of": None,
            "stale": True,
        }

    def test_a_long_list_is_cut_and_goes_on(self) -> None:
        rows = [penalty(str(number), NOW - number * HOUR) for number in range(450)]
        seen: list[str] = []
        after = None
        for expected in (200, 200, 50):
            page = view(*rows, after={"market.penalty": after} if after else None)["records"]["market.penalty"]
            assert len(page["items"]) == expected
            seen += [item["value"]["number"] for item in page["items"]]
            after = page["next"]
            assert page["more"] is (after is not None)
        assert seen == [str(number) for number in range(450)]

    def test_behind_the_end_there_is_nothing(self) -> None:
        rows = [penalty(str(number), NOW - number * HOUR) for number in range(3)]
        cursor = view(*rows, limit=2)["records"]["market.penalty"]["next"]
        page = view(*rows[:1], after={"market.penalty": cursor})["records"]["market.penalty"]
        assert page == {"items": [], "more": False, "next": None}

    @pytest.mark.parametrize("cursor", ["", "x", "1.2.3.4", "1.2." + "a" * 32, 5, "1.2." + "a" * 32 + ".1\n", "٣" * 40])
    def test_a_cursor_that_no_answer_gave_is_the_callers_fault(self, cursor: Any) -> None:
        with pytest.raises(BadRequest):
            view(penalty("1", NOW), after={"market.penalty": cursor})

    def test_a_cursor_of_what_has_no_list_here_is_passed_over(self) -> None:
        answer = view(penalty("1", NOW), after={"no.such": "x", "civil.person": "x"})
        assert len(answer["records"]["market.penalty"]["items"]) == 1

    @settings(max_examples=60, deadline=None)
    @given(
        times=st.lists(st.integers(-5, 5), max_size=12),
        numbers=st.integers(1, 4),
        limit=st.integers(1, 5),
        seed=st.integers(0, 1000),
        going=st.integers(0, 8),
    )
    def test_pages_put_together_are_the_list(
        self, times: list[int], numbers: int, limit: int, seed: int, going: int
    ) -> None:
        """Equal times, rows that look alike, times still to come, a clock that goes on between the pages."""
        rows = [penalty(str(place % numbers), NOW + hours * HOUR) for place, hours in enumerate(times)]
        whole = view(*rows, limit=1000)["records"].get("market.penalty", {"items": []})["items"]
        seen: list[Any] = []
        after: dict[str, str] | None = None
        for page in range(len(rows) + 2):
            random.Random(seed + page).shuffle(rows)
            now = NOW + page * going * HOUR
            found = view(*rows, now=now, limit=limit, after=after)["records"].get("market.penalty")
            if found is None:
                break
            seen += found["items"]
            if not found["more"]:
                break
            after = {"market.penalty": found["next"]}
        assert [json.dumps(item) for item in seen] == [json.dumps(item) for item in whole]


class TestSelection:
    DECISIONS = (decision("civil.person"), decision("social.insurance", "full_name", "paid"))

    def test_all_that_is_permitted(self) -> None:
        found = select(self.DECISIONS, TERMS)
        assert (found.decisions, found.not_available) == (self.DECISIONS, ())

    def test_contracts_asked_for(self) -> None:
        found = select(self.DECISIONS, TERMS, contracts=["social.insurance", "no.such", "tax.person"])
        assert found.decisions == self.DECISIONS[1:]
        assert found.not_available == ("no.such", "tax.person")

    def test_fields_asked_for_by_concept_or_by_contract(self) -> None:
        found = select(
            self.DECISIONS, TERMS, fields=["citizen.name", "social.insurance.paid", "social.insurance.number"]
        )
        assert [(one.contract, list(one.fields)) for one in found.decisions] == [
            ("civil.person", ["name"]),
            ("social.insurance", ["full_name", "paid"]),
        ]
        assert found.not_available == ("social.insurance.number",)
        narrow = select(self.DECISIONS, TERMS, fields=["civil.person.name", "civil.person.religion", "no.such"])
        assert [(one.contract, list(one.fields)) for one in narrow.decisions] == [("civil.person", ["name"])]
        assert narrow.not_available == ("civil.person.religion", "no.such")

    def test_a_denied_decision_is_none(self) -> None:
        denied = Decision("civil.person", 1, allowed=False)
        found = select([denied], TERMS, contracts=["civil.person"])
        assert (found.decisions, found.not_available) == ((), ("civil.person",))


# --- for every view ---------------------------------------------------------------------------------------------------

texts = st.sampled_from(["甲", "乙", " 甲", "", "x"]) | st.none()
times = st.integers(-50, 5).map(lambda hours: NOW + hours * HOUR)
masks = st.sampled_from([None, None, "redact", "initial"])


@st.composite
def cities(draw: st.DrawFn) -> tuple[list[Decision], list[Facet]]:
    """Decisions on some fields of each contract, some masked, one with a row condition; and the facets of a subject."""
    decisions, facets = [], []
    for (contract, _), terms in TERMS.items():
        names = draw(st.lists(st.sampled_from([one for one in terms.fields if one != "religion"]), unique=True))
        condition = []
        if draw(st.booleans()):
            condition = [(next(one.name for one in terms.fields.values() if one.type == "string"), "!=", "乙")]
        fitting = {name: draw(masks) for name in names if terms.fields[name].type == "string"}
        if names:
            decisions.append(decision(contract, *names, masks=fitting, condition=condition))
        for number in range(draw(st.integers(0, 3 if terms.record_key else 1))):
            payload = {name: draw(texts) for name in terms.fields if draw(st.integers(0, 9))}
            facets.append(facet(contract, payload, draw(times), record_key=f"hash-{number}"))
    return decisions, facets


def answered(decisions: list[Decision], facets: list[Facet]) -> bytes:
    by_contract = {one.contract: one for one in decisions}
    trimmed = [
        found
        for one in facets
        if one.contract in by_contract and (found := trim(by_contract[one.contract], TERMS[one.contract, 1], one))
    ]
    return orjson.dumps(merge(trimmed, TERMS, WATERMARKS, NOW, limit=2))


@settings(max_examples=150, deadline=None)
@given(cities(), st.randoms(use_true_random=False))
def test_the_order_of_facets_changes_nothing(city: tuple[list[Decision], list[Facet]], random_: random.Random) -> None:
    decisions, facets = city
    shuffled = random_.sample(facets, len(facets))
    assert answered(decisions, shuffled) == answered(decisions, facets)


@settings(max_examples=150, deadline=None)
@given(cities(), st.data())
def test_nothing_forbidden_changes_a_byte(city: tuple[list[Decision], list[Facet]], data: st.DataObject) -> None:
    """Other values, more or less of them, in what may not be seen; rows that the condition hides; keys and offsets."""
    decisions, facets = city
    by_contract = {one.contract: one for one in decisions}
    changed = []
    for one in facets:
        permitted = by_contract.get(one.contract)
        seen = set(permitted.fields) | {term.field for term in permitted.condition} if permitted else set()
        seen |= {alias for name in seen for alias in TERMS[one.contract, 1].fields[name].aliases}
        payload = {name: value for name, value in json.loads(one.payload or "{}").items() if name in seen}
        for name in data.draw(st.lists(st.sampled_from([*TERMS[one.contract, 1].fields, "new"]), unique=True)):
            if name not in seen:
                payload[name] = data.draw(st.sampled_from(["canary", 17, None, ["canary"]]))
        if permitted and permitted.condition and data.draw(st.booleans()):
            hidden = dict.fromkeys(TERMS[one.contract, 1].fields, "canary") | {permitted.condition[0].field: "乙"}
            changed.append(facet(one.contract, hidden, NOW, record_key="hidden"))
        moved = {"subject_key": "k1.canary", "record_key": "canary", "partition": 5, "offset": 77, "schema_id": None}
        changed.append(facet(one.contract, payload, one.event_time, **moved))
    answer = answered(decisions, changed)
    assert answer == answered(decisions, facets)
    assert b"canary" not in answer


@settings(max_examples=100, deadline=None)
@given(cities())
def test_every_value_shown_names_who_said_it(city: tuple[list[Decision], list[Facet]]) -> None:
    decisions, facets = city
    answer = json.loads(answered(decisions, facets))
    permitted = {f"{one.contract}.{name}" for one in decisions for name in one.fields}
    for name, value in answer["values"].items():
        assert value["value"] == value["said_by"][0]["value"]
        for said in value["said_by"]:
            fields = TERMS[said["contract"], 1].fields.values()
            assert permitted & {
                f"{said['contract']}.{one.name}"
                for one in fields
                if name in (one.concept, f"{said['contract']}.{one.name}")
            }
