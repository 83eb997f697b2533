"""Facets: fold records into what stands, and write the winners.

`order.succeed` alone decides what stands. Its rule is not repeated in SQL: the standing rows of a batch's identities
are read in the transaction that writes, the records are folded onto them one by one in log order, and only what changed
is written. Nobody else can change those rows in between: on SQLite the writer holds the database's lock; on PostgreSQL
the transaction is REPEATABLE READ, where a row that another has changed fails the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any

import orjson
import psycopg
import sqlalchemy as sa

from exchange.errors import StoreRefused, StoreUnavailable
from exchange.records import Facet
from exchange.store import statements
from exchange.store.batches import Applied
from exchange.store.database import driver, is_postgres
from exchange.store.order import succeed

Identity = tuple[str, str, int, str]
Standing = dict[Identity, Facet]

_COMMA = ","  # in no key: they are base64url (exchange.subjects)

UNREAD = "?"  # instead of a payload that was left unread; no JSON text

# PostgreSQL: from so many rows on they go by COPY; those that replace others into a temporary table, and by one
# statement from there. Each row is cheaper so, but the transaction pays for more statements.
COPY_ROWS = 150


def fold(candidates: Iterable[Facet], standing: Standing, changed: Standing) -> Applied:
    """Let records, in log order, take the place of what stands, and note in `changed` which rows to write.

    A record that loses may still be the last word of its source: what stands remembers that, and its row changes too.
    """
    applied = repeats = clashes = 0
    for candidate in candidates:
        identity = candidate[:4]
        current = standing.get(identity)
        if current is not None and _contradicts(candidate, current):
            clashes += 1
        after = candidate if current is None else succeed(candidate, current)
        if after is not current:
            standing[identity] = changed[identity] = after
        if after is candidate or (after is not current and after.origin == candidate.origin):
            applied += 1
        else:
            repeats += 1
    return Applied(applied, repeats, clashes)


def _contradicts(candidate: Facet, standing: Facet) -> bool:
    """Whether two records, both with a value, say the same version of one schema and something different."""
    return (
        candidate.version is not None
        and candidate.version == standing.version
        and candidate.payload != standing.payload
        and candidate.payload is not None
        and standing.payload is not None
        and candidate.schema_id == standing.schema_id
        and candidate.origin != standing.origin
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def read_standing(connection: sa.Connection, candidates: Sequence[Facet]) -> Standing:
    """What stands under the candidates' identities. A payload is read only where a candidate may contradict it."""
    identities = list({candidate[:4] for candidate in candidates})
    standing = {
        identities[at]: Facet._make((*identities[at], None if deleted else UNREAD, *place))
        for at, deleted, *place in _look_up(
            connection, identities, statements.SQLITE_STANDING, statements.POSTGRES_STANDING
        )
    }
    doubtful = {
        candidate[:4]
        for candidate in candidates
        if standing and (current := standing.get(candidate[:4])) is not None and _contradicts(candidate, current)
    }
    _read_payloads(connection, standing, doubtful)
    return standing


def _read_payloads(connection: sa.Connection, facets: Standing, identities: Collection[Identity]) -> None:
    """Put the payload that stands under these identities into their facets."""
    wanted = list(identities)
    for at, payload in _look_up(connection, wanted, statements.SQLITE_PAYLOADS, statements.POSTGRES_PAYLOADS):
        facets[wanted[at]] = facets[wanted[at]]._replace(payload=payload)


def _look_up(
    connection: sa.Connection, identities: Sequence[Identity], sqlite: str, postgres: str
) -> Iterable[Sequence[Any]]:
    """Rows that begin with the index of their identity; none for an identity that has no row."""
    if not identities:
        return ()
    if is_postgres(connection):
        with driver(connection).cursor(binary=True) as cursor:  # numbers come without being read from text
            cursor.execute(postgres.encode(), _columns(identities))
            rows: list[Sequence[Any]] = cursor.fetchall()
    else:
        rows = driver(connection).execute(sqlite, (orjson.dumps(identities).decode(),)).fetchall()
    return rows


def _columns(identities: Sequence[Identity]) -> list[Any]:
    """What `statements.POSTGRES_STANDING` asks for."""
    subjects, contracts, majors, records = zip(*identities, strict=True)
    pairs = list(zip(contracts, majors, strict=True))
    numbers = {pair: str(number) for number, pair in enumerate(dict.fromkeys(pairs), 1)}
    # A comma more behind the record keys: the text of a single empty one would be read as none.
    texts = [_COMMA.join(subjects), _COMMA.join((*records, "")), _COMMA.join(map(numbers.__getitem__, pairs))]
    if texts[0].count(_COMMA) + 1 != len(subjects) or texts[1].count(_COMMA) != len(records):
        raise StoreRefused("a key holds a comma")
    return [*texts, [contract for contract, _ in numbers], [major for _, major in numbers]]


def from_row(row: Sequence[Any]) -> Facet:
    """A row of the facets table, as far as it is shown (`statements.SHOWN`), as a Facet."""
    return Facet(*row)


# --- writing ----------------------------------------------------------------------------------------------------------


def write(connection: sa.Connection, changed: Standing, stood: Collection[Identity]) -> None:
    """Insert the rows of these identities, or replace those that `stood` when this transaction looked.

    In the order of the primary key, so that two writers hardly ever wait for each other in a ring. Where only a last
    word was remembered, the payload was not read before. Raises StoreUnavailable where another has inserted one since.
    """
    _read_payloads(connection, changed, [identity for identity, facet in changed.items() if facet.payload == UNREAD])
    rows = sorted(changed.values())
    if not rows:
        return
    if not is_postgres(connection):
        _put(driver(connection), rows)
    elif len(rows) < COPY_ROWS:
        _send(connection, rows)
    else:
        _insert(connection, [row for row in rows if row[:4] not in stood])
        _replace(connection, [row for row in rows if row[:4] in stood])


def _send(connection: sa.Connection, rows: Sequence[Facet]) -> None:
    with driver(connection).cursor() as cursor:
        cursor.execute(statements.POSTGRES_PUT.encode(), [list(column) for column in zip(*rows, strict=True)])


def _insert(connection: sa.Connection, rows: Sequence[Facet]) -> None:
    """New rows. An upsert would look for each of them again, and log each of them twice."""
    try:
        _copy(connection, rows, statements.POSTGRES_COPY_NEW)
    except psycopg.errors.UniqueViolation:
        raise StoreUnavailable("PostgreSQL 23505: another has written one of the facets meanwhile") from None


def _replace(connection: sa.Connection, rows: Sequence[Facet]) -> None:
    if not rows:
        return
    if len(rows) < COPY_ROWS:
        _send(connection, rows)
    else:
        connection.exec_driver_sql(statements.POSTGRES_STAGE)
        _copy(connection, rows, statements.POSTGRES_COPY_STAGED)
        connection.exec_driver_sql(statements.POSTGRES_PUT_STAGED)


def _copy(connection: sa.Connection, rows: Sequence[Facet], statement: str) -> None:
    if not rows:
        return
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(statements.FACET_TYPES)
        for row in rows:
            copy.write_row(row)


def _put(connection: Any, rows: Sequence[Facet]) -> None:
    whole = len(rows) - len(rows) % statements.SQLITE_ROWS
    for first in range(0, whole, statements.SQLITE_ROWS):
        values = list(chain.from_iterable(rows[first : first + statements.SQLITE_ROWS]))
        connection.execute(statements.SQLITE_PUT_MANY, values)
    connection.executemany(statements.SQLITE_PUT, rows[whole:])
