"""How settings are read: a TOML file, a secret, and what a person is told of a value that is wrong."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exchange.errors import SettingWrong
from exchange.files import Unfit, content

TABLE_BYTES = 1 << 20


def read_table(file: Path, missing: str) -> dict[str, Any]:
    """The table in a TOML file. `missing` says what to do where there is none. Raises SettingWrong naming the file."""
    try:
        return tomllib.loads(content(file, TABLE_BYTES).decode("utf-8"))
    except Unfit as unfit:
        raise SettingWrong(f"{file} {unfit}") from None
    except FileNotFoundError:
        raise SettingWrong(f"{file} does not exist; {missing}") from None
    except RecursionError:
        raise SettingWrong(f"{file} cannot be read as TOML: it is nested too deeply") from None
    except (OSError, ValueError) as error:  # a decoder's errors, and those of numbers that are too long
        raise SettingWrong(f"{file} cannot be read as TOML: {error}") from None


def read_secret(name: str, reference: str, root: Path) -> bytes:
    """The bytes behind `file:PATH` (only readable by its owner) or `env:NAME`.

    Raises SettingWrong naming the setting `name`, what was found and what to do.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        value = os.environ.get(where)
        if not value:
            raise SettingWrong(f"{name}: the environment variable {where} is not set")
        return value.encode()
    file = root / where
    try:
        mode = file.stat().st_mode
        value_bytes = file.read_bytes()
    except OSError as error:
        raise SettingWrong(f"{name}: {file} cannot be read ({error.strerror}); `exchange init` makes keys") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingWrong(f"{name}: {file} can be read by others (mode {stat.S_IMODE(mode):04o}); run chmod 600 on it")
    if not value_bytes.strip():
        raise SettingWrong(f"{name}: {file} is empty")
    return value_bytes


def explain(error: ValidationError) -> str:
    """What a person needs of a validation error: each setting and its reason, never the value found."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in problems
    )
