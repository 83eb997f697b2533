"""Real processes on one log: killed at any moment, started twice under one name, many at once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.audit.entries import entry_hash
from exchange.audit.keys import PublicKeys, generate_signing_key
from exchange.audit.receipts import Receipt
from exchange.audit.sealer import Sealer
from exchange.audit.slots import Holder
from exchange.audit.store import AuditStore
from exchange.audit.verify import Report, find, verify_log
from exchange.clock import system_clock
from tests.support.audit import ORIGIN, Topic, fresh_store, sqlite_url

ROOT = Path(__file__).parent.parent
PATIENCE = 0.5


class Child:
    """A process that appends, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    def first_word(self) -> str:
        give_up = time.monotonic() + 30
        while "\n" not in (text := self._output.read_text()):
            assert time.monotonic() < give_up, "it says nothing"
            time.sleep(0.02)
        return text.partition("\n")[0]

    def kill(self) -> list[Receipt]:
        """Its receipts until it was killed."""
        self.process.kill()
        self.process.wait()
        whole, _, _ = self._output.read_text().rpartition("\n")  # the last line may have been cut with the process
        return [Receipt.decode(line) for line in whole.split("\n")[1:]]

    def end(self) -> list[Receipt]:
        """Its receipts, once it has ended by itself."""
        assert self.process.wait(60) == 0
        return self.kill()


class City:
    """A log in a database, its signing key, and the processes that write to it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.store: AuditStore = fresh_store(url)
        self._key = folder / "signing.pem"
        self.signer = generate_signing_key(self._key)
        self.keys = PublicKeys([self.signer.public])
        self._folder = folder
        self._started: list[Child] = []

    def start(self, writer: str, *appends: int) -> Child:
        output = self._folder / f"output-{len(self._started)}"  # a file: a full pipe would hold the process up
        with output.open("w") as file:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.support.audit_process"),
                    *(self.url, writer, str(self._key), str(PATIENCE), *map(str, appends)),
                ],
                cwd=ROOT,
                stdout=file,
            )
        self._started.append(Child(process, output))
        return self._started[-1]

    def verified(self, topic: Topic | None = None) -> Report:
        report = verify_log(self.store, topic.notes if topic else None, self.keys, ORIGIN)
        assert report, report.findings
        return report

    def hold(self, answered: list[Receipt]) -> None:
        """Every receipt that was given out names an entry of the log."""
        with self.store.reading() as connection:
            stored = {(one.writer, one.number): entry_hash(one.entry) for one in self.store.walk_entries(connection)}
        for receipt in answered:
            assert stored[receipt.writer, receipt.number] == receipt.entry
        for receipt in random.Random(86).sample(answered, min(len(answered), 50)):
            find(self.store, receipt, b"body", self.keys)

    def close(self) -> None:
        for child in self._started:
            child.kill()
        self.store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def city(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[City]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("fresh_postgres")()
    found = City(url, tmp_path)
    yield found
    found.close()


def kill_in_a_loop(city: City, kills: int) -> None:
    answered: list[Receipt] = []
    dice = random.Random(86)
    for _ in range(kills):
        child = city.start("gateway-1")
        assert child.first_word() == "open"
        time.sleep(dice.uniform(0.02, 0.4))
        answered += child.kill()
        city.verified()
    assert len(answered) > kills
    city.hold(answered)
    numbers = [receipt.number for receipt in answered]
    assert len(set(numbers)) == len(numbers)
    last = city.verified().writers["gateway-1"]
    assert last >= max(numbers)


def test_a_killed_writer_leaves_a_whole_log_with_every_answered_entry(city: City) -> None:
    kill_in_a_loop(city, 2)


@pytest.mark.slow
def test_a_writer_that_is_killed_again_and_again(city: City) -> None:
    kill_in_a_loop(city, 8)


@pytest.mark.slow
def test_parallel_appends_on_three_processes_and_one_started_twice(city: City) -> None:
    topic = Topic()
    sealer = Sealer(
        city.store,
        city.signer,
        city.keys,
        topic,
        ORIGIN,
        system_clock,
        Holder("test"),
        patience_s=PATIENCE,
        interval_s=0.1,
    )
    sealer.start()
    endless = city.start("gateway-1")
    assert endless.first_word() == "open"
    twice = city.start("gateway-1")
    others = [city.start(f"gateway-{name}", 200) for name in (2, 3)]
    assert twice.first_word() == "refused"
    city.verified(topic)  # while they write
    answered = [receipt for other in others for receipt in other.end()]
    assert len(answered) == 400
    answered += endless.kill()
    answered += city.start("gateway-1", 50).end()
    sealer.close()
    report = city.verified(topic)
    assert sorted(report.writers) == ["gateway-1", "gateway-2", "gateway-3"]
    assert report.writers["gateway-2"] == report.writers["gateway-3"] == 200
    assert report.uncovered == 0
    assert report.groups < report.entries
    city.hold(answered)
