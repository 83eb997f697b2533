"""The asynchronous append: durable before it answers, grouped by itself, and never longer than a second in doubt."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import sqlite
from exchange.audit.log import AuditLog
from exchange.audit.receipts import verify_receipt
from exchange.audit.store import AuditStore
from exchange.audit.verify import find
from exchange.errors import AuditUnavailable, Fenced, SchemaOutdated
from exchange.store.database import sqlite_path
from tests.support.audit import KEYS, entry, eventually, fresh_store, new_log, sqlite_url, verified
from tests.support.services import LocalServices, Missing, local_services, skip_or_fail

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    made: str = request.getfixturevalue("fresh_postgres")()
    return made


@pytest.fixture
def store(url: str) -> Iterator[AuditStore]:
    found = fresh_store(url)
    yield found
    found.close()


PATIENT = 30.0  # seconds for an append that must succeed: a busy machine is no store that does not answer


async def refused(log: AuditLog, within_s: float) -> None:
    """An append raises AuditUnavailable within this time."""
    begun = time.monotonic()
    with pytest.raises(AuditUnavailable):
        await log.append(entry(), b"body")
    assert time.monotonic() - begun < within_s


async def test_a_receipt_comes_after_the_commit(store: AuditStore, url: str) -> None:
    log = new_log(store, deadline_s=PATIENT)
    assert not log.writable
    await log.open()
    assert log.writable
    for number in range(1, 6):
        receipt = await log.append(entry(), b"body %d" % number)
        assert receipt.number == number
        verify_receipt(receipt, b"body %d" % number, KEYS)
        other = AuditStore.open(url)  # another connection sees it already
        assert find(other, receipt, b"body %d" % number, KEYS).number == number
        other.close()
    await log.close()
    assert not log.writable
    await refused(log, 0.1)
    assert verified(store)


async def test_what_arrives_together_is_one_group(store: AuditStore) -> None:
    log = new_log(store, deadline_s=PATIENT)
    await log.open()
    receipts = await asyncio.gather(*(log.append(entry(request=str(i)), b"%d" % i) for i in range(600)))
    await log.close()
    assert [receipt.number for receipt in receipts] == list(range(1, 601))
    for index, receipt in enumerate(receipts):
        verify_receipt(receipt, b"%d" % index, KEYS)
    report = verified(store)
    assert report
    assert report.entries == 600
    assert report.groups <= 5  # 256 at most in each; no timer made them smaller


async def test_closing_writes_what_waits(store: AuditStore) -> None:
    log = new_log(store, deadline_s=PATIENT)
    await log.open()
    waiting = [asyncio.ensure_future(log.append(entry(), b"")) for _ in range(20)]
    await asyncio.sleep(0)
    await log.close()
    assert sorted([(await one).number for one in waiting]) == list(range(1, 21))
    again = new_log(store, deadline_s=PATIENT)  # the slot is free at once
    begun = time.monotonic()
    await again.open()
    assert time.monotonic() - begun < 0.3
    assert (await again.append(entry(), b"")).number == 21
    await again.close()


async def test_what_nobody_waits_for_any_more_is_not_written(store: AuditStore) -> None:
    log = new_log(store, deadline_s=PATIENT)
    await log.open()
    gone = asyncio.ensure_future(log.append(entry(request="gone"), b""))
    stays = asyncio.ensure_future(log.append(entry(request="stays"), b""))
    await asyncio.sleep(0)
    gone.cancel()
    receipt = await stays
    await log.close()
    assert receipt.number == 1
    assert b"stays" in find(store, receipt, b"", KEYS).entry


async def test_an_entry_that_cannot_be_written_is_a_defect_and_harms_no_other(store: AuditStore) -> None:
    log = new_log(store, deadline_s=PATIENT)
    await log.open()
    with pytest.raises(ValueError, match="not JSON"):
        await log.append(entry(case="\ud800"), b"")
    assert (await log.append(entry(), b"")).number == 1
    await log.close()


async def test_a_second_log_of_one_name_is_refused_at_start(store: AuditStore) -> None:
    slow = {"patience_s": 4.0, "deadline_s": PATIENT}  # a machine that stands still for seconds is no dead process
    log = new_log(store, **slow)
    await log.open()
    with pytest.raises(Fenced, match=r"alive.*; give this one another audit\.writer"):
        await new_log(store, **slow).open()
    assert (await log.append(entry(), b"")).number == 1
    await log.close()


async def test_a_zombie_answers_unavailable_for_good(store: AuditStore) -> None:
    log = new_log(store)
    await log.open()
    with store.writing() as connection:  # as if it had slept, and another had come
        connection.execute(sa.text("UPDATE audit_slots SET epoch = epoch + 1, holder = 'heir'"))
    await refused(log, 1.0)
    await asyncio.sleep(0.2)
    assert not log.writable
    await refused(log, 0.1)
    await log.close()
    assert verified(store).entries == 0


async def test_a_failing_store_refuses_within_a_second_and_its_return_mends_it(
    store: AuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(store)
    await log.open()
    await log.append(entry(), b"")
    broken = True

    def failing(add: Any) -> Any:
        def maybe(*arguments: Any) -> None:
            if broken:
                raise AuditUnavailable("disk I/O error")
            add(*arguments)

        return maybe

    begin = store.engine.connect

    def connect() -> sa.Connection:
        if broken:
            raise sa.exc.OperationalError("statement", {}, sqlite3.OperationalError("disk I/O error"))
        return begin()

    monkeypatch.setattr(log._writer._commits, "add", failing(log._writer._commits.add))
    monkeypatch.setattr(store.engine, "connect", connect)
    begun = time.monotonic()
    outcomes = await asyncio.gather(*(log.append(entry(), b"") for _ in range(50)), return_exceptions=True)
    assert time.monotonic() - begun < 1.0
    assert [outcome for outcome in outcomes if not isinstance(outcome, AuditUnavailable)] == []
    assert not log.writable
    await refused(log, 0.05)  # it is known already
    broken = False
    await eventually(lambda: log.writable, 1.0)
    assert (await log.append(entry(), b"")).number == 2
    await log.close()
    assert verified(store).entries == 2


async def test_a_short_fault_is_waited_out(store: AuditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(store)
    await log.open()
    add, left = log._writer._commits.add, 3

    def faulty(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise AuditUnavailable("a fault")
        add(*arguments)

    monkeypatch.setattr(log._writer._commits, "add", faulty)
    receipts = await asyncio.gather(*(log.append(entry(), b"") for _ in range(5)))
    assert [receipt.number for receipt in receipts] == [1, 2, 3, 4, 5]
    await log.close()


async def test_a_lock_that_another_process_holds(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    store = fresh_store(url)
    log = new_log(store)
    await log.open()
    blocker = sqlite.connect(sqlite_path(url))
    blocker.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    outcomes = await asyncio.gather(*(log.append(entry(), b"") for _ in range(10)), return_exceptions=True)
    assert time.monotonic() - begun < 1.0
    assert [outcome for outcome in outcomes if not isinstance(outcome, AuditUnavailable)] == []
    blocker.execute("ROLLBACK")
    blocker.close()
    await eventually(lambda: log.writable, 2.0)
    receipt = await log.append(entry(), b"")
    await log.close()
    report = verified(store)
    assert report
    assert report.entries == receipt.number  # nothing that was refused is written late
    store.close()


async def test_it_opens_while_the_store_is_away(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    store = fresh_store(url)
    blocker = sqlite.connect(sqlite_path(url))
    blocker.execute("BEGIN IMMEDIATE")
    log = new_log(store)
    await log.open()
    assert not log.writable
    await refused(log, 0.1)
    blocker.execute("ROLLBACK")
    blocker.close()
    await eventually(lambda: log.writable, 2.0)
    assert (await log.append(entry(), b"")).number == 1
    await log.close()
    store.close()


async def test_what_the_operator_must_mend_is_said_at_start(tmp_path: Path) -> None:
    with pytest.raises(SchemaOutdated):
        await new_log(AuditStore.open(sqlite_url(tmp_path))).open()


async def test_a_store_whose_folder_is_away_is_waited_for(tmp_path: Path) -> None:
    log = new_log(AuditStore.open(sqlite_url(tmp_path / "nowhere")))
    await log.open()
    assert not log.writable
    await log.close()


@pytest.fixture
def own_postgres() -> Iterator[tuple[str, LocalServices]]:
    """A server of our own, which the test may kill."""
    services = local_services()
    try:
        try:
            yield services.start("postgres"), services
        except Missing as missing:
            skip_or_fail(str(missing))
    finally:
        services.stop()


@pytest.mark.services
@pytest.mark.slow
async def test_a_database_that_is_killed_comes_back(own_postgres: tuple[str, LocalServices]) -> None:
    import os
    import signal

    url, services = own_postgres
    store = fresh_store(url)
    log = new_log(store)
    await log.open()
    answered = [await log.append(entry(), b"") for _ in range(3)]
    pid = services.pid("postgres")
    for frozen in (False, True):
        if frozen:
            os.kill(pid, signal.SIGSTOP)
        else:
            os.kill(pid, signal.SIGQUIT)
        begun = time.monotonic()
        outcomes = await asyncio.gather(*(log.append(entry(), b"") for _ in range(10)), return_exceptions=True)
        assert time.monotonic() - begun < 1.0
        answered += [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        if frozen:
            os.kill(pid, signal.SIGCONT)
        else:
            await asyncio.sleep(0.5)
            assert services.start("postgres")
            pid = services.pid("postgres")
        await eventually(lambda: log.writable, 10.0)
        answered.append(await log.append(entry(), b""))
    await log.close()
    report = verified(store)
    assert report, report.findings
    for receipt in answered:
        find(store, receipt, b"", KEYS)
    store.close()
