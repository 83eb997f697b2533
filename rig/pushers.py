"""Programs that push: each push goes again under its key until it is answered, so that what was acknowledged is known.

Beside what is good they push lines that must be rejected, older versions late (also after a deletion), and what must be
refused whole: another department's records, a body that is no JSON, another body under a key that was used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from threading import Event
from typing import Any

import httpx2

from rig.clients import Client, NoAnswer, Tally
from rig.identities import Identity, code
from rig.offices import ENTERPRISE, PENALTY, PUSHED, PUSHED_TO, REGISTRATION, enterprise, registration
from rig.oracle import Oracle, Statement

AGAIN = 0.2  # seconds until a push that was not answered is sent again
BAD = 0.1  # share of lines that cannot be taken


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a push; `takes` is False where it must be rejected."""

    body: dict[str, Any]
    identity: Identity
    deletes: bool = False
    takes: bool = True


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A line that the gateway has answered for, with the number under which it stands in the topic."""

    contract: str
    source: str
    epoch: int
    sequence: int
    line: Line


class Pusher:
    """A department's program. Used by one thread; `acknowledged` is read when that has ended."""

    def __init__(
        self, client: Client, contracts: Sequence[str], oracle: Oracle, dice: Random, *, stranger: Client | None = None
    ) -> None:
        self._client = client
        self._stranger = stranger
        self._contracts = contracts
        self._oracle = oracle
        self._dice = dice
        self._pushes = 0
        self._revisions: dict[int, int] = {}
        self.answers = Tally()
        self.acknowledged: list[Acknowledged] = []
        self.wrong: list[str] = []
        self.odd: list[
            tuple[float, str]
        ] = []  # answers that only a fault which an operator must mend excuses, and when
        self.unanswered = 0

    def work(self, over: Event, give_up: Event, pause: float) -> None:
        """Push until it is over; the last one until it is answered, or it is given up."""
        while not over.wait(pause):
            contract = self._dice.choice(list(self._contracts))
            lines = self._lines(contract)
            if lines:
                self._push(contract, lines, give_up)
            if self._stranger is not None and self._dice.random() < 0.1:
                self._trespass()

    # -- what is pushed --

    def _lines(self, contract: str) -> list[Line]:
        make: Callable[[], Line | None]
        make = {REGISTRATION: self._registration, PENALTY: self._older_penalty, ENTERPRISE: self._enterprise}[contract]
        made = [self._bad(contract) if self._dice.random() < BAD else make() for _ in range(self._dice.randint(1, 10))]
        return [line for line in made if line is not None]

    def _registration(self) -> Line:
        number, serial = self._dice.choice(PUSHED_TO), self._oracle.serial()
        identity = Identity(REGISTRATION, code(number))
        if self._dice.random() < 0.2:
            self._oracle.say(Statement(serial, identity, PUSHED[REGISTRATION], None))
            return Line({"delete": {"uscc": code(number)}}, identity, deletes=True)
        payload = registration(number, serial)
        self._oracle.say(Statement(serial, identity, PUSHED[REGISTRATION], payload))
        return Line(dict(payload), identity)

    def _older_penalty(self) -> Line | None:
        """What the table said before its newest edition, once more and late; or first, where the connector was away."""
        said = self._oracle.said(self._dice.choice(self._oracle.identities(PENALTY)))[:-1]
        return self._repeated(self._dice.choice(said)) if said else None

    def _enterprise(self) -> Line:
        number, serial = self._dice.choice(PUSHED_TO), self._oracle.serial()
        identity = Identity(ENTERPRISE, code(number))
        said = self._oracle.said(identity)[:-1]
        if said and self._dice.random() < 0.2:
            return self._repeated(self._dice.choice(said))
        revision = self._revisions[number] = self._revisions.get(number, 0) + 1
        gone = self._dice.random() < 0.2
        payload = None if gone else enterprise(number, serial, revision)
        statement = Statement(serial, identity, PUSHED[ENTERPRISE], payload, revision)
        self._oracle.say(statement)
        return self._repeated(statement)

    @staticmethod
    def _repeated(said: Statement) -> Line:
        if said.payload is not None:
            return Line(dict(said.payload), said.identity)
        if said.identity.contract == PENALTY:
            keys = {"uscc": said.identity.code, "decision_no": said.identity.record, "edition": said.version}
        else:
            keys = {"uscc": said.identity.code, "revision": str(said.version)}
        return Line({"delete": keys}, said.identity, deletes=True)

    def _bad(self, contract: str) -> Line:
        serial = self._oracle.serial()
        wrong = code(900_000 + serial, wrong=True)
        identity = Identity(contract, wrong)
        self._oracle.say(Statement(serial, identity, PUSHED[contract], {}, refused=True))
        return Line({**registration(0, serial), "uscc": wrong}, identity, takes=False)

    # -- how it is pushed --

    def _push(self, contract: str, lines: Sequence[Line], give_up: Event) -> None:
        self._pushes += 1
        key = f"{self._client.name}-{self._pushes}"
        bodies = [line.body for line in lines]
        while (answer := self._send(contract, key, bodies)) is None:
            if give_up.wait(AGAIN):
                self.unanswered += 1
                return
        told = answer.json()
        rejected = {reason["line"] for reason in told["reasons"]}
        if rejected != {number for number, line in enumerate(lines, 1) if not line.takes}:
            self.wrong.append(f"push {key}: lines {sorted(rejected)} were rejected")
        self.acknowledged += [
            Acknowledged(contract, PUSHED[contract], told["epoch"], int(told["first_sequence"]) + place, line)
            for place, line in enumerate(lines)
        ]
        if self._dice.random() < 0.1:
            other = self._send(contract, key, [*bodies, bodies[0]], refused=True)
            self._must_be(422, other, "another body under the same key")

    def _send(self, contract: str, key: str, bodies: object, *, refused: bool = False) -> httpx2.Response | None:
        """The answer that ends it; None if it has to be sent again."""
        headers = {"Idempotency-Key": key}
        try:
            answer = self._client.post(f"/v1/datasets/{contract}/records", headers, json=bodies)
        except NoAnswer as none:
            self.answers.add(f"push: {none}")
            return None
        self.answers.add(f"push: {answer.status_code}")
        if answer.status_code == 200 or refused:
            return answer
        if answer.status_code not in (409, 503):
            self.odd.append((time.time(), f"push {key}: {answer.status_code}"))
        return None

    # -- what must be refused whole --

    def _trespass(self) -> None:
        """Another department's program pushes into our contract; our own sends what is no JSON."""
        assert self._stranger is not None
        serial = self._oracle.serial()
        number = self._dice.choice(PUSHED_TO)
        identity = Identity(REGISTRATION, code(number))
        self._oracle.say(Statement(serial, identity, "tax/push", {}, refused=True))
        record = registration(number, serial)
        path = f"/v1/datasets/{REGISTRATION}/records"
        try:
            self._must_be(403, self._stranger.post(path, {}, json=[record]), "a push by another department")
            serial = self._oracle.serial()
            self._oracle.say(Statement(serial, identity, PUSHED[REGISTRATION], {}, refused=True))
            broken = f'[{{"uscc": "{code(number)}", "address": "seat {serial}"}}, {{'
            headers = {"Content-Type": "application/json"}
            answer = self._client.post(path, headers, content=broken)
            self._must_be(400, answer, "an array that is cut off")
        except NoAnswer as none:
            self.answers.add(f"trespass: {none}")

    def _must_be(self, status: int, answer: httpx2.Response | None, what: str) -> None:
        if answer is None:
            return
        self.answers.add(f"trespass: {answer.status_code}")
        if answer.status_code not in (status, 409, 503):
            self.wrong.append(f"{what} was answered with {answer.status_code}")
