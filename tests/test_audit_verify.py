"""Sealing, and whether verify finds what was done to a log: edits, removals, insertions, swaps, cuts, forks."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import merkle
from exchange.audit import groups as signing
from exchange.audit.checkpoints import open_checkpoint
from exchange.audit.entries import Entry, Line, answer_digest, entry_hash, leaf
from exchange.audit.keys import PublicKeys, Signer
from exchange.audit.receipts import Receipt
from exchange.audit.slots import Holder
from exchange.audit.store import AuditStore
from exchange.audit.tables import checkpoints, entries, groups, leaves, nodes
from exchange.audit.verify import Report, find, verify_log
from exchange.audit.writer import Writer
from exchange.errors import AuditBroken, BrokerUnavailable
from exchange.records import Message
from tests.support.audit import KEYS, NOON, ORIGIN, SIGNER, Topic, entry, fresh_store, new_sealer, sqlite_url, verified
from tests.support.backings import until

BODY = b"what was shown"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditStore]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("fresh_postgres")()
    found = fresh_store(url)
    yield found
    found.close()


def write(store: AuditStore, writer: str, *sizes: int, signer: Signer = SIGNER, tale: str = "true") -> list[Receipt]:
    """Groups of these sizes, as one process of this name writes them; another tale is another content."""
    own = Writer(store, signer, writer, Holder("test"), patience_s=0.0)
    own.open()
    made = []
    for size in sizes:
        lines = [Line.of(entry(case=tale, request=f"{writer}/{size}/{i}"), BODY, bytes(16)) for i in range(size)]
        made.extend(own.append(lines))
    own.close()
    return made


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def sealed(store: AuditStore, topic: Topic) -> tuple[AuditStore, Topic, list[Receipt]]:
    """Two writers, seven groups, three checkpoints that left; one group after the last of them."""
    made = []
    sealer = new_sealer(store, topic)
    for sizes in ((1, 3), (2,), (4, 1)):
        made += write(store, "gateway-1", *sizes)
        if sizes == (2,):
            made += write(store, "gateway-2", 2)
        assert sealer.step() is not None
    made += write(store, "gateway-2", 3)
    return store, topic, made


# --- sealing ---------------------------------------------------------------------------------------------------------


def test_checkpoints_leave_and_cover_the_log(sealed: tuple[AuditStore, Topic, list[Receipt]]) -> None:
    store, topic, made = sealed
    assert [open_checkpoint(note, ORIGIN, KEYS).size for note in topic.notes] == [2, 4, 6]
    report = verified(store, topic.notes)
    assert report, report.findings
    assert report == Report(
        entries=16,
        groups=7,
        leaves=6,
        checkpoints=6,  # three from the topic, three of the store
        uncovered=3,
        younger={"gateway-2": (3, 5)},
        writers={"gateway-1": 11, "gateway-2": 5},
    )
    for receipt in made:
        assert find(store, receipt, BODY, KEYS).number == receipt.number


def test_nothing_new_is_no_checkpoint(store: AuditStore, topic: Topic) -> None:
    sealer = new_sealer(store, topic)
    assert sealer.step() is None
    write(store, "gateway-1", 2)
    assert sealer.step() == 1
    assert sealer.step() is None
    assert len(topic.notes) == 1


def test_while_the_broker_is_away_checkpoints_wait(store: AuditStore, topic: Topic) -> None:
    sealer = new_sealer(store, topic)
    topic.fails_before = True
    for _ in range(3):
        write(store, "gateway-1", 1)
        with pytest.raises(BrokerUnavailable):
            sealer.step()
    assert verified(store).leaves == 3  # the tree grows all the same
    topic.fails_before = False
    assert sealer.step() == 1
    assert sealer.step() == 3
    assert verified(store, topic.notes).uncovered == 0


def test_a_lost_acknowledgement_sends_the_same_checkpoint_again(store: AuditStore, topic: Topic) -> None:
    write(store, "gateway-1", 1)
    topic.fails_after = True
    with pytest.raises(BrokerUnavailable):
        new_sealer(store, topic).step()
    topic.fails_after = False
    write(store, "gateway-1", 1)
    heir = new_sealer(store, topic, patience_s=0.0)  # after a crash, another process goes on
    assert heir.step() == 1
    assert heir.step() == 2
    assert topic.notes[0] == topic.notes[1]
    assert verified(store, topic.notes)


def test_one_sealer_at_a_time(store: AuditStore, topic: Topic) -> None:
    write(store, "gateway-1", 1)
    now = 0.0
    first = new_sealer(store, topic, patience_s=2.0, monotonic=lambda: now)
    second = new_sealer(store, topic, patience_s=2.0, monotonic=lambda: now)
    assert first.step() == 1
    write(store, "gateway-1", 1)
    assert second.step() is None
    now = 3.0  # the first one sleeps
    assert second.step() == 2
    write(store, "gateway-1", 1)
    assert first.step() is None  # fenced; it waits for its turn now
    assert second.step() == 3
    assert verified(store, topic.notes)


def test_a_clean_stop_leaves_nothing_uncovered(store: AuditStore, topic: Topic) -> None:
    sealer = new_sealer(store, topic, interval_s=60.0)
    sealer.start()
    write(store, "gateway-1", 3, 2)
    sealer.close()
    assert verified(store, topic.notes).uncovered == 0
    assert new_sealer(store, topic).step() is None  # and the slot is free


def test_a_clean_stop_soon_after_a_kill_leaves_nothing_uncovered(store: AuditStore, topic: Topic) -> None:
    killed = new_sealer(store, topic)
    write(store, "gateway-1", 1)
    assert killed.step() == 1  # and never again: it keeps the slot
    sealer = new_sealer(store, topic, interval_s=60.0)
    sealer.start()
    write(store, "gateway-1", 1)
    sealer.close()
    assert verified(store, topic.notes).uncovered == 0


def test_a_stop_does_not_wait_for_a_sealer_that_lives(store: AuditStore, topic: Topic) -> None:
    living = new_sealer(store, topic, interval_s=0.02)
    assert living.step() is None
    living.start()
    other = new_sealer(store, topic, patience_s=10.0, interval_s=60.0)
    other.start()
    began = time.monotonic()
    other.close()
    assert time.monotonic() - began < 8
    living.close()


def test_a_log_that_grows_all_the_time_is_sealed_with_pauses(store: AuditStore) -> None:
    times: list[float] = []

    class Busy(Topic):
        """While one of the first checkpoints leaves, the next group comes."""

        def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
            times.append(time.monotonic())
            if len(times) < 5:
                write(store, "gateway-1", 1)
            return super().publish(topic, messages)

    topic = Busy()
    write(store, "gateway-1", 1)
    sealer = new_sealer(store, topic, interval_s=0.05)
    sealer.start()
    until(lambda: len(times) >= 4)
    sealer.close()
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(times[:4]))
    assert verified(store, topic.notes).uncovered == 0


def test_a_tree_that_was_changed_is_never_signed(sealed: tuple[AuditStore, Topic, list[Receipt]]) -> None:
    store, topic, _ = sealed
    with store.writing() as connection:
        connection.execute(sa.update(nodes).where(nodes.c.level == 2).values(hash=bytes(32)))
    with pytest.raises(AuditBroken, match="does not begin with its checkpoint of 6"):
        new_sealer(store, topic, patience_s=0.0).step()
    assert len(topic.notes) == 3


def test_entries_of_another_key_are_found(store: AuditStore, topic: Topic) -> None:
    stranger = Signer.generate()
    write(store, "gateway-1", 2)
    write(store, "gateway-1", 1, signer=stranger)
    new_sealer(store, topic).step()
    report = verified(store, topic.notes)
    assert [str(finding) for finding in report.findings] == ["gateway-1 3: the signature is by an unknown key"]
    assert verified(store, topic.notes, PublicKeys([SIGNER.public, stranger.public]))


# --- what is done to a log -------------------------------------------------------------------------------------------


@contextmanager
def tampered(store: AuditStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Connection]:
    """A transaction whose changes verify sees, and nobody after it."""
    with store.engine.connect() as connection, connection.begin() as transaction:

        @contextmanager
        def reading() -> Iterator[sa.Connection]:
            yield connection

        monkeypatch.setattr(store, "reading", reading)
        yield connection
        monkeypatch.undo()
        transaction.rollback()


Act = Callable[[sa.Connection], Any]


def row(table: sa.Table, **key: Any) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == value for name, value in key.items()))


def change(table: sa.Table, values: dict[str, Any], **key: Any) -> Act:
    return lambda connection: connection.execute(sa.update(table).where(row(table, **key)).values(values))


def remove(table: sa.Table, **key: Any) -> Act:
    return lambda connection: connection.execute(sa.delete(table).where(row(table, **key)))


def forged(number: int, **changes: Any) -> dict[str, Any]:
    """An entry that is whole in itself: only the signature does not know it."""
    stored, answer = entry(**changes).to_bytes(), answer_digest(bytes(16), BODY)
    return {
        "writer": "gateway-1",
        "number": number,
        "entry": stored,
        "answer": answer,
        "leaf": leaf(entry_hash(stored), answer),
    }


def swap(table: sa.Table, column: str, one: int, other: int, **key: Any) -> Act:
    """Two rows change places."""

    def act(connection: sa.Connection) -> None:
        for old, new in ((one, 9_999), (other, one), (9_999, other)):
            change(table, {column: new}, **{**key, column: old})(connection)

    return act


def cut_after(last: int, position: int) -> Act:
    """Everything of gateway-1 after a number, and the tree after a position: a store put back from yesterday."""

    def act(connection: sa.Connection) -> None:
        for table, column, bound in (
            (entries, entries.c.number, last),
            (groups, groups.c.last, last),
        ):
            connection.execute(sa.delete(table).where(table.c.writer == "gateway-1", column > bound))
        connection.execute(sa.delete(entries).where(entries.c.writer == "gateway-2"))
        connection.execute(sa.delete(groups).where(groups.c.writer == "gateway-2"))
        connection.execute(sa.delete(leaves).where(leaves.c.position >= position))
        for level in range(4):
            gone = nodes.c.index >= position >> level
            connection.execute(sa.delete(nodes).where(nodes.c.level == level, gone))
        connection.execute(sa.delete(checkpoints).where(checkpoints.c.size > position))

    return act


ACTS: dict[str, tuple[Act, str]] = {
    "an entry edited": (
        change(entries, {"entry": entry(purpose="curiosity").to_bytes()}, writer="gateway-1", number=3),
        "gateway-1 3: the entry was changed",
    ),
    "an entry and its leaf hash edited": (
        change(entries, forged(3, purpose="curiosity"), writer="gateway-1", number=3),
        "gateway-1 2 to 4: the entries are not those that were signed",
    ),
    "an answer edited": (
        change(entries, {"answer": bytes(32)}, writer="gateway-1", number=11),
        "gateway-1 11: the entry was changed",
    ),
    "an entry removed": (remove(entries, writer="gateway-1", number=3), "gateway-1 3: missing"),
    "a group's last entry removed": (remove(entries, writer="gateway-1", number=4), "gateway-1 4: missing"),
    "the last entry removed": (remove(entries, writer="gateway-2", number=5), "gateway-2 5: missing"),
    "all entries of a writer removed": (remove(entries, writer="gateway-2"), "gateway-2 1 to 2: missing"),
    "an entry added": (
        lambda connection: connection.execute(sa.insert(entries), forged(12)),
        "gateway-1 12: an entry that no group has signed",
    ),
    "an entry of an unknown writer added": (
        lambda connection: connection.execute(sa.insert(entries), {**forged(1), "writer": "a"}),
        "a 1: an entry that no group has signed",
    ),
    "two entries swapped": (
        swap(entries, "number", 8, 9, writer="gateway-1"),
        "gateway-1 7 to 10: the entries are not those that were signed",
    ),
    "a group removed": (remove(groups, writer="gateway-1", last=4), "gateway-1 2 to 4: the group is missing"),
    "the newest group removed, entries too": (
        lambda connection: [
            remove(groups, writer="gateway-1", last=11)(connection),
            remove(entries, writer="gateway-1", number=11)(connection),
        ],
        "gateway-1 11: the group of a leaf is missing",
    ),
    "a group's numbers edited": (
        change(groups, {"first": 6}, writer="gateway-1", last=6),
        "gateway-1 6: the group signs other numbers",
    ),
    "a leaf removed": (remove(leaves, position=2), "gateway-2 2: leaf 2 of the tree is missing; then"),
    "the last leaf removed": (
        remove(leaves, position=5),
        "the log ends at 5 groups, but 6 were signed: it was cut",
    ),
    "two leaves swapped": (
        swap(leaves, "position", 0, 1),
        "gateway-1 2 to 4: the tree has this group out of turn",
    ),
    "a node edited": (
        change(nodes, {"hash": bytes(32)}, level=1, index=1),
        "gateway-2 1 to 2: node 1/1 of the tree was changed or is missing",
    ),
    "a node removed": (
        remove(nodes, level=0, index=5),
        "gateway-1 11: node 0/5 of the tree was changed or is missing",
    ),
    "a node added": (
        lambda connection: connection.execute(sa.insert(nodes), {"level": 0, "index": 6, "hash": bytes(32)}),
        "level 0 of the tree has nodes that no leaf gives",
    ),
    "nodes put where the tree will grow": (
        lambda connection: connection.execute(sa.insert(nodes), {"level": 3, "index": 0, "hash": bytes(32)}),
        "level 3 of the tree has nodes that no leaf gives",
    ),
    "the store's checkpoint edited": (
        change(checkpoints, {"note": b"nothing"}, size=4),
        "a checkpoint is not a signed note (checkpoint in the store)",
    ),
    "an older store put back": (cut_after(4, 2), "the log ends at 2 groups, but 4 were signed: it was cut"),
    "everything removed": (cut_after(0, 0), "the log ends at 0 groups, but 2 were signed: it was cut"),
}


@pytest.mark.parametrize("name", ACTS)
def test_what_was_done_is_found_and_where(
    name: str, sealed: tuple[AuditStore, Topic, list[Receipt]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, topic, _ = sealed
    act, expected = ACTS[name]
    with tampered(store, monkeypatch) as connection:
        act(connection)
        report = verified(store, topic.notes)
    assert not report
    assert expected in [str(finding) for finding in report.findings], [str(one) for one in report.findings]
    assert verified(store, topic.notes)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET entry = CAST(entry AS TEXT) WHERE number = 3",
        "UPDATE audit_entries SET number = 'three' WHERE number = 3",
        "UPDATE audit_groups SET first = 'two' WHERE last = 4",
        "UPDATE audit_groups SET writer = CAST(x'ff' AS TEXT) WHERE last = 4",
        "UPDATE audit_leaves SET position = 'x' WHERE position = 2",
        "UPDATE audit_nodes SET hash = 'x' WHERE level = 1",
        "UPDATE audit_checkpoints SET note = 7",
    ],
)
def test_values_of_another_type_are_found_too(statement: str, tmp_path: Path, topic: Topic) -> None:
    store = fresh_store(sqlite_url(tmp_path))
    write(store, "gateway-1", 1, 3, 2)
    new_sealer(store, topic).step()
    with store.writing() as connection:
        connection.exec_driver_sql(statement)
    assert not verified(store, topic.notes)
    store.close()


EVIDENCE = {  # every column that is hashed, signed or orders what is
    entries: ("entry", "answer", "leaf", "number", "writer"),
    groups: ("token", "first", "last", "writer"),
    leaves: ("position", "last", "writer"),
    nodes: ("hash", "index", "level"),
    checkpoints: ("note", "size"),
}


def bits(value: Any) -> Iterator[Any]:
    """Every value that differs from this one in one bit."""
    if isinstance(value, int):
        yield from (value ^ 1 << bit for bit in range(15))
        return
    raw = value.encode() if isinstance(value, str) else bytes(value)
    for bit in range(len(raw) * 8):
        copy = bytearray(raw)
        copy[bit // 8] ^= 1 << bit % 8
        if isinstance(value, bytes):
            yield bytes(copy)
        elif copy.isascii() and 0 not in copy:  # neither database takes other bytes as this text
            yield copy.decode("ascii")


def flip_bits(store: AuditStore, topic: Topic, every: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Flip each `every`-th bit of all the evidence, one at a time; the number of flips. None goes unnoticed."""
    done = place = 0
    with tampered(store, monkeypatch) as connection:
        for table, columns in EVIDENCE.items():
            for found in connection.execute(sa.select(table)).all():
                key = {column.name: getattr(found, column.name) for column in table.primary_key}
                for column in columns:
                    for flipped in bits(getattr(found, column)):
                        place += 1
                        if place % every:
                            continue
                        done += 1
                        savepoint = connection.begin_nested()
                        try:
                            change(table, {column: flipped}, **key)(connection)
                        except sa.exc.IntegrityError:
                            savepoint.rollback()  # the database itself refuses it
                            continue
                        report = verified(store, topic.notes)
                        assert not report, f"{table.name} {key} {column}: unnoticed"
                        savepoint.rollback()
    return done


def small(store: AuditStore, topic: Topic) -> None:
    """Everything of which there can be a bit, once: a chain, two writers, a tree, a checkpoint, an uncovered group."""
    sealer = new_sealer(store, topic)
    for writer in ("a", "b", "a"):
        own = Writer(store, SIGNER, writer, Holder("test"), patience_s=0.0)
        own.open()
        least = Entry(time=NOON, act="a", outcome="done", issuer="i", client="c", department="d")
        own.append([Line.of(least, BODY, bytes(16))])
        own.close()
        if writer == "b":
            sealer.step()


def test_bits_flipped_here_and_there_are_found(
    store: AuditStore, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(store, topic)
    assert flip_bits(store, topic, 31, monkeypatch) > 300


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_flipped_bit_is_found(tmp_path: Path, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fresh_store(sqlite_url(tmp_path))
    small(store, topic)
    bits = flip_bits(store, topic, 1, monkeypatch)
    assert bits > 10_000
    print(f"{bits:,} bits flipped, one at a time; each was found")


def columns_of(table: sa.Table, found: sa.Row[Any]) -> dict[str, Any]:
    return {column.name: getattr(found, column.name) for column in table.columns}


def put(table: sa.Table, values: dict[str, Any]) -> Act:
    return lambda connection: connection.execute(sa.insert(table), values)


def removals(table: sa.Table, rows: list[dict[str, Any]]) -> Iterator[list[Act]]:
    """Each row, gone."""
    for each in rows:
        yield [remove(table, **key_of(table, each))]


def insertions(table: sa.Table, rows: list[dict[str, Any]]) -> Iterator[list[Act]]:
    """A copy of each row, under the next number, before the first and under another name."""
    for each in rows:
        for name in key_of(table, each):
            taken = [one[name] for one in rows]
            others = [f"{each[name]}x", ""] if isinstance(each[name], str) else [max(taken) + 1, min(taken) - 1]
            for other in others:
                yield [put(table, {**each, name: other})]


def swaps(table: sa.Table, rows: list[dict[str, Any]]) -> Iterator[list[Act]]:
    """Each two rows, each in the other's place."""
    for one, other in itertools.combinations(rows, 2):
        moved = {**other, **key_of(table, one)}, {**one, **key_of(table, other)}
        if one not in moved:  # else both say the same
            yield [
                *(remove(table, **key_of(table, each)) for each in (one, other)),
                *(put(table, each) for each in moved),
            ]


def key_of(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    return {column.name: values[column.name] for column in table.primary_key}


def truncations(connection: sa.Connection, signed: int) -> Iterator[list[Act]]:
    """The log as it was at each size that is less than what was signed away: nothing that came later is there."""
    tree = connection.execute(sa.select(leaves).order_by(leaves.c.position)).all()
    for size in range(signed):
        kept = {each.writer: each.last for each in tree[:size]}
        gone = [leaves.c.position >= size, checkpoints.c.size > size]
        gone += [sa.and_(nodes.c.level == level, nodes.c.index >= size >> level) for level in range(4)]
        for writer in {each.writer for each in tree}:
            for table, column in ((entries, entries.c.number), (groups, groups.c.last)):
                gone.append(sa.and_(table.c.writer == writer, column > kept.get(writer, 0)))
        yield [partial(cut, each) for each in gone]


def cut(gone: sa.ColumnElement[bool], connection: sa.Connection) -> None:
    (table,) = {column.table for column in sa.sql.visitors.iterate(gone) if isinstance(column, sa.Column)}
    connection.execute(sa.delete(table).where(gone))


@pytest.mark.timeout(300)
def test_every_removal_insertion_swap_and_truncation_is_found(
    sealed: tuple[AuditStore, Topic, list[Receipt]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every row of the evidence, one at a time; what the database itself refuses is no change."""
    store, topic, _ = sealed
    done: Counter[str] = Counter()
    with tampered(store, monkeypatch) as connection:
        tried: list[tuple[str, list[Act]]] = [("truncation", acts) for acts in truncations(connection, signed=6)]
        for table in (entries, groups, leaves, nodes, checkpoints):
            rows = [columns_of(table, found) for found in connection.execute(sa.select(table)).all()]
            for what, kind in (("removal", removals), ("insertion", insertions), ("swap", swaps)):
                if (what, table) != ("removal", checkpoints):  # copies: those that left are what counts
                    tried += [(f"{what} in {table.name}", acts) for acts in kind(table, rows)]
        for what, acts in tried:
            savepoint = connection.begin_nested()
            try:
                for act in acts:
                    act(connection)
            except sa.exc.IntegrityError:
                savepoint.rollback()
                continue
            assert not verified(store, topic.notes), what
            savepoint.rollback()
            done[what.partition(" ")[0]] += 1
    assert min(done[what] for what in ("removal", "insertion", "swap", "truncation")) > 5
    print(f"{done.total():,} changes, each was found: {dict(done)}")


# --- whoever holds the signing key -----------------------------------------------------------------------------------


def rewrite(store: AuditStore) -> None:
    """Make all history anew, properly signed: only what left the store can tell."""
    with store.writing() as connection:
        for table in EVIDENCE:
            connection.execute(sa.delete(table))
        connection.execute(sa.text("UPDATE audit_slots SET holder = NULL"))


def test_a_history_made_anew_is_told_by_a_checkpoint(sealed: tuple[AuditStore, Topic, list[Receipt]]) -> None:
    store, topic, _ = sealed
    rewrite(store)
    write(store, "gateway-1", 1, 3, 2, 4, 1, 1, 1, tale="another")
    report = verify_log(store, topic.notes, KEYS, ORIGIN)
    assert str(report.findings[0]) == "the log ends at 0 groups, but 2 were signed: it was cut"
    new_sealer(store, Topic()).step()
    report = verify_log(store, topic.notes, KEYS, ORIGIN)
    assert str(report.findings[0]) == (
        "gateway-1 1: the tree of 2 groups is not the one that was signed; the first group in question"
    )
    assert verified(store)  # in itself it is whole


def test_a_missing_later_entry_is_found_from_its_receipt(
    sealed: tuple[AuditStore, Topic, list[Receipt]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, topic, made = sealed
    last = made[-1]
    with tampered(store, monkeypatch) as connection:
        for table in (entries, groups):
            column = entries.c.number if table is entries else groups.c.last
            connection.execute(sa.delete(table).where(table.c.writer == "gateway-2", column > 2))
        assert verified(store, topic.notes)  # no checkpoint has covered it
        with pytest.raises(AuditBroken, match="gateway-2 5: the entry of a genuine receipt is missing"):
            find(store, last, BODY, KEYS)


def test_a_fork_is_found_from_a_receipt(sealed: tuple[AuditStore, Topic, list[Receipt]]) -> None:
    store, _, made = sealed
    rewrite(store)
    write(store, "gateway-1", 11)
    write(store, "gateway-2", 1, 4)
    last = made[-1]
    with pytest.raises(AuditBroken, match="gateway-2 5: another entry stands where"):
        find(store, last, BODY, KEYS)
    genuine = Line.of(entry(case="true", request="gateway-2/3/2"), BODY, bytes(16))
    with store.writing() as connection:
        change(entries, {"entry": genuine.entry, "answer": bytes(32)}, writer="gateway-2", number=5)(connection)
    with pytest.raises(AuditBroken, match="another answer stands"):
        find(store, last, BODY, KEYS)
    with store.writing() as connection:
        change(entries, {"answer": genuine.answer}, writer="gateway-2", number=5)(connection)
    with pytest.raises(AuditBroken, match="group of a genuine receipt is missing; the line has been forked"):
        find(store, last, BODY, KEYS)


def test_two_groups_after_one_are_a_fork(sealed: tuple[AuditStore, Topic, list[Receipt]]) -> None:
    store, topic, _ = sealed
    line = Line.of(entry(time=NOON, request="twin"), BODY, bytes(16))
    with store.reading() as connection:
        before = store.group_of(connection, "gateway-2", 2)
    assert before is not None
    twin = signing.seal("gateway-2", 3, signing.group_hash(before.token), [line.leaf], SIGNER)
    with store.writing() as connection:
        values = {"writer": "gateway-2", "first": 2, "last": 3, "token": twin.token}  # `first` 3 is taken
        connection.execute(sa.insert(groups), values)
    found = [str(finding) for finding in verified(store, topic.notes).findings]
    assert "gateway-2 2 to 3: groups overlap: the line is forked" in found


def test_checkpoints_of_a_tree_that_went_back_are_compared_too(
    sealed: tuple[AuditStore, Topic, list[Receipt]],
) -> None:
    store, topic, _ = sealed
    assert verified(store, [*topic.notes, topic.notes[0], topic.notes[2]])
    other = replace(open_checkpoint(topic.notes[0], ORIGIN, KEYS), root=merkle.EMPTY_ROOT).sign(SIGNER)
    report = verified(store, [*topic.notes, other])
    assert not report
    assert "the tree of 2 groups is not the one that was signed" in str(report.findings[0])


def test_a_log_of_which_no_checkpoint_is_there_does_not_verify(
    sealed: tuple[AuditStore, Topic, list[Receipt]],
) -> None:
    store, topic, _ = sealed
    (finding,) = verified(store, []).findings
    assert str(finding).startswith("no checkpoint of this log is in the topic")
    (finding,) = verified(store, topic.notes[:2]).findings
    assert str(finding) == "the topic ends with a checkpoint of 4 groups, but one of 6 left: the topic was cut"
    report = verified(store)  # in itself, as one asks for it
    assert report
    assert report.uncovered == report.entries == 16
    assert report.younger == {"gateway-1": (1, 11), "gateway-2": (1, 5)}


def test_an_empty_log_needs_no_checkpoint(store: AuditStore) -> None:
    assert verified(store, [])


# --- what moves a log ------------------------------------------------------------------------------------------------


def test_a_log_verifies_after_dump_and_restore_into_another_database(
    store: AuditStore, topic: Topic, tmp_path: Path
) -> None:
    awkward = {
        "nanoseconds": "2026-11-25T04:00:00.123456789Z",
        "nested": {"z": 1, "a": {"b": []}},
        "price": 1.10,
        "huge": 123456789012345680000,
        "text": "\x00e\u0301",
        "absent": None,
    }
    origin = fresh_store(sqlite_url(tmp_path, "origin.db"))
    own = Writer(origin, SIGNER, "gateway-1", Holder("test"))
    own.open()
    (receipt,) = own.append([Line.of(entry(details=awkward), BODY, bytes(16))])
    write(origin, "gateway-2", 3)
    new_sealer(origin, topic).step()
    with origin.reading() as source, store.writing() as target:
        for table in EVIDENCE:
            for found in source.execute(sa.select(table)).all():
                target.execute(sa.insert(table), dict(found._mapping))
    origin.close()
    report = verified(store, topic.notes)
    assert report, report.findings
    assert (report.entries, report.uncovered) == (4, 0)
    assert find(store, receipt, BODY, KEYS).entry == entry(details=awkward).to_bytes()
    assert [made.number for made in write(store, "gateway-1", 1)] == [2]  # and it goes on from there
    assert verified(store, topic.notes)


# --- verifying while it is written -----------------------------------------------------------------------------------


def test_it_verifies_while_it_is_written(store: AuditStore, topic: Topic) -> None:
    sealer = new_sealer(store, topic)
    own = Writer(store, SIGNER, "gateway-1", Holder("test"))
    own.open()

    def published() -> Iterator[bytes]:
        """Whenever verify reads one, more is written: the last ones are newer than its snapshot of the store."""
        for place in range(6):
            yield topic.notes[place]
            own.append([Line.of(entry(), BODY, bytes(16))])
            sealer.step()

    own.append([Line.of(entry(), BODY, bytes(16))])
    sealer.step()
    report = verify_log(store, published(), KEYS, ORIGIN)
    assert report, report.findings
    assert (report.leaves, report.uncovered) == (1, 0)
    assert verified(store, topic.notes).leaves == 7
