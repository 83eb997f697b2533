"""Policy bundles: immutable bodies by their hash, and which of them was applied when."""

from __future__ import annotations

import hashlib
from datetime import datetime
from types import EllipsisType

import sqlalchemy as sa

from exchange.errors import Conflict, NotFound, PolicyRefused
from exchange.store.database import insert_into, is_postgres
from exchange.store.statements import NEWEST_BUNDLE, RECENT_BUNDLES
from exchange.store.tables import bundle_applications, bundles


def save(
    connection: sa.Connection, version: str, body: bytes, at: datetime, after: str | EllipsisType | None = ...
) -> None:
    """Store a bundle and make it the newest. What stands under its version and was damaged there is mended.

    `after`: the version that must be the newest until now, None for none. Raises Conflict if another is; PolicyRefused
    if another body stands under the version, and this one has not the version's hash either.
    """
    if is_postgres(connection):  # on SQLite a writer is alone
        connection.exec_driver_sql("LOCK TABLE bundle_applications IN SHARE ROW EXCLUSIVE MODE")
    if after is not ... and newest_version(connection) != after:
        raise Conflict("other policies were applied meanwhile")
    connection.execute(insert_into(connection, bundles).values(version=version, body=body).on_conflict_do_nothing())
    if load(connection, version) != body:
        if hashlib.sha256(body).hexdigest() != version:
            raise PolicyRefused(f"the store has another bundle under the version {version}")
        connection.execute(bundles.update().where(bundles.c.version == version).values(body=body))
    if newest_version(connection) != version:
        connection.execute(bundle_applications.insert().values(version=version, applied_at=at))


def newest_version(connection: sa.Connection) -> str | None:
    """The version of the newest bundle, None if there is none."""
    return connection.exec_driver_sql(NEWEST_BUNDLE).scalar_one_or_none()


def recent_versions(connection: sa.Connection) -> list[str]:
    """The versions of the last sixteen that were applied, the newest first."""
    return [str(version) for (version,) in connection.exec_driver_sql(RECENT_BUNDLES)]


def load(connection: sa.Connection, version: str) -> bytes:
    """The bytes of a bundle. Raises NotFound."""
    body = connection.execute(sa.select(bundles.c.body).where(bundles.c.version == version)).scalar_one_or_none()
    if body is None:
        raise NotFound("no such policy bundle")
    return bytes(body)
