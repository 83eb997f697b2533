"""What only Kafka has: several partitions and members, refusals, and a broker that stops, dies and comes back."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, OffsetSpec

from exchange.errors import BrokerUnavailable, ExchangeError, NameTaken, OperatorError, SettingWrong, TopicChanged
from exchange.kafka import KafkaBroker, admin, client
from exchange.kafka.partitioner import partition_of
from exchange.records import Delivery
from exchange.topics import Feed, TopicSpec
from tests.support.backings import Owner, message, poll_until, take, unique
from tests.support.children import Child, child
from tests.support.services import LocalServices, Missing, local_services, skip_or_fail

__all__ = ["child"]

# --- without a broker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "hashed"),  # from org.apache.kafka.common.utils.UtilsTest
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_javas_client(key: bytes, hashed: int) -> None:
    assert partition_of(key, 1 << 31) == hashed & 0x7FFFFFFF


@pytest.mark.parametrize("name", ["acks", "partitioner", "enable.auto.commit", "auto.offset.reset", "group.id"])
def test_properties_that_would_break_a_promise_are_refused(name: str) -> None:
    with pytest.raises(SettingWrong, match=name):
        KafkaBroker("127.0.0.1:1", {name: "x"})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._ALL_BROKERS_DOWN, BrokerUnavailable),
        (KafkaError._MSG_TIMED_OUT, BrokerUnavailable),
        (KafkaError.NOT_ENOUGH_REPLICAS, BrokerUnavailable),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, TopicChanged),
        (KafkaError._AUTO_OFFSET_RESET, TopicChanged),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingWrong),
        (KafkaError._AUTHENTICATION, SettingWrong),
        (KafkaError.INVALID_REPLICATION_FACTOR, SettingWrong),
        (KafkaError.FENCED_INSTANCE_ID, NameTaken),
    ],
)
def test_what_kafkas_errors_mean(code: int, expected: type[ExchangeError]) -> None:
    assert type(client.meaning(KafkaError(code), "topic a.b.v1")) is expected


def test_a_fatal_error_is_for_the_operator() -> None:
    found = client.meaning(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "x", True), "topic a.b.v1")
    assert type(found) is OperatorError
    assert "restart" in str(found)
    told_to_a_callback = client.meaning(KafkaError(KafkaError._FATAL, "Fatal error: x"), "the cluster")
    assert type(told_to_a_callback) is OperatorError


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PATIENCE", 1.0)
    broker = KafkaBroker("127.0.0.1:1", {"message.timeout.ms": 1_000})
    for call in (
        lambda: broker.state("a.b.v1"),
        lambda: broker.ensure(TopicSpec("a.b.v1")),
        lambda: broker.publisher().publish("a.b.v1", [message("k", "v")]),
        lambda: broker.feed("g", ["a.b.v1"], Owner()),
    ):
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
            call()
        assert time.monotonic() - started < 5


Offsets = dict[TopicPartition, Future[object]]


class Leaderless:
    """An AdminClient whose topics say `code` to the first question and answer the second."""

    code = 0

    def __init__(self, _: object) -> None:
        self.asked = 0

    def list_offsets(
        self, asked: dict[TopicPartition, OffsetSpec], **_: object
    ) -> dict[TopicPartition, Future[object]]:
        self.asked += 1
        answers: dict[TopicPartition, Future[object]] = {place: Future() for place in asked}
        for answer in answers.values():
            if self.asked == 1:
                answer.set_exception(KafkaException(KafkaError(self.code)))
            else:
                answer.set_result(SimpleNamespace(offset=7))
        return answers


@pytest.mark.parametrize(
    "code",
    [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION],
)
def test_a_leader_that_is_only_beginning_is_asked_again(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(Leaderless, "code", code)
    monkeypatch.setattr(admin, "AdminClient", Leaderless)
    assert admin.Admin(client.Client("127.0.0.1:1", {})).bounds("a.b.v1", 2) == {0: (7, 7), 1: (7, 7)}


def test_what_time_does_not_mend_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leaderless, "code", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    monkeypatch.setattr(admin, "AdminClient", Leaderless)
    with pytest.raises(SettingWrong, match=r"a\.b\.v1"):
        admin.Admin(client.Client("127.0.0.1:1", {})).bounds("a.b.v1", 2)


# --- with one ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def broker(kafka_servers: str) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(kafka_servers)
    yield broker
    broker.close()


@pytest.fixture
def topic(broker: KafkaBroker) -> str:
    name = unique()
    broker.ensure(TopicSpec(name, partitions=12))
    return name


def poll_both(one: Feed, two: Feed, done: Callable[[], bool], seconds: float = 20.0) -> list[Delivery]:
    end = time.monotonic() + seconds
    found: list[Delivery] = []
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        found += one.poll(100, 0.02)
        found += two.poll(100, 0.02)
    return found


@pytest.mark.services
def test_a_key_goes_where_javas_client_puts_it(broker: KafkaBroker, topic: str) -> None:
    with closing(broker.publisher()) as publisher:
        places = publisher.publish(topic, [message("110101190001010014", "x"), message("11010119000101009X", "x")])
    assert [partition for partition, _ in places] == [6, 9]


@pytest.mark.services
def test_topics_are_made_as_specified(broker: KafkaBroker, kafka_servers: str) -> None:
    from confluent_kafka.admin import ConfigResource

    compacted, kept, ever = unique(), unique(), unique()
    broker.ensure(TopicSpec(compacted, partitions=2))
    broker.ensure(TopicSpec(kept, partitions=1, compacted=False, retention_days=30))
    broker.ensure(TopicSpec(ever, partitions=1, compacted=False))
    cluster = AdminClient({"bootstrap.servers": kafka_servers})
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in (compacted, kept, ever)]
    found = {
        resource.name: {name: entry.value for name, entry in future.result(10).items()}
        for resource, future in cluster.describe_configs(asked).items()
    }
    assert found[compacted]["cleanup.policy"] == "compact"
    assert found[compacted]["max.compaction.lag.ms"] == str(24 * 3_600_000)
    assert (found[kept]["cleanup.policy"], found[kept]["retention.ms"]) == ("delete", str(30 * 24 * 3_600_000))
    assert (found[ever]["cleanup.policy"], found[ever]["retention.ms"]) == ("delete", "-1")
    with pytest.raises(SettingWrong, match="replication"):
        broker.ensure(TopicSpec(unique(), replication=3))


@pytest.mark.services
def test_two_members_share_the_partitions_and_none_has_two_owners(broker: KafkaBroker, topic: str) -> None:
    first, second = Owner(), Owner()
    one = broker.feed("g" + topic, [topic], first)
    poll_until(one, lambda: len(first.owned) == 12)
    two = broker.feed("g" + topic, [topic], second)
    sent = [message(f"k{n}", str(n)) for n in range(600)]
    found: list[Delivery] = []
    with closing(broker.publisher()) as publisher:
        for start in range(0, 600, 20):  # while the group meets
            publisher.publish(topic, sent[start : start + 20])
            found += poll_both(one, two, lambda: True)
            for feed in (one, two):
                found += feed.poll(100, 0.02)
            assert not first.owned & second.owned, "one partition, one owner"
    found += poll_both(one, two, lambda: len(first.owned) == len(second.owned) == 6)
    assert first.owned | second.owned == {(topic, partition) for partition in range(12)}
    assert len(first.revocations) == 6, "cooperative: what stays is not revoked"
    # The owners answer 0 to every assignment: what moved is read again, and nothing is missing.
    found += poll_both(one, two, lambda: len(one.lag() | two.lag()) == 12 and not sum((one.lag() | two.lag()).values()))
    assert {delivery.value for delivery in found} == {sending.value for sending in sent}
    assert set(one.lag()).isdisjoint(two.lag()), "each partition's lag is shown by its owner only"
    two.close()
    assert second.owned == set()
    poll_until(one, lambda: len(first.owned) == 12)
    assert set(one.lag()) == {(topic, partition) for partition in range(12)}
    one.close()


@pytest.mark.services
def test_partitions_that_wait_for_an_answer_can_move_to_another_member(broker: KafkaBroker, topic: str) -> None:
    """`assigned` cannot answer on one member; the other takes its half, and nothing starts at an offset of Kafka's."""
    first, second = Owner(), Owner()
    first.raises = ExchangeError("the store is away")
    one = broker.feed("g" + topic, [topic], first)
    with closing(broker.publisher()) as publisher:
        publisher.publish(topic, [message(f"k{n}", str(n)) for n in range(100)])
    with pytest.raises(ExchangeError, match="away"):
        poll_until(one, lambda: False)
    two = broker.feed("g" + topic, [topic], second)
    end = time.monotonic() + 20
    got: list[Delivery] = []
    while len(second.owned) < 6:
        assert time.monotonic() < end
        with pytest.raises(ExchangeError, match="away"):
            one.poll(10, 0.05)
        got += two.poll(10, 0.05)
    assert first.owned == set()
    first.raises = None
    got += poll_both(one, two, lambda: len(first.owned) == 6)
    got += poll_both(one, two, lambda: len(one.lag() | two.lag()) == 12 and not sum((one.lag() | two.lag()).values()))
    assert {delivery.value for delivery in got} == {b"%d" % n for n in range(100)}
    one.close()
    two.close()


@pytest.mark.services
def test_added_partitions_stop_the_feed(broker: KafkaBroker, kafka_servers: str) -> None:
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=2))
    feed = broker.feed("g" + topic, [topic], Owner())
    poll_until(feed, lambda: bool(feed.lag()))
    cluster = AdminClient({"bootstrap.servers": kafka_servers})
    cluster.create_partitions([NewPartitions(topic, 3)])[topic].result(10)
    with pytest.raises(TopicChanged, match="2 partitions and has 3"):
        poll_until(feed, lambda: False)
    with pytest.raises(TopicChanged):
        feed.poll(1, 0)
    feed.close()


@pytest.mark.services
def test_a_deleted_topic_stops_the_feed(broker: KafkaBroker, kafka_servers: str, topic: str) -> None:
    feed = broker.feed("g" + topic, [topic], Owner())
    poll_until(feed, lambda: bool(feed.lag()))
    cluster = AdminClient({"bootstrap.servers": kafka_servers})
    cluster.delete_topics([topic])[topic].result(10)
    with pytest.raises(TopicChanged, match=topic):
        poll_until(feed, lambda: False, 20)
    feed.close()


@pytest.mark.services
def test_a_publisher_notices_that_its_topic_is_gone(kafka_servers: str, topic: str) -> None:
    with closing(KafkaBroker(kafka_servers, {"message.timeout.ms": 8_000}).publisher()) as publisher:
        publisher.publish(topic, [message("k", "v")])
        cluster = AdminClient({"bootstrap.servers": kafka_servers})
        cluster.delete_topics([topic])[topic].result(10)
        with pytest.raises((TopicChanged, BrokerUnavailable)):
            publisher.publish(topic, [message("k", "v")])
        with pytest.raises(TopicChanged, match=topic):
            publisher.publish(topic, [message("k", "v")])


@pytest.mark.services
def test_a_producer_that_partitions_otherwise_is_told_of(
    broker: KafkaBroker, kafka_servers: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Producer({"bootstrap.servers": kafka_servers})  # librdkafka's own default: crc32
    for _ in range(3):
        stranger.produce(topic, b"x", b"110101190001010014")
    stranger.flush(10)
    feed = broker.feed("g" + topic, [topic], Owner())
    with caplog.at_level(logging.ERROR, "exchange.kafka"):
        take(feed, 3, limit=1)
    feed.close()
    told = [record.getMessage() for record in caplog.records if "does not fit its key" in record.getMessage()]
    assert len(told) == 1
    assert "110101190001010014" not in told[0]


@pytest.mark.services
def test_an_inbox_may_hold_any_key_and_none(broker: KafkaBroker, kafka_servers: str) -> None:
    topic = unique() + ".inbox"
    broker.ensure(TopicSpec(topic, partitions=1, compacted=False, retention_days=1))
    stranger = Producer({"bootstrap.servers": kafka_servers})
    stranger.produce(topic, b"x", None, headers=[("a", None), ("a", b"2"), ("b", None)])
    stranger.flush(10)
    assert [(delivery.key, delivery.value, dict(delivery.headers)) for delivery in broker.read(topic)] == [
        (None, b"x", {"a": b"2", "b": b""})
    ]


@pytest.mark.services
def test_a_killed_member_goes_on_under_its_name_at_once(kafka_servers: str, topic: str, child: list[Child]) -> None:
    """Without a name the group waits for session.timeout.ms until it believes that a member is dead."""
    for _ in range(2):
        first = Child("member", kafka_servers, topic)
        child.append(first)
        first.wait_for("assigned")
        first.kill()
    owner = Owner()
    with closing(KafkaBroker(kafka_servers, member="m")) as broker, closing(broker.feed("g", [topic], owner)) as feed:
        started = time.monotonic()
        poll_until(feed, lambda: len(owner.owned) == 12, 10)
        assert time.monotonic() - started < 4


@pytest.mark.services
def test_two_under_one_name_do_not_both_go_on(kafka_servers: str, topic: str) -> None:
    owner = Owner()
    with ExitStack() as opened:  # librdkafka waits without end if one that lost its name is dropped and not closed

        def joined(owner: Owner) -> Feed:
            broker = opened.enter_context(closing(KafkaBroker(kafka_servers, member="n")))
            return opened.enter_context(closing(broker.feed("g" + topic, [topic], owner)))

        one = joined(owner)
        poll_until(one, lambda: len(owner.owned) == 12, 15)
        two = joined(Owner())  # a feed asks to join as soon as it is there: whoever comes last has the name
        with pytest.raises(NameTaken, match="name"):
            poll_both(one, two, lambda: False)


# --- a broker of the test's own, to be stopped and killed -------------------------------------------------------------


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[LocalServices]:
    """A Kafka that a test may stop; the others go on with theirs."""
    services = local_services()
    try:
        try:
            services.start("kafka")
        except Missing as missing:
            skip_or_fail(f"no Kafka of our own: {missing}")
        yield services
    finally:
        services.stop()


@pytest.fixture
def own_servers(own_kafka: LocalServices) -> str:
    return own_kafka.start("kafka")


def stop(pid: int) -> None:
    """Stop a process, and wait until each of its threads has stopped: on a busy machine some go on for a while."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    end = time.monotonic() + 10
    while any(state(task / "stat") not in "TtZX" for task in tasks.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.01)


def state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:  # the thread has ended
        return "X"


@pytest.mark.services
def test_a_broker_that_hangs_is_unavailable_and_what_it_stored_late_is_a_repeat(
    own_kafka: LocalServices, own_servers: str
) -> None:
    """Failed but stored: the broker was stopped with the messages on their way, and goes on with them later."""
    broker = KafkaBroker(own_servers, {"message.timeout.ms": 2_000})
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=2, compacted=False))
    publisher = broker.publisher()
    publisher.publish(topic, [message("k", "0")])
    pid = own_kafka.pid("kafka")
    stop(pid)
    try:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            publisher.publish(topic, [message("k", "1"), message("k", "2")])
        assert time.monotonic() - started < 9
    finally:
        os.kill(pid, signal.SIGCONT)
    end = time.monotonic() + 30
    while True:
        try:
            publisher.publish(topic, [message("k", "1"), message("k", "2"), message("k", "3")])
            break
        except BrokerUnavailable:
            assert time.monotonic() < end
    publisher.close()
    values = [delivery.value for delivery in broker.read(topic)]
    assert values[0] == b"0"
    assert values[-3:] == [b"1", b"2", b"3"]
    assert set(values) == {b"0", b"1", b"2", b"3"}


@pytest.mark.services
def test_a_broker_that_is_killed_keeps_what_it_acknowledged_and_the_feed_goes_on_by_itself(
    own_kafka: LocalServices, own_servers: str
) -> None:
    broker = KafkaBroker(own_servers, {"message.timeout.ms": 20_000})
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=2, compacted=False))
    owner = Owner()
    feed = broker.feed("g" + topic, [topic], owner)
    publisher = broker.publisher()
    publisher.publish(topic, [message("k", str(n)) for n in range(50)])
    take(feed, 50)
    os.kill(own_kafka.pid("kafka"), signal.SIGKILL)
    with pytest.raises(BrokerUnavailable):
        poll_until(feed, lambda: False, 20)
    with pytest.raises(BrokerUnavailable):
        broker.state(topic)
    own_kafka.start("kafka")
    publisher.publish(topic, [message("k", "50")])
    found: list[Delivery] = []
    end = time.monotonic() + 30
    while not found:
        assert time.monotonic() < end
        try:
            found = feed.poll(10, 0.5)
        except BrokerUnavailable:
            continue
    assert {delivery.value for delivery in found} <= {b"%d" % n for n in range(51)}
    assert [delivery.value for delivery in broker.read(topic)][:51] == [b"%d" % n for n in range(51)]
    feed.close()
    publisher.close()


@pytest.mark.services
def test_a_feed_closes_while_the_broker_is_away(own_kafka: LocalServices, own_servers: str) -> None:
    broker = KafkaBroker(own_servers)
    topic = unique()
    broker.ensure(TopicSpec(topic, partitions=2))
    owner = Owner()
    feed = broker.feed("g" + topic, [topic], owner)
    poll_until(feed, lambda: len(owner.owned) == 2)
    pid = own_kafka.pid("kafka")
    stop(pid)
    try:
        started = time.monotonic()
        feed.committed({(topic, 0): 0})
        assert len(feed.lag()) <= 2
        feed.close()
        assert time.monotonic() - started < 15
    finally:
        os.kill(pid, signal.SIGCONT)
    assert owner.owned == set()
