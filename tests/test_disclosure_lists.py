"""Long lists under a row condition: each permitted row once, page by page, and nothing that tells of hidden ones."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from exchange.agreements import Condition, Terms
from exchange.decisions import Decision
from exchange.disclosure.gathering import MOST_ROWS, Gathering
from exchange.errors import BadRequest
from exchange.records import Facet, micros
from exchange.store import LIST_LIMIT, Place
from exchange.views import LIMIT, Trimmer, merge
from tests.support.disclosure import FIRM, NOW, City, city, facet, put
from tests.support.policies import PENALTY, agreement
from tests.support.stores import stores

pytestmark = pytest.mark.anyio
__all__ = ["city", "stores"]

NAME = "market.penalty"
TERMS = {(NAME, 1): Terms.of(PENALTY)}
LARGE = Decision(
    NAME,
    1,
    allowed=True,
    fields=MappingProxyType({"number": None}),
    condition=(Condition(field="amount", op=">=", literal="100"),),
)
ALL = dataclasses.replace(LARGE, condition=())
TIMES = {
    "each its own": [timedelta(hours=-number) for number in range(2_000)],
    "one, as in a snapshot": [timedelta(days=-3)],
    "three batches": [timedelta(days=-days) for days in (1, 2, 90)],
    "some to come": [timedelta(minutes=minutes) for minutes in range(-300, 300)],
    "all to come": [timedelta(hours=1), timedelta(hours=2)],
}


@dataclass
class Rows:
    """A reader over facets in memory, as FacetReader promises it."""

    facets_: list[Facet]
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.facets_ = sorted(self.facets_, key=lambda one: (one.event_time, one.record_key), reverse=True)

    async def facets(
        self, subject_key: str, wanted: Sequence[Any], after: Mapping[str, Place], limit: int = LIST_LIMIT
    ) -> list[Facet]:
        self.asked.append((subject_key, list(wanted), limit))
        place = after.get(NAME)
        return [
            one
            for one in self.facets_
            if place is None or (one.event_time, one.record_key) < (place.event_time, place.record_key)
        ][:limit]


def penalty(number: int, event_time: datetime, *, hidden: bool, key: int) -> Facet:
    amount = "99.99" if hidden else "100.00"
    made = facet(NAME, FIRM, f"{key:022d}", number=f"P-{number}", amount=amount, officer="Wang")
    return made._replace(event_micros=micros(event_time))


def list_of(seed: int, rows: int, times: Sequence[timedelta], hidden: float) -> tuple[list[Facet], list[Facet]]:
    """Facets in no order, and those of them that the condition lets through."""
    chance = random.Random(seed)
    made = [
        penalty(number, NOW + chance.choice(times), hidden=chance.random() < hidden, key=chance.getrandbits(60))
        for number in range(rows)
    ]
    return made, [one for one in made if "100.00" in str(one.payload)]


async def page(reader: Any, after: Mapping[str, str], now: datetime, decision: Decision = LARGE) -> dict[str, Any]:
    gathering = Gathering(reader, {(NAME, 1): Trimmer(decision, TERMS[NAME, 1])}, TERMS, after, now)
    found = await gathering.of("k1.x")
    return merge(found, TERMS, {}, now, after, cut=gathering.cut)


async def pages(reader: Any) -> list[dict[str, Any]]:
    """All pages, the clock going on between them."""
    read, after, now = [], {}, NOW
    while True:
        read.append((await page(reader, after, now))["records"].get(NAME, {"items": [], "more": False, "next": None}))
        if not read[-1]["more"]:
            return read
        after, now = {NAME: read[-1]["next"]}, now + timedelta(minutes=17)


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize(
    ("rows", "hidden"), [(650, 0.0), (650, 0.5), (1_700, 0.97), (1_300, 1.0), (201, 0.0), (200, 0)]
)
async def test_every_permitted_row_once_as_if_the_hidden_ones_did_not_exist(
    times: Sequence[timedelta], rows: int, hidden: float
) -> None:
    every, permitted = list_of(rows, rows, times, hidden)
    read = await pages(Rows(every))
    shown = [item["value"]["number"] for one in read for item in one["items"]]
    assert sorted(shown) == sorted(json.loads(str(one.payload))["number"] for one in permitted)
    assert [len(one["items"]) for one in read[:-1]] == [LIMIT] * (len(read) - 1)
    assert all(set(item["value"]) == {"number"} for one in read for item in one["items"])
    told = {str(json.loads(str(one.payload))["number"]): min(one.event_time, NOW) for one in permitted}
    order = [told[number] for number in shown]
    assert order == sorted(order, reverse=True)
    assert read == await pages(Rows(permitted))
    assert all(one.get("cut") for one in read if one["items"])  # under a condition, whatever it hides


async def test_a_list_of_distinct_times_is_read_once_for_each_page() -> None:
    every, _ = list_of(1, 900, TIMES["each its own"], 0.0)
    every = [one._replace(event_micros=micros(NOW - timedelta(seconds=number))) for number, one in enumerate(every)]
    reader = Rows(every)
    assert len(await pages(reader)) == 5
    # The first page needs no more than its 201 rows; a cursor's own row is read again, and so a second piece.
    assert [limit for _, _, limit in reader.asked[:2]] == [LIST_LIMIT, LIST_LIMIT]
    assert len(reader.asked) == 1 + 2 * 3 + 1


class Endless(Rows):
    """Its rows again and again, however many are asked for."""

    async def facets(self, subject_key: str, wanted: Any, after: Any, limit: int = LIST_LIMIT) -> list[Facet]:
        await super().facets(subject_key, wanted, after, limit)
        return (self.facets_ * (1 + limit // len(self.facets_)))[:limit]


@pytest.mark.parametrize("hidden", [1.0, 0.0])
@pytest.mark.parametrize("decision", [LARGE, ALL], ids=["condition", "no condition"])
async def test_a_list_that_is_left_at_a_bound_says_so_and_tells_nothing_of_hidden_rows(
    decision: Decision, hidden: float
) -> None:
    every, permitted = list_of(2, 50, TIMES["one, as in a snapshot"], hidden)
    reader = Endless(every)
    told = await page(reader, {}, NOW, decision)
    assert sum(limit for _, _, limit in reader.asked) < MOST_ROWS + 1_000
    if decision is LARGE and not permitted:
        assert told == await page(Rows([]), {}, NOW, decision)
    else:
        listed = told["records"][NAME]
        assert (listed["cut"], len(listed["items"]), listed["more"]) == (True, LIMIT, True)


async def test_a_list_in_which_nothing_can_be_hidden_is_not_cut_before_the_bound() -> None:
    every, _ = list_of(6, 700, TIMES["three batches"], 0.5)
    assert "cut" not in (await page(Rows(every), {}, NOW, ALL))["records"][NAME]


@pytest.mark.parametrize("place", [-(10**17), 0, 10**15, 2 * 10**15, 10**17])
@pytest.mark.parametrize("now", [-(10**17), 0, 10**15, 10**17])
async def test_a_cursor_that_was_made_up_shows_no_more(place: int, now: int) -> None:
    every, permitted = list_of(3, 500, TIMES["some to come"], 0.6)
    reader = Rows(every)
    found = await page(reader, {NAME: f"{now}.{place}.{'0' * 32}.1"}, NOW)
    allowed = {json.loads(str(one.payload))["number"] for one in permitted}
    items = found["records"].get(NAME, {"items": []})["items"]
    assert {item["value"]["number"] for item in items} <= allowed
    assert {kind for asked in reader.asked for kind in asked[1]} == {(NAME, 1)}


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.00000000000000000000000000000000.1\n", "a" * 200, "-1.-1.g.0"])
async def test_a_cursor_of_another_form_is_refused_whoever_the_subject_is(text: str) -> None:
    for reader in (Rows([]), Rows(list_of(4, 10, TIMES["three batches"], 0.0)[0])):
        with pytest.raises(BadRequest):
            await page(reader, {NAME: text}, NOW)
        assert reader.asked == []


async def test_the_pages_of_a_real_store(city: City) -> None:
    """Over the verb itself: an agreement that hides comes before the open permit; rows of two batches, few of one."""
    city.apply_all(
        market=agreement(
            'number = "plain"', id='"m-1"', contract='"market.penalty"', condition='[["amount", ">=", "100"]]'
        )
    )
    await city.watch.look()
    every, permitted = list_of(5, 900, TIMES["three batches"], 0.5)
    put(city.stores, NAME, every)
    shown, after = [], {}
    for _ in range(9):
        document, _, _ = await city.ask(subject=FIRM, after=after)
        listed = document["records"][NAME]
        shown += [item["value"] for item in listed["items"]]
        if not listed["more"]:
            break
        after = {NAME: listed["next"]}
    expected = [{"number": json.loads(str(one.payload))["number"]} for one in permitted]
    assert sorted(shown, key=str) == sorted(expected, key=str)
    assert len(city.entries()) == -(-len(expected) // LIMIT)  # each page is an access of its own
