"""The store's tables, declared once for SQLite and PostgreSQL.

Times are whole microseconds since 1970 in UTC (`Moment`): the same number in both databases, in the order of time, and
exact in every driver. JSON is canonical text, never a JSON type: no database re-orders, rounds or refuses what is in
it. Key columns compare byte by byte on both (on PostgreSQL by collation "C").

The migrations in `migrations/versions` arrive at exactly these tables; tests/test_migrations.py proves it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from exchange.records import micros, moment
from exchange.store.database import Lineage


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware time, stored as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else moment(value)


metadata = sa.MetaData()

LINEAGE = Lineage("store", Path(__file__).parent / "migrations", metadata)


def _key() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _serial() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


# --- what is known ----------------------------------------------------------------------------------------------------

# One row for each identity that was ever said; a null payload is a tombstone; `heard` is JSON, what other sources had
# said last of it (source, version, epoch, sequence), null where there was one source only. The subject key leads the
# primary key, so that any cluster can split the table by subject; on PostgreSQL it has FACET_PARTITIONS hash
# partitions. No index holds the event time: it would cost PostgreSQL the heap-only update (measured: 55,000 -> 31,000
# rows/s), while a page of even 100,000 records of one subject is sorted in 60 to 90 ms. A rowid table on SQLite:
# without rowid, fat rows in random order load at a third of the speed.
FACET_PARTITIONS = 16
facets = sa.Table(
    "facets",
    metadata,
    sa.Column("subject_key", _key(), primary_key=True),
    sa.Column("contract", _key(), primary_key=True),
    sa.Column("major", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record_key", _key(), primary_key=True),
    sa.Column("payload", sa.Text),
    sa.Column("schema_id", sa.BigInteger),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("log_partition", sa.Integer, nullable=False),
    sa.Column("log_offset", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger),
    sa.Column("event_time", Moment, nullable=False),
    sa.Column("heard", sa.Text),
    postgresql_partition_by="HASH (subject_key)",
)

# What tells the secret that `subject_key` and `record_key` were made under from others, and whether all of them were:
# while another takes its place they were not. One row.
bus_secret = sa.Table(
    "bus_secret",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("mark", sa.Text, nullable=False),
    sa.Column("whole", sa.Boolean, nullable=False),
)

# Until when each source has told everything about a contract.
watermarks = sa.Table(
    "watermarks",
    metadata,
    sa.Column("contract", _key(), primary_key=True),
    sa.Column("source", _key(), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("as_of", Moment, nullable=False),
)

# Watermarks whose offsets some position has not passed yet. `offsets`: JSON, partition -> last offset.
pending_watermarks = sa.Table(
    "pending_watermarks",
    metadata,
    sa.Column("contract", _key(), primary_key=True),
    sa.Column("source", _key(), primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("as_of", Moment, primary_key=True),
    sa.Column("topic", _key(), nullable=False, index=True),
    sa.Column("offsets", sa.Text, nullable=False),
)

# --- how far it was read ----------------------------------------------------------------------------------------------

# `next` is the offset to read next; `epoch` grows with each take-over and fences the owner before; `topic_id` is that
# of the topic that was read so far.
positions = sa.Table(
    "positions",
    metadata,
    sa.Column("topic", _key(), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("topic_id", sa.Text, nullable=False),
)

# --- what was set aside -----------------------------------------------------------------------------------------------

# `id` is the reject's natural key, so that reading it again is no second row: `<source>/<epoch>/<sequence>` where a
# connector rejected it, `<topic>/<partition>/<offset>` where materialise did.
rejects = sa.Table(
    "rejects",
    metadata,
    sa.Column("id", _key(), primary_key=True),
    sa.Column("department", _key(), nullable=False),
    sa.Column("contract", _key(), nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("field", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("source", sa.Text),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("topic", sa.Text),
    sa.Column("log_partition", sa.Integer),
    sa.Column("log_offset", sa.BigInteger),
    sa.Column("schema_id", sa.BigInteger),
    sa.Column("payload", sa.Text),
    sa.Column("replayed_at", Moment),
    sa.Index("rejects_at", "at", "id"),
    sa.Index("rejects_department_at", "department", "at", "id"),
)

# --- what was agreed --------------------------------------------------------------------------------------------------

# What an id stands for: a schema's text, normalised, and what belongs to it; `digest` is the SHA-256 over all of that.
# `metadata` and `rule_set` are JSON as it was sent. An id is never used again.
schemas = sa.Table(
    "schemas",
    metadata,
    sa.Column("id", _serial(), primary_key=True),
    sa.Column("digest", _key(), nullable=False, unique=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("metadata", sa.Text),
    sa.Column("rule_set", sa.Text),
    sqlite_autoincrement=True,
)

# Which versions of other subjects a schema uses types of, in the order in which it names them.
schema_references = sa.Table(
    "schema_references",
    metadata,
    sa.Column("schema_id", sa.BigInteger, sa.ForeignKey("schemas.id"), primary_key=True, autoincrement=False),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("subject", _key(), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("schema_references_to", "subject", "version"),
)

# The versions of each registry subject, from 1; one with `deleted_at` is hidden and counts for no verdict.
schema_versions = sa.Table(
    "schema_versions",
    metadata,
    sa.Column("subject", _key(), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("schema_id", sa.BigInteger, sa.ForeignKey("schemas.id"), nullable=False, index=True),
    sa.Column("registered_at", Moment, nullable=False),
    sa.Column("deleted_at", Moment),
    sa.UniqueConstraint("subject", "schema_id"),
)

# What an owner has set for a registry subject; null is what holds for all.
schema_settings = sa.Table(
    "schema_settings",
    metadata,
    sa.Column("subject", _key(), primary_key=True),
    sa.Column("compatibility", sa.Text),
    sa.Column("normalize", sa.Boolean),
    sa.Column("mode", sa.Text),
)

# Policy bundles, immutable, by their hash.
bundles = sa.Table(
    "bundles",
    metadata,
    sa.Column("version", _key(), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

# Which bundle was applied when; the greatest sequence is the one in force.
bundle_applications = sa.Table(
    "bundle_applications",
    metadata,
    sa.Column("sequence", _serial(), primary_key=True),
    sa.Column("version", _key(), sa.ForeignKey("bundles.version"), nullable=False),
    sa.Column("applied_at", Moment, nullable=False),
    sqlite_autoincrement=True,
)

# --- what is being read -----------------------------------------------------------------------------------------------

# About how many subjects a client has seen on a day, as a sketch that names none. `client` is [issuer, client id].
subjects_seen = sa.Table(
    "subjects_seen",
    metadata,
    sa.Column("day", _key(), primary_key=True),
    sa.Column("client", _key(), primary_key=True),
    sa.Column("sketch", sa.LargeBinary, nullable=False),
)

# --- what was shown ---------------------------------------------------------------------------------------------------

# Proofs of possession (DPoP) that were used, by a hash of key and jti; gone a minute after `until` (Unix seconds).
used_proofs = sa.Table(
    "used_proofs",
    metadata,
    sa.Column("proof", _key(), primary_key=True),
    sa.Column("until", sa.BigInteger, nullable=False, index=True),
)

# --- what is being pushed ---------------------------------------------------------------------------------------------

# The one source that all pushes are: its epoch and the sequence to give next. One row.
push_source = sa.Table(
    "push_source",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("next_sequence", sa.BigInteger, nullable=False),
)

# A push with an Idempotency-Key: who may produce it until when, under which sequences, and what was answered.
push_claims = sa.Table(
    "push_claims",
    metadata,
    sa.Column("client", _key(), primary_key=True),
    sa.Column("key", _key(), primary_key=True),
    sa.Column("contract", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("first_sequence", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("claimed_at", Moment, nullable=False, index=True),
    sa.Column("lease_until", Moment, nullable=False),
    sa.Column("answer", sa.Text),
)
