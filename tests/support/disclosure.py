"""One gateway's disclosure over a real store, real policies and a real audit log, its reader counted and breakable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange.agreements import Bundle, Client
from exchange.audit import AuditKeys, AuditStore, Receipt
from exchange.decisions import load_bundle
from exchange.disclosure import Disclosure, PolicyWatch, View, ViewRequest
from exchange.errors import StoreUnavailable
from exchange.records import Facet, Origin, Watermark
from exchange.store import Batch, FacetReader, Keyed, Told
from exchange.subjects import KeyMaker, Subject
from tests.support.audit import fresh_store, new_log, sqlite_url
from tests.support.policies import CITY, ZONE, agreement, write
from tests.support.stores import Stores

NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
PERSON_ID, STRANGER_ID = "110101190001010014", "11010119000101009X"
ZHANG, STRANGER = Subject("cn.ric", PERSON_ID), Subject("cn.ric", STRANGER_ID)
FIRM = Subject("cn.uscc", "91350100M000100Y43")
BUS = KeyMaker("k1", b"the secret of the bus, for tests")
AUDIT_KEYS = AuditKeys("a1", b"the audit secret, for these tests")
DAY = timedelta(days=1)


class Reader:
    """A store's reader that counts, and can be away."""

    def __init__(self, inner: FacetReader) -> None:
        self._inner = inner
        self.read: list[list[tuple[str, int]]] = []
        self.looks = 0
        self.away = False
        self.during: Callable[[], None] = lambda: None

    async def facets(
        self,
        subject_key: str,
        wanted: Sequence[tuple[str, int]],
        after: Mapping[str, Any] | None = None,
        limit: int = 201,
    ) -> list[Facet]:
        self._check()
        self.read.append(list(wanted))
        self.during()
        return await self._inner.facets(subject_key, wanted, after or {}, limit)

    async def watermarks(self, contracts: Sequence[str]) -> list[Told]:
        self._check()
        self.looks += 1
        await asyncio.sleep(0)
        return await self._inner.watermarks(contracts)

    async def recent_bundles(self) -> list[str]:
        self._check()
        return await self._inner.recent_bundles()

    async def bundle(self, version: str) -> bytes:
        self._check()
        return await self._inner.bundle(version)

    async def keyed(self) -> Keyed | None:
        self._check()
        return await self._inner.keyed()

    async def close(self) -> None:
        await self._inner.close()

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("the database does not answer")


@dataclass
class City:
    """One gateway's disclosure and what it stands on."""

    stores: Stores
    folder: Path
    reader: Reader
    audit_store: AuditStore
    now: datetime = NOW
    monotonic: float = 0.0
    bundle: Bundle = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.stores.open()
        self.log = new_log(self.audit_store, deadline_s=30.0)  # a busy machine is no fault
        self.apply()
        self.watch = PolicyWatch(self.reader, monotonic=lambda: self.monotonic)
        self.disclosure = Disclosure(self.watch, self.reader, self.log, BUS, AUDIT_KEYS, lambda: self.now)

    def apply(self, fields: str = 'name = "plain"\nbirth_date = "year_only"', **changes: str) -> None:
        """Apply policies in which this is the one agreement of civil's."""
        self.apply_all(civil=agreement(fields, **changes))

    def apply_all(self, **agreements: str) -> None:
        """Apply policies with these files of agreements, by department; those of other departments stay."""
        folder = write(self.folder, agreements=agreements)
        self.bundle = load_bundle(folder, CITY, ZONE)
        self.store.save_bundle(self.bundle.version, self.bundle.to_bytes())

    def client(self, department: str = "tax") -> Client:
        found = self.bundle.client("https://id.example", f"{department}-desk")
        assert found is not None
        return found

    def request(self, **changes: Any) -> ViewRequest:
        usual: dict[str, Any] = {
            "client": self.client(),
            "subject": ZHANG,
            "purpose": "tax-assessment",
            "request_id": "r-1",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        return ViewRequest(**{**usual, **changes})

    async def ask(self, **changes: Any) -> tuple[dict[str, Any], View, Receipt]:
        view, receipt = await self.disclosure.disclose(self.request(**changes))
        document: dict[str, Any] = json.loads(view.body)
        return document, view, receipt

    def entries(self) -> list[dict[str, Any]]:
        with self.audit_store.reading() as connection:
            return [json.loads(stored.entry) for stored in self.audit_store.walk_entries(connection)]


def facet(contract: str, subject: Subject, record_key: str = "", **payload: Any) -> Facet:
    return Facet.of(
        subject_key=BUS.subject(subject), contract=contract, major=1, record_key=record_key,
        payload=json.dumps(payload), schema_id=1, origin=Origin(f"{contract.split('.')[0]}/main", 1, 7), partition=0,
        offset=0, version=None, event_time=NOW - DAY,
    )  # fmt: skip


@pytest.fixture
async def city(stores: Stores, tmp_path: Path) -> AsyncIterator[City]:
    """A city on each database; the audit log beside it in SQLite."""
    fill(stores)
    reader = Reader(stores.reader())
    audit_store = fresh_store(sqlite_url(tmp_path))
    city = City(stores, tmp_path / "policies", reader, audit_store)
    await city.log.open()
    await city.watch.look()
    yield city
    await city.log.close()
    await reader.close()
    audit_store.close()


def fill(stores: Stores) -> None:
    """One citizen and an enterprise with three penalties."""
    rows = {
        "civil.person": [
            facet(
                "civil.person", ZHANG, name="张三", birth_date="1990-05-01", district="east", phone="571", religion="x"
            )
        ],
        "market.penalty": [
            facet("market.penalty", FIRM, f"key-{index}", number=f"P-{index}", amount="1.10", officer="Wang")
            for index in range(3)
        ],
    }
    for contract, facets in rows.items():
        put(stores, contract, facets)


def put(stores: Stores, contract: str, facets: Sequence[Facet]) -> None:
    """Put facets of one contract, with the watermark of its source."""
    store = stores.open()
    topic = f"{contract}.v1"
    position = store.take(topic, 0, "test", "id")
    at = position.offset
    watermark = Watermark(contract, topic, f"{contract.split('.')[0]}/main", 1, NOW - timedelta(hours=1), {0: at})
    store.apply([Batch(topic, 0, position.epoch, at, at + 1, facets, watermarks=[watermark])])
