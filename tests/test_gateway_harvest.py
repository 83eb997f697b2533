"""Bounds of each client: requests under way, and distinct subjects a day over restarts and gateways."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from exchange.store.tables import subjects_seen
from gateway.sketch import REGISTERS, Sketch
from tests.support.gateway import CITIZEN, City, client

pytestmark = pytest.mark.anyio

VIEW = "/v1/citizens/view"
PURPOSE = {"Exchange-Purpose": "tax-assessment"}
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def citizens(number: int, first: int = 0) -> list[str]:
    """So many valid identifiers (GB 11643), from the `first` on."""
    heads = [f"110101{1950 + n // 900}0101{n % 900 + 100:03}" for n in range(first, first + number)]
    return [head + "10X98765432"[sum(int(d) * w for d, w in zip(head, WEIGHTS, strict=True)) % 11] for head in heads]


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    yield made
    made.close()


async def ask(city: City, identifier: str = CITIZEN, client_id: str = "tax-desk") -> Any:
    async with city.http(client_id) as http:
        return await http.post(VIEW, json={"id": identifier}, headers=PURPOSE)


def bounded(city: City, **settings: Any) -> None:
    """As another gateway process of the same store, or the same one started again."""
    city.harvest = city.make_harvest(**settings)
    city.app = city.make_app()


@pytest.mark.parametrize("number", [0, 1, 10, 500, 5_000, 12_000, 50_000])
def test_a_sketch_tells_how_many(number: int) -> None:
    sketch = Sketch()
    for each in range(number):
        sketch.add(f"k1.{each}")
        if each % 7 == 0:
            sketch.add(f"k1.{each // 2}")
    assert abs(len(sketch) - number) <= max(1, 0.05 * number)


def test_sketches_that_are_merged_are_one() -> None:
    random_, one, two, both = random.Random(1), Sketch(), Sketch(), Sketch()
    for _ in range(3_000):
        text = str(random_.randrange(2_000))
        random_.choice((one, two)).add(text)
        both.add(text)
    one.merge(bytes(two))
    one.merge(bytes(two))
    assert bytes(one) == bytes(both)
    for wrong in (b"", bytes(REGISTERS - 1), b"\xff" * REGISTERS):
        with pytest.raises(ValueError, match="registers"):
            one.merge(wrong)


async def test_a_client_sees_so_many_subjects_a_day_and_no_more(city: City) -> None:
    bounded(city, subjects_per_day=20, subjects_per_day_of={"other-desk": 3})
    city.clients.append(client("other-desk", "tax", "view"))
    city.make_bundle()
    for number, each in enumerate(citizens(20), 1):
        for _ in range(2 if number < 20 else 1):  # the same one again is none more
            answer = await ask(city, each)
            assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"subjects-a-day";q=20;w=86400'
        assert answer.headers["ratelimit"] == f'"subjects-a-day";r={20 - number};t=25200'  # 17:00 in Shanghai
    shown = len(city.disclosing.asked)
    refused = await ask(city, citizens(1, 50)[0])
    assert refused.status_code == 429
    problem = refused.json()
    assert (problem["type"], problem["violated-policies"]) == ("/errors/subjects-exhausted", ["subjects-a-day"])
    assert refused.headers["ratelimit"] == '"subjects-a-day";r=0;t=25200'
    assert refused.headers["retry-after"] == "25200"
    assert len(city.disclosing.asked) == shown
    (entry,) = city.log.entries  # a refusal of a known client
    assert (entry.outcome, entry.reason, entry.client) == ("refused", "subjects-exhausted", "tax-desk")
    labels = {"client": "tax-desk", "bound": "subjects"}
    assert REGISTRY.get_sample_value("exchange_throttled_total", labels)
    assert REGISTRY.get_sample_value("exchange_client_subjects", {"client": "tax-desk"}) == 20
    found = [(await ask(city, each, "other-desk")).status_code for each in citizens(4)]
    assert found == [200, 200, 200, 429]
    assert REGISTRY.get_sample_value("exchange_client_subjects_bound", {"client": "tax-desk"}) == 20
    assert REGISTRY.get_sample_value("exchange_client_subjects_bound", {"client": "other-desk"}) == 3
    city.clock.move(25_200)  # midnight
    assert (await ask(city)).status_code == 200
    assert REGISTRY.get_sample_value("exchange_client_subjects", {"client": "tax-desk"}) == 1
    assert REGISTRY.get_sample_value("exchange_client_subjects", {"client": "other-desk"}) == 0, (
        "it asked nothing today"
    )


async def test_the_number_holds_over_restarts_and_gateways_and_names_nobody(city: City) -> None:
    bounded(city, subjects_per_day=20)
    first = city.harvest
    for each in citizens(8):
        await ask(city, each)
    await first.exchange()
    bounded(city, subjects_per_day=20)  # another gateway, or this one after a kill
    await city.harvest.exchange()
    for each in citizens(8, 4):
        answer = await ask(city, each)
    assert answer.headers["ratelimit"].startswith('"subjects-a-day";r=8;')
    await asyncio.gather(first.exchange(), city.harvest.exchange())
    await asyncio.gather(first.exchange(), city.harvest.exchange())
    for each in citizens(8, 12):
        assert (await ask(city, each)).status_code == 200
    await city.harvest.exchange()
    await first.exchange()
    city.harvest = first
    city.app = city.make_app()
    assert (await ask(city)).status_code == 429
    with city.store.engine.connect() as connection:
        ((day, name, sketch),) = connection.execute(sa.select(subjects_seen)).all()
    assert (day, json.loads(name)[1], len(sketch)) == ("2026-06-01", "tax-desk", REGISTERS)
    city.clock.move(86_400)
    await ask(city)
    await first.exchange()
    with city.store.engine.connect() as connection:
        assert connection.execute(sa.select(subjects_seen.c.day)).scalars().all() == ["2026-06-02"]


async def test_a_client_has_so_many_requests_under_way_and_others_do_not_notice(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded(city, requests_in_flight=3)
    city.clients.append(client("other-desk", "tax", "view"))
    city.make_bundle()
    going_on, show = asyncio.Event(), city.disclosing.disclose

    async def slowly(request: Any) -> Any:
        await going_on.wait()
        return await show(request)

    monkeypatch.setattr(city.disclosing, "disclose", slowly)
    waiting = [asyncio.create_task(ask(city)) for _ in range(3)]
    await asyncio.sleep(0.05)
    refused = await ask(city)
    assert (refused.status_code, refused.json()["type"]) == (429, "/errors/too-many-under-way")
    assert refused.headers["ratelimit-policy"] == '"requests-in-flight";q=3;qu="concurrent-requests"'
    assert refused.headers["retry-after"] == "1"
    other = asyncio.create_task(ask(city, client_id="other-desk"))
    going_on.set()
    assert {answer.status_code for answer in await asyncio.gather(other, *waiting)} == {200}
    assert (await ask(city)).status_code == 200  # every place is free again
    city.disclosing.fails = RuntimeError("x")
    for _ in range(5):
        assert (await ask(city)).status_code == 500
    city.disclosing.fails = None
    assert (await ask(city)).status_code == 200


async def test_what_was_damaged_in_the_store_counts_nothing_and_stops_nothing(city: City) -> None:
    bounded(city, subjects_per_day=20)
    for each in citizens(3):
        await ask(city, each)
    await city.harvest.exchange()
    with city.store.engine.begin() as connection:
        connection.execute(subjects_seen.update().values(sketch=b"damaged"))
        ((day, _, _),) = connection.execute(sa.select(subjects_seen)).all()
        connection.execute(subjects_seen.insert().values(day=day, client="[]", sketch=b"damaged"))
    with capture_logs() as said:
        await city.harvest.exchange()
    assert [line["log_level"] for line in said] == ["warning"]  # of the client that nobody here has counted
    with city.store.engine.connect() as connection:
        sketches = {name: sketch for _, name, sketch in connection.execute(sa.select(subjects_seen))}
    assert sketches.pop("[]") == b"damaged"
    (ours,) = sketches.values()
    assert len(Sketch(bytes(ours))) == 3


async def test_a_rank_that_no_sketch_has_is_told_once_a_day_and_counts_nothing(city: City) -> None:
    bounded(city, subjects_per_day=20)
    await ask(city)
    await city.harvest.exchange()
    with city.store.engine.begin() as connection:
        connection.execute(subjects_seen.update().values(sketch=b"\xff" * REGISTERS))
    with capture_logs() as said:
        for _ in range(3):
            await city.harvest.exchange()
    assert len(said) == 1
    assert (await ask(city)).headers["ratelimit"].startswith('"subjects-a-day";r=19;')
