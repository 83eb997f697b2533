"""`python -m rig.drain`: a server was away while records came in all the time; how fast is what has waited caught up?

    python -m rig.drain                   on a Kafka and a PostgreSQL of its own; two minutes
    python -m rig.drain --seconds 30      each is away for so long

First one materialiser reads a full topic as fast as it can. Then records come in at half of that (--share). PostgreSQL
is killed and away for a while, and so is Kafka. Counted from when the server answers again: what had waited, how long
it took until nothing waited any more, and how many records were read a second against how many came in. Every record
is a new word on an enterprise that stands; in the end the last one on each must stand. Exits with 1 if it does not, or
if what had waited was not caught up, with 2 if it could not be tried.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import confluent_kafka

from rig.faults.base import after
from rig.offices import REGISTRATION, Register, topic
from rig.oracle import Oracle
from rig.places import OWN, Places, prepared
from rig.report import machine
from rig.servers import KAFKA, POSTGRES, Servers
from rig.site import Failed, Site
from rig.topics import Away, Message

TOPIC = topic(REGISTRATION)
MATERIALISE = "materialise-1"
PATIENCE = 180.0  # seconds for anything
STEADY = 8.0  # seconds that records come in before a server goes
CALM = 0.5  # seconds of ingest: what may be on its way where nothing waits
TICK = 0.02


class Behind(Exception):
    """What had waited was not caught up"""


@dataclass(frozen=True, slots=True)
class Drained:
    """What came of one server that was away: seconds, and records a second."""

    server: str
    away: float
    waited: int
    seconds: float
    read: float
    came: float

    @property
    def ratio(self) -> float:
        return self.read / self.came


class Pump:
    """Says again what stands, with the next number, at a rate. Used by one thread at a time, but for `sent`."""

    def __init__(self, servers: str, said: Sequence[Message]) -> None:
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": servers,
                "acks": "all",
                "linger.ms": 5,
                "queue.buffering.max.messages": 5_000_000,
                "log_level": 0,
            }
        )
        self._said = itertools.cycle(said)
        self._next = max(message.number[1] for message in said) + 1
        self.sent = 0
        self.last: dict[str, int] = {}

    def send(self, count: int) -> None:
        """So many records; where Kafka is away they wait here."""
        for message in itertools.islice(self._said, count):
            headers = [
                (name, (str(self._next) if name == "ce_sequence" else text).encode()) for name, text in message.headers
            ]
            self._producer.produce(TOPIC, message.value, message.key.encode(), message.partition, headers=headers)  # type: ignore[arg-type]
            self.last[message.key] = self._next
            self._next += 1
            self.sent += 1
        self._producer.poll(0)

    def flush(self) -> None:
        """Until Kafka has all of them. Raises Failed."""
        if self._producer.flush(PATIENCE):
            raise Failed("Kafka did not take what was sent")

    @contextmanager
    def at(self, rate: float) -> Iterator[None]:
        """Send so many a second as long as the block lasts."""
        over = threading.Event()

        def work() -> None:
            began, before = time.monotonic(), self.sent
            while not over.wait(TICK):
                self.send(int((time.monotonic() - began) * rate) - (self.sent - before))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Exchange:
    """One materialiser, and a topic that a pump fills."""

    def __init__(self, folder: Path, places: Places, servers: Servers) -> None:
        """Found it, with the records of a register in its topic. Raises Failed."""
        self._site = Site(folder, places.broker, places.store)
        self._servers = servers
        self._tables = places.tables(folder)
        self._site.instance("register", Register.INSTANCE)
        Register(folder, Oracle(), Random(1)).change()
        self._site.start("gateway-1")
        self._site.ready("gateway-1", PATIENCE)
        self._site.command("connector", "run", str(folder / "register.toml"), "--once")
        self._site.stop()
        with closing(places.topics(folder)) as topics:
            said = topics.since(TOPIC, {})
            self._before = sum(topics.ends(TOPIC).values())
        self.pump = Pump(places.kafka, said)

    def start(self) -> None:
        self._site.start(MATERIALISE)

    def stop(self) -> None:
        self._site.stop()

    def read(self) -> int:
        """How many of the pump's records have had their effect. Raises Away."""
        positions = self._tables.positions()
        return sum(at for (name, _), at in positions.items() if name == TOPIC) - self._before

    def caught_up(self, within: float) -> bool:
        """Whether all but what is on its way was read, within a while."""
        return after(PATIENCE, lambda: self._waits() <= within)

    def fastest(self, count: int) -> float:
        """Records a second that are read of a topic where so many stand."""
        self.pump.send(count)
        self.pump.flush()
        self.start()
        looks: list[tuple[float, int]] = []
        while not looks or looks[-1][1] < count:
            looks.append((time.monotonic(), self.read()))
            if time.monotonic() > looks[0][0] + PATIENCE:
                raise Behind(f"{looks[-1][1]} of {count} records were read in {PATIENCE:.0f} s")
            time.sleep(0.05)
        (first, begin), (last, end) = (next(one for one in looks if one[1] >= count * share) for share in (0.1, 0.9))
        return (end - begin) / (last - first)

    def away(self, server: str, seconds: float, rate: float) -> Drained:
        """Kill this server, start it again after so long, and watch what has waited. Raises Failed, Behind."""
        time.sleep(STEADY)
        if not self.caught_up(rate * CALM):
            raise Behind("not even what came in before was read")
        gone = time.monotonic()
        self._servers.kill(server)
        time.sleep(seconds)
        self._servers.start(server)
        if not after(PATIENCE, lambda: self._waits() < sys.maxsize):
            raise Failed(f"{server} did not answer again")
        back, sent, read = time.monotonic(), self.pump.sent, self.read()
        if not self.caught_up(rate * CALM):
            raise Behind(f"{sent - read} records had waited, and {PATIENCE:.0f} s later {self._waits()} do")
        took = time.monotonic() - back
        return Drained(
            server, back - gone, sent - read, took, (self.read() - read) / took, (self.pump.sent - sent) / took
        )

    def lost(self) -> int:
        """On how many enterprises the last word does not stand."""
        stands = {facet.key: facet.number[1] for facet in self._tables.facets([REGISTRATION])}
        return sum(stands.get(key) != number for key, number in self.pump.last.items())

    def _waits(self) -> int:
        try:
            return self.pump.sent - self.read()
        except Away:
            return sys.maxsize


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is stopped in order
    try:
        with tempfile.TemporaryDirectory(prefix="exchange-rig-", ignore_cleanup_errors=True) as made:
            folder = Path(made)
            folder.chmod(0o711)
            (folder / "site").mkdir()
            servers = Servers(folder)
            with prepared(OWN, OWN, servers) as places:
                told = _measured(Exchange(folder / "site", places, servers), options)
    except Behind as behind:
        print(behind, file=sys.stderr)
        return 1
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 2
    print(json.dumps(told, indent=2) if options.json else _text(told))
    return 1 if told["lost"] else 0


def _measured(exchange: Exchange, options: argparse.Namespace) -> dict[str, object]:
    try:
        fastest = exchange.fastest(options.records)
        rate = fastest * options.share
        print(f"at most {fastest:,.0f} records a second; {rate:,.0f} come in", file=sys.stderr, flush=True)
        found = []
        with exchange.pump.at(rate):
            for _ in range(options.times):
                for server in (POSTGRES, KAFKA):
                    found.append(exchange.away(server, options.seconds, rate))
                    print(f"  {_line(found[-1])}", file=sys.stderr, flush=True)
        exchange.pump.flush()
        if not exchange.caught_up(0):
            raise Behind("not everything was read in the end")
        lost = exchange.lost()
    finally:
        exchange.stop()
    return {
        "machine": machine(),
        "fastest": round(fastest),
        "records": exchange.pump.sent,
        "drained": [asdict(one) | {"ratio": one.ratio} for one in found],
        "ratio": {
            server: statistics.median(one.ratio for one in found if one.server == server)
            for server in (POSTGRES, KAFKA)
        },
        "lines": [_line(one) for one in found],
        "lost": lost,
    }


def _line(one: Drained) -> str:
    return (
        f"{one.server} away for {one.away:.1f} s: {one.waited:,} had waited and were caught up in {one.seconds:.1f} s, "
        f"{one.read:,.0f} read and {one.came:,.0f} came in a second ({one.ratio:.2f})"
    )


def _text(told: dict[str, object]) -> str:
    lines, ratio = told["lines"], told["ratio"]
    assert isinstance(lines, list)
    assert isinstance(ratio, dict)
    return "\n".join(
        [
            f"{told['records']:,} records, at most {told['fastest']:,} read in a second; {told['machine']}",
            *(f"  {line}" for line in lines),
            *(f"  {server}: read {median:.2f} times as fast as it came in" for server, median in ratio.items()),
            f"  the last word does not stand on {told['lost']} enterprises",
        ]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rig.drain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for so long a server is away")
    parser.add_argument("--times", type=int, default=2, help="so often each")
    parser.add_argument("--records", type=int, default=100_000, help="so many are read to know how fast it can be")
    parser.add_argument("--share", type=float, default=0.5, help="so much of what can be read comes in")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
