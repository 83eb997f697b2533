"""A new key or secret in the place of an old one: which files are made, and what the settings file says then."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from exchange.audit.keys import Signer
from exchange.cli.init import random_secret, write_private
from exchange.errors import Conflict, SettingWrong
from exchange.files import Unfit, replace
from exchange.settings import Settings

_NUMBERED = re.compile(r"(.*?)-?([0-9]{0,6})")  # a1, signing, signing-2: a name, and a number at its end


@dataclass(frozen=True, slots=True)
class Change:
    """What a rotation does: files that are made, and the `[keys]` of the settings file as they will be."""

    old: str  # key ids
    new: str
    files: dict[Path, bytes]
    keys: dict[str, Any]


# --- what a rotation does ---------------------------------------------------------------------------------------------


def signing(settings: Settings) -> Change:
    """A new key, and the public half of the old one: the private half is needed by nobody once gateways restarted."""
    keys = settings.keys
    old = Signer.from_pem(settings.secret("keys.signing", keys.signing))
    new = Signer.generate()
    file = following(settings, "keys.signing", keys.signing)
    public = _free(file.with_name(f"former-{old.kid[:8]}.pem"))
    return Change(
        old.kid,
        new.kid,
        {file: new.pem(), public: old.public.pem()},
        {
            "signing": reference(settings, file),
            "former_signing": [*keys.former_signing, reference(settings, public)],
        },
    )


def audit(settings: Settings) -> Change:
    """A new secret under a new key id; the old one is kept, for a subject's older entries are found by it only."""
    keys = settings.keys
    kid = next_kid("keys.audit_kid", keys.audit_kid, {*keys.former_audit, keys.audit_kid})
    file = following(settings, "keys.audit", keys.audit)
    return Change(
        keys.audit_kid,
        kid,
        {file: random_secret()},
        {
            "audit": reference(settings, file),
            "audit_kid": kid,
            "former_audit": {**keys.former_audit, keys.audit_kid: keys.audit},
        },
    )


def next_kid(setting: str, kid: str, taken: set[str]) -> str:
    """The key id with the next number that is free. Raises Conflict if there is none of 8 characters."""
    name, number = _numbered(kid)
    for following in range(number + 1, number + 1_000):
        if len(made := f"{name}{following}") <= 8 and made not in taken:
            return made
    raise Conflict(f"{setting}: no key id of at most 8 characters follows {kid}; set the new secret by hand")


def following(settings: Settings, setting: str, reference: str) -> Path:
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


def reference(settings: Settings, file: Path) -> str:
    """As the settings name it: from their folder, where it lies below it."""
    inside = file.is_relative_to(settings.root)
    return f"file:{file.relative_to(settings.root) if inside else file}"


def make(config: Path, before: str, after: str, change: Change) -> None:
    """First the files, which nobody reads yet; then the settings, in one step."""
    for file, content in change.files.items():
        write_private(file, content)
    try:
        put(config, before, after)
    except Conflict as conflict:
        unused = ", ".join(map(str, change.files))
        raise Conflict(f"{conflict.detail}; the new key's file is unused: {unused}") from None


# --- the settings file ------------------------------------------------------------------------------------------------


def text_of(config: Path) -> str:
    """The settings file's text. Raises SettingWrong."""
    try:
        return config.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingWrong(f"{config} cannot be read ({error})") from None


def put(config: Path, before: str, after: str) -> None:
    """Write the settings file, in one step. Raises Conflict if it was changed meanwhile; SettingWrong."""
    try:
        replace(config, before.encode(), after.encode())
    except Unfit as unfit:
        raise Conflict(f"{config} {unfit}") from None
    except OSError as error:
        raise SettingWrong(f"{config} cannot be written ({error.strerror}); its keys still hold") from None


def edited(config: Path, text: str, keys: dict[str, Any]) -> str:
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
