"""Backups: what is saved while everything runs is whole, and what is put back goes on where it stood."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from exchange import erasure
from exchange.backup import RESTORING, Backup, Database, PostgresDatabase, SqliteFile, create, problems, read
from exchange.cli import audit, backup, erase, up
from exchange.cli import materialise as materialise_command
from exchange.clock import system_clock
from exchange.errors import BadRequest, Conflict, SettingWrong, StoreUnavailable
from exchange.records import ERASURES_TOPIC, Erasure, Facet, Message, Origin
from exchange.settings import Settings
from exchange.standing import StandingName
from exchange.store import Batch
from exchange.subjects import parse
from exchange.wiring import key_maker, open_broker, open_store
from gateway.parts import create_app
from tests.support.drill import BACKINGS, Drill, places
from tests.support.site import CITIZEN
from tests.support.site import Site as Still

# --- one database: the conformance suite ------------------------------------------------------------------------------

OURS = ["kept", "kept_version"]


class Place:
    """A database of either kind, with a table that may be written while it is saved."""

    def __init__(self, database: Database, execute: Callable[[str], list[Any]]) -> None:
        self.database = database
        self.execute = execute

    def rows(self) -> list[Any]:
        return [row[0] for row in self.execute("SELECT n FROM kept ORDER BY n")]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        path = tmp_path / "kept.db"

        def in_file(statement: str) -> list[Any]:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as opened:
                opened.execute("PRAGMA journal_mode = WAL")
                return opened.execute(statement).fetchall()

        return Place(SqliteFile(path), in_file)
    url = request.getfixturevalue("fresh_postgres")()

    def in_server(statement: str) -> list[Any]:
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    return Place(PostgresDatabase(url, {}, OURS), in_server)


@pytest.fixture
def filled(place: Place) -> Place:
    place.execute("CREATE TABLE kept (n INTEGER PRIMARY KEY)")
    place.execute("INSERT INTO kept VALUES (1), (2)")
    return place


def saved(place: Place, folder: Path) -> Backup:
    return create(folder, {"store": place.database}, {"a": "b"}, system_clock())


def test_it_comes_back_as_it_was(filled: Place, tmp_path: Path) -> None:
    made = saved(filled, tmp_path / "b")
    assert problems(made) == []
    assert (made.facts, [each.name for each in made.saved]) == ({"a": "b"}, ["store"])
    filled.execute("INSERT INTO kept VALUES (3)")
    assert filled.database.occupied() is not None
    with pytest.raises((Conflict, StoreUnavailable)):
        filled.database.put_back(filled.database.stage(made.folder / made.saved[0].file))
    assert filled.rows() == [1, 2, 3], "never over what stands there"
    aside = filled.database.move_aside("before-x")
    assert aside is not None
    assert filled.database.occupied() is None
    filled.database.put_back(filled.database.stage(made.folder / made.saved[0].file))
    assert filled.rows() == [1, 2]
    if isinstance(filled.database, SqliteFile):
        with closing(sqlite3.connect(aside)) as former:
            assert [n for (n,) in former.execute("SELECT n FROM kept")] == [1, 2, 3]
    else:
        assert filled.execute(f'SELECT count(*) FROM "{aside.partition(" ")[2]}".kept') == [(3,)]


def test_nothing_there_is_nothing_saved(place: Place, tmp_path: Path) -> None:
    assert not place.database.exists()
    assert saved(place, tmp_path / "b").saved == []
    assert place.database.move_aside("before-x") is None


def test_writers_go_on_and_what_is_saved_is_one_moment(filled: Place, tmp_path: Path) -> None:
    """Rows are written in pairs, each in one statement: half a pair would be two moments."""
    stop = threading.Event()

    def write() -> None:
        n = 10
        while not stop.is_set():
            filled.execute(f"INSERT INTO kept VALUES ({n}), ({-n})")
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.1)
        made = saved(filled, tmp_path / "b")
        before = len(filled.rows())
        time.sleep(0.1)
        assert len(filled.rows()) > before, "it was not waited for"
    finally:
        stop.set()
        writer.join()
    filled.database.move_aside("before-x")
    filled.database.put_back(filled.database.stage(made.folder / made.saved[0].file))
    rows = set(filled.rows()) - {1, 2}
    assert rows
    assert rows == {-n for n in rows}


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "link", "longer"])
def test_a_damaged_file_is_found(filled: Place, tmp_path: Path, damage: str) -> None:
    made = saved(filled, tmp_path / "b")
    file = made.folder / made.saved[0].file
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "cut":
            file.write_bytes(content[:-1])
        case "changed":
            file.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
        case "longer":
            file.write_bytes(content + b"x")
        case "link":
            (tmp_path / "elsewhere").write_bytes(content)
            file.symlink_to(tmp_path / "elsewhere")
    assert len(problems(made)) == 1


def test_damage_that_was_saved_is_found(filled: Place, tmp_path: Path) -> None:
    """The manifest agrees with the file, and the file is still no database."""
    made = saved(filled, tmp_path / "b")
    kind = type(filled.database)
    file = made.folder / made.saved[0].file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert kind.problems(file) != []  # type: ignore[attr-defined]


@pytest.mark.services
def test_tables_of_others_are_left_alone(fresh_postgres: Callable[[], str]) -> None:
    url = fresh_postgres()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE payroll (n int)")
        database = PostgresDatabase(url, {}, OURS)
        with pytest.raises(Conflict, match="payroll"):
            database.move_aside("before-x")
        assert connection.execute("SELECT count(*) FROM payroll").fetchone() == (0,)


@pytest.mark.services
def test_a_servers_password_is_in_no_error(fresh_postgres: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_postgres()
    password = url.partition("exchange:")[2].partition("@")[0]
    database = PostgresDatabase(url.replace(password, "wrong-password"), {}, OURS)
    with pytest.raises(StoreUnavailable) as refused:
        database.save(tmp_path / "x.dump")
    assert "wrong-password" not in str(refused.value)


# --- the folder -------------------------------------------------------------------------------------------------------


class Failing(SqliteFile):
    """The disk is full at the end."""

    def save(self, target: Path) -> None:
        super().save(target)
        raise StoreUnavailable("database or disk is full")


def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    sqlite3.connect(path).close()
    with pytest.raises(StoreUnavailable):
        create(tmp_path / "b", {"store": Failing(path)}, {}, system_clock())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept.db"]


def test_a_folder_that_exists_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(Conflict):
        create(tmp_path / "b", {}, {}, system_clock())


def test_what_a_killed_one_left_is_in_no_ones_way(tmp_path: Path) -> None:
    (tmp_path / ".b.partial").mkdir()
    (tmp_path / ".b.partial" / "store.db").write_text("half")
    assert create(tmp_path / "b", {}, {}, system_clock()).saved == []
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["manifest.json"]


GOOD = '{"form": 1, "made": "2026-01-01T00:00:00+00:00", "saved": [%s], "facts": {}}'


@pytest.mark.parametrize(
    "manifest",
    [
        None, "", "[]", "{", "null", '{"form": 1}', "[" * 100_000,
        '{"form": 2, "made": "2026-01-01T00:00:00+00:00", "saved": [], "facts": {}}',
        '{"form": 1, "made": "yesterday", "saved": [], "facts": {}}',
        GOOD % '{"name": "../x", "file": "../x.db", "bytes": 1, "sha256": ""}',
        GOOD % '{"name": "store", "file": "/etc/passwd", "bytes": 1, "sha256": ""}',
        GOOD % '{"name": "store"}',
    ],
)  # fmt: skip
def test_a_folder_that_is_no_backup(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BadRequest):
        read(tmp_path)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (backup, audit, erase):
        monkeypatch.setattr(room, "load", Settings.load)  # without setting up this process's logs


@pytest.fixture
def still(tmp_path: Path, quiet: None) -> Still:
    return Still.made(tmp_path / "site")


def run(config: Path, *arguments: str) -> Result:
    more = [] if arguments[0] == "verify" else ["-c", str(config)]
    return CliRunner().invoke(backup.app, [*arguments, *more])


def done(config: Path, *arguments: str) -> dict[str, Any]:
    found = run(config, *arguments, "--json")
    assert found.exit_code == 0, (found.output, found.exception)
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def kept(still: Still) -> dict[str, bytes]:
    """The databases of an installation where nothing runs."""
    return {file.name: file.read_bytes() for file in (still.folder / "data").glob("*.db*") if file.suffix != ".db-shm"}


def test_nothing_is_moved_unless_all_of_it_can_be_put_back(still: Still, tmp_path: Path) -> None:
    at = tmp_path / "b"
    done(still.config, "create", str(at))
    before = kept(still)
    assert isinstance(run(still.config, "restore", str(at)).exception, Conflict), "something stands there"
    running = StandingName(still.folder / "data", "gateway")
    refused = run(still.config, "restore", str(at), "--replace").exception
    assert isinstance(refused, Conflict)
    assert "gateway-1" in str(refused)
    running.close()
    key = still.folder / "keys" / "bus.key"
    secret = key.read_bytes()
    key.write_bytes(b"another")
    assert isinstance(run(still.config, "restore", str(at), "--replace").exception, SettingWrong)
    key.write_bytes(secret)
    assert isinstance(run(still.config, "restore", str(at), "--replace", "--only", "cursors").exception, BadRequest)
    file = at / "topics.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert isinstance(run(still.config, "restore", str(at), "--replace").exception, BadRequest)
    assert isinstance(run(still.config, "verify", str(at)).exception, BadRequest)
    file.write_bytes(whole)
    assert kept(still) == before
    told = done(still.config, "restore", str(at), "--replace")
    assert told["restored"] == ["store", "topics", "audit"]
    assert all(Path(aside).exists() for aside in told["moved"])


def test_only_the_store(still: Still, tmp_path: Path) -> None:
    at = tmp_path / "b"
    done(still.config, "create", str(at))
    still.strike("tax-desk")
    kept = (still.folder / "data" / "topics.db").read_bytes()
    with closing(open_store(still.settings(), system_clock)) as store:
        newest = store.newest_bundle_version()
    told = done(still.config, "restore", str(at), "--replace", "--only", "store")
    assert told["restored"] == ["store"]
    assert (still.folder / "data" / "topics.db").read_bytes() == kept
    with closing(open_store(still.settings(), system_clock)) as store:
        assert store.newest_bundle_version() != newest, "the bundle is the one of the backup"


def test_only_the_topics(still: Still, tmp_path: Path) -> None:
    """They end before what the store has read: what comes next into them is read all the same."""
    topic = "civil.person.v1"
    with closing(open_broker(still.settings())) as broker, closing(broker.publisher()) as publisher:
        publisher.publish(topic, [Message(b"k", b"v", {})] * 2)
        done(still.config, "create", str(tmp_path / "b"))
        publisher.publish(topic, [Message(b"k", b"v", {})] * 3)
        state = broker.state(topic)
    assert state is not None
    with closing(open_store(still.settings(), system_clock)) as store:
        position = store.take(topic, 0, "test", state.id)
        store.apply([Batch(topic, 0, position.epoch, position.offset, 5)])
        assert store.positions([topic]) == {(topic, 0): 5}
        done(still.config, "restore", str(tmp_path / "b"), "--replace", "--only", "topics")
        assert store.positions([topic]) == {(topic, 0): 2}


def test_only_the_audit_log_leaves_what_was_said_since_an_erasure(still: Still, tmp_path: Path) -> None:
    done(still.config, "create", str(tmp_path / "b"))
    key = key_maker(still.settings()).subject(parse("cn.ric", CITIZEN))
    with closing(open_broker(still.settings())) as broker, closing(broker.publisher()) as publisher:
        broker.ensure(erasure.topic())
        order = Erasure(key, "a/1", system_clock(), system_clock(), 1, 0)
        publisher.publish(ERASURES_TOPIC, [order.message()])
    with closing(open_store(still.settings(), system_clock)) as store:
        said = Facet.of(
            key, "civil.person", 1, "", "{}", 1, Origin("civil/test", 1, 1), 0, 0, None, system_clock()
        )  # fmt: skip
        position = store.take("civil.person.v1", 0, "test", "id")
        store.apply([Batch("civil.person.v1", 0, position.epoch, position.offset, 1, [said])])
        told = done(still.config, "restore", str(tmp_path / "b"), "--replace", "--only", "audit")
        assert told["restored"] == ["audit"]
        assert len(store.known_of(key)) == 1


@pytest.mark.parametrize("left", ["-wal", "-shm"])
def test_a_log_that_was_left_alone_is_not_played_back(still: Still, tmp_path: Path, left: str) -> None:
    done(still.config, "create", str(tmp_path / "b"))
    store = still.folder / "data" / "store.db"
    beside = store.with_name(store.name + left)
    store.unlink()
    beside.write_bytes(b"pages of the store that is gone")
    assert isinstance(run(still.config, "restore", str(tmp_path / "b")).exception, Conflict), "something stands there"
    told = done(still.config, "restore", str(tmp_path / "b"), "--replace")
    assert any(Path(aside + left).exists() for aside in told["moved"])
    assert not beside.exists() or beside.read_bytes() != b"pages of the store that is gone"


class Full(OSError):
    """The disk is full."""


@pytest.mark.parametrize("at", ["stage", "put_back"])
def test_a_restore_that_fails_at_once_leaves_all_as_it_was(
    still: Still, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    done(still.config, "create", str(tmp_path / "b"))
    before = kept(still)
    whole = getattr(SqliteFile, at)

    def full(self: SqliteFile, file: Path) -> Any:
        if at == "stage":
            raise Full
        file.unlink()
        raise Full

    monkeypatch.setattr(SqliteFile, at, full)
    assert isinstance(run(still.config, "restore", str(tmp_path / "b"), "--replace").exception, Full)
    assert kept(still) == before
    assert not (still.folder / "data" / RESTORING).exists()
    monkeypatch.setattr(SqliteFile, at, whole)
    assert done(still.config, "restore", str(tmp_path / "b"), "--replace")["restored"]


def test_a_restore_that_was_killed_is_repeated_with_the_orders_that_were_known(
    still: Still, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of orders was in the topics that were moved aside; until it is repeated, no part starts."""
    done(still.config, "create", str(tmp_path / "b"))
    key = key_maker(still.settings()).subject(parse("cn.ric", CITIZEN))
    with closing(open_broker(still.settings())) as broker, closing(broker.publisher()) as publisher:
        broker.ensure(erasure.topic())
        order = Erasure(key, "a/1", system_clock(), system_clock(), 1, 0)
        publisher.publish(ERASURES_TOPIC, [order.message()])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backup, "_settled", killed)
    assert run(still.config, "restore", str(tmp_path / "b"), "--replace").exit_code != 0
    monkeypatch.undo()
    monkeypatch.setattr(backup, "load", Settings.load)
    assert (still.folder / "data" / RESTORING).stat().st_mode & 0o077 == 0
    for part in (materialise_command.materialise, up.up):
        with pytest.raises(SettingWrong, match="restore"):
            part(still.config)
    with pytest.raises(SettingWrong, match="restore"):
        create_app(still.settings())
    assert done(still.config, "restore", str(tmp_path / "b"), "--replace")["erasures"] == 1
    assert not (still.folder / "data" / RESTORING).exists()
    with closing(open_broker(still.settings())) as broker:
        assert erasure.listed(broker) == {key: order}


def test_two_backups_of_one_name_at_once(tmp_path: Path) -> None:
    class Slow(SqliteFile):
        def save(self, target: Path) -> None:
            with pytest.raises(Conflict, match="another backup"):
                create(tmp_path / "b", {}, {}, system_clock())
            super().save(target)

    sqlite3.connect(tmp_path / "kept.db").close()
    made = create(tmp_path / "b", {"store": Slow(tmp_path / "kept.db")}, {}, system_clock())
    assert problems(made) == []


@pytest.mark.services
def test_what_a_restore_set_aside_is_not_saved_with_it(fresh_postgres: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_postgres()
    database = PostgresDatabase(url, {}, OURS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int PRIMARY KEY)")
        connection.execute("INSERT INTO kept VALUES (1)")
    for turn in range(3):
        made = create(tmp_path / f"b{turn}", {"store": database}, {}, system_clock())
        assert database.move_aside(f"before-{turn}") is not None
        database.put_back(database.stage(made.folder / made.saved[0].file))
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]
    database.move_aside("before-x")
    database.move_back("before-x")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM public.kept").fetchall() == [(1,)]


def test_who_takes_a_backup_and_who_puts_one_back_is_in_the_audit_log(still: Still, tmp_path: Path) -> None:
    done(still.config, "create", str(tmp_path / "b"))
    done(still.config, "restore", str(tmp_path / "b"), "--replace")
    with closing(sqlite3.connect(still.folder / "data" / "audit.db")) as log:
        acts = [json.loads(entry)["act"] for (entry,) in log.execute("SELECT entry FROM audit_entries")]
    assert acts[-2:] == ["backup create", "restored"]


def test_files_are_for_their_owner_only(still: Still, tmp_path: Path) -> None:
    done(still.config, "create", str(tmp_path / "b"))
    for file in (tmp_path / "b").iterdir():
        assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "b").stat().st_mode & 0o077 == 0


# --- drills -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=BACKINGS)
def town(request: pytest.FixtureRequest, tmp_path: Path, quiet: None) -> Iterator[Drill]:
    folder = tmp_path / "town"
    folder.mkdir()
    with Drill(folder, places(request)) as town:
        yield town


def test_a_drill(town: Drill, tmp_path: Path) -> None:
    """Saved under load, lost, put back: positions, facets and the audit chain agree, and the town goes on."""
    on_kafka = town.settings.broker.url.startswith("kafka")
    town.begin()
    town.push("before")
    town.shows("before")
    _, receipt, body = town.name()
    stop, pushed = threading.Event(), []

    def push() -> None:
        while not stop.is_set():
            pushed.append(f"name {len(pushed)}")
            town.push(pushed[-1])

    pushing = threading.Thread(target=push)
    pushing.start()
    try:
        time.sleep(0.5)
        done(town.config, "create", str(tmp_path / "b"))
        saved_by_then = len(pushed)
        time.sleep(0.5)
    finally:
        stop.set()
        pushing.join()
    town.shows(pushed[-1])
    _, late_receipt, late_body = town.name()
    assert town.holds(late_receipt, late_body)
    time.sleep(1.5)  # the checkpoint over it has left
    assert isinstance(run(town.config, "restore", str(tmp_path / "b"), "--replace").exception, Conflict), "it runs"
    town.end()
    assert done(town.config, "verify", str(tmp_path / "b"))["saved"]
    told = done(town.config, "restore", str(tmp_path / "b"), "--replace")
    assert told["restored"] == (["store"] if on_kafka else ["store", "topics", "audit"])
    # Checkpoints in Kafka know of more than the log that was put back; those of one machine were put back with it.
    assert bool(told["audit_log"]) is on_kafka
    with closing(open_store(town.settings, system_clock)) as store, closing(open_broker(town.settings)) as broker:
        topic = broker.state("civil.person.v1")
        assert topic is not None
        for partition, (_, following) in topic.bounds.items():
            assert store.take(topic.name, partition, "drill", topic.id).offset <= following
        in_topic = ["before", *pushed][sum(1 for _ in broker.read(topic.name)) - 1]
    assert in_topic in pushed
    if on_kafka:
        assert in_topic == pushed[-1], "what was published after the backup stands there, and is read again"
    else:
        assert pushed.index(in_topic) <= saved_by_then
    town.begin()
    town.shows(in_topic)
    assert town.holds(receipt, body)
    assert not town.holds(late_receipt, late_body)
    town.push("after")  # under a new epoch: it is not taken for a repeat of what the store has forgotten
    town.shows("after")
    town.end()
    if not on_kafka:
        assert CliRunner().invoke(audit.app, ["verify", "-c", str(town.config)]).exit_code == 0


def test_what_was_erased_after_a_backup_does_not_come_back_with_it(town: Drill, tmp_path: Path) -> None:
    """The backup knows the citizen; the list of erasures is newer than it, and is applied before anything serves."""
    other = "11010119000101009X"
    town.begin()
    town.push("forgotten")
    town.push("another", other)
    town.shows("forgotten")
    town.shows("another", other)
    done(town.config, "create", str(tmp_path / "b"))
    town.push("later")  # stands in the topic behind the backup's positions, if topics outlive it
    town.shows("later")
    erased = CliRunner().invoke(
        erase.app, ["order", "--reference", "2026-7", "--json", "-c", str(town.config)], input=CITIZEN + "\n"
    )
    assert erased.exit_code == 0, (erased.output, erased.exception)
    assert json.loads(erased.stdout)["records"] == 1
    assert town.name()[0] is None
    on_kafka = town.settings.broker.url.startswith("kafka")
    town.push("since")  # what a department says after the order is new, and stands
    town.shows("since")
    town.end()
    told = done(town.config, "restore", str(tmp_path / "b"), "--replace")
    assert told["erasures"] == 1
    with closing(open_store(town.settings, system_clock)) as store:
        key = key_maker(town.settings).subject(parse("cn.ric", CITIZEN))
        assert store.known_of(key) == [], "before anything serves"
    town.begin()
    town.shows("since" if on_kafka else None)  # topics in Kafka were not put back, and know it
    assert town.name(other)[0] == "another"
    listed = CliRunner().invoke(erase.app, ["list", "--json", "-c", str(town.config)])
    assert [each["done"] is not None for each in json.loads(listed.stdout)["erasures"]] == [True]
    assert "no order is open" in CliRunner().invoke(erase.app, ["resume", "-c", str(town.config)]).output
    town.push("new")
    town.shows("new")
