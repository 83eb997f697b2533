"""Thousands of fuzzed requests to a city in which every value is a canary; every byte that leaves is searched.

What an answer shows must be explained by one client whose sound token came with the request, one registered purpose
that it named and one number that it held, as the oracle of policies/ and schemas/ has it. Nothing recognisable is
anywhere else: not in heads, problems, pages, logs, metrics or the audit log.

EXCHANGE_TEST_REQUESTS says how many (default 4000), EXCHANGE_TEST_SEED which.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import city
from exchange.cli.administration import open_audit
from exchange.cli.materialise import topics_to_read
from exchange.clock import system_clock
from exchange.store import tables
from exchange.store.positions import next_offsets
from exchange.wiring import client_secret, open_broker, open_store
from tests.support.bus import until
from tests.support.fuzzed import Asked, Fuzz, Pool
from tests.support.sharing import shown
from tests.support.town import Here, Left

REQUESTS = int(os.environ.get("EXCHANGE_TEST_REQUESTS", "4000"))
SEED = int(os.environ.get("EXCHANGE_TEST_SEED", "0"))
ROUND = 2_000  # requests between two looks at what stands, with tokens of their own
PUSHES = 5  # one request in so many
AT_ONCE = 16
STALL = 0.25  # seconds: the log waits 0.9 s, for its own write and for those of others that are before it
STRANGERS = {"citizen": ["110101190001010014"], "enterprise": ["91350100M000100Y43"]}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Here]:
    """The city, delivered; every part in this process, so that its log is read before anything is dropped from it."""
    places = ""
    if request.param == "postgresql":
        places = f'[store]\nurl = "{request.getfixturevalue("fresh_postgres")()}"\n'
    with closing(Here(tmp_path, citizens=16, enterprises=10, places=places)) as made:
        made.deliver()
        for kind, numbers in STRANGERS.items():
            made.numbers[kind] += numbers
        yield made


@dataclass(frozen=True)
class Answered:
    """A request and every byte that came back."""

    asked: Asked
    data: bytes

    @cached_property
    def _parts(self) -> tuple[bytes, bytes]:
        rest = self.data
        while rest.startswith(b"HTTP/1.1 1"):
            rest = rest.partition(b"\r\n\r\n")[2]
        head, _, body = rest.partition(b"\r\n\r\n")
        return head, body

    @property
    def status(self) -> int:
        """0 where the connection was closed without an answer."""
        head = self._parts[0]
        return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0

    @property
    def request_id(self) -> str:
        lines = self._parts[0].decode("latin-1").split("\r\n")
        return next((line.partition(": ")[2] for line in lines if line.lower().startswith("x-request-id:")), "")

    @property
    def kind(self) -> str:
        """Of a problem: what it is."""
        body = self._parts[1]
        return str(json.loads(body).get("type")) if self.status >= 400 and body.startswith(b"{") else ""

    @property
    def view(self) -> Any:
        """The document, if it is a view."""
        if self.status != 200 or not self._parts[1].startswith(b"{"):
            return None
        document = json.loads(self._parts[1])
        return document if document.keys() >= {"values", "records"} else None


async def send(port: int, requests: list[Asked]) -> list[Answered]:
    """Each on a connection of its own, some at once."""
    waiting, answers = list(requests), list[Answered]()

    async def work() -> None:
        while waiting:
            asked = waiting.pop()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(asked.data)
                answers.append(Answered(asked, await asyncio.wait_for(_everything(reader), 60)))
            finally:
                writer.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return answers


async def _everything(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    try:
        while chunk := await reader.read(65_536):
            data += chunk
    except ConnectionResetError:
        pass
    return bytes(data)


class Disk:
    """How long the machine keeps a small write to the same disk waiting, looked at all the time in a thread."""

    def __init__(self, folder: Path) -> None:
        self._over = threading.Event()
        self._waited: list[float] = []
        self._thread = threading.Thread(target=self._look, args=(folder / "looked",), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def stalls(self, seconds: float) -> int:
        """How often it took so long."""
        return sum(1 for each in self._waited if each >= seconds)

    def _look(self, file: Path) -> None:
        with file.open("wb", buffering=0) as handle:
            while not self._over.wait(0.05):
                since = time.monotonic()
                handle.write(bytes(4_096))
                os.fsync(handle.fileno())
                self._waited.append(time.monotonic() - since)


class Judge:
    """Holds answers against the oracle and what stands, and everything against the canaries."""

    def __init__(self, town: Here) -> None:
        self.town = town
        self.rows: Mapping[tuple[str, str], list[Any]] = {}
        self.values = 0
        self.served: dict[str, Asked] = {}
        self.unsure: dict[str, Asked] = {}  # the audit log did not say in time whether it has the entry: 503
        self.why: Counter[tuple[str, str]] = Counter()  # of these, by route and kind of problem
        self.met: Counter[tuple[str, int]] = Counter()
        self.spoilt: Counter[tuple[str, bool]] = Counter()

    def judge(self, answer: Answered) -> None:
        asked, found = answer.asked, self.town.canaries.leaks(answer.data)
        self.met[asked.route, answer.status] += 1
        assert answer.status < 500 or answer.status == 503, (str(asked), answer.data)
        if answer.status == 503:
            self.unsure[answer.request_id] = asked
            self.why[asked.route, answer.kind] += 1
        self.spoilt.update((name, answer.view is not None) for name in set(asked.spoilt) or {"nothing"})
        if answer.view is None:
            assert not found, (str(asked), answer.data, found)
            return
        assert self._explained(asked, answer.view, found), (str(asked), answer.data, found)
        assert answer.request_id not in self.served
        self.served[answer.request_id] = asked
        self.values += len(found)

    def _explained(self, asked: Asked, document: Any, found: set[str]) -> bool:
        """Whether there are one client, purpose and number under which all of this may be shown."""
        told = shown(document)
        for client, purpose, number in itertools.product(asked.clients, asked.purposes, asked.numbers):
            for kind in ("citizen", "enterprise"):
                given = self.town.sharing.grants(client, purpose, kind, case=asked.case)
                rows = {contract: self.rows.get((number, contract), []) for contract in given}
                seen = self.town.sharing.seen(given, rows)
                whole = asked.spoilt or asked.narrowed or told == seen or not given
                if told <= seen and whole and found <= self._recognised(seen):
                    return True
        return False

    def _recognised(self, seen: Counter[Any]) -> set[str]:
        return self.town.canaries.leaks(json.dumps([value for _, _, value in seen]).encode())


def test_no_fuzzed_request_shows_what_the_agreements_do_not_allow(
    town: Here, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    caplog.set_level("WARNING", "httpx2")
    judge, random_, disk = Judge(town), random.Random(SEED), Disk(town.folder)
    port = int(town.gateways[0].rpartition(":")[2])
    for at in range(0, REQUESTS, ROUND):
        many = min(ROUND, REQUESTS - at)
        judge.rows = standing(town)
        fuzz = Fuzz(random_, pool(town))
        for part in (
            [fuzz.draw() for _ in range(many - many // PUSHES)],
            [fuzz.push() for _ in range(many // PUSHES)],
        ):
            for answer in asyncio.run(send(port, part)):
                judge.judge(answer)
        settle(town)
    disk.close()
    audited = list(audit(town, judge))
    printed = Left("output", "".join(capfd.readouterr()).encode())
    for each in (*town.logs(), *town.metrics(), *audited, printed, Left("the library's logs", caplog.text.encode())):
        leaks = town.canaries.leaks(each.data)
        assert not leaks, (each.where, leaks)
    statuses: dict[str, dict[int, int]] = defaultdict(dict)
    for (route, status), count in sorted(judge.met.items()):
        statuses[route][status] = count
    print(f"seed {SEED}: {REQUESTS:,} requests, {len(judge.served):,} views, {judge.values:,} canaries in them,")
    print(f"{len(audited):,} audit entries; {dict(statuses)}; 503: {dict(judge.why)}")
    print(f"the disk took 0.1 s {disk.stalls(0.1)} times, {STALL} s {disk.stalls(STALL)} times")
    # The fuzzing is neither so wild that nothing is shown nor so tame that nothing is refused.
    assert judge.values > REQUESTS
    # A view is refused that cannot be logged in time. That is so where the machine's disk stalls, and nowhere else.
    assert {kind for _, kind in judge.why} <= {"/errors/audit-unavailable"}
    assert len(judge.unsure) <= AT_ONCE * disk.stalls(STALL)
    assert {200, 400, 401, 403, 404, 405, 422} <= {status for _, status in judge.met}
    assert all(statuses[route].get(200, 0) > REQUESTS // 400 for route in ("page", "push", "token", "contract"))
    assert all(judge.spoilt[name, False] for name in ("method", "path", "head", "odd head", "token", "json", "bytes"))


def pool(town: Here) -> Pool:
    """What requests are made of, with fresh tokens."""
    town.tokens.clear()
    for client in town.sharing.clients:
        town.bearer(client)
    lines = defaultdict(list)
    for contract, file in city.pushes(town.folder):
        lines[contract] += [line for line in file.read_bytes().split(b"\n") if _whole(line)]
    sharing = town.sharing
    names = {f"{contract}.{name}" for contract, about in sharing.contracts.items() for name in about["fields"]}
    concepts = {
        sharing.name(contract, name) for contract, about in sharing.contracts.items() for name in about["fields"]
    }
    viewers = {one: about["purposes"] for one, about in sharing.clients.items() if "view" in about["scopes"]}
    return Pool(
        numbers=town.numbers,
        canaries=sorted(town.canaries.planted),
        contracts=sorted(sharing.contracts),
        names=sorted(names | concepts),
        purposes={**viewers, "": sorted(sharing.purposes)},
        tokens=dict(town.tokens),
        secrets={one: client_secret(town.settings, one).read_text("ascii").strip() for one in sharing.clients},
        lines=lines,
    )


def _whole(line: bytes) -> bool:
    """Whether this is a record: a department's files hold broken lines, too."""
    try:
        return bool(isinstance(json.loads(line), dict))
    except ValueError:
        return False


def standing(town: Here) -> Mapping[tuple[str, str], list[Any]]:
    """What stands by (identifier, contract), pushed things included."""
    owners, found = town.subject_keys(), defaultdict(list)
    wanted = sa.select(tables.facets).where(tables.facets.c.payload.is_not(None))
    with closing(open_store(town.settings, system_clock)) as store, store.engine.connect() as connection:
        for row in connection.execute(wanted):
            found[owners.get(row.subject_key, ""), row.contract].append(json.loads(row.payload))
    return found


def settle(town: Here) -> None:
    """Wait until everything that was pushed has had its effect."""
    with closing(open_store(town.settings, system_clock)) as store, closing(open_broker(town.settings)) as broker:
        topics = topics_to_read(store)
        ends = {
            (topic, partition): end
            for topic in topics
            if (state := broker.state(topic)) is not None
            for partition, (_, end) in state.bounds.items()
        }

        def done() -> bool:
            with store.engine.connect() as connection:
                read = next_offsets(connection, topics)
            return all(end <= read.get(place, 0) for place, end in ends.items())

        until(done, 60)


def audit(town: Here, judge: Judge) -> Iterator[Left]:
    """Every entry; each view that was shown has one, under the client and purpose that explain it."""
    missing = dict(judge.served)
    with open_audit(town.settings) as log, log.reading() as connection:
        for stored in log.walk_entries(connection):
            entry = json.loads(stored.entry)
            if entry.get("outcome") == "served":
                asked = judge.unsure.get(entry["request"]) or missing.pop(entry["request"])
                assert entry["client"] in asked.clients
                assert entry["purpose"] in asked.purposes
                assert asked.case or "case" not in entry
            yield Left("an entry of the audit log", stored.entry)
    assert not missing
