"""By what a killed exchange is judged: its topics, its tables and its audit log, read as they are.

evidence = Evidence(settings)
evidence.watch()             # from now on the database notes each effect, in the transaction that has it
evidence.nothing_twice()     # every check is one method
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from exchange.audit import PublicKeys, Receipt, find, verify_log, verify_receipt
from exchange.cli.administration import open_audit
from exchange.cli.materialise import topics_to_read
from exchange.clock import system_clock
from exchange.records import CHECKPOINTS_TOPIC, Delivery
from exchange.settings import Settings
from exchange.store.database import is_postgres
from exchange.wiring import open_broker, open_store, public_keys

# What an effect is on: a facet by its identity, a reject by its id.
_WATCHED = {
    "facets": "NEW.subject_key || '/' || NEW.contract || '.v' || NEW.major || '/' || NEW.record_key",
    "rejects": "NEW.id",
}
_TABLE = "CREATE TABLE effects (n {serial} PRIMARY KEY, target text, source text, epoch bigint, sequence bigint)"
_NOTE = "INSERT INTO effects (target, source, epoch, sequence) VALUES ({target}, NEW.source, NEW.epoch, NEW.sequence);"

_REJECTS = "SELECT source, epoch, sequence FROM rejects"


def _sqlite() -> Iterator[str]:
    yield _TABLE.format(serial="integer")
    for table, target in _WATCHED.items():
        for event in ("INSERT", "UPDATE"):
            note = _NOTE.format(target=target)
            yield f"CREATE TRIGGER effects_{table}_{event} AFTER {event} ON {table} BEGIN {note} END"


def _postgres() -> Iterator[str]:
    yield _TABLE.format(serial="bigserial")
    for table, target in _WATCHED.items():
        body = f"BEGIN {_NOTE.format(target=target)} RETURN NULL; END"
        yield f"CREATE FUNCTION effect_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
        yield f"CREATE TRIGGER effects AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION effect_{table}()"


class Said(NamedTuple):
    """A message's number: no two values may have one."""

    source: str  # with its epoch
    sequence: int


class Evidence:
    """An exchange's topics, store and audit log, from outside."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = open_store(settings, system_clock)
        self.broker = open_broker(settings)

    def watch(self) -> None:
        """Have the database itself note each effect, in the transaction that has it."""
        with self.store.engine.begin() as connection:
            for statement in _postgres() if is_postgres(connection) else _sqlite():
                connection.exec_driver_sql(statement)

    def close(self) -> None:
        self.broker.close()
        self.store.close()

    # -- topics --

    def messages(self, topic: str) -> list[Delivery]:
        """Everything in a topic."""
        return list(self.broker.read(topic))

    def numbers_hold(self, *topics: str) -> None:
        """No number stands for two values: in none of these topics, and in not two of them."""
        values: dict[Said, set[tuple[str, bytes | None, bytes | None]]] = defaultdict(set)
        for topic in topics:
            for delivery in self.messages(topic):
                values[said(delivery)].add((topic, delivery.key, delivery.value))
        assert not [number for number, stands_for in values.items() if len(stands_for) > 1]

    def caught_up(self) -> bool:
        """Whether everything in every topic that is read has had its effect."""
        positions = self.positions()
        for topic in topics_to_read(self.store):
            state = self.broker.state(topic)
            assert state is not None
            if any(end > max(earliest, positions.get((topic, at), 0)) for at, (earliest, end) in state.bounds.items()):
                return False
        return True

    # -- the store --

    def rows(self, query: str) -> list[Any]:
        with self.store.engine.connect() as connection:
            return list(connection.exec_driver_sql(query))

    def standing(self, contract: str) -> list[dict[str, Any]]:
        """The records that stand, tombstones not counted."""
        payloads = self.rows(f"SELECT payload FROM facets WHERE contract = '{contract}' AND payload IS NOT NULL")
        return [json.loads(payload) for (payload,) in payloads]

    def seats(self) -> dict[str, str]:
        """The registrations that stand: code -> seat, each code once."""
        found = [(payload["uscc"], payload["address"]) for payload in self.standing("market.registration")]
        assert len(dict(found)) == len(found)
        return dict(found)

    def rejects_agree(self, topic: str) -> Counter[str]:
        """What stands as set aside is just what the topic says, each number once; the places."""
        stored = Counter(Said(f"{source}/{epoch}", number) for source, epoch, number in self.rows(_REJECTS))
        assert stored == Counter({said(delivery) for delivery in self.messages(topic)})
        return Counter(place for (place,) in self.rows("SELECT place FROM rejects"))

    def as_of(self, source: str) -> int:
        """Until when a source has told everything, in microseconds; 0 if it never has."""
        found = self.rows(f"SELECT as_of FROM watermarks WHERE source = '{source}'")
        return int(found[0][0]) if found else 0

    def position_agrees(self, topic: str) -> None:
        """What stands is just what the messages in front of the position say: no less, and nothing of those behind it.

        For a topic of sources without a version field and with no key in common. Of the copies of a message the first
        one counts.
        """
        positions = self.positions()
        expected: dict[tuple[str, str], tuple[Said, int, int, bool]] = {}
        for delivery in self.messages(topic):
            if delivery.offset >= positions.get((topic, delivery.partition), 0):
                continue
            assert delivery.key is not None
            subject, _, record = delivery.key.decode().removeprefix("k1.").partition(".")
            stands, number = expected.get((f"k1.{subject}", record)), said(delivery)
            if stands is None or _age(number) > _age(stands[0]):
                place = number, delivery.partition, delivery.offset, delivery.value is None
                expected[f"k1.{subject}", record] = place
        contract, _, major = topic.rpartition(".v")
        found = self.rows(
            "SELECT subject_key, record_key, source, epoch, sequence, log_partition, log_offset, payload IS NULL"
            f" FROM facets WHERE contract = '{contract}' AND major = {major}"
        )
        assert expected == {
            (subject, record): (Said(f"{source}/{epoch}", sequence), partition, offset, bool(deleted))
            for subject, record, source, epoch, sequence, partition, offset, deleted in found
        }

    def nothing_twice(self) -> None:
        """No message had its effect twice, and none had it behind a newer one of its source."""
        last: dict[tuple[str, str], tuple[int, int]] = {}
        for target, source, *number in self.rows("SELECT target, source, epoch, sequence FROM effects ORDER BY n"):
            assert tuple(number) > last.get((target, source), (0, 0)), f"{target} {source} {number}"
            last[target, source] = (number[0], number[1])

    def positions(self) -> dict[tuple[str, int], int]:
        """By topic and partition: what is to be read next."""
        return {
            (topic, partition): at for topic, partition, at in self.rows("SELECT topic, partition, next FROM positions")
        }

    # -- the audit log --

    def log_verifies(self) -> list[dict[str, Any]]:
        """The whole log verifies against the checkpoints that left it, none of it uncovered; its entries."""
        notes = [each.value for each in self.messages(CHECKPOINTS_TOPIC) if each.value is not None]
        with open_audit(self.settings) as log:
            report = verify_log(log, notes, public_keys(self.settings), self.settings.audit.origin)
            with log.reading() as connection:
                entries = [json.loads(stored.entry) for stored in log.walk_entries(connection)]
        assert report, report.findings
        assert report.uncovered == 0
        return entries

    def views_in_the_log(self, views: list[Any], keys: PublicKeys) -> int:
        """Each view has exactly one entry, which its receipt proves over the bytes that came; how many there are."""
        entries = Counter(entry["request"] for entry in self.log_verifies() if entry["act"] == "view")
        with open_audit(self.settings) as log:
            for view in views:
                assert entries[view.headers["X-Request-Id"]] == 1
                receipt = Receipt.decode(view.headers["Exchange-Receipt"])
                verify_receipt(receipt, view.content, keys)
                find(log, receipt, view.content, keys)
        return entries.total()


def said(delivery: Delivery) -> Said:
    """The number in a message's headers."""
    return Said(delivery.headers["ce_source"].decode(), int(delivery.headers["ce_sequence"]))


def _age(number: Said) -> tuple[int, int]:
    return int(number.source.rpartition("/")[2]), number.sequence
