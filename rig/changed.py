"""`python -m rig.changed`: a topic is not the one it was; its readers stop and say so, and the way back leads back.

    python -m rig.changed                        on SQLite
    python -m rig.changed --kafka --postgres     on servers of its own

One small exchange. The topic of penalties is re-created, loses what was not read yet, and (Kafka) gets a partition
more. Each time its readers must end with status 78 and a line that names the topic. Then what docs/topics.md tells the
operator is done, and everything must stand again as the oracle says. Exits with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from rig.checkers import Evidence, lost, order, phantom, poison, twice
from rig.faults.base import after
from rig.identities import Keys
from rig.offices import PENALTY, Penalties, topic
from rig.oracle import Oracle
from rig.places import OWN, Places, prepared
from rig.report import machine
from rig.servers import Servers
from rig.site import Failed, Site, tail
from rig.tables import SqliteFile
from rig.topics import Away

TOPIC = topic(PENALTY)
MATERIALISE, CONNECTOR = "materialise-1", "connector-penalties"
OPERATOR = 78  # the exit status of what an operator must see to
STOPS = 60.0  # seconds within which a reader must have stopped
SETTLES = 90.0  # seconds within which everything must have had its effect

# What docs/topics.md says: the store forgets one contract, and reads its topic again from its beginning.
FORGET = (
    f"DELETE FROM facets WHERE contract = '{PENALTY}' AND major = 1",
    f"DELETE FROM watermarks WHERE contract = '{PENALTY}'",
    f"DELETE FROM pending_watermarks WHERE contract = '{PENALTY}'",
    f"DELETE FROM rejects WHERE topic = '{TOPIC}'",
    f"DELETE FROM positions WHERE topic = '{TOPIC}'",
)
FORGET_EFFECTS = f"DELETE FROM rig_effects WHERE target LIKE '%{PENALTY}%'"  # the rig's own: they come once more


class Exchange:
    """A gateway, a materialiser and the connector of the table of penalties."""

    def __init__(self, folder: Path, places: Places) -> None:
        """Found it, and have it work. Raises Failed."""
        self.places = places
        self.site = Site(folder, places.broker, places.store)
        self.tables = places.tables(folder)
        self.tables.watch()
        self.oracle = Oracle()
        self.penalties = Penalties(folder, self.oracle, Random(1))
        self.site.instance("penalties", Penalties.INSTANCE)
        self.penalties.change()
        self.site.start("gateway-1")
        self.site.ready("gateway-1", SETTLES)
        self.site.start(MATERIALISE, CONNECTOR)

    def settled(self) -> bool:
        """Whether what the office has said so far has had its effect, within a while."""

        def done() -> bool:
            try:
                read = self.tables.positions()
                ends = self.ends()
            except Away:
                return False
            return self._told() and all(read.get((TOPIC, place), 0) >= end for place, end in ends.items())

        return after(SETTLES, done)

    def ends(self) -> dict[int, int]:
        with closing(self.places.topics(self.site.folder)) as topics:
            return topics.ends(TOPIC)

    def stop(self, name: str) -> None:
        """SIGTERM, and wait."""
        process = self.site.parts[name].process
        assert process is not None
        process.terminate()
        process.wait(STOPS)

    def stopped(self, name: str) -> list[str]:
        """What is wrong if this reader does not stop by itself, with its alarm."""
        part = self.site.parts[name]
        process = part.process
        assert process is not None
        if not after(STOPS, lambda: process.poll() is not None):
            return [f"{name} went on"]
        said = tail(part.log)
        print(f"    {name} ended with {process.returncode}: {said}", file=sys.stderr)
        if process.returncode != OPERATOR or TOPIC not in said:
            return [f"{name} ended with {process.returncode}: {said}"]
        return []

    def way_back(self) -> None:
        """As docs/topics.md says."""
        for name in (MATERIALISE, CONNECTOR):
            process = self.site.parts[name].process
            if process is not None and process.poll() is None:
                self.stop(name)
        self.tables.store.run(*FORGET, FORGET_EFFECTS)
        for file in (self.site.folder / "data" / "cursors").glob("market.penalties.db*"):
            file.unlink()
        self.site.start(MATERIALISE, CONNECTOR)

    def wrong(self) -> list[str]:
        """What does not stand as it should."""
        with closing(self.places.topics(self.site.folder)) as topics:
            keys = Keys((self.site.folder / "keys" / "bus.key").read_bytes())
            evidence = Evidence(self.oracle, keys, topics, self.tables, [], [], [])
            return [case for check in (lost, twice, order, phantom, poison) for case in check(evidence).wrong]

    def _told(self) -> bool:
        return self.tables.as_of("market/penalties") >= self.penalties.told


# --- what is done to the topic ----------------------------------------------------------------------------------------


def recreated(exchange: Exchange) -> list[str]:
    """Somebody deletes the topic and makes one of the same name: whoever reads it stops, and stops again."""
    if exchange.places.kafka:
        admin = _admin(exchange)
        _done(admin.delete_topics([TOPIC]))
        time.sleep(1.0)  # Kafka deletes in the background
        _done(admin.create_topics([NewTopic(TOPIC, 3, 1, config={"cleanup.policy": "compact"})]))
    else:
        _topics_file(exchange).run(
            "BEGIN IMMEDIATE",
            f"DELETE FROM messages WHERE topic = (SELECT number FROM topics WHERE name = '{TOPIC}')",
            f"DELETE FROM owners WHERE topic = (SELECT number FROM topics WHERE name = '{TOPIC}')",
            f"DELETE FROM topics WHERE name = '{TOPIC}'",
            f"INSERT INTO topics (name, id, compacted) VALUES ('{TOPIC}', 'of the rig', 1)",
            "COMMIT",
        )
    wrong = exchange.stopped(MATERIALISE)
    process = exchange.site.parts[CONNECTOR].process
    if process is not None and process.poll() is None:
        exchange.stop(CONNECTOR)
    exchange.site.start(MATERIALISE, CONNECTOR)
    return wrong + exchange.stopped(MATERIALISE) + exchange.stopped(CONNECTOR)


def retained(exchange: Exchange) -> list[str]:
    """While nobody reads, the topic loses what was not read yet: whoever reads on stops, and stops again."""
    exchange.stop(MATERIALISE)
    before = exchange.ends()
    exchange.penalties.change()
    if not after(SETTLES, lambda: sum(exchange.ends().values()) >= sum(before.values()) + 6):
        return ["the connector published nothing"]
    if exchange.places.kafka:
        admin = _admin(exchange)
        entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
        _done(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])]))
        _done(admin.delete_records([TopicPartition(TOPIC, place, end) for place, end in exchange.ends().items()]))
    else:
        _topics_file(exchange).run(
            "BEGIN IMMEDIATE",
            f"DELETE FROM messages WHERE topic = (SELECT number FROM topics WHERE name = '{TOPIC}')",
            f"UPDATE topics SET earliest = next WHERE name = '{TOPIC}'",
            "COMMIT",
        )
    wrong = []
    for _ in range(2):
        exchange.site.start(MATERIALISE)
        wrong += exchange.stopped(MATERIALISE)
    return wrong


def widened(exchange: Exchange) -> list[str]:
    """The topic gets another partition: a key may now be in another one, and whoever reads it stops."""
    admin = _admin(exchange)
    _done(admin.create_partitions([NewPartitions(TOPIC, 4)]))
    return exchange.stopped(MATERIALISE)


CHANGES: dict[str, Callable[[Exchange], list[str]]] = {
    "topic-recreated": recreated,
    "topic-retained": retained,
    "topic-widened": widened,
}


def _admin(exchange: Exchange) -> AdminClient:
    return AdminClient({"bootstrap.servers": exchange.places.kafka, "log_level": 0})


def _topics_file(exchange: Exchange) -> SqliteFile:
    return SqliteFile(exchange.site.folder / "data" / "topics.db")


def _done(futures: object) -> None:
    for future in futures.values():  # type: ignore[attr-defined]
        future.result(30)


# --- the command ------------------------------------------------------------------------------------------------------


def tried(exchange: Exchange, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each change, the alarms, the way back; what was wrong."""
    for name in names:
        print(name, file=sys.stderr, flush=True)
        wrong = [] if exchange.settled() else ["it had not settled before"]
        wrong += CHANGES[name](exchange)
        began = time.monotonic()
        exchange.way_back()
        exchange.penalties.change()
        wrong += [] if exchange.settled() else ["not everything had its effect behind the way back"]
        print(f"    settled {time.monotonic() - began:.1f} s after the way back began", file=sys.stderr, flush=True)
        yield name, wrong + exchange.wrong()


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = [name for name in options.changes if options.kafka or name != "topic-widened"]
    bad = False
    try:
        with (
            _folder() as folder,
            _folder() as servers,
            prepared(options.kafka, options.postgres, Servers(servers)) as places,
        ):
            exchange = Exchange(folder, places)
            try:
                for name, wrong in tried(exchange, names):
                    bad = bad or bool(wrong)
                    print(f"{name}: {'; '.join(wrong[:5]) or 'stopped with its alarm, and the way back held'}")
            finally:
                exchange.site.stop()
            print(f"{exchange.oracle.count()} statements; {places}; {machine()}")
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 2
    return 1 if bad else 0


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder that another user than root can enter."""
    made = Path(tempfile.mkdtemp(prefix="exchange-rig-"))
    made.chmod(0o711)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rig.changed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kafka", action="store_const", const=OWN, default="", help="on a Kafka of its own")
    parser.add_argument("--postgres", action="store_const", const=OWN, default="", help="on a PostgreSQL of its own")
    parser.add_argument(
        "--changes", type=lambda text: text.split(","), default=list(CHANGES), metavar="A,B", help=", ".join(CHANGES)
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
