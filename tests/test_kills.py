"""kill -9 of every kind of process at chosen lines: nothing acknowledged is lost, nothing has its effect twice.

A process dies at one exact line (tests/support/dying.py), is started again, and runs to the end. Then topics, store
and audit log are judged from outside (tests/support/evidence.py) against what the test gave and was answered. While the
process is down its source changes once more, so that what was half-way through must not come back. The last test kills
processes of all kinds at random moments.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest

from exchange.audit import PublicKeys
from exchange.errors import GatewayUnavailable
from exchange.records import WATERMARKS_TOPIC
from tests.support.dying import Death, When, on, to
from tests.support.evidence import Evidence, said
from tests.support.offices import (
    CONTRACT,
    FIRST,
    SECOND,
    THIRD,
    TOPIC,
    Register,
    Source,
    Table,
    code,
    expected,
    record,
)
from tests.support.running import Process, Site

REJECTS = "market.rejects.v1"


class City(Site):
    """A running exchange with its evidence."""

    def __init__(self, folder: Path, places: str = "", *, forked: bool = True) -> None:
        super().__init__(folder, places, batch=25, forked=forked)
        self.evidence = Evidence(self.settings)
        self.evidence.watch()

    def publish(self, source: Source) -> None:
        """One complete reading of a source."""
        reading = self.connector(source.instance)
        assert reading.wait() == 0, reading.tail()

    def settle(self) -> float:
        """Wait until everything in the topics has had its effect; how long it took."""
        return self.until(self.evidence.caught_up)

    def died(self, process: Process) -> None:
        """It has died where it should."""
        assert process.wait() == -signal.SIGKILL, process.tail()

    def push(self, records: Sequence[Any], key: str) -> httpx2.Response:
        """Market regulation pushes records, once for this key."""
        return httpx2.post(
            f"{self.url}/v1/datasets/{CONTRACT}/records",
            json=records,
            headers=self.token("market-connector") | {"Idempotency-Key": key},
            timeout=30,
        )

    def push_until_done(self, records: Sequence[Any], key: str) -> dict[str, Any]:
        """Push again as long as the one that broke off may still be at work: until its lease has ended."""
        while (answer := self.push(records, key)).status_code == 409:
            time.sleep(float(answer.headers.get("Retry-After", 0.5)))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def close(self) -> None:
        super().close()
        self.evidence.close()


@pytest.fixture(params=["sqlite", pytest.param("kafka-postgresql", marks=pytest.mark.services)])
def places(request: pytest.FixtureRequest) -> str:
    """Where topics and store are."""
    if request.param == "sqlite":
        return ""
    kafka, postgres = request.getfixturevalue("fresh_kafka"), request.getfixturevalue("fresh_postgres")()
    return f'[broker]\nurl = "kafka://{kafka}"\npartitions = 3\n[store]\nurl = "{postgres}"\n'


@pytest.fixture
def city(tmp_path: Path, places: str) -> Iterator[City]:
    with City(tmp_path, places) as found:
        yield found


@contextmanager
def beside(*work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do all of this beside what is in the block; when it has ended, they are told and waited for."""
    over = threading.Event()
    with ThreadPoolExecutor(len(work)) as pool:
        begun = [pool.submit(each, over) for each in work]
        try:
            yield
        finally:
            over.set()
        for each in begun:
            each.result()


def kills(points: Iterable[Any], *quick: Any) -> list[Any]:
    """The points as parameters; those that are not named run with the slow tests."""
    return [pytest.param(point, marks=() if point in quick else pytest.mark.slow) for point in points]


# --- the connector ----------------------------------------------------------------------------------------------------

SEND = "exchange.publish.sending:Sender.begin"
CONNECTOR = {
    "before its second batch is produced": Death(SEND, When.BEFORE, 2, to(TOPIC)),
    "with half of a batch in the topic": Death(SEND, When.HALFWAY, 2, to(TOPIC)),
    "with a batch in the topic and no answer": Death(SEND, When.AFTER, 1, to(TOPIC)),
    "with rejects in the topic and no answer": Death(SEND, When.AFTER, 1, to(REJECTS)),
    "between answer and mark": Death("exchange.publish.cursor:CursorFile.acknowledge", When.BEFORE, 2),
    "behind a mark": Death("exchange.publish.cursor:CursorFile.acknowledge", When.AFTER, 2),
    "with deletions in the topic and no answer": Death(SEND, When.AFTER, 1, to(TOPIC, deletions=True)),
    "before the watermark": Death(SEND, When.BEFORE, 1, to(WATERMARKS_TOPIC)),
    "behind the watermark": Death(SEND, When.AFTER, 1, to(WATERMARKS_TOPIC)),
}
QUICK = ("with half of a batch in the topic", "between answer and mark")
TABLE = (*QUICK, "before its second batch is produced", "with a batch in the topic and no answer")


@pytest.mark.parametrize(
    ("source", "point"),
    [
        *(pytest.param(Register, point, marks=() if point in QUICK else pytest.mark.slow) for point in CONNECTOR),
        *(pytest.param(Table, point, marks=pytest.mark.slow) for point in TABLE),
    ],
)
def test_a_connector_is_killed(city: City, source: type[Register | Table], point: str) -> None:
    office, evidence = source(city.folder), city.evidence
    city.gateway()
    city.materialise()
    office.hold(FIRST)
    city.publish(office)
    city.settle()
    assert evidence.seats() == expected(FIRST)
    told = evidence.as_of("market/register")

    office.hold(SECOND)
    city.died(city.connector(office.instance, dies=CONNECTOR[point]))
    city.settle()
    evidence.position_agrees(TOPIC)
    assert (evidence.as_of("market/register") == told) is (point != "behind the watermark")

    office.hold(THIRD)
    city.publish(office)
    city.settle()
    assert evidence.seats() == expected(THIRD)
    evidence.position_agrees(TOPIC)
    evidence.numbers_hold(TOPIC, REJECTS)
    evidence.nothing_twice()
    # Of the rows that cannot be taken each is told once; row 1 only if that was told before it was mended. A snapshot
    # that was read to its end is told anew.
    rejected = evidence.rejects_agree(REJECTS)
    again = 2 if source is Register and point == "behind the watermark" else 1
    assert set(rejected.values()) <= {1, again}
    assert len(rejected) in (3, 4)
    assert evidence.as_of("market/register") > told


# --- the materialiser -------------------------------------------------------------------------------------------------

APPLY = "exchange.store.store:Store.apply"
MATERIALISER = {
    "before its first effect": Death(APPLY, When.BEFORE),
    "with all of a batch written and nothing committed": Death(APPLY, When.COMMITTING, 2),
    "behind a commit": Death(APPLY, When.COMMITTED, 2),
    "between two batches": Death(APPLY, When.BEFORE, 3),
    "behind a take-over": Death("exchange.store.store:Store.take", When.AFTER),
}


@pytest.mark.parametrize("point", kills(MATERIALISER, "behind a commit"))
def test_a_materialiser_is_killed(city: City, point: str) -> None:
    office, evidence = Register(city.folder), city.evidence
    city.gateway()
    for state in (FIRST, SECOND):
        office.hold(state)
        city.publish(office)

    city.died(city.materialise(dies=MATERIALISER[point]))
    evidence.position_agrees(TOPIC)
    evidence.nothing_twice()
    assert any(evidence.positions().values()) is (point not in ("before its first effect", "behind a take-over"))

    office.hold(THIRD)
    city.publish(office)
    city.materialise()
    print(f"\n{point}: all of it has had its effect {city.settle():.1f} s after the restart")
    assert evidence.seats() == expected(THIRD)
    evidence.position_agrees(TOPIC)
    evidence.nothing_twice()
    evidence.rejects_agree(REJECTS)
    assert evidence.as_of("market/register") == office.told


# --- the gateway: views -----------------------------------------------------------------------------------------------

COMMIT = "exchange.audit.commits:Commits.add"
MARKED = "exchange.audit.store:AuditStore.mark_published"
VIEWS = {
    "before an entry is written": Death(COMMIT, When.BEFORE, 3),
    # On PostgreSQL the one statement commits itself: there it is the sealer's next transaction.
    "with an entry written and not committed": Death(COMMIT, When.COMMITTING, 3),
    "with an entry committed and no answer": Death(COMMIT, When.AFTER, 3),
    "right after an answer": Death("gateway.limits:Edge.__call__", When.ANSWERED, 9, on("/v1/enterprises/view")),
    "with a checkpoint published and not marked": Death(MARKED, When.BEFORE, 2),  # the first has no view yet
}
DESKS = 6


class Desks:
    """Programs that ask for views, one after the other, and keep every answer that came whole."""

    def __init__(self, city: City) -> None:
        headers = city.token("hotline-desk") | {"Exchange-Purpose": "hotline-service"}
        self._http = httpx2.Client(base_url=city.url, headers=headers, timeout=30)
        self.answers: list[httpx2.Response] = []
        self.broken: list[float] = []  # when a request was not answered

    def ask(self, over: threading.Event) -> None:
        """One desk's work; a request that is not answered is not asked again."""
        for number in cycle(range(10, 60)):
            if over.is_set():
                return
            try:
                self.view(number)
            except httpx2.TransportError:
                self.broken.append(time.monotonic())
                time.sleep(0.05)

    def view(self, number: int) -> None:
        """Ask once."""
        self.answers.append(self._http.post("/v1/enterprises/view", json={"id": code(number)}))

    def served(self) -> list[httpx2.Response]:
        """The views; what else was answered said that it cannot be now."""
        assert {answer.status_code for answer in self.answers} <= {200, 503}
        return [answer for answer in self.answers if answer.status_code == 200]


@pytest.mark.parametrize("point", kills(VIEWS, "with an entry committed and no answer"))
def test_a_gateway_is_killed_while_it_answers(city: City, point: str) -> None:
    office, evidence = Register(city.folder), city.evidence
    gateway = city.gateway(dies=VIEWS[point])
    city.materialise()
    office.hold(FIRST)
    city.publish(office)
    city.settle()
    keys = PublicKeys.from_jwks(httpx2.get(f"{city.url}/.well-known/exchange-keys.json").json())
    desks = Desks(city)
    with beside(*DESKS * [desks.ask]):
        city.died(gateway)
    answered = len(desks.served())
    broken = desks.broken[0] if desks.broken else time.monotonic()  # no desk may have asked since
    again = city.gateway()
    print(f"\n{point}: ready {time.monotonic() - broken:.1f} s after the kill; {answered} views before it")
    for number in range(10, 13):
        desks.view(number)
    again.stop()

    views = desks.served()
    assert len(views) == answered + 3
    assert all(view.json()["values"]["enterprise.address"]["value"] == "first" for view in views)
    # What each desk asked last may be in the log and not answered: the answer was on its way.
    assert len(views) <= evidence.views_in_the_log(views, keys) <= len(views) + DESKS


# --- the gateway: pushes ----------------------------------------------------------------------------------------------

PUBLISH = "gateway.push:_OneAtATime.publish"
LEDGER = "exchange.store.push:PushLedger"
PUSHES = {
    "with its key claimed and nothing produced": Death(f"{LEDGER}.claim", When.AFTER),
    "with half of its records in the topic": Death(PUBLISH, When.HALFWAY, 1, to(TOPIC)),
    "with all of it in the topic and no answer": Death(PUBLISH, When.AFTER, 1, to(WATERMARKS_TOPIC)),
    "with its answer stored and not given": Death(f"{LEDGER}.finish", When.AFTER),
}


@pytest.mark.parametrize("point", kills(PUSHES, "with its answer stored and not given"))
def test_a_gateway_is_killed_in_a_push(city: City, point: str) -> None:
    evidence = city.evidence
    city.materialise()
    gateway = city.gateway(dies=PUSHES[point])
    pushed = [record(number, "pushed") for number in range(40)] + [record(-number, "pushed") for number in (1, 2, 3)]
    with pytest.raises(httpx2.TransportError):
        city.push(pushed, key="night-7")
    city.died(gateway)
    began = time.monotonic()

    # Somebody else's push goes first, and what it says is newer than the one that broke off.
    city.gateway()
    newer = [record(number, "newer") for number in range(5)] + [{"delete": {"uscc": code(5)}}]
    assert city.push(newer, key="day-1").json()["accepted"] == 6
    answer = city.push_until_done(pushed, key="night-7")
    print(f"\n{point}: answered {time.monotonic() - began:.1f} s after the kill")
    assert (answer["accepted"], answer["rejected"]) == (40, 3)
    assert city.push(pushed, key="night-7").json() == answer
    city.settle()

    assert evidence.seats() == {code(n): "newer" if n < 5 else "pushed" for n in range(40) if n != 5}
    evidence.position_agrees(TOPIC)
    evidence.numbers_hold(TOPIC, REJECTS)
    evidence.nothing_twice()
    assert evidence.rejects_agree(REJECTS) == {f"push line {line}": 1 for line in (41, 42, 43)}
    sequences = {said(delivery).sequence for delivery in evidence.messages(TOPIC)}
    assert sequences == {*range(int(answer["first_sequence"]), int(answer["first_sequence"]) + 49)} - {41, 42, 43}


# --- anything, at any time --------------------------------------------------------------------------------------------


KILLS = 16


class Pushes:
    """Pushes, one after the other, each again under its key until it is answered."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._dice = random.Random(87)
        self.said: list[dict[int, str]] = []
        self.again = 0

    def send(self, over: threading.Event) -> None:
        """Push until it is over."""
        while not over.is_set():
            said = {number: f"push {len(self.said)}" for number in self._dice.sample(range(1_000, 1_040), 15)}
            records = [record(number, seat) for number, seat in said.items()]
            while not self._sent(records, f"push-{len(self.said)}"):
                self.again += 1
                time.sleep(0.2)
            self.said.append(said)

    def stand(self) -> dict[str, str]:
        """What stands of them: of each enterprise what was said last."""
        return {code(number): seat for said in self.said for number, seat in said.items()}

    def _sent(self, records: Sequence[Any], key: str) -> bool:
        try:
            answer = self._city.push(records, key)
        except (httpx2.TransportError, GatewayUnavailable):
            return False
        assert answer.status_code in (200, 409, 503), answer.text
        return answer.status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_is_killed_at_random(tmp_path: Path, places: str) -> None:
    with City(tmp_path, places, forked=False) as city:
        dice = random.Random(86)
        office, evidence = Register(city.folder), city.evidence
        office.hold(FIRST)
        start: dict[str, Callable[[], Process]] = {
            "gateway": partial(city.start, "gateway"),
            "materialise": city.materialise,
            "connector": partial(city.connector, office.instance, once=False),
        }
        running = {name: begin() for name, begin in start.items()}
        city.ready()
        desks, pushes = Desks(city), Pushes(city)
        state = dict(FIRST)
        with beside(desks.ask, desks.ask, pushes.send):
            for number in range(KILLS):
                for row in dice.sample(range(10, 70), 8):
                    state[row] = (row, f"{number}")
                office.hold(state)
                time.sleep(dice.uniform(0.2, 2.0))
                name = dice.choice(sorted(start))
                running[name].kill()
                running[name] = start[name]()
            city.ready()
        began = time.monotonic()
        city.until(lambda: evidence.as_of("market/register") == office.told and evidence.caught_up())
        views = desks.served()
        print(f"\n{KILLS} kills: all of it had its effect {time.monotonic() - began:.1f} s after the last restart;")
        print(f"{len(views)} views, {len(pushes.said)} pushes that were sent again {pushes.again} times")
        keys = PublicKeys.from_jwks(httpx2.get(f"{city.url}/.well-known/exchange-keys.json").json())
        for process in running.values():
            process.stop()

        assert evidence.seats() == expected(state) | pushes.stand()
        evidence.position_agrees(TOPIC)
        evidence.numbers_hold(TOPIC, REJECTS)
        evidence.nothing_twice()
        evidence.views_in_the_log(views, keys)
