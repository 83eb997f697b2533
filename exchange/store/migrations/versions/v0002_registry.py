"""The registry of any schema: references, what belongs to a schema, soft deletion, levels and modes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def key() -> sa.types.TypeEngine[str]:
    """Text that compares byte by byte."""
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("schemas", sa.Column("metadata", sa.Text))
    op.add_column("schemas", sa.Column("rule_set", sa.Text))
    op.add_column("schema_versions", sa.Column("deleted_at", sa.BigInteger))
    op.create_index("ix_schema_versions_schema_id", "schema_versions", ["schema_id"])
    op.create_table(
        "schema_references",
        sa.Column("schema_id", sa.BigInteger, sa.ForeignKey("schemas.id"), primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subject", key(), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("schema_references_to", "schema_references", ["subject", "version"])
    op.create_table(
        "schema_settings",
        sa.Column("subject", key(), primary_key=True),
        sa.Column("compatibility", sa.Text),
        sa.Column("normalize", sa.Boolean),
        sa.Column("mode", sa.Text),
    )
