"""`exchange backup`: save what a city cannot make again, look whether a backup is whole, put it back.

docs/backup.md has more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import erasure
from exchange.audit import verify_log
from exchange.audit.tables import LINEAGE as AUDIT
from exchange.backup import RESTORING, Backup, Database, PostgresDatabase, SqliteFile, create, problems, read
from exchange.cli.administration import note, open_audit
from exchange.cli.audit import published_checkpoints
from exchange.cli.erase import made
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.cli.restored import renewed
from exchange.clock import system_clock
from exchange.errors import BadRequest, Conflict, Rejected, SettingWrong
from exchange.files import synced
from exchange.records import ERASURES_TOPIC, Delivery, Erasure
from exchange.settings import Settings
from exchange.standing import held
from exchange.store import Store
from exchange.store.database import Lineage, is_sqlite, sqlite_path
from exchange.store.tables import LINEAGE as STORE
from exchange.topics import Broker
from exchange.wiring import audit_url, data_folder, key_maker, open_broker, open_store, public_keys, store_url

app = typer.Typer(no_args_is_help=True, help=__doc__)

Folder = Annotated[Path, typer.Argument(help="The backup's folder.", show_default=False)]


@app.command("create")
def create_(folder: Folder, config: Config = CONFIG, json: Json = False) -> None:
    """Save store, audit log and the topics of one machine into a new folder, while everything runs.

    Topics in Kafka are not in it, nor are keys, contracts and policy files. What is in it is personal: its files are
    readable by their owner only.
    """
    settings = load(config)
    note(settings, "backup create")  # who takes all records with him is known before he has them
    backup = create(folder, databases_of(settings), _facts(settings), system_clock())
    if json:
        print_json(_document(backup))
    else:
        _tell(backup)
        say(f"saved in {folder}", fg=typer.colors.GREEN)


@app.command()
def verify(folder: Folder, json: Json = False) -> None:
    """Whether a backup is what was saved, and sound inside; exit status 64 if not. Nothing else is needed for it."""
    backup = read(folder)
    found = problems(backup)
    if json:
        print_json({**_document(backup), "problems": found})
    else:
        _tell(backup)
    if found:
        raise BadRequest("\n".join(found))
    if not json:
        say("the backup is whole", fg=typer.colors.GREEN)


@app.command()
def restore(
    folder: Folder,
    config: Config = CONFIG,
    only: Annotated[list[str] | None, typer.Option(help="store, topics or audit; may be repeated.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move what stands there aside first; it is never removed.")
    ] = False,
    json: Json = False,
) -> None:
    """Put a backup back, while nothing runs. Then pushes begin a new epoch, and the audit log says what was done.

    An audit log that is older than the checkpoints which left it is told of: what it lost stays lost.
    """
    settings = load(config)
    backup = read(folder)
    if found := problems(backup):
        raise BadRequest("\n".join(found))
    wanted = _wanted(databases_of(settings), backup, only)
    if backup.facts.get("bus") != key_maker(settings).mark:
        raise SettingWrong("keys.bus: the backup was made under another bus secret or key id; put that one back first")
    targets = [database for database, _ in wanted.values()]
    nothing_runs(settings, targets)
    occupied = [what for each in targets if (what := each.occupied()) is not None]
    if occupied and not replace:
        raise Conflict(f"{', '.join(occupied)}: something stands there; with --replace it is moved aside")
    with _restoring(settings) as restoring:
        mark = f"before-{system_clock():%Y%m%dT%H%M%SZ}"
        moved = _put_back(wanted, mark, restoring)
        if "topics" in wanted:
            moved += cursors_aside(settings, mark)
        told = _settled(settings, backup, list(wanted), restoring.orders)
    if json:
        print_json({"restored": list(wanted), "moved": moved, **told})
        return
    for aside in moved:
        say(f"moved aside: {aside}")
    say(f"restored: {', '.join(wanted)}, as of {backup.made.isoformat()}", fg=typer.colors.GREEN)
    say(f"pushes go on in epoch {told['push_epoch']}")
    if told["erasures"]:
        say(f"{told['erasures']} erasures that are younger than the backup were applied again")
    for finding in told["audit_log"]:
        say(f"the audit log is not the one that its checkpoints tell of: {finding}", fg=typer.colors.RED)


# --- what is saved ----------------------------------------------------------------------------------------------------


def databases_of(settings: Settings) -> dict[str, Database]:
    """What there is to save, in the order in which it is saved. The audit log may be in the store's database."""
    store, audit = store_url(settings), audit_url(settings)
    found: dict[str, Database] = {"store": _database(store, settings.store.options)}
    if is_sqlite(topics := settings.url(settings.broker.url)):
        found["topics"] = SqliteFile(sqlite_path(topics))
    if audit != store:
        found["audit"] = _database(audit, settings.audit_options)
    return found


def _database(url: str, options: dict[str, Any]) -> Database:
    if is_sqlite(url):
        return SqliteFile(sqlite_path(url))
    return PostgresDatabase(url, options, [*_tables(STORE), *_tables(AUDIT)])


def _tables(lineage: Lineage) -> list[str]:
    return [*lineage.metadata.tables, lineage.version_table]


def _facts(settings: Settings) -> dict[str, Any]:
    return {
        "version": metadata.version("exchange-bus"),
        "city": settings.city,
        "broker": settings.broker.url.partition(":")[0],
        "bus": key_maker(settings).mark,
    }


# --- putting back -----------------------------------------------------------------------------------------------------


def _wanted(databases: dict[str, Database], backup: Backup, only: list[str] | None) -> dict[str, tuple[Database, Path]]:
    """Which databases are put back, each with its file."""
    saved = {each.name: backup.folder / each.file for each in backup.saved}
    if unknown := sorted(set(only or []).difference(saved)):
        raise BadRequest(f"--only {', '.join(unknown)}: the backup has {', '.join(saved) or 'nothing'}")
    wanted = {}
    for name, file in saved.items():
        if only and name not in only:
            continue
        if name not in databases or file.suffix[1:] != databases[name].suffix:
            raise Conflict(f"the backup's {name} does not fit the settings: they have it in another kind of place")
        wanted[name] = databases[name], file
    return wanted


def nothing_runs(settings: Settings, among: Iterable[Database]) -> None:
    """Raise Conflict if a part of this machine runs, or any is connected to one of these databases."""
    data = settings.path(settings.data)
    if names := [*held(data), *held(data / "cursors", "*.lock")]:
        raise Conflict(f"stop everything first: {', '.join(names)} still runs")
    for database in among:
        if isinstance(database, PostgresDatabase) and (others := database.others()):
            raise Conflict(f"stop everything first: {others} connections of Exchange's processes to the database")


def cursors_aside(settings: Settings, mark: str) -> list[str]:
    """Cursor files know of what the older topics do not say; connectors make new ones from what these say."""
    folder = settings.path(settings.data) / "cursors"
    if not folder.exists():
        return []
    aside = folder.with_name(f"{folder.name}.{mark}")
    folder.rename(aside)
    return [str(aside)]


@dataclass
class _Restoring:
    """The orders to erase that are known now, and whether something was changed that only a restore mends."""

    orders: dict[str, Erasure]
    changed: bool = False


def _put_back(wanted: Mapping[str, tuple[Database, Path]], mark: str, restoring: _Restoring) -> list[str]:
    """Move aside what stands there and put the backup in its place. If that fails at once, all of it is back."""
    staged = {name: database.stage(file) for name, (database, file) in wanted.items()}
    databases = [database for database, _ in wanted.values()]
    try:
        moved = [aside for each in databases if (aside := each.move_aside(mark)) is not None]
        for name, (database, _) in wanted.items():
            database.put_back(staged.pop(name))
            restoring.changed = True
    except BaseException:
        for name, file in staged.items():
            if file != wanted[name][1]:
                file.unlink()
        for each in databases:
            each.move_back(mark)
        raise
    return moved


@contextmanager
def _restoring(settings: Settings) -> Iterator[_Restoring]:
    """While it lasts no part starts here, and the orders to erase that are known now are known after a crash too."""
    file = data_folder(settings) / RESTORING
    restoring = _Restoring({}, changed=file.exists())
    known = erasure.merged(_remembered(file), _orders(settings))  # those of now: the backup's list may be older
    partial = file.with_suffix(".partial")
    messages = [each.message() for each in known.values()]
    partial.write_text(json.dumps([[each.key.decode(), (each.value or b"").decode()] for each in messages]), "utf-8")
    partial.chmod(0o600)
    synced(partial)
    partial.rename(file)
    synced(file.parent)
    restoring.orders = known
    try:
        nothing_runs(settings, databases_of(settings).values())  # what starts from now on sees the file
        yield restoring
    except BaseException:
        if not restoring.changed:
            file.unlink()
        raise
    file.unlink()
    synced(file.parent)


def _remembered(file: Path) -> dict[str, Erasure]:
    """What a restore that broke off has left. Raises SettingWrong if it is damaged."""
    try:
        found = json.loads(file.read_text("utf-8"))
        deliveries = [Delivery(ERASURES_TOPIC, 0, 0, key.encode(), value.encode()) for key, value in found]
        return {each.subject_key: each for each in map(Erasure.read, deliveries)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, Rejected):
        raise SettingWrong(f"{file} is damaged: it has the orders to erase of a restore that broke off") from None


def _orders(settings: Settings) -> dict[str, Erasure]:
    """The list of erasures as it stands now, where there is one."""
    topics = settings.url(settings.broker.url)
    if is_sqlite(topics) and not sqlite_path(topics).exists():
        return {}
    with closing(open_broker(settings)) as broker:
        return erasure.listed(broker)


def _settled(settings: Settings, backup: Backup, names: list[str], orders: dict[str, Erasure]) -> dict[str, Any]:
    with closing(open_store(settings, system_clock)) as store, closing(open_broker(settings)) as broker:
        store.migrate()
        if "topics" in names and "store" not in names:
            _no_further_than_topics(store, broker)
        erased = erasure.again(orders, erasure.listed(broker), backup.made)
        if erased and {"topics", "store"} & set(names):
            eraser = made(settings, store, broker)
            for each in erased:
                eraser.apply_again(each, topics="topics" in names, store="store" in names)
    with open_audit(settings) as log:
        report = verify_log(log, published_checkpoints(settings), public_keys(settings), settings.audit.origin)
    findings = [str(finding) for finding in report.findings]
    details = {
        "of": backup.made.isoformat(),
        "databases": ", ".join(names),
        "audit_findings": str(report.found),
        "erasures": str(len(erased)),
    }
    return {"push_epoch": renewed(settings, details), "audit_log": findings, "erasures": len(erased)}


def _no_further_than_topics(store: Store, broker: Broker) -> None:
    """Topics alone were put back, and end before what the store has read: what comes next into them is to be read."""
    states = [state for topic in store.topics_read() if (state := broker.state(topic)) is not None]
    store.read_from_end({(each.name, partition): end for each in states for partition, (_, end) in each.bounds.items()})


# --- telling ----------------------------------------------------------------------------------------------------------


def _document(backup: Backup) -> dict[str, Any]:
    return {
        "folder": str(backup.folder),
        "made": backup.made.isoformat(),
        "facts": dict(backup.facts),
        "saved": [asdict(each) for each in backup.saved],
    }


def _tell(backup: Backup) -> None:
    say(f"made {backup.made.isoformat()} by version {backup.facts.get('version')}")
    for each in backup.saved:
        say(f"{each.name:8} {each.file:12} {each.bytes:>16,} bytes  sha256 {each.sha256}")
