"""A push and a replay: the first verb for records in JSON, with numbers given from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from exchange.contracts import Contract
from exchange.errors import BrokerUnavailable, Rejected, Unprocessable
from exchange.publish import BLANK, Layout, PushAnswer, Reason, Tolerance, Unparsed, publish_push, replay
from exchange.records import Envelope, Origin, Reject
from tests.support.contracts import contract, field
from tests.support.publishing import KEYS, MILLIS, NOW, NULLABLE_TEXT, TOLERANT, Bench, citizen

FINES = contract(
    field("fine", "string"), field("amount", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
    field("note", NULLABLE_TEXT, default=None), field("secret", NULLABLE_TEXT, default=None),
    field("revision", "long"), field("at", ["null", MILLIS], default=None),
    record_key=["fine"], version="revision", event_time="at", fields={"secret": {"level": 4}},
)  # fmt: skip


class Counter:
    """Where pushes arrive."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        self.bench = Bench(folder, contract, source="civil/push")
        self.bench.registry.register(contract.registry_subject, contract.schema_text)
        for spec in Layout().topics(contract.topic, contract.department):
            self.bench.broker.ensure(spec)
        self.publisher = self.bench.broker.publisher()

    def push(self, *lines: Any, first: int = 1, received: datetime = NOW) -> PushAnswer:
        return publish_push(
            self.bench.contract, lines, first_sequence=first, epoch=3, keys=KEYS, publisher=self.publisher,
            schema_id=1, received=received, tolerance=TOLERANT,
        )  # fmt: skip

    def again(self, reject: Reject) -> None:
        replay(self.bench.contract, reject, keys=KEYS, publisher=self.publisher, schema_id=1)

    def standing(self) -> Sequence[Any]:
        return list(self.bench.facets().values())


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path, FINES)


def fine(number: int, **more: Any) -> dict[str, Any]:
    return {"citizen_id": citizen(number), "fine": "F1", "amount": "1.10", "revision": "7", **more}


def test_good_lines_are_published_and_bad_ones_set_aside_each_under_its_own_number(counter: Counter) -> None:
    answer = counter.push(
        fine(1), fine(2, amount=1.1), Unparsed("{cut", "not JSON at character 4"), [1], fine(3), first=40
    )
    assert answer == PushAnswer(
        2, 3,
        (
            Reason(2, "amount", 'a string such as "1.10" expected, a number found'),
            Reason(3, None, "not JSON at character 4"),
            Reason(4, None, "a JSON object expected"),
        ),
    )  # fmt: skip
    assert sorted(counter.bench.sequences()) == [40, 44]
    assert [reject.origin for reject in counter.bench.rejects()] == [Origin("civil/push", 3, n) for n in (41, 42, 43)]
    assert [reject.place for reject in counter.bench.rejects()] == ["push line 2", "push line 3", "push line 4"]
    assert answer.document()["reasons"][0] == {
        "line": 2, "field": "amount", "reason": 'a string such as "1.10" expected, a number found',
    }  # fmt: skip


def test_blank_lines_have_numbers_too_so_that_a_line_is_found_where_it_is_said_to_be(counter: Counter) -> None:
    answer = counter.push(fine(1), BLANK, BLANK, fine(2, citizen_id="x"), BLANK, fine(3), first=10)
    assert (answer.accepted, answer.rejected) == (2, 1)
    assert [reason.line for reason in answer.reasons] == [4]
    assert [reject.place for reject in counter.bench.rejects()] == ["push line 4"]
    assert counter.bench.sequences() == [10, 15]


def test_where_a_push_stopped_is_a_line_of_it_blank_ones_counted(counter: Counter) -> None:
    answer = publish_push(
        counter.bench.contract, [fine(1), *[BLANK] * 20, 1, 2, 3, fine(2)], first_sequence=1, epoch=3, keys=KEYS,
        publisher=counter.publisher, schema_id=1, received=NOW, tolerance=Tolerance(0.5, 2),
    )  # fmt: skip
    assert answer.document()["stopped_after"] == 23


def test_the_time_of_a_push_is_observed(counter: Counter) -> None:
    def observed() -> float:
        return REGISTRY.get_sample_value("exchange_publish_batch_seconds_count", {"contract": FINES.name}) or 0.0

    before = observed()
    counter.push(fine(1), [1])
    assert observed() == before + 1
    counter.push()  # a heartbeat has no batch
    assert observed() == before + 1


def test_no_reason_repeats_what_was_sent(counter: Counter) -> None:
    lines = [fine(1, name="x"), fine(2, revision=7), fine(3, fine=None), fine(4, note="a\0b"), fine(5, note="a\ud800b")]
    answer = counter.push(*lines, {"citizen_id": citizen(6)[:-1]}, "甲", fine(7))
    assert (answer.accepted, answer.rejected) == (1, 7)
    told = json.dumps(answer.document())
    assert not any(citizen(number) in told for number in range(1, 8))
    assert [reason.field for reason in answer.reasons[:5]] == [None, "revision", "fine", "note", "note"]


def test_at_most_a_hundred_reasons_and_all_of_them_in_the_rejects(counter: Counter) -> None:
    answer = counter.push(*[{"citizen_id": "x"}] * 150)
    assert (answer.rejected, len(answer.reasons), len(counter.bench.rejects())) == (150, 100, 150)


def test_a_missing_member_is_its_default_or_a_reject_and_null_is_null(counter: Counter) -> None:
    counter.push(fine(1, note="x"))
    counter.push(fine(1, revision="8"), first=2)
    assert counter.standing()[0]["note"] is None
    answer = counter.push({"citizen_id": citizen(1), "fine": "F1", "revision": "9"}, first=3)
    assert answer.reasons[0].reason == "missing member amount"


def test_a_push_again_after_a_crash_is_the_same_messages(counter: Counter) -> None:
    lines = [fine(1), {"citizen_id": "x"}, fine(2)]
    counter.bench.broker.faults.lose(keep=1)
    with pytest.raises(BrokerUnavailable):
        counter.push(*lines)
    counter.push(*lines)
    counter.push(*lines)
    counter.bench.check_numbers()
    assert set(counter.bench.sequences()) == {1, 3}


def test_a_deletion_names_subject_key_and_version(counter: Counter) -> None:
    counter.push(fine(1), fine(1, fine="F2"))
    who = {"citizen_id": citizen(1), "fine": "F1"}
    answer = counter.push({"delete": who | {"revision": "8"}}, first=3)
    assert answer == PushAnswer(1, 0)
    assert [value["fine"] for value in counter.standing()] == ["F2"]
    deletion = next(d for d in counter.bench.deliveries() if d.value is None)
    assert Envelope.read(deletion.headers).version == 8
    assert Envelope.read(deletion.headers).event_time == NOW
    refused = counter.push(
        {"delete": {"citizen_id": citizen(1)}}, {"delete": who | {"note": "x"}}, {"delete": who, "fine": "F1"},
        {"delete": "all"}, {"delete": who | {"citizen_id": "1"}}, {"delete": who | {"revision": 8}}, first=10,
    )  # fmt: skip
    assert [reason.field for reason in refused.reasons] == [
        "fine",
        "delete",
        "delete",
        "delete",
        "citizen_id",
        "revision",
    ]
    assert counter.push({"delete": who}, first=20).accepted == 1


def test_level_4_is_refused_and_in_no_reject(counter: Counter) -> None:
    answer = counter.push(fine(1, secret="geheim"), fine(2, secret=None), Unparsed('{"secret": "geheim"', "cut"))
    assert (answer.accepted, answer.rejected) == (1, 2)
    assert answer.reasons[0].field == "secret"
    payloads = [reject.payload for reject in counter.bench.rejects()]
    assert "geheim" not in str(payloads)
    assert citizen(1) in str(payloads[0])
    assert payloads[1] is None


def test_event_time_is_the_field_or_the_receipt_and_an_empty_push_is_a_heartbeat(counter: Counter) -> None:
    counter.push(fine(1, at="2026-03-01T00:00:00.000Z"), fine(2))
    times = {Envelope.read(d.headers).event_time for d in counter.bench.deliveries()}
    assert times == {datetime(2026, 3, 1, tzinfo=UTC), NOW}
    assert counter.push(received=NOW + timedelta(hours=1)) == PushAnswer(0, 0)
    watermark = counter.bench.watermarks()[-1]
    assert (watermark.source, watermark.epoch, watermark.as_of) == ("civil/push", 3, NOW + timedelta(hours=1))
    assert watermark.offsets == {}
    assert set(counter.bench.watermarks()[0].offsets.values()) <= {0, 1}


def test_a_replay_keeps_its_place_in_the_order(counter: Counter) -> None:
    counter.push(fine(1, amount="1.105"), fine(1))
    reject = counter.bench.rejects()[0]
    with pytest.raises(Rejected, match="more than 2 decimals"):
        counter.again(reject)
    mended = Reject(**{**_members(reject), "payload": json.dumps(fine(1, amount="9.00"))})
    counter.again(mended)
    assert counter.standing()[0]["amount"] == "1.10"  # line 2 came later
    assert sorted(counter.bench.sequences()) == [1, 2]


def test_a_deletion_can_be_replayed(counter: Counter) -> None:
    counter.push(fine(1))
    who = {"citizen_id": citizen(1), "fine": "F1", "revision": "8"}
    counter.push({"delete": who | {"note": "x"}}, first=2)
    reject = counter.bench.rejects()[0]
    counter.again(Reject(**{**_members(reject), "payload": json.dumps({"delete": who})}))
    assert counter.standing() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payload": None}, "only the place was kept"),
        ({"payload": '"a line"'}, "divided into fields"),
        ({"origin": None}, "in the topic already"),
    ],
)
def test_what_cannot_be_replayed_says_why(counter: Counter, change: dict[str, Any], reason: str) -> None:
    counter.push(fine(1, amount="x"))
    with pytest.raises(Unprocessable, match=reason):
        counter.again(Reject(**{**_members(counter.bench.rejects()[0]), **change}))


def _members(reject: Reject) -> dict[str, Any]:
    return {name: getattr(reject, name) for name in Reject.__dataclass_fields__}
