"""Answers spelled straight into bytes, against their reference, `merge`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.decisions import Decision
from exchange.errors import BadRequest
from exchange.records import Facet
from exchange.views import Speller, Trimmed, Trimmer, merge
from tests.test_views import NOW, TERMS, WATERMARKS, cities, field, terms_of

# Two fields of one contract under one concept, values of every type under one concept, and a list.
_NUMBERS = [field(f"n_{type_}", type_, concept="all.numbers", leads=type_ == "int") for type_ in ("int", "double")]
_ODD = {
    (one.contract, one.major): one
    for one in (
        terms_of("a.two", field("second", concept="all.names"), field("first", concept="all.names"), *_NUMBERS),
        terms_of("b.one", field("name", concept="all.names", leads=True), field("own"), *_NUMBERS, cycle_s=None),
        terms_of("c.list", field("number"), key=("number",)),
        terms_of("d.one", field("own", "boolean", concept="all.numbers"), field("name", concept="all.names")),
    )
}
_values = st.sampled_from(["甲", " 甲", "", '"\\', "1", "1.0", 1, 1.0, -0.0, True, None, ["甲"], {"b": 1, "a": None}])
_times = st.sampled_from([-49, -1, 0, 3]).map(lambda hours: NOW + timedelta(hours=hours, microseconds=hours))


@st.composite
def _trimmed(draw: st.DrawFn) -> Trimmed:
    terms = draw(st.sampled_from([*_ODD.values()]))
    names = draw(st.lists(st.sampled_from([*terms.fields]), unique=True))
    return Trimmed(
        contract=terms.contract,
        major=terms.major,
        source=f"{terms.owner}/{draw(st.sampled_from(['x', 'y']))}",
        department=terms.owner,
        version=draw(st.sampled_from([0, 7, 2**62])),
        event_time=draw(_times),
        values={name: draw(_values) for name in terms.fields if name in names},
        masked=frozenset(draw(st.lists(st.sampled_from(names), unique=True))) if names else frozenset(),
    )


def _same(trimmed: list[Trimmed], terms: Any, watermarks: Any, **more: Any) -> None:
    try:
        expected = orjson.dumps(merge(list(trimmed), terms, watermarks, NOW, **more))
    except BadRequest:
        with pytest.raises(BadRequest):
            Speller(terms)(list(trimmed), watermarks, NOW, **more)
    else:
        assert Speller(terms)(list(trimmed), watermarks, NOW, **more) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_trimmed(), max_size=6),
    st.lists(st.sampled_from(["c.list", "z.none"])),
    st.sets(st.sampled_from(["c.list"])),
    st.sampled_from([{}, {"c.list": "x"}, {"b.one": "x"}]),
)
def test_odd_facets_are_spelled_as_merge_says(
    trimmed: list[Trimmed], not_available: list[str], cut: set[str], after: dict[str, str]
) -> None:
    watermarks = {("a.two", "a/x"): NOW, ("d.one", "d/y"): NOW - timedelta(days=2, microseconds=1)}
    _same(trimmed, _ODD, watermarks, not_available=not_available, cut=cut, after=after, limit=2)


@settings(max_examples=150, deadline=None)
@given(cities())
def test_a_city_is_spelled_as_merge_says(city: tuple[list[Decision], list[Facet]]) -> None:
    decisions, facets = city
    by_contract = {one.contract: one for one in decisions}
    trimmed = [
        found
        for one in facets
        if one.contract in by_contract
        and (found := Trimmer(by_contract[one.contract], TERMS[one.contract, 1])(one)) is not None
    ]
    _same(trimmed, TERMS, WATERMARKS, limit=2)


@pytest.mark.parametrize("said", ["1", " ", "甲"])
def test_one_text_of_two_types_may_be_a_conflict(said: str) -> None:
    for contract, name in (("d.one", "own"), ("a.two", "n_int")):
        trimmed = [
            Trimmed("b.one", 1, "b/x", "b", 1, NOW, {"n_double": said}, frozenset()),
            Trimmed(contract, 1, f"{contract[0]}/x", contract[0], 1, NOW, {name: said}, frozenset()),
        ]
        _same(trimmed, _ODD, {})


def test_one_speller_serves_one_view_after_another() -> None:
    speller = Speller(TERMS)
    assert speller([], {}, NOW) == orjson.dumps(merge([], TERMS, {}, NOW))
    one = Trimmed("tax.person", 1, "tax/csv", "tax", 1, NOW, {"address": "东街"}, frozenset())
    later = one._replace(version=2, values={"address": None})
    for trimmed in (one, later, one):
        assert speller([trimmed], {}, NOW) == orjson.dumps(merge([trimmed], TERMS, {}, NOW))
