"""The registry's statements on the store's tables. Each takes a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from exchange.contracts.avro import MAX_CLOSURE
from exchange.errors import RegistryUnavailable, StoreUnavailable
from exchange.registry.faults import InvalidSchema
from exchange.registry.forms import Form, Reference, Version, is_name
from exchange.store import database
from exchange.store.tables import schema_references as references
from exchange.store.tables import schema_settings as settings
from exchange.store.tables import schema_versions as versions
from exchange.store.tables import schemas

MAX_REFERENCES = 100  # of a schema, with all that these refer to
MAX_REFERENCE_DEPTH = 20
_IN = 500  # values in one statement
_LAST = "\U0010ffff"
STRUCK = ""  # the text of a schema that was deleted for good

_ENTRY = (
    versions.c.subject,
    versions.c.version,
    schemas.c.id,
    schemas.c.text,
    schemas.c.metadata,
    schemas.c.rule_set,
    versions.c.deleted_at,
)


class Settings(NamedTuple):
    """What is set for a subject; None is what holds for all."""

    compatibility: str | None = None
    normalize: bool | None = None
    mode: str | None = None


# --- transactions -----------------------------------------------------------------------------------------------------


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Raises RegistryUnavailable."""
    try:
        with database.reading(engine) as connection:
            yield connection
    except StoreUnavailable as error:
        raise RegistryUnavailable(error.detail) from None


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One writer at a time: what it reads stays so until it commits. Raises RegistryUnavailable."""
    try:
        with database.writing(engine) as connection:
            if database.is_postgres(connection):  # on SQLite a writer is alone
                connection.execute(sa.text("LOCK TABLE schema_versions IN SHARE ROW EXCLUSIVE MODE"))
            yield connection
    except StoreUnavailable as error:
        raise RegistryUnavailable(error.detail) from None


# --- reading ----------------------------------------------------------------------------------------------------------


def shown(*, deleted: bool) -> list[Any]:
    """The conditions on versions that may be shown; `deleted`: those deleted softly too."""
    return [] if deleted else [versions.c.deleted_at.is_(None)]


def beginning(prefix: str) -> list[Any]:
    """The conditions on subjects whose name begins so."""
    if not prefix:
        return []
    if not is_name(prefix):
        return [sa.false()]
    return [versions.c.subject >= prefix, versions.c.subject < prefix + _LAST]


def exists(connection: sa.Connection, subject: str, *, deleted: bool) -> bool:
    """Whether a subject has a version that is shown."""
    if not is_name(subject):
        return False
    where = [versions.c.subject == subject, *shown(deleted=deleted)]
    return connection.execute(sa.select(versions.c.version).where(*where).limit(1)).first() is not None


def entries(connection: sa.Connection, statement: Any, most: int | None = None) -> list[Version]:
    """The versions that a statement on `entry()` finds; no more of them than `most` characters of text take."""
    found: list[Any] = []
    left = most
    for row in connection.execute(statement):
        if left is not None:
            left -= len(row.text)
            if left < 0 and found:
                break
        found.append(row)
    referred = _references(connection, [row.id for row in found])
    return [
        Version(row.subject, row.version, row.id, _form(row, referred), row.deleted_at is not None) for row in found
    ]


def entry() -> sa.Select[Any]:
    """What a version is made of."""
    return sa.select(*_ENTRY).join_from(versions, schemas, versions.c.schema_id == schemas.c.id)


def history(connection: sa.Connection, subject: str) -> list[Version]:
    """Every version of a subject, those deleted softly too, oldest first."""
    return entries(connection, entry().where(versions.c.subject == subject).order_by(versions.c.version))


def find(connection: sa.Connection, subject: str, form: Form, *, deleted: bool = False) -> Version | None:
    """The version of this form under a subject."""
    where = [versions.c.subject == subject, schemas.c.digest == form.digest]
    if not deleted:
        where.append(versions.c.deleted_at.is_(None))
    return next(iter(entries(connection, entry().where(*where))), None)


def latest(connection: sa.Connection, subject: str) -> Version | None:
    """The newest version of a subject that is not deleted."""
    where = versions.c.subject == subject, versions.c.deleted_at.is_(None)
    statement = entry().where(*where).order_by(versions.c.version.desc()).limit(1)
    return next(iter(entries(connection, statement)), None)


def form_of(connection: sa.Connection, schema_id: int) -> Form | None:
    """What an id stands for."""
    columns = (schemas.c.id, schemas.c.text, schemas.c.metadata, schemas.c.rule_set)
    row = connection.execute(sa.select(*columns).where(schemas.c.id == schema_id)).one_or_none()
    return None if row is None or row.text == STRUCK else _form(row, _references(connection, [schema_id]))


def is_given(connection: sa.Connection, schema_id: int) -> bool:
    """Whether an id was ever given."""
    return connection.execute(sa.select(schemas.c.id).where(schemas.c.id == schema_id)).first() is not None


def setting(connection: sa.Connection, subject: str) -> Settings:
    """What is set for a subject."""
    columns = (settings.c.compatibility, settings.c.normalize, settings.c.mode)
    row = connection.execute(sa.select(*columns).where(settings.c.subject == subject)).one_or_none()
    return Settings() if row is None else Settings(*row)


def referred(connection: sa.Connection, first: Sequence[Reference], *, live: bool = False) -> list[str]:
    """The texts that these references lead to, each behind those that it needs itself.

    `live`: the first ones must not be deleted. Raises InvalidSchema for one that leads nowhere, and for too many.
    """
    texts: dict[int, str] = {}
    _follow(connection, first, texts, MAX_REFERENCE_DEPTH, live=live)
    return list(texts.values())


def _follow(
    connection: sa.Connection, these: Sequence[Reference], texts: dict[int, str], depth: int, *, live: bool
) -> None:
    if these and not depth:
        raise InvalidSchema(f"references go deeper than {MAX_REFERENCE_DEPTH}")
    for place, each in enumerate(these):
        where = [versions.c.subject == each.subject, versions.c.version == each.version]
        if live:
            where.append(versions.c.deleted_at.is_(None))
        found = next(iter(entries(connection, entry().where(*where))), None)
        if found is None:
            raise InvalidSchema(f"references[{place}]: there is no such version of that subject")
        if found.id in texts:
            continue
        _follow(connection, found.form.references, texts, depth - 1, live=False)
        texts[found.id] = found.form.text
        if len(texts) > MAX_REFERENCES or sum(map(len, texts.values())) > MAX_CLOSURE:
            raise InvalidSchema(f"more than {MAX_REFERENCES} references, or {MAX_CLOSURE} characters behind them")


def referrers(connection: sa.Connection, subject: str, version: int, *, deleted: bool) -> list[tuple[str, int]]:
    """(subject, schema id) of every version that refers to this one; `deleted` counts those deleted softly too."""
    where = [references.c.subject == subject, references.c.version == version]
    if not deleted:
        where.append(versions.c.deleted_at.is_(None))
    statement = (
        sa.select(versions.c.subject, versions.c.schema_id)
        .join(references, references.c.schema_id == versions.c.schema_id)
        .where(*where)
        .order_by(versions.c.schema_id, versions.c.subject)
    )
    return [(row[0], row[1]) for row in connection.execute(statement)]


def _references(connection: sa.Connection, ids: Sequence[int]) -> dict[int, list[Reference]]:
    found: dict[int, list[Reference]] = {}
    each = iter(sorted(set(ids)))
    while part := list(islice(each, _IN)):
        statement = sa.select(references).where(references.c.schema_id.in_(part)).order_by(references.c.place)
        for row in connection.execute(statement):
            found.setdefault(row.schema_id, []).append(Reference(row.name, row.subject, row.version))
    return found


def _form(row: Any, referred: dict[int, list[Reference]]) -> Form:
    return Form(row.text, tuple(referred.get(row.id, ())), row.metadata, row.rule_set)


# --- writing ----------------------------------------------------------------------------------------------------------


def keep(connection: sa.Connection, form: Form, schema_id: int | None = None) -> int:
    """The id of a form, given now if it has none: the next one, or this one, which nobody must have."""
    known: int | None = connection.execute(
        sa.select(schemas.c.id).where(schemas.c.digest == form.digest)
    ).scalar_one_or_none()
    if known is not None:
        return known
    values: dict[str, Any] = {
        "digest": form.digest, "text": form.text, "metadata": form.metadata, "rule_set": form.rule_set
    }  # fmt: skip
    if schema_id is not None:
        values["id"] = schema_id
    given: int = connection.execute(schemas.insert().values(**values).returning(schemas.c.id)).scalar_one()
    if schema_id is not None and database.is_postgres(connection):  # the next one comes behind it, as on SQLite
        newest = sa.select(sa.func.max(schemas.c.id)).scalar_subquery()
        connection.execute(sa.select(sa.func.setval(sa.func.pg_get_serial_sequence("schemas", "id"), newest)))
    if form.references:
        rows = [{"schema_id": given, "place": place, **each._asdict()} for place, each in enumerate(form.references)]
        connection.execute(references.insert(), rows)
    return given


def forget(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Drop those of these schemas that no version of any subject is.

    Of each an empty row is left (no schema is an empty text), so that its id is never given again.
    """
    for schema_id in sorted(set(ids)):
        used = sa.select(versions.c.version).where(versions.c.schema_id == schema_id).limit(1)
        if connection.execute(used).first() is None:
            connection.execute(references.delete().where(references.c.schema_id == schema_id))
            nothing = {"digest": f"struck {schema_id}", "text": STRUCK, "metadata": None, "rule_set": None}
            connection.execute(schemas.update().where(schemas.c.id == schema_id).values(**nothing))


def put_setting(connection: sa.Connection, subject: str, chosen: Settings) -> None:
    """Set it; what says nothing is not kept."""
    connection.execute(settings.delete().where(settings.c.subject == subject))
    if chosen != Settings():
        connection.execute(settings.insert().values(subject=subject, **chosen._asdict()))
