"""Erasing a subject: its facets become tombstones where they stand, and rejects that speak of it go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from exchange.store.tables import facets, rejects

_OF_SUBJECT = facets.c.subject_key == sa.bindparam("subject")


def identities(connection: sa.Connection, subject_key: str) -> list[tuple[str, int, str]]:
    """(contract, major, record key) of everything that is known of a subject."""
    known = sa.select(facets.c.contract, facets.c.major, facets.c.record_key).where(
        _OF_SUBJECT, facets.c.payload.is_not(None)
    )
    return [(row.contract, row.major, row.record_key) for row in connection.execute(known, {"subject": subject_key})]


def erase(connection: sa.Connection, subject_key: str) -> int:
    """Take the payloads of a subject's facets; how many.

    Where they came from stays: read again, each is a repeat, and only a newer record brings the key back.
    """
    statement = facets.update().where(_OF_SUBJECT, facets.c.payload.is_not(None)).values(payload=None, schema_id=None)
    return connection.execute(statement, {"subject": subject_key}).rowcount


def payloads(connection: sa.Connection, contract: str) -> Iterator[tuple[str, str]]:
    """(id, payload) of the rejects of a contract that have one."""
    kept = sa.select(rejects.c.id, rejects.c.payload).where(
        rejects.c.contract == contract, rejects.c.payload.is_not(None)
    )
    for row in connection.execute(kept):
        yield row.id, row.payload


def drop_rejects(connection: sa.Connection, ids: Iterable[str]) -> int:
    """Delete these rejects; how many."""
    return sum(connection.execute(rejects.delete().where(rejects.c.id == each)).rowcount for each in ids)
