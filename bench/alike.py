"""Whether what is forbidden can be told from what is not there, by the time that an answer takes.

One client asks a real gateway on one connection, in pairs, one question about something that it may not see and one
about something that there is not; which of the two comes first is drawn. Both answers must have the same status and
size, or nothing is measured. On one machine, without a network between them, a client sees more than it ever will.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import city
from bench.citizens import identifier
from bench.city import CLIENT, PURPOSE
from bench.measuring import CannotMeasure, Measurement, Round
from bench.views import PATH, free_port, our_gateway
from exchange.cli.token import fetch

HIDDEN = 200  # citizens of whom every office has a record that the agreements' condition hides
CONDITION = '[["status", "!=", "suspended"]]'

Pair = tuple[dict[str, Any], dict[str, Any]]  # the bodies of two requests: what is forbidden, and what there is not


def of_pairs(folder: Path, pairs: int, rounds: int, tell: Callable[[str], None]) -> list[Measurement]:
    """One measurement of each kind of pair. Raises CannotMeasure if two answers differ in status or size."""
    store = "sqlite:///data/store.db"
    built = city.make(folder, store, free_port(), free_port(), denies=("health",), condition=CONDITION)
    for _ in built.fill(HIDDEN, status="suspended"):
        pass  # every office knows the hidden ones, in a state that no agreement lets out
    found = []
    with our_gateway(built) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        token = fetch(built.settings, CLIENT)["access_token"]
        for name, questions in _kinds().items():
            tell(f"  {name}")
            ask = _Asking(connection, token, questions)
            ask.rounds(pairs // 10)  # connections, prepared statements, caches
            figures = [ask.rounds(pairs // rounds) for _ in range(rounds)]
            sides = {"forbidden": [one for one, _ in figures], "not there": [other for _, other in figures]}
            found.append(Measurement(f"alike: {name}", "median us", sides, {"pairs": pairs, "same_status_size": True}))
    return found


def _kinds() -> dict[str, Iterator[Pair]]:
    draw = random.Random(1)

    def contracts() -> Iterator[Pair]:
        while True:
            body = {"id": identifier(draw.randrange(HIDDEN))}
            yield body | {"contracts": ["health.resident"]}, body | {"contracts": ["health.inhabits"]}

    def beside() -> Iterator[Pair]:
        while True:
            body = {"id": identifier(draw.randrange(HIDDEN))}
            yield (
                body | {"contracts": ["civil.resident", "health.resident"]},
                body | {"contracts": ["civil.resident", "health.inhabits"]},
            )

    def subjects(**asked: Any) -> Iterator[Pair]:
        while True:
            number = draw.randrange(HIDDEN)
            yield asked | {"id": identifier(number)}, asked | {"id": identifier(HIDDEN + number)}

    return {
        "a contract that is not granted, and one that there is not": contracts(),
        "the same beside one that is granted": beside(),
        "a citizen whose record the condition hides, and one of whom nobody knows": subjects(
            contracts=["civil.resident"]
        ),
        "the same with seven records, one of each contract": subjects(),
    }


class _Asking:
    """Asks in pairs on one connection that is kept."""

    def __init__(self, connection: http.client.HTTPConnection, token: str, questions: Iterator[Pair]) -> None:
        self._connection = connection
        self._headers = {
            "authorization": f"Bearer {token}",
            "exchange-purpose": PURPOSE,
            "content-type": "application/json",
        }
        self._questions = questions
        self._draw = random.Random(2)

    def rounds(self, pairs: int) -> tuple[Round, Round]:
        """Ask so many pairs; of the forbidden ones and of the others the median time of an answer."""
        times: tuple[list[float], list[float]] = [], []
        for _ in range(pairs):
            pair, seen = next(self._questions), [None, None]
            for side in self._draw.sample((0, 1), 2):
                took, seen[side] = self._ask(pair[side])
                times[side].append(took)
            if seen[0] != seen[1]:
                raise CannotMeasure(f"not alike: {seen[0]} and {seen[1]} (status, bytes)")
        one, other = ({"median us": statistics.median(each) * 1e6} for each in times)
        return one, other

    def _ask(self, body: dict[str, Any]) -> tuple[float, Any]:
        sent = json.dumps(body)
        started = time.perf_counter()
        self._connection.request("POST", PATH, sent, self._headers)
        answer = self._connection.getresponse()
        size = len(answer.read())
        return time.perf_counter() - started, (answer.status, size)
