"""The workload: two offices, two programs that push, two that read, and whoever meddles with the topics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import httpx2

from rig.clients import Client
from rig.desks import BY_AGREEMENT, OPEN, Desk
from rig.faults import Here
from rig.meddling import SHARES, Meddler
from rig.offices import CONTRACTS, ENTERPRISE, PENALTY, REGISTRATION, Penalties, Register, topic, work
from rig.oracle import Oracle
from rig.places import Places
from rig.pushers import Pusher
from rig.receipts import Receipts

Worker = Callable[[threading.Event], None]  # works until the event is set


class Workload:
    """All of it over one folder; each part draws from dice of its own, made of the seed."""

    def __init__(self, here: Here, seed: int, meddling: Sequence[str]) -> None:
        folder = here.site.folder
        self.oracle = Oracle()
        self.register = Register(folder, self.oracle, Random(f"{seed}/register"))
        self.penalties = Penalties(folder, self.oracle, Random(f"{seed}/penalties"))
        self._gateways = here.site.gateways
        self._shares = {kind: SHARES[kind] for kind in meddling}
        self._meddle = partial(_meddle, here.places, folder, self._shares, Random(f"{seed}/meddling"))
        proxies = [f"http://127.0.0.1:{proxy.port}" for proxy in here.gateways]

        def client(name: str) -> Client:
            return Client(name, here.issuer, proxies if name.endswith("-connector") else here.site.gateways)

        self.pushers = [
            Pusher(
                client("market-connector"),
                (REGISTRATION, REGISTRATION, PENALTY),
                self.oracle,
                Random(f"{seed}/market"),
                stranger=client("tax-connector"),
            ),
            Pusher(client("tax-connector"), (ENTERPRISE,), self.oracle, Random(f"{seed}/tax")),
        ]
        self.desks = [
            Desk(client("hotline-desk"), "hotline-service", OPEN, self.oracle, Random(f"{seed}/hotline")),
            Desk(
                client("market-inspector"),
                "market-supervision",
                {**OPEN, **BY_AGREEMENT},
                self.oracle,
                Random(f"{seed}/inspector"),
            ),
        ]

    def begin(self) -> None:
        """What the offices hold before anything reads it."""
        self.register.change()
        self.penalties.change()

    def learn_keys(self) -> None:
        """With which keys receipts are signed."""
        answer = httpx2.get(f"{self._gateways[0]}/.well-known/exchange-keys.json", timeout=10)
        for desk in self.desks:
            desk.receipts = Receipts(answer.json())

    def workers(self, give_up: threading.Event) -> Iterator[Worker]:
        """What works in threads; who pushes goes on until the last push is answered or `give_up` is set."""
        yield partial(work, self.register, pause=0.3)
        yield partial(work, self.penalties, pause=0.3)
        for pusher in self.pushers:
            yield partial(pusher.work, give_up=give_up, pause=0.2)
        for desk in self.desks:
            yield partial(desk.work, pause=0.05)
        if self._shares:
            yield self._meddle

    def answers(self) -> dict[str, int]:
        """How the gateways answered, by what was asked and status."""
        total: Counter[str] = Counter()
        for tally in (*(desk.answers for desk in self.desks), *(pusher.answers for pusher in self.pushers)):
            total.update(tally.counts())
        return dict(sorted(total.items()))


def _meddle(places: Places, folder: Path, shares: dict[str, float], dice: Random, over: threading.Event) -> None:
    with closing(places.topics(folder)) as topics:
        Meddler(topics, [topic(contract) for contract in CONTRACTS], shares, dice).work(over, 0.3)
