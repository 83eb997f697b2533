"""Deleting versions and subjects: softly, so that they are hidden, then for good.

The versions of contracts are never deleted: records under them stand in topics, and a materialiser that begins anew
must be able to read them all. What others refer to is not deleted either.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from exchange.clock import Clock
from exchange.registry import rows
from exchange.registry.faults import (
    NotPermitted,
    ReferenceExists,
    SubjectDeleted,
    SubjectNotDeleted,
    SubjectNotFound,
    VersionDeleted,
    VersionNotDeleted,
    VersionNotFound,
)
from exchange.registry.forms import Version, is_contract, is_name
from exchange.registry.rows import Settings
from exchange.registry.settings import DEFAULT_MODE, IMPORT
from exchange.store.tables import schema_versions as versions


class Striking:
    """Deletes. `check_...` raises what the deletion would. All raise RegistryUnavailable."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def check_subject(self, subject: str, *, permanent: bool) -> None:
        """Raises SubjectNotFound, SubjectDeleted, SubjectNotDeleted, ReferenceExists, NotPermitted."""
        with rows.reading(self._engine) as connection:
            _subject(connection, subject, permanent=permanent)

    def subject(self, subject: str, *, permanent: bool) -> list[int]:
        """Delete all versions, softly or, after that, for good; the versions that this deleted. Raises as the check."""
        with rows.writing(self._engine) as connection:
            struck = _subject(connection, subject, permanent=permanent)
            self._strike(connection, subject, struck, permanent=permanent)
        return [each.version for each in struck]

    def check_version(self, subject: str, version: int | None, *, permanent: bool) -> int:
        """Which one it would be; None is the newest. Raises VersionNotFound, VersionDeleted, VersionNotDeleted too."""
        with rows.reading(self._engine) as connection:
            return _version(connection, subject, version, permanent=permanent).version

    def version(self, subject: str, version: int | None, *, permanent: bool) -> int:
        """Delete one version, softly or, after that, for good; its number. Raises as the check."""
        with rows.writing(self._engine) as connection:
            struck = _version(connection, subject, version, permanent=permanent)
            self._strike(connection, subject, [struck], permanent=permanent)
        return struck.version

    def _strike(self, connection: sa.Connection, subject: str, struck: Sequence[Version], *, permanent: bool) -> None:
        here = versions.c.subject == subject
        where = here, versions.c.version.in_([each.version for each in struck])
        if not permanent:
            connection.execute(versions.update().where(*where).values(deleted_at=self._clock()))
            return
        connection.execute(versions.delete().where(*where))
        rows.forget(connection, [each.id for each in struck])
        if connection.execute(sa.select(versions.c.version).where(here)).first() is None:
            rows.put_setting(connection, subject, Settings())


def _subject(connection: sa.Connection, subject: str, *, permanent: bool) -> list[Version]:
    known = _known(connection, subject)
    live = [each for each in known if not each.deleted]
    if permanent and live:
        raise SubjectNotDeleted
    if not permanent and not live:
        raise SubjectDeleted
    struck = known if permanent else live
    for each in struck:
        _unreferred(connection, each, permanent=permanent, but=subject)
    return struck


def _version(connection: sa.Connection, subject: str, version: int | None, *, permanent: bool) -> Version:
    known = _known(connection, subject)
    if version is None:
        numbers = [each.version for each in known if permanent or not each.deleted]
        version = max(numbers, default=0)
    found = next((each for each in known if each.version == version), None)
    if found is None:
        raise VersionNotFound
    if permanent and not found.deleted:
        raise VersionNotDeleted
    if not permanent and found.deleted:
        raise VersionDeleted
    _unreferred(connection, found, permanent=permanent, but="")
    return found


def _known(connection: sa.Connection, subject: str) -> list[Version]:
    known = rows.history(connection, subject) if is_name(subject) else []
    if not known:
        raise SubjectNotFound
    if is_contract(subject):
        raise NotPermitted("a contract's versions stay: records under them stand in its topic")
    if rows.setting(connection, subject).mode not in (None, DEFAULT_MODE, IMPORT):
        raise NotPermitted("it is in read-only mode")
    return known


def _unreferred(connection: sa.Connection, version: Version, *, permanent: bool, but: str) -> None:
    found = rows.referrers(connection, version.subject, version.version, deleted=permanent)
    if any(subject != but for subject, _ in found):
        raise ReferenceExists(f"version {version.version}")
