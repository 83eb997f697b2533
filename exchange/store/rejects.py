"""Rejects: what was set aside, one row for each place, however often it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from exchange.errors import NotFound
from exchange.records import Origin, Reject
from exchange.store.database import insert_into
from exchange.store.tables import rejects

_WITHOUT_PAYLOAD = [column for column in rejects.columns if column.name != "payload"]


@dataclass(frozen=True, slots=True)
class SetAside:
    """A reject as it is stored, and when it was last published again. Its payload is None unless it was asked for."""

    id: str
    reject: Reject
    replayed_at: datetime | None


def reject_id(reject: Reject) -> str:
    """The natural key: `<topic>/<partition>/<offset>`, or of a connector's reject `<source>/<epoch>/<sequence>`."""
    if reject.topic is not None:
        return f"{reject.topic}/{reject.partition}/{reject.offset}"
    if reject.origin is None:
        raise ValueError("a reject has a place in a topic or an origin")
    return f"{reject.origin.source}/{reject.origin.epoch}/{reject.origin.sequence}"


def put(connection: sa.Connection, set_aside: Iterable[Reject]) -> None:
    """Store rejects. One that is there already stays, unless a connector has rejected the same row again later."""
    rows = {reject_id(reject): _row(reject) for reject in set_aside}
    if not rows:
        return
    insert = insert_into(connection, rejects)
    again = {name: insert.excluded[name] for name in ("place", "field", "reason", "at", "schema_id", "payload")}
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[rejects.c.id],
            set_={**again, "replayed_at": None},
            where=rejects.c.topic.is_(None) & (insert.excluded.at > rejects.c.at),
        ),
        [rows[key] for key in sorted(rows)],
    )


def list_(
    connection: sa.Connection, department: str | None, contract: str | None, after: str | None, limit: int
) -> list[SetAside]:
    """At most `limit` rejects without payload, newest first. Raises NotFound if there is no reject `after`."""
    wanted = sa.select(*_WITHOUT_PAYLOAD).order_by(rejects.c.at.desc(), rejects.c.id.desc()).limit(limit)
    if department is not None:
        wanted = wanted.where(rejects.c.department == department)
    if contract is not None:
        wanted = wanted.where(rejects.c.contract == contract)
    if after is not None:
        at = connection.execute(sa.select(rejects.c.at).where(rejects.c.id == after)).scalar_one_or_none()
        if at is None:
            raise NotFound("the reject to go on from is not there any more")
        wanted = wanted.where(
            sa.tuple_(rejects.c.at, rejects.c.id) < sa.tuple_(sa.literal(at, rejects.c.at.type), sa.literal(after))
        )
    return [_set_aside(row) for row in connection.execute(wanted)]


def show(connection: sa.Connection, key: str, *, reveal: bool) -> SetAside:
    """One reject. Raises NotFound."""
    row = connection.execute(
        sa.select(*(rejects.columns if reveal else _WITHOUT_PAYLOAD)).where(rejects.c.id == key)
    ).one_or_none()
    if row is None:
        raise NotFound("no such reject")
    return _set_aside(row)


def mark_replayed(connection: sa.Connection, key: str, at: datetime) -> None:
    """Note when a reject was published again. Raises NotFound."""
    marked = connection.execute(rejects.update().where(rejects.c.id == key).values(replayed_at=at))
    if marked.rowcount != 1:
        raise NotFound("no such reject")


def purge(connection: sa.Connection, before: datetime) -> int:
    """Delete what was set aside before that time; how many."""
    return connection.execute(rejects.delete().where(rejects.c.at < before)).rowcount


def _row(reject: Reject) -> dict[str, Any]:
    origin = reject.origin
    return {
        "id": reject_id(reject),
        "department": reject.department,
        "contract": reject.contract,
        "place": _storable(reject.place),
        "field": None if reject.field is None else _storable(reject.field),
        "reason": _storable(reject.reason),
        "at": reject.at,
        "source": None if origin is None else origin.source,
        "epoch": None if origin is None else origin.epoch,
        "sequence": None if origin is None else origin.sequence,
        "topic": reject.topic,
        "log_partition": reject.partition,
        "log_offset": reject.offset,
        "schema_id": reject.schema_id,
        "payload": None if reject.payload is None else _storable(reject.payload),
        "replayed_at": None,
    }


def _storable(text: str) -> str:
    """Text that both databases take: U+0000 and lone surrogates as the escapes that JSON has for them.

    A reject is the last place for a broken record; it must not stop there too.
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")


def _set_aside(row: sa.Row[Any]) -> SetAside:
    reject = Reject(
        department=row.department,
        contract=row.contract,
        place=row.place,
        field=row.field,
        reason=row.reason,
        at=row.at,
        origin=None if row.source is None else Origin(row.source, row.epoch, row.sequence),
        topic=row.topic,
        partition=row.log_partition,
        offset=row.log_offset,
        schema_id=row.schema_id,
        payload=getattr(row, "payload", None),
    )
    return SetAside(row.id, reject, row.replayed_at)
