"""Against harvesting: how many requests a client may have under way, and how many subjects it may see in a day.

Who may see one citizen may see any, one after the other, and a token that leaked would be the whole city. So each
client has a number of distinct subjects a day; those it has seen are counted in a sketch that names nobody
(`gateway.sketch`). The gateways of a store add their sketches every two seconds and at a clean stop, so the number
holds over restarts and for all of them together: what can be missed is what one gateway serves in two seconds. A day is
one of the city's time zone. Requests under way are counted by each process for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import structlog

from exchange.agreements import Client
from exchange.clock import Clock
from exchange.errors import TryLater
from exchange.metrics import SUBJECTS_BOUND, SUBJECTS_SEEN, THROTTLED
from exchange.settings import GatewaySettings
from exchange.subjects import KeyMaker, Subject
from gateway.problems import SubjectsExhausted, TooManyUnderWay, rate_limit
from gateway.sketch import Sketch

log = structlog.get_logger("gateway")

EXCHANGE_SECONDS = 2.0
WARN_SHARE = 0.8


class Seen(Protocol):
    """Where gateways add what they counted: see exchange.store.SubjectsSeen."""

    def exchange(self, day: date, mine: Mapping[str, bytes]) -> dict[str, bytes]: ...


class Harvest:
    """The two bounds of each client. One event loop uses it; `exchange` runs in a thread."""

    def __init__(self, settings: GatewaySettings, zone: str, seen: Seen, keys: KeyMaker, clock: Clock) -> None:
        self._settings = settings
        self._zone = ZoneInfo(zone)
        self._seen = seen
        self._keys = keys
        self._clock = clock
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._day, self._begins, self._ends = self._today(clock())
        self._sketches: dict[str, Sketch] = {}
        self._warned: set[str] = set()
        self._damaged: set[str] = set()  # told once a day, not with every exchange

    @contextlib.contextmanager
    def under_way(self, client: Client) -> Iterator[None]:
        """One request of this client. Raises TooManyUnderWay."""
        limit = self._settings.requests_in_flight
        if self._under_way[client.key] >= limit:
            THROTTLED.labels(client.client_id, "in_flight").inc()
            raise TooManyUnderWay(limit)
        self._under_way[client.key] += 1
        try:
            yield
        finally:
            self._under_way[client.key] -= 1
            if not self._under_way[client.key]:
                del self._under_way[client.key]

    def check(self, client: Client) -> None:
        """Whether it may see one more subject today. Raises SubjectsExhausted."""
        now = self._turn()
        limit = self._limit(client)
        if len(self._sketch(_name(client.key))) >= limit:
            THROTTLED.labels(client.client_id, "subjects").inc()
            raise SubjectsExhausted(limit, self._seconds_left(now))

    def saw(self, client: Client, subject: Subject) -> dict[str, str]:
        """It was shown this subject, whether anything is known of it or not. The headers that tell how it stands."""
        now = self._turn()
        name, limit = _name(client.key), self._limit(client)
        sketch = self._sketch(name)
        sketch.add(self._keys.subject(subject))
        size = len(sketch)
        seen, bound = _gauges(client.client_id)
        seen.set(size)
        bound.set(limit)
        if size >= WARN_SHARE * limit and name not in self._warned:
            self._warned.add(name)
            log.warning("a client nears its number of subjects a day", client=client.client_id, subjects=size, of=limit)
        return rate_limit(SubjectsExhausted.policy, limit, max(0, limit - size), self._seconds_left(now))

    async def exchange(self) -> None:
        """Add what was counted here to what the others know, and learn it. Raises StoreUnavailable."""
        self._turn()
        day, mine = self._day, {name: bytes(sketch) for name, sketch in self._sketches.items()}
        known = await asyncio.to_thread(self._seen.exchange, day, mine)
        if day == self._day:
            for name, registers in known.items():
                try:
                    self._sketch(name).merge(registers)
                except ValueError:
                    if name in self._damaged:
                        continue
                    self._damaged.add(name)
                    log.warning("what the store has of a client's subjects is damaged and counts nothing", day=str(day))

    async def run(self) -> None:
        """Exchange every two seconds until cancelled; while the store is away, this process counts for itself."""
        while True:
            await asyncio.sleep(EXCHANGE_SECONDS)
            with contextlib.suppress(TryLater):
                await self.exchange()

    def _limit(self, client: Client) -> int:
        return self._settings.subjects_per_day_of.get(client.client_id, self._settings.subjects_per_day)

    def _sketch(self, name: str) -> Sketch:
        sketch = self._sketches.get(name)
        if sketch is None:
            sketch = self._sketches[name] = Sketch()
        return sketch

    def _turn(self) -> datetime:
        """What time it is now. At midnight everyone begins anew."""
        now = self._clock()
        if not self._begins <= now < self._ends:
            day, self._begins, self._ends = self._today(now)
            if day != self._day:
                for name in self._sketches:
                    _gauges(json.loads(name)[1])[0].set(0)  # an alarm of yesterday ends with the day
                self._day = day
                self._sketches.clear()
                self._warned.clear()
                self._damaged.clear()
        return now

    def _today(self, now: datetime) -> tuple[date, datetime, datetime]:
        """The city's day of this time, when it began, and when the next one begins."""
        day = now.astimezone(self._zone).date()
        begins, ends = (
            datetime.combine(each, datetime.min.time(), self._zone).astimezone(UTC)
            for each in (day, day + timedelta(days=1))
        )
        return day, begins, ends

    def _seconds_left(self, now: datetime) -> int:
        return max(1, int((self._ends - now).total_seconds()))


@lru_cache(4096)
def _name(key: tuple[str, str]) -> str:
    """How a client's sketch is named in the store."""
    return json.dumps(key)


@lru_cache(4096)
def _gauges(client_id: str) -> tuple[Any, Any]:
    """How many subjects it has seen, and how many it may see."""
    return SUBJECTS_SEEN.labels(client_id), SUBJECTS_BOUND.labels(client_id)
