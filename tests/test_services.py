"""The fixtures for real services give what they promise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.services import LocalServices, Missing, skip_or_fail


@pytest.mark.services
def test_each_fresh_database_is_empty_and_its_own(fresh_postgres: Callable[[], str]) -> None:
    one, two = fresh_postgres(), fresh_postgres()
    assert one != two
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE t (x int)")
    with psycopg.connect(two) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


@pytest.mark.services
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")
def test_postgresql_starts_in_a_folder_that_only_root_can_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    local = LocalServices(tmp_path / "services")
    elsewhere = tmp_path / "services" / "postgres" / "elsewhere"
    try:
        for _ in range(2):  # the second start finds what the first one made
            try:
                url = local.start("postgres")
            except Missing as missing:
                skip_or_fail(str(missing))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (x int)")
                connection.execute("INSERT INTO t VALUES (1)")
            local.halt()
        with psycopg.connect(local.start("postgres")) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
        assert elsewhere.resolve().parent == Path("/var/tmp")
    finally:
        local.halt()
        shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
