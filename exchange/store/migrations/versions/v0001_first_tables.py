"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# A migration is a record of what was done: it repeats the tables as they were and imports nothing that may change.
PARTITIONS = 16
FILLFACTOR = 80  # room in each page for an update beside its row (a heap-only tuple)


def key() -> sa.types.TypeEngine[str]:
    """Text that compares byte by byte."""
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def serial() -> sa.types.TypeEngine[int]:
    """A number that the database gives."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    facets()
    reading()
    op.create_table(
        "rejects",
        sa.Column("id", key(), primary_key=True),
        sa.Column("department", key(), nullable=False),
        sa.Column("contract", key(), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("field", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("epoch", sa.BigInteger),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("topic", sa.Text),
        sa.Column("log_partition", sa.Integer),
        sa.Column("log_offset", sa.BigInteger),
        sa.Column("schema_id", sa.BigInteger),
        sa.Column("payload", sa.Text),
        sa.Column("replayed_at", sa.BigInteger),
    )
    op.create_index("rejects_at", "rejects", ["at", "id"])
    op.create_index("rejects_department_at", "rejects", ["department", "at", "id"])
    registry()
    op.create_table(
        "bundles",
        sa.Column("version", key(), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "bundle_applications",
        sa.Column("sequence", serial(), primary_key=True),
        sa.Column("version", key(), sa.ForeignKey("bundles.version"), nullable=False),
        sa.Column("applied_at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    subjects()
    push()


def facets() -> None:
    """What is known. On PostgreSQL in hash partitions, each with room for updates in its pages."""
    op.create_table(
        "facets",
        sa.Column("subject_key", key(), primary_key=True),
        sa.Column("contract", key(), primary_key=True),
        sa.Column("major", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("record_key", key(), primary_key=True),
        sa.Column("payload", sa.Text),
        sa.Column("schema_id", sa.BigInteger),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("log_partition", sa.Integer, nullable=False),
        sa.Column("log_offset", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("heard", sa.Text),
        postgresql_partition_by="HASH (subject_key)",
    )
    if op.get_context().dialect.name == "postgresql":
        for remainder in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE facets_p{remainder:02d} PARTITION OF facets "
                f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {remainder}) WITH (fillfactor = {FILLFACTOR})"
            )


def reading() -> None:
    """How far everything was read."""
    op.create_table(
        "watermarks",
        sa.Column("contract", key(), primary_key=True),
        sa.Column("source", key(), primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pending_watermarks",
        sa.Column("contract", key(), primary_key=True),
        sa.Column("source", key(), primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("as_of", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("topic", key(), nullable=False),
        sa.Column("offsets", sa.Text, nullable=False),
    )
    op.create_index("ix_pending_watermarks_topic", "pending_watermarks", ["topic"])
    op.create_table(
        "positions",
        sa.Column("topic", key(), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("topic_id", sa.Text, nullable=False),
    )


def registry() -> None:
    """Schema texts and the versions of each subject."""
    op.create_table(
        "schemas",
        sa.Column("id", serial(), primary_key=True),
        sa.Column("digest", key(), nullable=False, unique=True),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "schema_versions",
        sa.Column("subject", key(), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("schema_id", sa.BigInteger, sa.ForeignKey("schemas.id"), nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("subject", "schema_id"),
    )


def subjects() -> None:
    """How many subjects each client has seen on a day."""
    op.create_table(
        "subjects_seen",
        sa.Column("day", key(), primary_key=True),
        sa.Column("client", key(), primary_key=True),
        sa.Column("sketch", sa.LargeBinary, nullable=False),
    )


def push() -> None:
    """The source that all pushes are, and the claims on Idempotency-Keys."""
    op.create_table(
        "push_source",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("next_sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "push_claims",
        sa.Column("client", key(), primary_key=True),
        sa.Column("key", key(), primary_key=True),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.Column("claimed_at", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("answer", sa.Text),
    )
    op.create_index("ix_push_claims_claimed_at", "push_claims", ["claimed_at"])
