"""`exchange client`: who may call the gateway. Edits policies/clients.toml and applies it as `policy apply` does.

docs/policies.md has more.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args
from zoneinfo import ZoneInfo

import typer

from exchange.agreements import Bundle, editing
from exchange.agreements.model import Scope
from exchange.cli.init import PLAIN_NAME, add_secret, check_secrets, write_private
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.cli.policy import ClientsEdit, apply_policies, read_policies
from exchange.clock import system_clock
from exchange.credentials import ClientKey
from exchange.errors import Conflict, NotFound, PolicyRefused, SettingWrong
from exchange.files import Unfit, replace
from exchange.settings import Settings, read_secret
from exchange.wiring import client_key

app = typer.Typer(no_args_is_help=True, help=__doc__)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing is written.")]
Others = Annotated[
    bool, typer.Option("--with-other-changes", help="Apply also what else the files hold and is not in force yet.")
]
Issuer = Annotated[str | None, typer.Option(help="The token's `iss`, where there are several.")]


@app.command()
def add(
    client: Annotated[str, typer.Argument(help="The client id, exactly as in its tokens.")],
    department: Annotated[str, typer.Option(help="The department whose program it is.")],
    config: Config = CONFIG,
    name: Annotated[str | None, typer.Option(help="What people call it; unset: the client id.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="view, publish or registry; may be repeated.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="One of purposes.toml; may be repeated.")] = None,
    issuer: Issuer = None,
    sender_constrained: Annotated[
        str | None, typer.Option(help="dpop or mtls: only tokens bound to its key or certificate count.")
    ] = None,
    new_department: Annotated[bool, typer.Option("--new-department", help="It has no other client yet.")] = False,
    dry_run: DryRun = False,
    with_other_changes: Others = False,
    json: Json = False,
) -> None:
    """List one more client and apply; every other line of clients.toml stays as it is."""
    settings = load(config)
    bundle = read_policies(settings)[1]
    if not new_department:
        _known_department(bundle, department)
    scopes = scope or ["view"]
    if unknown := sorted(set(scopes).difference(get_args(Scope))):
        raise NotFound(f"there is no scope {', '.join(unknown)}; scopes: {', '.join(get_args(Scope))}")
    purposes = purpose or []
    if missing := sorted(set(purposes).difference(bundle.purposes)):
        raise NotFound(f"{', '.join(missing)} does not stand in purposes.toml")
    entry = {
        "issuer": issuer or _only_issuer(settings),
        "client_id": client,
        "name": name or client,
        "department": department,
        "scopes": list(dict.fromkeys(scopes)),
        "purposes": list(dict.fromkeys(purposes)),
    }
    if sender_constrained is not None:
        entry["sender_constrained"] = sender_constrained
    ours = settings.dev_issuer.enabled and entry["issuer"] == settings.dev_issuer.issuer
    if ours:
        check_secrets(settings, client)
    done = _change(
        settings, bundle, lambda text: editing.added(text, entry), "adds", entry, dry_run, with_other_changes
    )
    made: list[str] = []
    if ours and not dry_run:
        made = [str(file) for file in add_secret(settings, client)]
    if json:
        print_json({**done, "client": entry, "made": made})
        return
    _tell(done, f"{client} of {department} is listed")
    for file in made:
        say(f"made {file}")
    if made:
        say("the built-in issuer knows the secret when its gateway is started again")


@app.command()
def strike(
    client: Annotated[str, typer.Argument(help="The client id, as in clients.toml.")],
    config: Config = CONFIG,
    issuer: Issuer = None,
    dry_run: DryRun = False,
    with_other_changes: Others = False,
    json: Json = False,
) -> None:
    """Strike a client and apply: it is out within two seconds. Its entry stays and says since when."""
    settings = load(config)
    bundle = read_policies(settings)[1]
    today = system_clock().astimezone(ZoneInfo(settings.timezone)).date()
    told = {"client_id": client} | ({"issuer": issuer} if issuer else {})
    done = _change(
        settings,
        bundle,
        lambda text: editing.struck(text, client, issuer, today),
        "strikes",
        told,
        dry_run,
        with_other_changes,
    )
    if json:
        print_json({**done, "client": {**told, "struck": today}})
    else:
        _tell(done, f"{client} is struck since {today}")


@app.command()
def key(
    client: Annotated[str, typer.Argument(help="The client id, exactly as in its tokens.")], config: Config = CONFIG
) -> None:
    """A key of its own for a client of another issuer than the built-in one; prints the public half (JWKS) for it.

    The private half is made if it is not there (keys/clients/CLIENT.pem, mode 0600). `exchange token` uses it, and a
    connector (`client_key`); a client elsewhere makes its own, and nobody else ever has it.
    """
    settings = load(config)
    if not PLAIN_NAME.fullmatch(client):
        raise SettingWrong("a file can be named after a client id of letters, digits, hyphens and underscores only")
    file = client_key(settings, client)
    if not file.exists():
        write_private(file, ClientKey.generated())
    pem = read_secret(f"the key of {client}", f"file:{file}", settings.root)
    print_json(ClientKey(client, pem, "").jwks)


@app.command("list")
def list_(
    config: Config = CONFIG,
    department: Annotated[str | None, typer.Option(help="Only this department's.")] = None,
    json: Json = False,
) -> None:
    """The clients of clients.toml, struck ones with their day."""
    settings = load(config)
    read_policies(settings)  # what is listed is sound, or every reason why not
    found = [one for one in editing.entries(_read(_file(settings))) if department in (None, one["department"])]
    if json:
        print_json({"clients": found})
        return
    for one in found:
        out = f"  {one['sender_constrained']}" if "sender_constrained" in one else ""
        out += f"  struck {one['struck']}" if "struck" in one else ""
        scopes, purposes = ",".join(one["scopes"]), ",".join(one["purposes"]) or "-"
        say(f"{one['client_id']:24} {one['department']:16} {scopes:22} {purposes}{out}  ({one['issuer']})")


def _change(
    settings: Settings,
    bundle: Bundle,
    edited: Callable[[str], str],
    act: str,
    told: Mapping[str, Any],
    dry_run: bool,
    others: bool,
) -> dict[str, Any]:
    """Edit the file and apply, or say what would come of it. Everything is checked before anything is written."""
    file = _file(settings)
    before = _read(file)
    after = edited(before)
    diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), file.name, file.name, lineterm="", n=2))
    if dry_run:
        would = read_policies(settings, after)[1]
        return {"policy": would.version, "applied": False, "diff": diff}
    write = partial(_replace, file, before, after)
    details = {act: {name: told[name] for name in _TOLD if name in told}}
    edit = ClientsEdit(after, bundle.version, details, write, others)
    applied = apply_policies(settings, edit)
    return {"policy": applied["policy"], "applied": True, "diff": diff}


# What the audit log says of an entry.
_TOLD = ("issuer", "client_id", "department", "scopes", "purposes", "sender_constrained")


def _tell(done: Mapping[str, Any], what: str) -> None:
    if done["applied"]:
        say(f"{what}; policy {done['policy'][:12]} applied")
        return
    for line in done["diff"]:
        say(line)
    say(f"nothing was written; it would be policy {done['policy'][:12]}")


def _known_department(bundle: Bundle, department: str) -> None:
    """Raises NotFound unless it owns a contract, has a client or is granted something: else it is a slip of the pen."""
    known = {terms.owner for terms in bundle.terms.values()}
    known |= {client.department for client in bundle.clients.values()}
    known |= {agreement.consumer for agreement in bundle.agreements.values()}
    if department not in known:
        raise NotFound(f"there is no department {department}{_near(department, known)}; a new one: --new-department")


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (do you mean {found[0]}?)" if found else ""


def _only_issuer(settings: Settings) -> str:
    names = [each.listed for each in settings.issuers]
    if settings.dev_issuer.enabled:
        names.append(settings.dev_issuer.issuer)
    if len(names) != 1:
        raise NotFound(f"name the client's issuer with --issuer: {', '.join(names) or 'no issuer is set'}")
    return names[0]


def _file(settings: Settings) -> Path:
    return settings.path(settings.policies) / "clients.toml"


def _read(file: Path) -> str:
    """The text of the file, byte for byte; the policies with it were read a moment before."""
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyRefused(f"clients.toml: cannot be read ({error})") from None


def _replace(file: Path, before: str, after: str) -> None:
    """Put the new text in the file's place in one step, durably, with its mode and its owner.

    Raises Conflict if somebody has changed it meanwhile; SettingWrong if it cannot be written.
    """
    try:
        replace(file, before.encode(), after.encode())
    except Unfit:
        raise Conflict("clients.toml was changed meanwhile; look at it and try again") from None
    except OSError as error:
        raise SettingWrong(f"policies: {file.resolve()} cannot be written ({error.strerror})") from None
