"""The fixtures for real services give what they promise."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest


@pytest.mark.services
def test_each_fresh_database_is_empty_and_its_own(fresh_postgres: Callable[[], str]) -> None:
    one, two = fresh_postgres(), fresh_postgres()
    assert one != two
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE t (x int)")
    with psycopg.connect(two) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
