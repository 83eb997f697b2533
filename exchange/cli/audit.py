"""`exchange audit`: verify the log, and receipts against it. docs/audit.md has more."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.audit import PublicKeys, Receipt, Report, find, verify_log, verify_receipt
from exchange.cli.administration import note, open_audit
from exchange.cli.options import CONFIG, Config, Json, asked_subject, load, print_json, say
from exchange.errors import AuditBroken, BadRequest
from exchange.records import CHECKPOINTS_TOPIC
from exchange.settings import Settings
from exchange.wiring import audit_keys, open_broker, public_keys

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command()
def verify(
    config: Config = CONFIG,
    without_checkpoints: Annotated[
        bool,
        typer.Option(
            "--without-checkpoints",
            help="Only the log in itself: a tail that was cut off or a log that was rewritten is not noticed.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Verify the whole log against the checkpoints that left it; exit status 1 if it is not as it was written."""
    settings = load(config)
    published = None if without_checkpoints else published_checkpoints(settings)
    with open_audit(settings) as store:
        report = verify_log(store, published, public_keys(settings), settings.audit.origin)
    if json:
        print_json(_document(report, compared=published is not None))
    else:
        _print(report, compared=published is not None)
    if not report:
        raise AuditBroken(f"{report.found} findings")
    if not json:
        say("the log verifies" if published is not None else "the log verifies in itself", fg=typer.colors.GREEN)


@app.command()
def receipt(
    receipt: Annotated[Path, typer.Argument(help="A file with the value of the header Exchange-Receipt.")],
    body: Annotated[Path, typer.Argument(help="A file with the body as it was received, byte for byte.")],
    config: Config = CONFIG,
    keys: Annotated[
        Path | None, typer.Option(help="A saved /.well-known/exchange-keys.json: verify without the log.")
    ] = None,
    json: Json = False,
) -> None:
    """Verify a receipt with the body that came with it, and that the log holds its entry."""
    proof = Receipt.decode(_read(receipt).decode("ascii", "replace").strip())
    content = _read(body)
    if keys is not None:
        group = verify_receipt(proof, content, PublicKeys.from_jwks(_jwks(keys)))
        told: dict[str, Any] = {"writer": proof.writer, "number": proof.number, "group_root": group.root.hex()}
    else:
        settings = load(config)
        with open_audit(settings) as store:
            entry = find(store, proof, content, public_keys(settings))
        told = {"writer": proof.writer, "number": proof.number, "entry": json_format.loads(entry.entry)}
    if json:
        print_json(told)
    else:
        say(f"the receipt verifies: {proof.writer} number {proof.number}", fg=typer.colors.GREEN)
        if "entry" in told:
            print_json(told["entry"])


@app.command()
def reads(
    config: Config = CONFIG,
    scheme: Annotated[str, typer.Option(help="The identifier's scheme, as in contracts.")] = "cn.ric",
    json: Json = False,
) -> None:
    """Who looked at this subject, or tried to, when, and why. The identifier is asked for, or read from standard input.

    It never stands on the command line, where other users of the machine would see it. The look itself is an entry.
    """
    settings = load(config)
    subject = asked_subject(scheme)
    keys = audit_keys(settings)
    note(settings, "audit reads", subject=keys.subject(subject))
    wanted = [f'"subject":"{key}"'.encode() for key in keys.subjects(subject)]
    with open_audit(settings) as store, store.reading() as connection:
        found = [
            {"writer": one.writer, "number": one.number, **json_format.loads(one.entry)}
            for one in store.walk_entries(connection)
            if any(text in one.entry for text in wanted)
        ]
    if json:
        print_json(found)
        return
    for one in sorted(found, key=lambda one: str(one["time"])):
        say(f"{one['time']}  {one['act']}, {one['outcome']}: {one['department']} ({one['client']})")
        why = [f"{name} {one[name]}" for name in ("purpose", "case", "officer", "reason") if name in one]
        say("    " + ", ".join([*why, f"entry {one['writer']} number {one['number']}"]))
        for topic, fields in one.get("contracts", {}).items():
            say(f"    {topic}: {', '.join(fields)}")
    if not found:
        say("nobody has")


def published_checkpoints(settings: Settings) -> Iterator[bytes]:
    """The checkpoints that left the store, as the topic has them. Raises BrokerUnavailable."""
    broker = open_broker(settings)
    try:
        if broker.state(CHECKPOINTS_TOPIC) is not None:
            yield from (each.value for each in broker.read(CHECKPOINTS_TOPIC) if each.value is not None)
    finally:
        broker.close()


def _document(report: Report, *, compared: bool) -> dict[str, Any]:
    return {
        "verified": bool(report),
        "compared": compared,  # with the checkpoints that left the store
        "entries": report.entries,
        "groups": report.groups,
        "checkpoints": report.checkpoints,
        "uncovered": report.uncovered,
        "younger": {writer: {"first": first, "last": last} for writer, (first, last) in report.younger.items()},
        "writers": report.writers,
        "findings": [str(finding) for finding in report.findings],
    }


def _print(report: Report, *, compared: bool) -> None:
    say(f"{report.entries} entries in {report.groups} groups, {report.checkpoints} checkpoints")
    if not compared:
        line = "not compared with the checkpoints that left: a cut-off tail or a rewritten log would not be noticed"
        say(line, fg=typer.colors.YELLOW)
    else:
        for writer, (first, last) in report.younger.items():
            numbers = str(first) if first == last else f"{first} to {last}"
            line = f"{writer} {numbers}: younger than the newest checkpoint, which is normal for about a second"
            say(line, fg=typer.colors.YELLOW)
    for finding in report.findings:
        say(str(finding), fg=typer.colors.RED)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadRequest(f"{file} cannot be read ({error.strerror})") from None


def _jwks(file: Path) -> Any:
    try:
        return json_format.loads(_read(file))
    except (ValueError, RecursionError):
        raise BadRequest(f"{file} is not JSON; save /.well-known/exchange-keys.json as it came") from None
