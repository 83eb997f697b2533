"""Pushes over HTTP: every line accounted for, one effect for one key, and only the owner's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from exchange.records import WATERMARKS_TOPIC, Envelope, Reject, Watermark
from gateway import limits
from gateway.push import Pushing
from tests.support.gateway import CITIZEN, City

pytestmark = pytest.mark.anyio

PERSONS = "/v1/datasets/civil.person/records"
CALLS = "/v1/datasets/hotline.call/records"
TOPIC = "civil.person.v1"
OTHER = "11010119000101009X"


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    yield made
    made.close()


def good(name: str | None = "Li", citizen: str = CITIZEN) -> dict[str, Any]:
    return {"citizen_id": citizen, "name": name}


async def push(city: City, body: Any, key: str | None = None, path: str = PERSONS, **more: Any) -> httpx2.Response:
    client_id = more.pop("client_id", "civil-push")
    headers = more.pop("headers", {}) | ({"Idempotency-Key": key} if key else {})
    async with city.http(client_id) as http:
        if isinstance(body, bytes):
            return await http.post(path, content=body, headers={"Content-Type": "application/x-ndjson", **headers})
        return await http.post(path, json=body, headers=headers)


def topic(city: City, name: str = TOPIC) -> list[Any]:
    return list(city.broker.read(name))


def effects(city: City, name: str = TOPIC) -> list[tuple[str, int]]:
    """(source, sequence) of every message, repeats dropped: what readers see."""
    origins = [Envelope.read(each.headers).origin for each in topic(city, name)]
    return sorted({(one.source, one.sequence) for one in origins})


def ndjson(*records: Any) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in records)


async def test_an_array_and_lines_are_the_same(city: City) -> None:
    records = [good("Li"), good("Wang", OTHER)]
    for number, body in enumerate((records, ndjson(*records))):
        answer = await push(city, body)
        assert answer.status_code == 200
        assert answer.json() == {
            "accepted": 2, "rejected": 0, "reasons": [], "contract": "civil.person",
            "epoch": answer.json()["epoch"], "first_sequence": str(1 + 2 * number),
        }  # fmt: skip
    assert effects(city) == [("civil/push", 1), ("civil/push", 2), ("civil/push", 3), ("civil/push", 4)]


async def test_every_line_is_accounted_for(city: City) -> None:
    body = ndjson(
        good(),
        b"",
        {"citizen_id": CITIZEN, "adress": "x"},
        {"citizen_id": CITIZEN[:-1] + "5", "name": None},
        b'{"citizen_id":"' + CITIZEN.encode() + b'","citizen_id":"x"}',
        {"citizen_id": CITIZEN, "name": {"string": "Li"}},
        b"[1,2",
        7,
        {"delete": {"citizen_id": CITIZEN}},
        {"delete": {"citizen_id": CITIZEN, "name": "x"}},
    )
    answer = (await push(city, body)).json()
    assert (answer["accepted"], answer["rejected"]) == (2, 7)
    assert [reason["line"] for reason in answer["reasons"]] == [3, 4, 5, 6, 7, 8, 10]
    assert answer["reasons"][1]["field"] == "citizen_id"
    assert "duplicate member" in answer["reasons"][2]["reason"]
    assert CITIZEN not in json.dumps(answer)
    rejects = [Reject.read(each) for each in topic(city, "civil.rejects.v1")]
    assert [one.origin.sequence for one in rejects if one.origin] == [3, 4, 5, 6, 7, 8, 10]
    values = [each.value for each in topic(city)]
    assert sum(value is None for value in values) == 1


async def test_text_that_no_store_could_hold_costs_its_record_only(city: City) -> None:
    """PostgreSQL takes no NUL, and UTF-8 has no lone surrogate: neither may take the good record behind it along."""
    nul, surrogate = (f'{{"citizen_id":"{CITIZEN}","name":"A{sign}B"}}'.encode() for sign in ("\\u0000", "\\ud800"))
    answer = await push(city, ndjson(nul, surrogate, good("Wang", OTHER)))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert [reason["line"] for reason in answer.json()["reasons"]] == [1, 2]
    assert effects(city) == [("civil/push", 3)]
    assert len(topic(city, "civil.rejects.v1")) == 2


async def test_at_most_a_hundred_reasons_but_all_the_rejects(city: City) -> None:
    answer = (await push(city, ndjson(*([{}] * 150)))).json()
    assert (answer["accepted"], answer["rejected"], len(answer["reasons"])) == (0, 150, 100)
    assert len(topic(city, "civil.rejects.v1")) == 150


@pytest.mark.parametrize("form", ["array", "lines"])
async def test_a_push_of_too_many_records_is_refused_whole(city: City, form: str) -> None:
    """A body of two bytes a record would be 32 million messages in the rejects topic, and minutes of work."""
    city.bound(records=50)
    for number, status in ((50, 200), (51, 413)):
        zeros = ([0] * number) if form == "array" else b"0\n" * number
        answer = await push(city, zeros, f"key-{number}")
        assert answer.status_code == status
    assert "at most 50 records" in answer.text
    assert len(topic(city, "civil.rejects.v1")) == 50
    assert (await push(city, [good()], "key-51")).status_code == 200  # the key was not used up


@pytest.mark.parametrize("body", [b"", b"\n \n", []], ids=["nothing", "blank lines", "array"])
async def test_an_empty_push_is_the_heartbeat(city: City, body: Any) -> None:
    answer = (await push(city, body)).json()
    assert (answer["accepted"], answer["rejected"]) == (0, 0)
    (mark,) = [Watermark.read(each) for each in topic(city, WATERMARKS_TOPIC)]
    assert (mark.contract, mark.source, mark.as_of) == ("civil.person", "civil/push", city.clock())
    assert topic(city) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[" + json.dumps(good()).encode(),
        b'[{"citizen_id":"110101190001010014","citizen_id":"x"}]',
        b'[{"name":NaN}]',
        b"[" * 50,
    ],
)
async def test_an_array_that_is_none_is_refused_and_nothing_is_published(city: City, body: bytes) -> None:
    answer = await push(city, body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert CITIZEN not in answer.text
    assert topic(city) == topic(city, "civil.rejects.v1") == topic(city, WATERMARKS_TOPIC) == []


# --- whose ------------------------------------------------------------------------------------------------------------


async def test_a_department_pushes_its_own_only(city: City) -> None:
    for client_id, path in (
        ("civil-push", CALLS),
        ("hotline-push", PERSONS),
        ("civil-push", CALLS.replace("call", "x")),
    ):
        answer = await push(city, [good()], client_id=client_id, path=path)
        assert (answer.status_code, answer.json()["type"]) == (403, "/errors/forbidden")
    assert len(city.log.entries) == 3
    reader = await push(city, [good()], client_id="tax-desk")
    assert reader.json()["type"] == "/errors/insufficient-scope"
    async with city.http(None) as http:
        assert (await http.post(PERSONS, json=[])).status_code == 401


@pytest.mark.parametrize("name", ["civil.nothing", "civil.case_file", "civil", "civil.", "civil.person.v1"])
async def test_a_dataset_that_takes_no_records_is_404(city: City, name: str) -> None:
    answer = await push(city, [], path=f"/v1/datasets/{name}/records")
    assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found")


async def test_a_newer_version_of_the_schema_counts_at_once(city: City) -> None:
    from tests.support.contracts import contract, field

    extra = [field(name, ["null", "string"], default=None) for name in ("name", "address")]
    newer = contract(*extra, fields={"name": {"concept": "citizen.name", "lead": True}})
    body = ndjson({**good(), "address": "x"})
    assert (await push(city, body)).json()["rejected"] == 1
    city.registry.register(newer.registry_subject, newer.schema_text)
    assert (await push(city, body)).json()["accepted"] == 1


# --- too many rejects -------------------------------------------------------------------------------------------------


async def test_a_push_that_is_mostly_wrong_stops_and_loses_nothing(city: City) -> None:
    city.bound(max_reject_share=0.5, min_rejects=3)
    wrong: dict[str, Any] = {"citizen_id": "x"}
    body = ndjson(good(), wrong, wrong, wrong, good("Wang", OTHER), wrong)
    stopped = await push(city, body, "k")
    assert stopped.status_code == 422
    problem = stopped.json()
    assert (problem["type"], problem["accepted"], problem["rejected"]) == ("/errors/too-many-rejects", 1, 3)
    assert (problem["stopped_after"], [reason["line"] for reason in problem["reasons"]]) == (4, [2, 3, 4])
    assert "3 of the first 4 records" in problem["detail"]
    city.clock.move(3600)
    city.bound(max_reject_share=1.0)
    again = await push(city, body, "k")  # what was answered stays, whatever was set since
    assert {**again.json(), "request_id": ""} == {**problem, "request_id": ""}
    assert (len(topic(city)), len(topic(city, "civil.rejects.v1"))) == (1, 3)
    assert topic(city, WATERMARKS_TOPIC) == []  # the source has more to tell
    rest = await push(city, ndjson(good("Wang", OTHER)), "k2")
    assert rest.json()["accepted"] == 1
    assert int(rest.json()["first_sequence"]) == int(problem["first_sequence"]) + 6  # no number is given twice


async def test_a_push_that_was_to_stop_and_crashed_stops_at_the_same_line(city: City) -> None:
    city.bound(max_reject_share=0.5, min_rejects=3)
    body = ndjson(good(), *([{"citizen_id": "x"}] * 5))
    city.broker.faults.lose()
    assert (await push(city, body, "k")).status_code == 503
    assert (await push(city, body, "k")).json()["stopped_after"] == 4
    assert len(effects(city)) == 1
    assert {sequence for _, sequence in effects(city, "civil.rejects.v1")} == {2, 3, 4}


async def test_few_rejects_or_a_small_share_stop_nothing(city: City) -> None:
    city.bound(max_reject_share=0.5, min_rejects=3)
    for lines, rejected in (([{}, {}], 2), ([good(), good(), good(), {}, {}, {}], 3)):
        answer = await push(city, lines)
        assert (answer.status_code, answer.json()["rejected"]) == (200, rejected)


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_the_same_body_under_a_key_has_one_effect_and_one_answer(city: City) -> None:
    body = ndjson(good(), {"citizen_id": "x"}, good("Wang", OTHER))
    first = await push(city, body, "k")
    city.clock.move(3600)
    again = await push(city, body, "k")
    assert again.content == first.content
    assert first.json()["rejected"] == 1
    assert len(topic(city)) == 2
    assert len(topic(city, "civil.rejects.v1")) == 1


async def test_another_body_contract_or_form_under_a_key_is_422(city: City) -> None:
    assert (await push(city, [], "k")).status_code == 200
    for body in ([good()], b"", ndjson(good())):
        answer = await push(city, body, "k")
        assert (answer.status_code, answer.json()["type"]) == (422, "/errors/unprocessable")
    assert topic(city) == []


async def test_keys_of_two_clients_never_meet(city: City) -> None:
    call = {"citizen_id": CITIZEN, "ticket": "1", "topic": None}
    one = await push(city, [good()], "k")
    two = await push(city, [call], "k", path=CALLS, client_id="hotline-push")
    assert one.status_code == two.status_code == 200
    assert len(topic(city)) == len(topic(city, "hotline.call.v1")) == 1


async def test_fifty_at_once_have_one_effect(city: City) -> None:
    answers = await asyncio.gather(*(push(city, [good()], "k2") for _ in range(50)))
    statuses = {answer.status_code for answer in answers}
    assert 200 in statuses
    assert statuses <= {200, 409}
    assert len(effects(city)) == 1
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1


async def test_after_a_crash_the_retry_says_the_same_again(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    body = ndjson(good(), good("Wang", OTHER), {"citizen_id": "x"})

    def crash(self: Pushing, *_: Any) -> bytes:
        raise SystemExit("killed between publish and answer")

    with monkeypatch.context() as patch:
        whole = Pushing._produce

        def produced_and_killed(self: Pushing, *arguments: Any) -> bytes:
            whole(self, *arguments)
            return crash(self)

        patch.setattr(Pushing, "_produce", produced_and_killed)
        with pytest.raises(BaseException, match="killed"):
            await push(city, body, "k")
    assert (await push(city, body, "k")).status_code == 409  # its lease still runs
    city.clock.move(11)
    answer = await push(city, body, "k")
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)
    for name in (TOPIC, "civil.rejects.v1"):
        said = Counter((one.key, one.value, *sorted(one.headers.items())) for one in topic(city, name))
        assert set(said.values()) == {2}
    assert (await push(city, body, "k")).content == answer.content


async def test_a_broker_that_is_away_frees_the_key(city: City) -> None:
    for fail in (city.broker.faults.refuse, city.broker.faults.lose):
        fail()
        answer = await push(city, ndjson(good(), good("W", OTHER)), "k")
        assert (answer.status_code, answer.json()["type"]) == (503, "/errors/broker-unavailable")
        assert answer.headers["retry-after"]
    assert (await push(city, ndjson(good(), good("W", OTHER)), "k")).status_code == 200
    assert len(effects(city)) == 2


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ключ"])
async def test_a_key_is_visible_ascii(city: City, key: str) -> None:
    answer = await push(city, [], headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    async with city.http("civil-push") as http:
        twice = await http.post(PERSONS, json=[], headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert twice.status_code == 400


async def test_a_key_may_hold_what_it_should_not_and_is_not_kept(city: City) -> None:
    await push(city, [], CITIZEN)
    city.store.close()
    assert all(CITIZEN.encode() not in file.read_bytes() for file in city.folder.iterdir())


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_one_department_does_not_keep_another_from_publishing(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, publish = threading.Event(), Pushing.publish

    def slowly(self: Pushing, what: Any, bundle: Any) -> bytes:
        if what.client.department == "civil":
            assert go_on.wait(10)
        return publish(self, what, bundle)

    monkeypatch.setattr(Pushing, "publish", slowly)
    waiting = [asyncio.create_task(push(city, [good()])) for _ in range(3)]
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(5):
            answer = await push(city, [], path=CALLS, client_id="hotline-push")
    finally:
        go_on.set()
    assert answer.status_code == 200
    assert {one.status_code for one in await asyncio.gather(*waiting)} == {200}


async def test_a_push_may_be_larger_than_other_bodies_and_is_bounded(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps(good("x" * 900)).encode() + b"\n"
    body = line * (limits.BODY_BYTES // len(line) + 10)
    assert len(body) > limits.BODY_BYTES
    answer = await push(city, body)
    assert answer.json()["accepted"] == body.count(b"\n")
    monkeypatch.setattr(limits, "PUSH", limits.Allowance(1000))
    refused = await push(city, body)
    assert (refused.status_code, refused.json()["type"]) == (413, "/errors/body-too-large")


async def test_a_push_that_finds_no_room_is_told_to_come_again(city: City) -> None:
    city.bound(spool_bytes=2_000)
    answer = await push(city, [good("x" * 1_000)])
    assert (answer.status_code, answer.json()["type"]) == (503, "/errors/busy")
    assert answer.headers["retry-after"]
    assert topic(city) == []
    for _ in range(5):  # what was refused, and what was answered, holds no room
        assert (await push(city, [good("x" * 800)])).status_code == 200


async def test_media_types(city: City) -> None:
    for media in ("application/ndjson", "application/jsonl", "application/x-ndjson; charset=utf-8"):
        assert (await push(city, ndjson(good()), headers={"Content-Type": media})).json()["accepted"] == 1
    for media in ("text/csv", "application/json-seq", "multipart/form-data"):
        answer = await push(city, ndjson(good()), headers={"Content-Type": media})
        assert (answer.status_code, answer.json()["type"]) == (415, "/errors/media-type")


TRACE = f"00-{'4b' * 16}-{'00f0' * 4}-01"


async def test_a_trace_goes_with_every_record_and_reject(city: City) -> None:
    body = [good("Li"), {"citizen_id": "nobody"}, {"delete": {"citizen_id": OTHER}}]
    with structlog.testing.capture_logs() as lines:
        answer = await push(city, body, "k1", headers={"traceparent": TRACE})
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)
    assert answer.headers["traceparent"] == TRACE
    (line,) = [each for each in lines if each["event"] == "request"]
    assert line["trace_id"] == "4b" * 16
    messages = [*topic(city), *topic(city, "civil.rejects.v1")]
    assert [Envelope.read(each.headers).traceparent for each in messages] == [TRACE] * 3
    again = await push(city, body, "k1", headers={"traceparent": TRACE.replace("4b", "5c")})
    assert again.json() == answer.json()
    assert effects(city) == sorted(set(effects(city)))
    assert len(topic(city)) == 2, "the answer was kept: nothing was said again"


@pytest.mark.parametrize(
    "traces", [[], ["x"], [TRACE.upper()], [TRACE, TRACE], [f"00-{CITIZEN.lower().zfill(32)}-{'00f0' * 4}-01"]]
)
async def test_a_trace_that_is_none_is_passed_over(city: City, traces: list[str]) -> None:
    async with city.http("civil-push") as http:
        headers = [("traceparent", each) for each in traces]
        answer = await http.post(PERSONS, json=[good()], headers=headers)
    assert (answer.status_code, "traceparent" in answer.headers) == (200, False)
    assert ["traceparent" in each.headers for each in topic(city)] == [False]


async def test_the_log_line_of_a_push(city: City) -> None:
    with structlog.testing.capture_logs() as logged:
        await push(city, ndjson(good(), {"citizen_id": CITIZEN}), "k")
    (line,) = [entry for entry in logged if entry["event"] == "request"]
    assert line["route"] == "/v1/datasets/{dataset}/records"
    assert (line["contract"], line["client"]) == ("civil.person", "civil-push")
    assert CITIZEN not in str(logged)
