"""What stands in the registry: subjects, versions, schemas by id and guid, and who refers to whom."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from exchange.contracts.avro import resolved
from exchange.registry import rows
from exchange.registry.faults import SchemaNotFound, SubjectNotFound, VersionNotFound
from exchange.registry.forms import Form, Version, is_name
from exchange.store.tables import schema_versions as versions
from exchange.store.tables import schemas

MAX_LISTED = 5_000  # entries of one answer; `offset` asks for the next ones
MAX_TEXT_LISTED = 4 * 1024 * 1024  # characters of the schemas in one answer

_GUID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})", re.ASCII | re.IGNORECASE)


class Page(NamedTuple):
    """Which part of a list is asked for; a limit below zero is none."""

    offset: int = 0
    limit: int = -1

    @property
    def size(self) -> int:
        return MAX_LISTED if self.limit < 0 else min(self.limit, MAX_LISTED)


class Shelf:
    """Reads. Every method raises RegistryUnavailable. May be used by several threads.

    `deleted` is whether those that are deleted softly are shown too; `only`: these and no others.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def subjects(self, prefix: str, page: Page, *, deleted: bool, only: bool) -> list[str]:
        """The names of the subjects, sorted."""
        count = sa.func.count(versions.c.deleted_at)
        statement = sa.select(versions.c.subject).where(*rows.beginning(prefix)).group_by(versions.c.subject)
        if only:
            statement = statement.having(count == sa.func.count())
        elif not deleted:
            statement = statement.having(count < sa.func.count())
        with rows.reading(self._engine) as connection:
            found = connection.execute(_page(statement.order_by(versions.c.subject), page))
            return [str(name) for name in found.scalars()]

    def versions(self, subject: str, page: Page, *, deleted: bool, only: bool) -> list[int]:
        """The numbers of a subject's versions. Raises SubjectNotFound if there are none."""
        where = [versions.c.subject == subject, *rows.shown(deleted=deleted or only)]
        if only:
            where.append(versions.c.deleted_at.is_not(None))
        statement = sa.select(versions.c.version).where(*where).order_by(versions.c.version)
        with rows.reading(self._engine) as connection:
            if not rows.exists(connection, subject, deleted=deleted or only):
                raise SubjectNotFound
            return [int(number) for number in connection.execute(_page(statement, page)).scalars()]

    def version(self, subject: str, version: int | None, *, deleted: bool = False) -> Version:
        """One version, the newest if none is named. Raises SubjectNotFound, VersionNotFound."""
        where = [versions.c.subject == subject, *rows.shown(deleted=deleted)]
        if version is not None:
            where.append(versions.c.version == version)
        statement = rows.entry().where(*where).order_by(versions.c.version.desc()).limit(1)
        with rows.reading(self._engine) as connection:
            found = rows.entries(connection, statement) if is_name(subject) else []
            if not found:
                raise VersionNotFound if rows.exists(connection, subject, deleted=deleted) else SubjectNotFound
        return found[0]

    def with_metadata(self, subject: str, properties: Sequence[tuple[str, str]], *, deleted: bool) -> Version:
        """The newest version whose metadata has these properties. Raises SubjectNotFound, SchemaNotFound."""
        with rows.reading(self._engine) as connection:
            if not rows.exists(connection, subject, deleted=deleted):
                raise SubjectNotFound
            for each in reversed(rows.history(connection, subject)):
                said = json.loads(each.form.metadata or "{}").get("properties")
                shown = (deleted or not each.deleted) and isinstance(said, dict)
                if shown and all(said.get(name) == value for name, value in properties):
                    return each
        raise SchemaNotFound

    def exists(self, subject: str, *, deleted: bool = False) -> bool:
        """Whether a subject has a version."""
        with rows.reading(self._engine) as connection:
            return rows.exists(connection, subject, deleted=deleted)

    def referrers(self, subject: str, version: int | None, page: Page, *, deleted: bool) -> list[int]:
        """The ids of the schemas that refer to a version. Raises SubjectNotFound, VersionNotFound."""
        found = self.version(subject, version, deleted=True)
        with rows.reading(self._engine) as connection:
            ids = {one for _, one in rows.referrers(connection, subject, found.version, deleted=deleted)}
        return sorted(ids)[page.offset :][: page.size]

    def form(self, schema_id: int) -> Form:
        """What an id stands for. Raises SchemaNotFound."""
        with rows.reading(self._engine) as connection:
            found = rows.form_of(connection, schema_id)
        if found is None:
            raise SchemaNotFound
        return found

    def by_guid(self, guid: str) -> tuple[int, Form]:
        """Id and form of a guid. Raises SchemaNotFound."""
        match = _GUID.fullmatch(guid)
        if match is None:
            raise SchemaNotFound
        begins = "".join(match.groups()).lower()
        where = schemas.c.digest >= begins, schemas.c.digest < begins + "g"
        with rows.reading(self._engine) as connection:
            schema_id = connection.execute(sa.select(schemas.c.id).where(*where)).scalars().first()
            found = None if schema_id is None else rows.form_of(connection, schema_id)
        if schema_id is None or found is None:
            raise SchemaNotFound
        return schema_id, found

    def places(self, schema_id: int, subject: str, page: Page, *, deleted: bool) -> list[tuple[str, int]]:
        """(subject, version) of every place where a schema stands. Raises SchemaNotFound if there is no such id."""
        where = [versions.c.schema_id == schema_id, *rows.shown(deleted=deleted)]
        if subject:
            where.append(versions.c.subject == subject)
        statement = sa.select(versions.c.subject, versions.c.version).where(*where)
        with rows.reading(self._engine) as connection:
            if rows.form_of(connection, schema_id) is None:
                raise SchemaNotFound
            found = connection.execute(_page(statement.order_by(versions.c.subject, versions.c.version), page))
            return [(str(row[0]), int(row[1])) for row in found]

    def schemas(self, prefix: str, page: Page, *, deleted: bool, latest_only: bool) -> list[Version]:
        """Whole versions by subject and number; fewer than asked for where their texts would be too much."""
        where = [*rows.beginning(prefix), *rows.shown(deleted=deleted)]
        if latest_only:
            newest = versions.alias()
            same = [newest.c.subject == versions.c.subject]
            if not deleted:
                same.append(newest.c.deleted_at.is_(None))
            where.append(versions.c.version == sa.select(sa.func.max(newest.c.version)).where(*same).scalar_subquery())
        statement = rows.entry().where(*where).order_by(versions.c.subject, versions.c.version)
        with rows.reading(self._engine) as connection:
            return rows.entries(connection, _page(statement, page), MAX_TEXT_LISTED)

    def resolved(self, form: Form) -> str:
        """The text with every type that it has by reference written out."""
        with rows.reading(self._engine) as connection:
            referred = rows.referred(connection, form.references)
        return resolved(form.text, referred)


def _page(statement: sa.Select[Any], page: Page) -> sa.Select[Any]:
    return statement.offset(page.offset).limit(page.size)
