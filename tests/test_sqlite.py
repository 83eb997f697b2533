"""exchange.sqlite: which builds are refused, who can read the files, and what a connection promises."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from exchange.errors import SettingWrong, UnsafeSQLite
from exchange.sqlite import check_build, connect, creator, dbapi2


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 51, 4), (3, 53, 0), (4, 0, 0), (3, 50, 7), (3, 44, 6)])
def test_safe_builds_pass(version: tuple[int, int, int]) -> None:
    check_build(version)


@pytest.mark.parametrize("version", [(3, 51, 2), (3, 51, 1), (3, 50, 6), (3, 44, 5), (3, 45, 9), (3, 40, 1), (3, 7, 0)])
def test_builds_that_corrupt_are_refused(version: tuple[int, int, int]) -> None:
    with pytest.raises(UnsafeSQLite, match=r"3\.51\.3"):
        check_build(version)


def test_the_build_in_use_is_safe() -> None:
    check_build()


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "topics 一.db"
    connection = connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    assert {file.name for file in tmp_path.iterdir()} == {path.name, path.name + "-wal", path.name + "-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    connection.close()


def test_a_file_that_others_can_read_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    first = connect(path)
    first.execute("CREATE TABLE t (x)")
    for file in tmp_path.iterdir():
        file.chmod(0o644)
    second = connect(path)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    first.close()
    second.close()


def test_pragmas(tmp_path: Path) -> None:
    connection = creator(tmp_path / "t.db", busy_seconds=3)()
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 3000}
    connection.close()


def test_readonly_reads_and_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with pytest.raises(dbapi2.OperationalError):
        connect(path, readonly=True)
    assert not path.exists()
    writer = connect(path)
    writer.execute("CREATE TABLE t (x)")
    reader = connect(path, readonly=True)
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    with pytest.raises(dbapi2.OperationalError, match="readonly"):
        reader.execute("INSERT INTO t VALUES (1)")
    reader.close()
    writer.close()


def test_many_threads_make_one_database(tmp_path: Path) -> None:
    """Making the file and switching it to WAL at the same moment neither fails nor leaves anything behind."""
    path = tmp_path / "t.db"
    start = threading.Barrier(8)
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            connection = connect(path)
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
            connection.execute("INSERT INTO t VALUES (?)", (number,))
            connection.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    connection = connect(path)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (8,)
    connection.close()
    assert [file.name for file in tmp_path.iterdir()] == ["t.db"]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingWrong, match=r"nowhere/t\.db cannot be made: No such file"):
        connect(tmp_path / "nowhere" / "t.db")
