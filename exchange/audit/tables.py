"""The audit log's tables, declared once for SQLite and PostgreSQL.

What is hashed or signed is stored as bytes, exactly as it was hashed: no database re-orders, rounds or re-encodes it.
Rows of evidence (entries, groups, leaves, nodes) are only ever inserted; `audit_slots` is bookkeeping, no evidence.

The migrations in `migrations/versions` arrive at exactly these tables; tests/test_audit_store.py proves it.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from exchange.store.database import Lineage

metadata = sa.MetaData()

LINEAGE = Lineage("audit", Path(__file__).parent / "migrations", metadata)


def _key() -> sa.types.TypeEngine[str]:
    # Names compare byte by byte on both databases, so that a walk in their order is the same walk.
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


# One row for each entry. `answer` is SHA-256(salt || body); `leaf` is the leaf hash, kept so that a changed entry can
# be named and not only its group.
entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column("writer", _key(), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
)

# One row for each commit group: its entries are those from `first` to `last`; `token` is the compact JWS that says so.
groups = sa.Table(
    "audit_groups",
    metadata,
    sa.Column("writer", _key(), primary_key=True),
    sa.Column("last", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("token", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("writer", "first", name="audit_groups_first"),
)

# The tree of all groups: which group is the leaf at `position`, counted from 0.
leaves = sa.Table(
    "audit_leaves",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("writer", _key(), nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("writer", "last", name="audit_leaves_group"),
)

# The hashes of the tree's complete subtrees (merkle.Nodes).
nodes = sa.Table(
    "audit_nodes",
    metadata,
    sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

# What was signed over the tree; `published` once the topic has acknowledged it.
checkpoints = sa.Table(
    "audit_checkpoints",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.LargeBinary, nullable=False),
    sa.Column("published", sa.Boolean, nullable=False),
)

# Who holds a named place: `epoch` grows with each take-over, `beat` while the holder lives; no holder: it is free.
slots = sa.Table(
    "audit_slots",
    metadata,
    sa.Column("name", _key(), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text),
)
