"""Broker, store and audit log: whether each can be reached, with its version, its clock and its tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import sqlalchemy as sa

from exchange.doctor.findings import Check, Finding, Means, Said
from exchange.kafka import KafkaBroker
from exchange.records import CHECKPOINTS_TOPIC
from exchange.store.database import is_postgres, is_sqlite, reading

CLOCK_SECONDS = 10.0  # what a token's times are forgiven
POSTGRES = 140_000  # what is older is not maintained any more


def look_at_broker(means: Means) -> Iterator[Said]:
    """The broker answers; a cluster has enough brokers for the copies that are asked for."""
    settings = means.settings
    with means.broker() as broker:
        broker.state(CHECKPOINTS_TOPIC)
        yield f"{place(settings.url(settings.broker.url))} answers"
        if isinstance(broker, KafkaBroker):
            found = broker.size()
            yield f"brokers: {found}"
            if found < settings.broker.replication:
                yield Finding(
                    f"{found} brokers cannot keep {settings.broker.replication} copies of a topic",
                    "broker.replication",
                    "start the brokers that are missing, or set a smaller number before topics are made",
                )


def look_at_store(means: Means) -> Iterator[Said]:
    """The store answers, is of a maintained version, and its clock is ours."""
    with means.store() as store:
        yield from _database(means, store.engine, "store.url", means.settings.url(means.settings.store.url))


def look_at_audit(means: Means) -> Iterator[Said]:
    """The audit log's database answers."""
    with means.audit() as store:
        yield from _database(means, store.engine, "audit.url", means.settings.audit_url)


def look_at_migrations(means: Means) -> Iterator[Said]:
    """The tables of the store are those of this program."""
    with means.store() as store:
        store.check()
        yield "the store's tables are those of this version"


def look_at_audit_migrations(means: Means) -> Iterator[Said]:
    """The tables of the audit log are those of this program."""
    with means.audit() as store:
        store.check()
        yield "the audit log's tables are those of this version"


def place(url: str) -> str:
    """Where a URL leads, without who logs in and how."""
    if is_sqlite(url):
        return url.removeprefix("sqlite:///")
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _database(means: Means, engine: sa.Engine, where: str, url: str) -> Iterator[Said]:
    with reading(engine) as connection:
        if not is_postgres(engine):
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
            yield f"{place(url)} answers"
            return
        before = means.clock()
        number, named, now = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), clock_timestamp()"
        ).one()
        yield f"{place(url)} answers: PostgreSQL {named}"
        yield from judged(number, named, now, before, means.clock(), where)


def judged(number: int, named: str, theirs: datetime, before: datetime, after: datetime, where: str) -> Iterator[Said]:
    """What is wrong with a PostgreSQL of this version whose clock said `theirs` between two times of ours."""
    if number < POSTGRES:
        yield Finding(
            f"PostgreSQL {named} is older than {POSTGRES // 10_000} and not maintained any more", where, "upgrade it"
        )
    off = clock_difference(theirs, before, after)
    if abs(off) > CLOCK_SECONDS:
        yield clock_finding(off, where)


def clock_difference(theirs: datetime, before: datetime, after: datetime) -> float:
    """By how many seconds another clock, read between two times of ours, is ahead at the least (negative: behind)."""
    theirs = theirs.astimezone(UTC)
    if theirs < before:
        return (theirs - before).total_seconds()
    return max(0.0, (theirs - after).total_seconds())


def clock_finding(off: float, where: str) -> Finding:
    """A clock that differs by more than what is forgiven."""
    return Finding(
        f"its clock is {abs(off):.0f} seconds {'ahead of' if off > 0 else 'behind'} this machine's",
        where,
        "let both be set by NTP: tokens and agreements begin and end by the clock",
    )


SERVERS = (
    Check("broker", "broker.url", look_at_broker),
    Check("store", "store.url", look_at_store),
    Check("audit", "audit.url", look_at_audit),
    Check("migrations of the store", "store.url", look_at_migrations, ("store",)),
    Check("migrations of the audit log", "audit.url", look_at_audit_migrations, ("audit",)),
)
