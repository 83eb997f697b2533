"""What only the SQLite topics have: waking within milliseconds, leases, compaction, retention, the file itself."""

from __future__ import annotations

import multiprocessing
import secrets
import shutil
import stat
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.errors import BrokerUnavailable, OperatorError, SchemaOutdated, TopicChanged
from exchange.records import Message
from exchange.sqlite import connect
from exchange.topics import TopicSpec
from exchange.topics.sqlite import SqliteBroker, leases, log
from tests.support.backings import Owner, message, poll_until, take

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "topics.db"


@pytest.fixture
def broker(path: Path, clock: Clock) -> SqliteBroker:
    broker = SqliteBroker(path, clock)
    broker.ensure(TopicSpec("a.b.v1"))
    return broker


def publish(broker: SqliteBroker, *messages: Message, topic: str = "a.b.v1") -> None:
    with closing(broker.publisher()) as publisher:
        publisher.publish(topic, messages)


def offsets(broker: SqliteBroker, topic: str = "a.b.v1") -> list[int]:
    return [delivery.offset for delivery in broker.read(topic)]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_files_are_for_their_owner_only(broker: SqliteBroker, path: Path) -> None:
    with closing(broker.publisher()) as publisher:
        publisher.publish("a.b.v1", [message("k", "v")])
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_file_that_is_removed_or_replaced_is_noticed_by_writer_and_reader(broker: SqliteBroker, path: Path) -> None:
    """Else what is acknowledged goes into a file that nobody will ever see."""
    publisher = broker.publisher()
    publisher.publish("a.b.v1", [message("k", "v")])
    feed = broker.feed("g", ["a.b.v1"], Owner())
    take(feed, 1)
    for name in ("topics.db", "topics.db-wal", "topics.db-shm"):
        (path.parent / name).unlink()
    with pytest.raises(TopicChanged, match="removed or replaced"):
        publisher.publish("a.b.v1", [message("k", "v")])
    with pytest.raises(TopicChanged, match="removed or replaced"):
        poll_until(feed, lambda: False, 5)
    SqliteBroker(path).ensure(TopicSpec("a.b.v1"))
    with pytest.raises(TopicChanged, match="removed or replaced"):
        publisher.publish("a.b.v1", [message("k", "v")])
    feed.close()
    publisher.close()


def test_a_file_of_another_version_or_of_no_topics_is_refused(broker: SqliteBroker, path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaOutdated, match="99"):
        broker.state("a.b.v1")
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(OperatorError, match="cannot be used"):
        broker.state("a.b.v1")


def test_a_locked_file_is_unavailable_and_nothing_is_stored(
    broker: SqliteBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed and lost."""
    publisher = broker.publisher()
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        publisher._log.connection.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(BrokerUnavailable, match="locked"):
            publisher.publish("a.b.v1", [message("k", "v")])
        other.execute("ROLLBACK")
    assert offsets(broker) == []
    assert publisher.publish("a.b.v1", [message("k", "v")]) == [(0, 0)]
    publisher.close()


def test_a_full_disk_is_unavailable_and_what_was_acknowledged_stays(broker: SqliteBroker) -> None:
    publisher = broker.publisher()
    publisher.publish("a.b.v1", [message("k", "first")])
    publisher._log.connection.execute("PRAGMA max_page_count = 40")
    with pytest.raises(BrokerUnavailable, match="full"):
        publisher.publish("a.b.v1", [Message(b"k", secrets.token_bytes(100_000), {}) for _ in range(5)])
    assert [delivery.value for delivery in broker.read("a.b.v1")] == [b"first"]
    publisher._log.connection.execute("PRAGMA max_page_count = 100000")
    assert publisher.publish("a.b.v1", [message("k", "second")]) == [(0, 1)]
    publisher.close()


def test_a_batch_larger_than_a_transaction_is_whole(broker: SqliteBroker) -> None:
    batch = [message(f"k{n}", str(n)) for n in range(2_500)]
    with closing(broker.publisher()) as publisher:
        assert publisher.publish("a.b.v1", batch) == [(0, n) for n in range(2_500)]
    assert [delivery.value for delivery in broker.read("a.b.v1")] == [message.value for message in batch]


def test_a_poll_is_bounded_in_bytes(broker: SqliteBroker) -> None:
    publish(broker, *[Message(b"k", bytes(1_000_000), {}) for _ in range(40)])
    feed = broker.feed("g", ["a.b.v1"], Owner())
    found = take(feed, 1)
    assert 1 <= len(found) <= 20
    assert [delivery.offset for delivery in found + take(feed, 40 - len(found))] == list(range(40))
    feed.close()


def test_many_processes_write_one_topic(broker: SqliteBroker, path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_write, args=(path, name)) for name in ("x", "y", "z")]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert offsets(broker) == list(range(600))
    for name in (b"x", b"y", b"z"):
        values = [delivery.value for delivery in broker.read("a.b.v1") if delivery.key == name]
        assert values == [b"%d" % n for n in range(200)]


def _write(path: Path, name: str) -> None:
    with closing(SqliteBroker(path).publisher()) as publisher:
        for n in range(0, 200, 5):
            publisher.publish("a.b.v1", [message(name, str(n + i)) for i in range(5)])


# --- waking -----------------------------------------------------------------------------------------------------------


def test_a_reader_wakes_within_milliseconds(broker: SqliteBroker) -> None:
    feed = broker.feed("g", ["a.b.v1"], Owner())
    feed.poll(1, 0.5)
    waits = []

    def send() -> None:
        with closing(broker.publisher()) as publisher:
            for _ in range(30):
                time.sleep(0.02)
                publisher.publish("a.b.v1", [message("k", str(time.monotonic_ns()))])

    sender = threading.Thread(target=send)
    sender.start()
    while len(waits) < 30:
        for delivery in feed.poll(10, 5):
            waits.append((time.monotonic_ns() - int(delivery.value or b"")) / 1e6)
    sender.join()
    feed.close()
    assert sorted(waits)[15] < 25, "milliseconds, the median, on a machine that does other things too"


# --- leases -----------------------------------------------------------------------------------------------------------


def test_an_owner_under_a_busy_writer_keeps_its_lease(broker: SqliteBroker) -> None:
    """Between two batches the write lock is free only for moments; the beat finds one of them."""
    first, second = Owner(), Owner()
    one = broker.feed("g", ["a.b.v1"], first)
    poll_until(one, lambda: bool(first.owned), 5)
    two = broker.feed("g", ["a.b.v1"], second)
    stop = threading.Event()

    def write() -> None:
        with closing(broker.publisher()) as publisher:
            batch = [message("k", "x" * 200)] * 2_000
            while not stop.is_set():
                publisher.publish("a.b.v1", batch)

    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + leases.LEASE * 1.5
    while time.monotonic() < end:
        one.poll(5_000, 0.01)
        two.poll(5_000, 0.01)
    stop.set()
    writer.join()
    assert first.owned
    assert not second.owned
    one.close()
    two.close()


def test_a_member_that_hangs_gives_its_topics_back(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread beats on, so only the time without a poll tells."""
    monkeypatch.setattr(leases, "MAX_POLL", 0.3)
    first, second = Owner(), Owner()
    one = broker.feed("g", ["a.b.v1"], first)
    poll_until(one, lambda: bool(first.owned), 5)
    two = broker.feed("g", ["a.b.v1"], second)
    poll_until(two, lambda: bool(second.owned), 5)
    assert one.poll(10, 0) == []
    assert first.revocations == [("a.b.v1", 0)]
    one.close()
    two.close()


def test_waiting_long_in_one_poll_is_not_hanging(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_POLL", 0.3)
    owner = Owner()
    feed = broker.feed("g", ["a.b.v1"], owner)
    feed.poll(10, 1.5)
    assert owner.assignments == [("a.b.v1", 0)]
    assert owner.owned
    feed.close()


def test_topics_of_one_group_can_have_different_owners(broker: SqliteBroker) -> None:
    broker.ensure(TopicSpec("c.d.v1"))
    first, second = Owner(), Owner()
    one = broker.feed("g", ["a.b.v1"], first)
    poll_until(one, lambda: bool(first.owned), 5)
    two = broker.feed("g", ["a.b.v1", "c.d.v1"], second)
    poll_until(two, lambda: bool(second.owned), 5)
    assert second.owned == {("c.d.v1", 0)}
    one.close()
    poll_until(two, lambda: len(second.owned) == 2, 5)
    two.close()


# --- compaction and retention -----------------------------------------------------------------------------------------


def test_compaction_keeps_the_newest_of_each_key_and_what_is_young(broker: SqliteBroker, clock: Clock) -> None:
    publish(broker, message("a", "a0"), message("b", "b1"), message("a", "a2"), Message(b"c", None, {}))
    clock.now += timedelta(hours=25)
    publish(broker, message("a", "a4"), message("d", "d5"), message("d", "d6"))
    broker.tidy()
    assert [(delivery.offset, delivery.value) for delivery in broker.read("a.b.v1")] == [
        (1, b"b1"),
        (3, None),
        (4, b"a4"),
        (5, b"d5"),
        (6, b"d6"),
    ]
    state = broker.state("a.b.v1")
    assert state is not None
    assert state.bounds == {0: (0, 7)}, "compaction moves neither end"
    clock.now += timedelta(days=31)
    broker.tidy()
    assert offsets(broker) == [1, 4, 6], "a deletion stays as long as a reader may be away"


def test_a_feed_passes_over_what_compaction_removed(broker: SqliteBroker, clock: Clock) -> None:
    publish(broker, *[message("a", str(n)) for n in range(5)], Message(b"a", None, {}))
    clock.now += timedelta(days=40)
    broker.tidy()
    assert offsets(broker) == []
    feed = broker.feed("g", ["a.b.v1"], Owner({("a.b.v1", 0): 2}))
    assert feed.poll(10, 0.5) == []
    assert feed.lag() == {("a.b.v1", 0): 0}
    publish(broker, message("a", "new"))
    assert [delivery.offset for delivery in take(feed, 1)] == [6], "no offset is given twice"
    feed.close()


def test_after_compaction_the_bytes_are_gone_from_the_disk(broker: SqliteBroker, clock: Clock, path: Path) -> None:
    canary = secrets.token_hex(20)
    publish(broker, message("subject", canary), message("other", "stays"))
    publish(broker, Message(b"subject", None, {}))
    assert canary.encode() in b"".join(file.read_bytes() for file in path.parent.iterdir())
    clock.now += timedelta(hours=25)
    broker.tidy()
    assert canary.encode() not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_retention_moves_the_beginning(broker: SqliteBroker, clock: Clock) -> None:
    broker.ensure(TopicSpec("a.rejects.v1", compacted=False, retention_days=30))
    for day in range(4):
        publish(broker, *[message("k", f"{day}.{n}") for n in range(700)], topic="a.rejects.v1")
        clock.now += timedelta(days=10)
    broker.tidy()
    state = broker.state("a.rejects.v1")
    assert state is not None
    assert state.bounds == {0: (700, 2_800)}
    assert offsets(broker, "a.rejects.v1") == list(range(700, 2_800))
    feed = broker.feed("g", ["a.rejects.v1"], Owner({("a.rejects.v1", 0): 699}))
    with pytest.raises(TopicChanged, match="699"):
        poll_until(feed, lambda: False, 5)
    feed.close()
    clock.now += timedelta(days=100)
    broker.tidy()
    assert offsets(broker, "a.rejects.v1") == []
    assert offsets(broker) == [], "the other topic was empty and stays so"


def test_a_copy_of_the_file_is_the_same_topics(broker: SqliteBroker, path: Path) -> None:
    """A restored backup: positions beyond its end are found out."""
    publish(broker, message("k", "1"))
    shutil.copy(path, path.with_name("backup.db"))
    publish(broker, message("k", "2"))
    backup = SqliteBroker(path.with_name("backup.db"))
    ours, theirs = broker.state("a.b.v1"), backup.state("a.b.v1")
    assert ours is not None
    assert theirs is not None
    assert ours.id == theirs.id
    feed = backup.feed("g", ["a.b.v1"], Owner({("a.b.v1", 0): 2}))
    with pytest.raises(TopicChanged):
        poll_until(feed, lambda: False, 5)
    feed.close()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=6) | st.sampled_from(["ce_id", "", '"', "\\"]), st.binary(max_size=8)))
@example({"a": b'","b":"', "b": b'":"'})
@example({"": b""})
@example({})
def test_headers_of_any_kind_come_back(headers: dict[str, bytes]) -> None:
    assert log._parsed(log._headers(Message(b"k", None, headers))) == headers
