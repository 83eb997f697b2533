"""The store's migrations arrive at the declared tables, once, however many processes start at the same moment."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from exchange.errors import SchemaOutdated, StoreUnavailable
from exchange.store import PushLedger, Store
from exchange.store.database import check, is_postgres, migrate, open_engine
from exchange.store.tables import FACET_PARTITIONS, LINEAGE
from tests.support.migrations import prove
from tests.support.stores import DATABASES, Ticking, new_url


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_migrations_arrive_at_the_declared_tables(
    request: pytest.FixtureRequest, database: str, tmp_path: Path
) -> None:
    prove(new_url(request, database, tmp_path), new_url(request, database, tmp_path), LINEAGE)


@pytest.mark.services
def test_facets_are_partitioned_by_subject(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    engine = open_engine(new_url(request, "postgres", tmp_path))
    migrate(engine, LINEAGE)
    with engine.connect() as connection:
        partitions = connection.exec_driver_sql(
            "SELECT pg_get_expr(c.relpartbound, c.oid), c.reloptions FROM pg_inherits i JOIN pg_class c "
            "ON c.oid = i.inhrelid WHERE i.inhparent = 'facets'::regclass ORDER BY c.relname"
        ).all()
    assert [tuple(row) for row in partitions] == [
        (f"FOR VALUES WITH (modulus {FACET_PARTITIONS}, remainder {number})", ["fillfactor=80"])
        for number in range(FACET_PARTITIONS)
    ]
    engine.dispose()


def test_migrating_again_does_nothing(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> None:
    store = Store(open_engine(new_url(request, database, tmp_path)), Ticking())
    with pytest.raises(SchemaOutdated, match="exchange"):
        store.check()
    assert store.migrate()
    store.check()
    epoch = PushLedger(store.engine, Ticking()).epoch()
    assert not store.migrate()
    assert PushLedger(store.engine, Ticking()).epoch() == epoch
    store.close()


def test_many_that_start_at_once_migrate_once(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> None:
    url = new_url(request, database, tmp_path)
    barrier = threading.Barrier(6)
    done: list[bool | Exception] = []

    def start() -> None:
        store = Store(open_engine(url), Ticking())
        barrier.wait()
        try:
            done.append(store.migrate())
            store.check()
        except Exception as error:
            done.append(error)
        store.close()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, done)) == ["False"] * 5 + ["True"]


def test_a_migration_that_fails_leaves_nothing(
    request: pytest.FixtureRequest, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(new_url(request, database, tmp_path))
    create = sa.schema.CreateTable.__init__

    def refuse(self: sa.schema.CreateTable, element: sa.Table, **more: object) -> None:
        if element.name == "push_claims":
            raise RuntimeError
        create(self, element, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sa.schema.CreateTable, "__init__", refuse)
        with pytest.raises(RuntimeError):
            migrate(engine, LINEAGE)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    assert migrate(engine, LINEAGE)
    engine.dispose()


def test_tables_of_a_newer_version_are_refused(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> None:
    engine = open_engine(new_url(request, database, tmp_path))
    migrate(engine, LINEAGE)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE store_version SET version_num = '9999'")
    for call in (migrate, check):
        with pytest.raises(SchemaOutdated, match="newer"):
            call(engine, LINEAGE)
    engine.dispose()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    store = Store(open_engine(f"sqlite:///{tmp_path}/store.db"), Ticking())
    store.migrate()
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_store_that_is_away(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/missing/store.db", "postgresql://nobody@127.0.0.1:1/nothing"):
        store = Store(open_engine(url), Ticking())
        for call in (store.migrate, store.check):
            with pytest.raises(StoreUnavailable):
                call()


def test_which_database_it_is(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> None:
    engine = open_engine(new_url(request, database, tmp_path))
    assert is_postgres(engine) == (database == "postgres")
