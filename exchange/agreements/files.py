"""Reading policies/: bounded bytes, nothing outside the folder, nothing unknown, and every reason collected.

Nothing here stops at the first fault: what is wrong goes into a `Reasons`, and whoever began the reading refuses once,
with all of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exchange.errors import PolicyRefused
from exchange.files import Unfit, content

MAX_BYTES = 1 << 20


class Reasons:
    """Why policies are refused, collected: each with its file and, where there is one, the entry."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: list[str] = []

    def at(self, file: Path, *places: str) -> Place:
        """A place to refuse things at: a file, or an entry of it."""
        return Place(self, str(file.relative_to(self._root)), places)

    def add(self, reason: str) -> None:
        self._found.append(reason)

    def refuse_if_any(self) -> None:
        """Raises PolicyRefused with every reason, one a line."""
        if self._found:
            raise PolicyRefused("\n".join(self._found))

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, for the person who must mend it."""

    reasons: Reasons
    file: str
    within: tuple[str, ...] = ()

    def refuse(self, reason: str) -> None:
        self.reasons.add(": ".join((self.file, *self.within, reason)))

    def inside(self, part: str) -> Place:
        return replace(self, within=(*self.within, part))


def names(folder: Path, reasons: Reasons) -> Iterator[Path]:
    """What stands in a folder, sorted; README.md and names that begin with a dot are passed over."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        reasons.at(folder).refuse(f"cannot be read as a folder ({error.strerror})")
        return
    for path in found:
        if path.name != "README.md" and not path.name.startswith("."):
            yield path


def refuse_others(folder: Path, known: Collection[str], reasons: Reasons) -> None:
    """A name that nobody reads is a slip of the pen: refuse it rather than pass over what it was to say."""
    for path in names(folder, reasons):
        if path.name not in known:
            reasons.at(path).refuse(f"is not a file of the policies; known here: {', '.join(sorted(known))}")


def stays_inside(folder: Path, root: Path, reasons: Reasons) -> bool:
    """Whether a folder of the policies is really there, not behind a symbolic link that leads out."""
    if folder.resolve().is_relative_to(root.resolve()):
        return True
    reasons.at(folder).refuse("is a symbolic link that leads out of its folder")
    return False


def read_text(file: Path, folder: Path, reasons: Reasons, limit: int = MAX_BYTES) -> str | None:
    """The text of a regular file of this folder, at most `limit` bytes of UTF-8; None with a reason if it is not.

    A symbolic link may lead to a place inside the folder (mounted configuration does), never out of it.
    """
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(folder.resolve(strict=True)):
            reasons.at(file).refuse("is a symbolic link that leads out of its folder")
            return None
        return content(real, limit).decode("utf-8")
    except Unfit as unfit:
        reasons.at(file).refuse(str(unfit))
    except UnicodeDecodeError as error:
        reasons.at(file).refuse(f"is not UTF-8 (byte {error.start})")
    except FileNotFoundError:
        reasons.at(file).refuse("does not exist")
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reasons.at(file).refuse(f"cannot be read ({getattr(error, 'strerror', None) or error})")
    return None


def read_toml(file: Path, folder: Path, reasons: Reasons, instead: str | None = None) -> dict[str, Any] | None:
    """The table of a TOML file (which refuses a key that stands twice); None with a reason.

    `instead` is what the file is about to hold: it is read in its place.
    """
    text = read_text(file, folder, reasons) if instead is None else instead
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reasons.at(file).refuse(f"is not TOML: {error}")
    except RecursionError:
        reasons.at(file).refuse("is not TOML: it is nested too deeply")
    return None
