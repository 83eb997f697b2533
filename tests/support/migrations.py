"""Proof that a lineage's migrations arrive at its declared tables: by alembic, and by the databases' own catalogues."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata

from exchange.store.database import Lineage, is_postgres, migrate, open_engine

# What PostgreSQL knows of a table but alembic does not compare: order, collation and identity of columns, each
# constraint and index as it is defined. Partitions are left out: the declaration has none.
_POSTGRES = {
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, o.collname,
               pg_get_expr(d.adbin, d.adrelid)
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_collation o ON o.oid = a.attcollation
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
         ORDER BY 1, 2""",
    "constraints": """
        SELECT c.relname, n.conname, pg_get_constraintdef(n.oid)
          FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition ORDER BY 1, 2""",
    "indexes": """
        SELECT c.relname, pg_get_indexdef(i.indexrelid)
          FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition ORDER BY 1, 2""",
    "partitioning": """
        SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid) FROM pg_partitioned_table ORDER BY 1""",
}
_SQLITE = {
    "columns": """
        SELECT m.name, x.* FROM sqlite_master m JOIN pragma_table_xinfo(m.name) x
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, x.cid""",
    "tables": """
        SELECT name, type, wr, strict FROM pragma_table_list
         WHERE schema = 'main' AND name <> 'sqlite_schema' ORDER BY 1""",
    "autoincrement": "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY 1",
    "indexes": """
        SELECT m.name, l.name, l."unique", l.origin, l.partial, i.seqno, i.name, i.desc, i.coll
          FROM sqlite_master m JOIN pragma_index_list(m.name) l JOIN pragma_index_xinfo(l.name) i
         WHERE m.type = 'table' ORDER BY 1, 2, 6""",
    "foreign keys": """
        SELECT m.name, f.* FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f
         WHERE m.type = 'table' ORDER BY 1, 2, 3""",
}


def prove(migrated_url: str, declared_url: str, lineage: Lineage) -> None:
    """Migrate one empty database, declare the tables in another, and assert that they are the same."""
    migrated, declared = open_engine(migrated_url), open_engine(declared_url)
    migrate(migrated, lineage)
    lineage.metadata.create_all(declared)
    with migrated.connect() as connection:
        context = lineage.context(
            connection, compare_type=True, compare_server_default=True, include_object=_of(lineage)
        )
        assert compare_metadata(context, lineage.metadata) == []
    found, wanted = catalogue(migrated), catalogue(declared)
    assert {row[0] for row in wanted["columns"]} >= set(lineage.metadata.tables)
    for kind, rows in found.items():
        assert [row for row in rows if row[0] != lineage.version_table] == wanted[kind], kind
    migrated.dispose()
    declared.dispose()


def catalogue(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the database knows of its tables."""
    with engine.connect() as connection:
        return {
            kind: [tuple(row) for row in connection.exec_driver_sql(query)]
            for kind, query in (_POSTGRES if is_postgres(engine) else _SQLITE).items()
        }


def _of(lineage: Lineage) -> Any:
    def include(_: object, name: str | None, kind: str, *__: object) -> bool:
        return kind != "table" or name in lineage.metadata.tables

    return include
