"""`exchange keys`: which secrets there are, how old they are, and a new one in the place of one that is old.

docs/keys.md has more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from exchange.audit.keys import PublicKey
from exchange.cli.administration import note
from exchange.cli.bus_secret import rotate_bus
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.cli.rotation import audit, edited, make, signing, text_of
from exchange.errors import SettingWrong
from exchange.settings import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)


class Rotated(StrEnum):
    """What `rotate` takes."""

    SIGNING = "signing"
    AUDIT = "audit"
    BUS = "bus"


@app.command("list")
def list_(config: Config = CONFIG, json: Json = False) -> None:
    """Every secret: the setting, its key id, where it is, and since when. No secret is shown."""
    settings = load(config)
    found = list(_listed(settings))
    if json:
        print_json({"keys": found})
        return
    for one in found:
        say(f"{one['setting']:22} {one['kid'] or '-':44} {one['reference']:32} {one['since'] or '-'}")


@app.command()
def rotate(
    which: Annotated[
        Rotated,
        typer.Argument(help="The key that signs receipts, the secret of the audit log, or of the bus."),
    ],
    config: Config = CONFIG,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; nothing is written.")] = False,
    json: Json = False,
) -> None:
    """Make a new one beside the old, and set it; what the old one made stays good. Restart the gateways then.

    The settings file is changed in one step, comments kept, after the new file is there. The audit log notes it first.

    bus: while nothing runs. Every record in the topics is put under its new key, and the facets are made anew from them
    when materialisers start again. Killed, the same command goes on with it.
    """
    settings = load(config)
    if overridden := sorted(name for name in os.environ if name.upper().startswith("EXCHANGE_KEYS__")):
        raise SettingWrong(f"{', '.join(overridden)}: the environment says what the keys are; change them there")
    if which is Rotated.BUS:
        rotate_bus(settings, config, dry_run=dry_run, json=json)
        return
    before = text_of(config)
    change = signing(settings) if which is Rotated.SIGNING else audit(settings)
    after = edited(config, before, change.keys)
    if not dry_run:
        note(settings, "keys rotate", details={"keys": which.value, "old": change.old, "new": change.new})
        make(config, before, after, change)
    made = [str(file) for file in change.files]
    if json:
        print_json({"rotated": not dry_run, "old": change.old, "new": change.new, "made": made, "keys": change.keys})
        return
    for file in made:
        say(f"{'would make' if dry_run else 'made'} {file}")
    say(f"keys.{which.value}: {change.old} {'would become' if dry_run else 'is now'} {change.new}")
    if not dry_run:
        say("restart every gateway, one after the other; until then they go on with the old one")


# --- what there is ----------------------------------------------------------------------------------------------------


def _listed(settings: Settings) -> Iterator[dict[str, Any]]:
    keys = settings.keys
    yield _told(settings, "bus", keys.bus, keys.bus_kid)
    yield _told(settings, "audit", keys.audit, keys.audit_kid)
    for kid, reference in keys.former_audit.items():
        yield _told(settings, "former_audit", reference, kid)
    yield _told(settings, "signing", keys.signing)
    for reference in keys.former_signing:
        yield _told(settings, "former_signing", reference)


def _told(settings: Settings, name: str, reference: str, kid: str | None = None) -> dict[str, Any]:
    """One secret as it is shown; of a signing key its thumbprint (RFC 7638) as key id, None where it cannot be read."""
    file, since = settings.secret_file(reference), None
    with suppress(OSError):
        if file is not None:
            since = datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
    if kid is None:
        with suppress(SettingWrong):
            kid = PublicKey.from_pem(settings.secret(f"keys.{name}", reference)).kid
    return {"setting": f"keys.{name}", "kid": kid, "reference": reference, "since": since}
