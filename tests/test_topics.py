"""One conformance suite over every broker: what exchange.topics promises holds on each of them."""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.errors import BrokerUnavailable, StoreUnavailable, TopicChanged
from exchange.kafka import KafkaBroker
from exchange.records import Delivery, Message
from exchange.topics import MESSAGE_LIMIT, Broker, TopicSpec
from tests.support.backings import (
    Backing,
    FakeBacking,
    KafkaBacking,
    Owner,
    SqliteBacking,
    message,
    poll_until,
    take,
    unique,
    until,
)
from tests.support.broker import FailingPublisher
from tests.support.children import Child, child

__all__ = ["child"]

KINDS = [
    pytest.param("fake", id="fake"),
    pytest.param("sqlite", id="sqlite"),
    pytest.param("kafka", id="kafka", marks=pytest.mark.services),
]


@pytest.fixture(params=KINDS)
def backing(request: pytest.FixtureRequest, tmp_path: Path) -> Backing:
    if request.param == "fake":
        return FakeBacking()
    if request.param == "sqlite":
        return SqliteBacking(tmp_path / "topics.db")
    return KafkaBacking(request.getfixturevalue("kafka_servers"))


@pytest.fixture
def broker(backing: Backing) -> Iterator[Broker]:
    broker = backing.broker()
    yield broker
    broker.close()


@pytest.fixture
def topic(broker: Broker) -> str:
    """A topic that keeps everything: nothing is compacted away during a test."""
    name = unique()
    broker.ensure(TopicSpec(name, partitions=4, compacted=False))
    return name


def publish(broker: Broker, topic: str, messages: list[Message]) -> list[tuple[int, int]]:
    publisher = broker.publisher()
    try:
        return publisher.publish(topic, messages)
    finally:
        publisher.close()


def by_key(deliveries: list[Delivery]) -> dict[bytes | None, list[bytes | None]]:
    """The values of each key in the order in which they stand in the log."""
    found: dict[bytes | None, list[bytes | None]] = defaultdict(list)
    for delivery in sorted(deliveries, key=lambda d: (d.partition, d.offset)):
        found[delivery.key].append(delivery.value)
    return dict(found)


# --- topics -----------------------------------------------------------------------------------------------------------


def test_a_topic_is_made_once(broker: Broker) -> None:
    name = unique()
    assert broker.state(name) is None
    broker.ensure(TopicSpec(name, partitions=3))
    first = broker.state(name)
    assert first is not None
    assert first.name == name
    assert set(first.bounds.values()) == {(0, 0)}
    publish(broker, name, [message("k", "v")])
    broker.ensure(TopicSpec(name, partitions=5, compacted=False))
    second = broker.state(name)
    assert second is not None
    assert (second.id, len(second.bounds)) == (first.id, len(first.bounds))
    assert max(second.bounds.values()) == (0, 1)


def test_a_topic_made_again_is_another(backing: Backing, broker: Broker, topic: str) -> None:
    before = broker.state(topic)
    backing.recreate(topic)
    after = broker.state(topic)
    assert before is not None
    assert after is not None
    assert before.id != after.id


@pytest.mark.parametrize("name", ["", "..", "a b", "市.人口", "x" * 250])
def test_a_name_that_no_broker_takes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        TopicSpec(name)


def test_an_unknown_topic(broker: Broker) -> None:
    name = unique()
    publisher = broker.publisher()
    with pytest.raises(TopicChanged, match=name):
        publisher.publish(name, [message("k", "v")])
    publisher.close()
    with pytest.raises(TopicChanged, match=name):
        broker.feed("g", [name], Owner())
    with pytest.raises(TopicChanged, match=name):
        list(broker.read(name))
    assert broker.state(name) is None, "asking for it must not make it"


# --- publishing and reading -------------------------------------------------------------------------------------------


def test_what_was_published_is_read_back_by_another(backing: Backing, broker: Broker, topic: str) -> None:
    headers = {"ce_source": b"civil/a/1", "raw": bytes(range(256)), "empty": b""}
    sent = [
        Message(b"k1.a", b"\x00\x01", headers),
        Message(b"k1.a", None, {"ce_type": b"deletion"}),
        Message(b"k1.b", b"", {}),
    ]
    places = publish(broker, topic, sent)
    found = {(delivery.partition, delivery.offset): delivery for delivery in backing.broker().read(topic)}
    assert list(found) != []
    for place, expected in zip(places, sent, strict=True):
        delivery = found[place]
        assert (delivery.topic, delivery.key, delivery.value) == (topic, expected.key, expected.value)
        assert dict(delivery.headers) == dict(expected.headers)
    assert found[places[1]].value is None, "a deletion is no empty value"
    assert found[places[2]].value == b""


def test_messages_of_one_key_keep_the_order_of_the_calls(broker: Broker, topic: str) -> None:
    publisher = broker.publisher()
    number = 0
    for _ in range(5):
        batch = [message(f"k{n % 5}", str(n)) for n in range(number, number + 40)]
        publisher.publish(topic, batch)
        number += 40
    publisher.close()
    found = by_key(list(broker.read(topic)))
    assert found == {b"k%d" % k: [b"%d" % n for n in range(200) if n % 5 == k] for k in range(5)}


def test_an_empty_batch_is_nothing(broker: Broker, topic: str) -> None:
    assert publish(broker, topic, []) == []
    assert list(broker.read(topic)) == []


def test_the_largest_message_passes_and_a_larger_one_is_refused_before_sending(broker: Broker, topic: str) -> None:
    publisher = broker.publisher()
    good = message("k", "good")
    for bad in (
        Message(b"k", b"x" * (MESSAGE_LIMIT + 1), {}),
        Message(b"k" * (MESSAGE_LIMIT + 1), b"", {}),
        Message(b"k", b"", {"h": b"x" * 70_000}),
    ):
        with pytest.raises(ValueError, match="over"):
            publisher.publish(topic, [good, bad])
    assert list(broker.read(topic)) == []
    largest = Message(b"k" * MESSAGE_LIMIT, bytes(range(256)) * (MESSAGE_LIMIT // 256), {"h": b"x" * 60_000})
    publisher.publish(topic, [largest, good])
    publisher.close()
    assert {delivery.value for delivery in broker.read(topic)} == {largest.value, good.value}


def test_read_ends_at_the_present_end(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message(f"k{n}", "old") for n in range(20)])
    reading = broker.read(topic)
    first = next(reading)
    publish(broker, topic, [message(f"k{n}", "new") for n in range(20)])
    assert {delivery.value for delivery in [first, *reading]} == {b"old"}


def test_read_goes_on_from_an_offset(broker: Broker, topic: str) -> None:
    places = publish(broker, topic, [message(f"k{n % 7}", str(n)) for n in range(60)])
    state = broker.state(topic)
    assert state is not None
    since = {partition: (first + end) // 2 for partition, (first, end) in state.bounds.items()}
    found = sorted((delivery.partition, delivery.offset) for delivery in broker.read(topic, since))
    assert found == sorted(place for place in places if place[1] >= since[place[0]])
    ends = {partition: end for partition, (_, end) in state.bounds.items()}
    assert list(broker.read(topic, ends)) == []
    partition, end = next(iter(ends.items()))
    assert {delivery.partition for delivery in broker.read(topic, {partition: end})} == {p for p, _ in places} - {
        partition
    }
    for wrong in ({partition: end + 1}, {partition: -1}, {999: 0}):
        with pytest.raises(TopicChanged, match=topic):
            list(broker.read(topic, wrong))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([b"a", b"b", b"k1.abc", b"~"]),
                st.none() | st.binary(max_size=40),
                st.dictionaries(st.sampled_from(["ce_id", "x"]), st.binary(max_size=9)),
            ),
            max_size=12,
        ),
        max_size=4,
    )
)
def test_any_batches_come_back_whole_and_in_order(
    broker: Broker, batches: list[list[tuple[bytes, bytes | None, dict[str, bytes]]]]
) -> None:
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=3, compacted=False))
    publisher = broker.publisher()
    sent: dict[bytes, list[tuple[bytes | None, dict[str, bytes]]]] = defaultdict(list)
    for batch in batches:
        publisher.publish(topic, [Message(*parts) for parts in batch])
        for key, value, headers in batch:
            sent[key].append((value, headers))
    publisher.close()
    found: dict[bytes | None, list[tuple[bytes | None, dict[str, bytes]]]] = defaultdict(list)
    for delivery in sorted(broker.read(topic), key=lambda d: (d.partition, d.offset)):
        found[delivery.key].append((delivery.value, dict(delivery.headers)))
    assert dict(found) == dict(sent)


# --- faults: failed and lost, failed but stored -----------------------------------------------------------------------


@pytest.mark.parametrize("stored", [0, 3, 10])
def test_a_batch_sent_again_after_a_fault_is_whole_and_in_order(broker: Broker, topic: str, stored: int) -> None:
    """Whatever part of the first try was stored: nothing is missing, and the last of each key is last."""
    publisher = FailingPublisher(broker.publisher())
    batch = [message(f"k{n % 2}", str(n)) for n in range(10)]
    publisher.faults.lose(keep=stored)
    with pytest.raises(BrokerUnavailable):
        publisher.publish(topic, batch)
    assert len(list(broker.read(topic))) == stored
    publisher.publish(topic, batch)
    publisher.close()
    found = by_key(list(broker.read(topic)))
    assert found[b"k0"][-5:] == [b"0", b"2", b"4", b"6", b"8"]
    assert found[b"k1"][-5:] == [b"1", b"3", b"5", b"7", b"9"]
    assert sum(map(len, found.values())) == stored + 10


# --- a feed -----------------------------------------------------------------------------------------------------------


def test_a_feed_starts_where_the_owner_says(broker: Broker, topic: str) -> None:
    places = publish(broker, topic, [message("k", str(n)) for n in range(10)])
    partition = places[0][0]
    owner = Owner({(topic, partition): 4})
    feed = broker.feed("g" + topic, [topic], owner)
    found = take(feed, 6)
    assert [delivery.offset for delivery in found] == [4, 5, 6, 7, 8, 9]
    state = broker.state(topic)
    assert state is not None
    assert owner.ids == {topic: state.id}
    assert {place[1] for place in owner.owned} == set(state.bounds)
    feed.committed({(topic, partition): 10})
    feed.close()
    again = broker.feed("g" + topic, [topic], Owner())
    replayed = take(again, 10)
    assert [delivery.offset for delivery in replayed] == list(range(10)), "the broker's own position counts for nothing"
    again.close()


def test_each_group_reads_for_itself(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message("k", "v")])
    feeds = [broker.feed(f"{group}.{topic}", [topic], Owner()) for group in "ab"]
    for feed in feeds:
        assert [delivery.value for delivery in take(feed, 1)] == [b"v"]
        feed.close()


def test_one_feed_reads_many_topics_and_none_starves(broker: Broker, topic: str) -> None:
    other = unique("tax.person")
    broker.ensure(TopicSpec(other, partitions=2, compacted=False))
    publish(broker, topic, [message(f"k{n}", "v") for n in range(300)])
    publish(broker, other, [message("k", "w")])
    feed = broker.feed("g" + topic, [topic, other], Owner())
    found = take(feed, 301, limit=10)
    assert {delivery.topic for delivery in found} == {topic, other}
    assert len({(delivery.topic, delivery.partition, delivery.offset) for delivery in found}) == 301
    feed.close()


def test_poll_returns_as_soon_as_something_is_there(backing: Backing, broker: Broker, topic: str) -> None:
    feed = broker.feed("g" + topic, [topic], Owner())
    assert poll_until(feed, lambda: bool(feed.lag()) or bool(broker.state(topic)), 5) == []
    feed.poll(10, 0.5)
    sender = threading.Timer(0.3, lambda: publish(backing.broker(), topic, [message("k", "v")]))
    started = time.monotonic()
    sender.start()
    found: list[Delivery] = []
    while not found:
        found = feed.poll(10, 20.0)
    assert time.monotonic() - started < 5
    sender.join()
    started = time.monotonic()
    assert feed.poll(10, 0.3) == []
    assert 0.25 < time.monotonic() - started < 3
    feed.close()


def test_limit_is_kept(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message(f"k{n}", "v") for n in range(50)])
    feed = broker.feed("g" + topic, [topic], Owner())
    got = 0
    while got < 50:
        found = feed.poll(7, 5.0)
        assert len(found) <= 7
        got += len(found)
    feed.close()


def test_a_pause_delivers_again_from_the_offset_and_holds_up_nobody_else(broker: Broker, topic: str) -> None:
    other = unique("tax.person")
    broker.ensure(TopicSpec(other, partitions=1, compacted=False))
    publish(broker, topic, [message("k", str(n)) for n in range(6)])
    feed = broker.feed("g" + topic, [topic, other], Owner())
    first = take(feed, 6)
    started = time.monotonic()
    feed.pause(topic, first[0].partition, 2, 1.0)
    publish(broker, other, [message("k", "w")])
    assert [delivery.topic for delivery in take(feed, 1)] == [other]
    assert time.monotonic() - started < 1.0, "the other topic went on"
    again = take(feed, 4)
    assert time.monotonic() - started >= 0.9
    assert [(delivery.partition, delivery.offset) for delivery in again] == [
        (first[0].partition, offset) for offset in (2, 3, 4, 5)
    ]
    feed.close()


def test_a_pause_can_be_repeated_and_met_by_new_messages(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message("k", str(n)) for n in range(3)])
    feed = broker.feed("g" + topic, [topic], Owner())
    partition = take(feed, 3)[0].partition
    for _ in range(2):
        feed.pause(topic, partition, 1, 0.2)
        publish(broker, topic, [message("k", "more")])
        assert take(feed, 1)[0].offset == 1
    feed.close()


def test_lag_is_what_is_not_delivered_yet(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message("k", str(n)) for n in range(10)])
    feed = broker.feed("g" + topic, [topic], Owner())
    first = take(feed, 1, limit=1)[0]
    assert feed.lag()[topic, first.partition] == 9
    take(feed, 9)
    assert set(feed.lag().values()) == {0}
    feed.pause(topic, first.partition, 4, 60)
    assert feed.lag()[topic, first.partition] == 6
    feed.close()


def test_committed_never_raises(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message("k", "v")])
    feed = broker.feed("g" + topic, [topic], Owner())
    delivery = take(feed, 1)[0]
    feed.committed({(topic, delivery.partition): 1})
    feed.committed({("no.such.topic", 3): 7, (topic, 99): 1})
    feed.committed({})
    feed.close()


def test_what_the_owner_raises_comes_out_of_poll_and_the_next_poll_asks_again(broker: Broker, topic: str) -> None:
    publish(broker, topic, [message("k", str(n)) for n in range(3)])
    owner = Owner()
    owner.raises = StoreUnavailable("down")
    feed = broker.feed("g" + topic, [topic], owner)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            poll_until(feed, lambda: False, 10)
    assert owner.assignments == []
    owner.raises = None
    assert [delivery.offset for delivery in take(feed, 3)] == [0, 1, 2]
    feed.close()


def test_close_revokes_what_was_ours(broker: Broker, topic: str) -> None:
    owner = Owner()
    feed = broker.feed("g" + topic, [topic], owner)
    poll_until(feed, lambda: bool(owner.owned))
    mine = set(owner.owned)
    feed.close()
    assert set(owner.revocations) == mine
    assert owner.owned == set()


# --- the topic is no longer the one that was read ---------------------------------------------------------------------


def test_a_topic_made_again_under_a_feed_stops_it_for_good(backing: Backing, broker: Broker, topic: str) -> None:
    publish(broker, topic, [message("k", str(n)) for n in range(5)])
    feed = broker.feed("g" + topic, [topic], Owner())
    take(feed, 5)
    backing.recreate(topic)
    publish(broker, topic, [message("k", "other") for _ in range(2)])
    with pytest.raises(TopicChanged):
        poll_until(feed, lambda: False, 20)
    for _ in range(2):
        with pytest.raises(TopicChanged):
            feed.poll(10, 0.1)
    feed.close()


def test_a_topic_cut_behind_the_position_stops_the_feed(backing: Backing, broker: Broker, topic: str) -> None:
    partition = publish(broker, topic, [message("k", str(n)) for n in range(8)])[0][0]
    broker.cut(topic, {partition: 5})
    feed = broker.feed("g" + topic, [topic], Owner({(topic, partition): 3}))
    with pytest.raises(TopicChanged, match=topic):
        poll_until(feed, lambda: False, 20)
    with pytest.raises(TopicChanged):
        feed.poll(10, 0.1)
    feed.close()


def test_position_0_is_the_earliest_that_is_there(backing: Backing, broker: Broker, topic: str) -> None:
    partition = publish(broker, topic, [message("k", str(n)) for n in range(8)])[0][0]
    broker.cut(topic, {partition: 5})
    feed = broker.feed("g" + topic, [topic], Owner())
    assert [delivery.offset for delivery in take(feed, 3)] == [5, 6, 7]
    feed.close()
    assert [delivery.offset for delivery in broker.read(topic)] == [5, 6, 7]
    for gone in (0, 4):
        with pytest.raises(TopicChanged):
            list(broker.read(topic, {partition: gone}))


@pytest.mark.parametrize("compacted", [False, True])
def test_what_comes_after_a_cut_keeps_its_offsets(broker: Broker, compacted: bool) -> None:
    spec = TopicSpec(unique(), partitions=4, compacted=compacted)
    topic = spec.name
    broker.ensure(spec)
    before = broker.state(topic)
    partition = publish(broker, topic, [message("k", str(n)) for n in range(8)])[0][0]
    broker.cut(topic, {partition: 8})
    assert list(broker.read(topic)) == []
    assert publish(broker, topic, [message("k", "8")]) == [(partition, 8)]
    for _ in range(2):  # once more changes nothing
        broker.cut(topic, {partition: 8})
        state = broker.state(topic)
        assert before is not None
        assert state is not None
        assert (state.id, state.bounds[partition]) == (before.id, (8, 9))
    broker.cut(topic, {partition: 3})
    assert [delivery.value for delivery in broker.read(topic)] == [b"8"]
    if isinstance(broker, KafkaBroker):
        assert broker.access().wrong([spec]) == {topic: {}}, "its settings are what they were"


def test_a_cut_that_cannot_be_meant_is_refused(broker: Broker, topic: str) -> None:
    partition = publish(broker, topic, [message("k", "v")])[0][0]
    for before in ({partition: 2}, {999: 0}):
        with pytest.raises(TopicChanged, match=topic):
            broker.cut(topic, before)
    with pytest.raises(TopicChanged):
        broker.cut(unique(), {0: 0})
    assert len(list(broker.read(topic))) == 1


def test_a_position_beyond_the_end_stops_the_feed(broker: Broker, topic: str) -> None:
    """A topic that came back from an older backup."""
    partition = publish(broker, topic, [message("k", "v")])[0][0]
    feed = broker.feed("g" + topic, [topic], Owner({(topic, partition): 1_000}))
    with pytest.raises(TopicChanged):
        poll_until(feed, lambda: False, 20)
    feed.close()


# --- ownership --------------------------------------------------------------------------------------------------------


def test_a_second_member_takes_over_when_the_first_closes(broker: Broker) -> None:
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=1, compacted=False))
    publish(broker, topic, [message("k", str(n)) for n in range(4)])
    first, second = Owner(), Owner({(topic, 0): 2})
    one = broker.feed("g" + topic, [topic], first)
    take(one, 4)
    two = broker.feed("g" + topic, [topic], second)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:  # both are alive: the partition has one owner
        assert one.poll(10, 0.02) == []
        assert two.poll(10, 0.02) == []
        assert not first.owned & second.owned
    holder, waiting, other = (one, two, second) if first.owned else (two, one, first)
    holder.close()
    poll_until(waiting, lambda: bool(other.owned), 10)
    waiting.close()


def test_what_a_killed_writer_had_acknowledged_is_there(
    backing: Backing, broker: Broker, topic: str, child: list[Child]
) -> None:
    if backing.url is None:
        pytest.skip("in memory of one process")
    writer = Child("publish", backing.url, topic)
    child.append(writer)
    until(lambda: len(writer.lines) > 30, 30)
    writer.kill()  # in the midst of a batch
    acknowledged = int(writer.lines[-1])
    found = by_key(list(backing.broker().read(topic)))
    numbers = {int(value) for values in found.values() for value in values if value is not None}
    assert numbers >= set(range(acknowledged + 1))
    for values in found.values():
        assert values == sorted(values, key=lambda value: int(value or b""))


def test_a_killed_owner_is_replaced(backing: Backing, broker: Broker, child: list[Child]) -> None:
    if backing.url is None:
        pytest.skip("in memory of one process")
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=1, compacted=False))
    publish(broker, topic, [message("k", str(n)) for n in range(3)])
    first = Child("own", backing.url, topic)
    child.append(first)
    first.wait_for("got 2")
    owner = Owner({(topic, 0): 3})
    feed = broker.feed("g", [topic], owner)
    assert feed.poll(10, 0.5) == []
    first.kill()
    publish(broker, topic, [message("k", "next")])
    started = time.monotonic()
    found = take(feed, 1, backing.takeover)
    assert time.monotonic() - started <= backing.takeover
    assert [delivery.offset for delivery in found] == [3]
    feed.close()


@pytest.mark.slow
def test_an_owner_that_was_stopped_finds_itself_replaced(backing: Backing, broker: Broker, child: list[Child]) -> None:
    if backing.url is None:
        pytest.skip("in memory of one process")
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=1, compacted=False))
    publish(broker, topic, [message("k", "v")])
    first = Child("own", backing.url, topic)
    child.append(first)
    first.wait_for("got 0")
    owner = Owner({(topic, 0): 1})
    feed = broker.feed("g", [topic], owner)
    feed.poll(10, 0.5)
    first.process.send_signal(signal.SIGSTOP)
    poll_until(feed, lambda: bool(owner.owned), backing.takeover)
    publish(broker, topic, [message("k", "after")])
    first.process.send_signal(signal.SIGCONT)
    assert [delivery.offset for delivery in take(feed, 1)] == [1]
    poll_until(feed, lambda: any("revoked" in line for line in first.lines), 20)
    assert not any("got 1" in line for line in first.lines), "what it delivers is no longer its own"
    feed.close()
