"""The desks: programs that ask for views, one after the other, and hold each answer against the oracle at once.

An answer may be behind, because it takes a while from office to view. But what it shows must have been said of this
enterprise, must be open to this desk, and must never go back behind what the same desk has seen before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from threading import Event
from typing import Any

import httpx2

from rig.clients import Client, NoAnswer, Tally
from rig.identities import Identity, code
from rig.leaks import canaries
from rig.offices import ENTERPRISE, FILED, PENALTY, PUSHED_TO, REGISTRATION, SHARED
from rig.oracle import Oracle, Payload, Statement, serial_in
from rig.receipts import Receipts

ENTERPRISES = range(FILED.start, PUSHED_TO.stop)

# What a desk may see, by field: written down from the policies, by nobody's code.
OPEN: Mapping[str, Sequence[str]] = {
    REGISTRATION: (
        "uscc", "name", "kind", "legal_representative", "capital", "currency", "registered_on", "address", "scope",
        "status",
    ),
    PENALTY: (
        "uscc", "decision_no", "violation", "basis", "amount", "decided_on", "status", "authority", "edition",
    ),
}  # fmt: skip
BY_AGREEMENT = {ENTERPRISE: ("name", "address", "legal_representative", "filing_status")}

Shown = dict[Identity, Payload]  # what a view shows of each record


class Desk:
    """One program that reads. Used by one thread."""

    def __init__(
        self, client: Client, purpose: str, sees: Mapping[str, Sequence[str]], oracle: Oracle, dice: Random
    ) -> None:
        self._client = client
        self._headers = {"Exchange-Purpose": purpose}
        self._sees = sees
        self._oracle = oracle
        self._dice = dice
        self._seen: dict[Identity, int] = {}
        self.receipts: Receipts | None = None
        self.answers = Tally()
        self.requests: list[str] = []  # the id of each view that was shown
        self.served_at: list[float] = []  # when the request was sent, Unix time
        self.refused_after: list[float] = []  # seconds until a 503
        self.phantoms: list[str] = []
        self.backwards: list[str] = []
        self.leaks: list[str] = []
        self.unproven: list[str] = []
        self.odd: list[str] = []

    def work(self, over: Event, pause: float) -> None:
        """Ask until it is over."""
        while not over.wait(pause):
            self.ask(self._dice.choice(ENTERPRISES))

    def ask(self, number: int) -> Shown | None:
        """One view, held against the oracle; None if there was none."""
        began = time.time()
        try:
            answer = self._client.post("/v1/enterprises/view", self._headers, json={"id": code(number)})
        except NoAnswer as none:
            self.answers.add(f"view: {none}")
            return None
        self.answers.add(f"view: {answer.status_code}")
        self.leaks += [f"{found} in a view's answer" for found in canaries(answer.content)]
        if answer.status_code == 503:
            self.refused_after.append(time.time() - began)
        if answer.status_code != 200:
            if answer.status_code != 503:
                self.odd.append(f"a view was answered with {answer.status_code}")
            return None
        self.served_at.append(began)
        self._prove(answer)
        shown = dict(_shown(answer.json(), code(number)))
        self._hold(number, shown)
        return shown

    def predicted(self, number: int) -> list[Shown]:
        """The views that may be shown once everything was said and done: one, or several where two sources differ."""
        views: list[Shown] = [{}]
        subject = code(number)
        for identity in self._oracle.identities():
            if identity.code == subject and identity.contract in self._sees:
                stands = [each.payload for each in self._oracle.admitted(identity)] or [None]
                views = [self._with(view, identity, payload) for view in views for payload in stands]
        return views

    def _with(self, view: Shown, identity: Identity, payload: Payload | None) -> Shown:
        if payload is None:
            return view
        return {**view, identity: {field: payload[field] for field in self._sees[identity.contract]}}

    def _prove(self, answer: httpx2.Response) -> None:
        request = answer.headers["X-Request-Id"]
        self.requests.append(request)
        if self.receipts is None or not self.receipts.prove(answer.headers["Exchange-Receipt"], answer.content):
            self.unproven.append(f"the receipt of request {request} does not prove its answer")

    def _hold(self, number: int, shown: Shown) -> None:
        for identity, payload in shown.items():
            serial = serial_in(payload)
            said = None if serial is None else self._oracle.statement(serial)
            if said is None or said.identity != identity or said.refused or said.payload is None:
                self.phantoms.append(f"{identity.contract} {serial} was never said of enterprise {number}")
            elif payload != {field: said.payload[field] for field in self._sees[identity.contract]}:
                self.phantoms.append(f"{identity.contract} {serial} is not shown as it was said, or shows more or less")
            elif number not in SHARED or identity.contract != REGISTRATION:
                self._forward(identity, said)
        for identity in self._seen.keys() - shown.keys():
            if identity.code == code(number):
                self._gone(identity)

    def _forward(self, identity: Identity, said: Statement) -> None:
        if _age(said) < self._seen.get(identity, 0):
            self.backwards.append(f"{identity.contract}: {said.serial} was shown after a later one")
        self._seen[identity] = _age(said)

    def _gone(self, identity: Identity) -> None:
        later = [_age(each) for each in self._oracle.said(identity) if each.payload is None]
        after = [age for age in later if age >= self._seen[identity]]
        if not after:
            self.backwards.append(f"{identity.contract}: {self._seen[identity]} is not shown any more")
        else:
            self._seen[identity] = min(after)


def _age(said: Statement) -> int:
    """What orders the statements on one identity: the version where there is one, else the number."""
    return said.serial if said.version is None else said.version


def _shown(view: Mapping[str, Any], subject: str) -> Iterator[tuple[Identity, Payload]]:
    """The records of which a view shows something, put together again from its values and lists."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in view["values"].items():
        for said in value["said_by"]:
            found.setdefault(said["contract"], {})[name.rpartition(".")[2]] = said["value"]
    for contract, payload in found.items():
        yield Identity(contract, subject), payload
    for contract, page in view["records"].items():
        for item in page["items"]:
            yield Identity(contract, subject, item["value"]["decision_no"]), item["value"]
