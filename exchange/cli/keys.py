"""`exchange keys`: which secrets there are, how old they are, and a new one in the place of one that is old."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import tomlkit
import typer
from tomlkit.exceptions import TOMLKitError

from exchange.audit.keys import PublicKey, Signer
from exchange.cli.administration import note
from exchange.cli.init import random_secret, write_private
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.errors import Conflict, SettingWrong
from exchange.files import Unfit, replace
from exchange.settings import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)

_NUMBERED = re.compile(r"(.*?)-?([0-9]{0,6})")  # a1, signing, signing-2: a name, and a number at its end


class Rotated(StrEnum):
    """What `rotate` takes. The bus secret is not among them: every topic and facet hangs by it."""

    SIGNING = "signing"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Change:
    """What a rotation does: files that are made, and the `[keys]` of the settings file as they will be."""

    old: str  # key ids
    new: str
    files: dict[Path, bytes]
    keys: dict[str, Any]


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
    which: Annotated[Rotated, typer.Argument(help="The key that signs receipts, or the audit log's secret.")],
    config: Config = CONFIG,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; nothing is written.")] = False,
    json: Json = False,
) -> None:
    """Make a new one beside the old, and set it; what the old one made stays good. Restart the gateways then.

    The settings file is changed in one step, comments kept, after the new file is there. The audit log notes it first.
    """
    settings = load(config)
    if overridden := sorted(name for name in os.environ if name.upper().startswith("EXCHANGE_KEYS__")):
        raise SettingWrong(f"{', '.join(overridden)}: the environment says what the keys are; change them there")
    before = _text(config)
    change = _signing(settings) if which is Rotated.SIGNING else _audit(settings)
    after = _edited(config, before, change.keys)
    if not dry_run:
        note(settings, "keys rotate", details={"keys": which.value, "old": change.old, "new": change.new})
        _make(config, before, after, change)
    made = [str(file) for file in change.files]
    if json:
        print_json({"rotated": not dry_run, "old": change.old, "new": change.new, "made": made, "keys": change.keys})
        return
    for file in made:
        say(f"{'would make' if dry_run else 'made'} {file}")
    say(f"keys.{which.value}: {change.old} {'would become' if dry_run else 'is now'} {change.new}")
    if not dry_run:
        say("restart every gateway, one after the other; until then they go on with the old one")


# --- what a rotation does ---------------------------------------------------------------------------------------------


def _signing(settings: Settings) -> Change:
    """A new key, and the public half of the old one: the private half is needed by nobody once gateways restarted."""
    keys = settings.keys
    old = Signer.from_pem(settings.secret("keys.signing", keys.signing))
    new = Signer.generate()
    file = _following(settings, "keys.signing", keys.signing)
    public = _free(file.with_name(f"former-{old.kid[:8]}.pem"))
    return Change(
        old.kid,
        new.kid,
        {file: new.pem(), public: old.public.pem()},
        {
            "signing": _reference(settings, file),
            "former_signing": [*keys.former_signing, _reference(settings, public)],
        },
    )


def _audit(settings: Settings) -> Change:
    """A new secret under a new key id; the old one is kept, for a subject's older entries are found by it only."""
    keys = settings.keys
    kid = _next_kid(keys.audit_kid, {*keys.former_audit, keys.audit_kid})
    file = _following(settings, "keys.audit", keys.audit)
    return Change(
        keys.audit_kid,
        kid,
        {file: random_secret()},
        {
            "audit": _reference(settings, file),
            "audit_kid": kid,
            "former_audit": {**keys.former_audit, keys.audit_kid: keys.audit},
        },
    )


def _next_kid(kid: str, taken: set[str]) -> str:
    name, number = _numbered(kid)
    for following in range(number + 1, number + 1_000):
        if len(made := f"{name}{following}") <= 8 and made not in taken:
            return made
    raise Conflict(f"keys.audit_kid: no key id of at most 8 characters follows {kid}; set the new secret by hand")


def _following(settings: Settings, setting: str, reference: str) -> Path:
    """A file beside the one that is set, with the next number that is free. Raises SettingWrong."""
    file = settings.secret_file(reference)
    if file is None:
        raise SettingWrong(f"{setting}: {reference} is no file; set the new one by hand, the old one as former")
    name, number = _numbered(file.stem)
    return _free(file.with_name(f"{name}-{number + 1}{file.suffix}"))


def _free(file: Path) -> Path:
    """This name, or with the next number if it is taken: by a rotation that broke off, say."""
    while file.exists():
        name, number = _numbered(file.stem)
        file = file.with_name(f"{name}-{number + 1}{file.suffix}")
    return file


def _numbered(name: str) -> tuple[str, int]:
    match = _NUMBERED.fullmatch(name)
    return (match[1], int(match[2] or 1)) if match else (name, 1)


def _reference(settings: Settings, file: Path) -> str:
    """As the settings name it: from their folder, where it lies below it."""
    inside = file.is_relative_to(settings.root)
    return f"file:{file.relative_to(settings.root) if inside else file}"


def _make(config: Path, before: str, after: str, change: Change) -> None:
    """First the files, which nobody reads yet; then the settings, in one step."""
    for file, content in change.files.items():
        write_private(file, content)
    try:
        replace(config, before.encode(), after.encode())
    except Unfit as unfit:
        raise Conflict(f"{config} {unfit}; the new key's file is unused: {', '.join(map(str, change.files))}") from None
    except OSError as error:
        raise SettingWrong(f"{config} cannot be written ({error.strerror}); nothing was rotated") from None


# --- the settings file ------------------------------------------------------------------------------------------------


def _text(config: Path) -> str:
    try:
        return config.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingWrong(f"{config} cannot be read ({error})") from None


def _edited(config: Path, text: str, keys: dict[str, Any]) -> str:
    """The settings with these `[keys]`, comments kept. Raises SettingWrong where it would say anything else."""
    try:
        document = tomlkit.parse(text)
        table = document.setdefault("keys", tomlkit.table())
        for name, value in keys.items():
            table[name] = value
        after = tomlkit.dumps(document)
        said = tomllib.loads(after)
    except (TOMLKitError, tomllib.TOMLDecodeError, TypeError) as error:
        raise SettingWrong(f"{config} cannot be edited here ({error}); set [keys] by hand: {keys}") from None
    expected = tomllib.loads(text)
    expected["keys"] = {**expected.get("keys", {}), **keys}
    if said != expected:
        raise SettingWrong(f"{config} cannot be edited here; set [keys] by hand: {keys}")
    return after


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
