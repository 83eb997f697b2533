"""Files at rest: which ones a pattern means, whether they still grow, what is known of them.

A file is read only when size and time of modification have been the same for `settle` seconds, and what was read counts
only if they are still the same afterwards. Nothing is moved or renamed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO

from connectors.textfile import Survey, survey
from exchange.clock import Clock
from exchange.errors import SourceRefused

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Signature = tuple[int, int, int, int, int]  # device, inode, size, mtime_ns, ctime_ns


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was found."""

    path: Path
    signature: Signature

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.signature[2]

    @property
    def modified(self) -> datetime:
        """When it was modified, aware, in UTC, to the microsecond that had begun."""
        return _EPOCH + timedelta(microseconds=self.signature[3] // 1_000)

    def open(self) -> BinaryIO:
        """The file, if it is still the one that was found. Raises SourceRefused if it cannot be read, Changed."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            raise Changed(self.name) from None
        except OSError as error:
            raise SourceRefused(f"{self.path}: cannot be read ({error.strerror})") from None
        if _signature(os.fstat(file.fileno())) != self.signature:
            file.close()
            raise Changed(self.name)
        return file

    def unchanged(self, file: BinaryIO) -> None:
        """Raise Changed if the open file, or what stands under its name, is not what was found."""
        try:
            present = _signature(self.path.stat())
        except OSError:
            present = None
        if _signature(os.fstat(file.fileno())) != self.signature or present != self.signature:
            raise Changed(self.name)


class Changed(Exception):
    """A file changed while it was read: the reading does not count, and the next one starts afresh."""


class Files:
    """The files of one pattern. Keeps what it has seen, so that a file at rest is looked through once."""

    def __init__(self, pattern: Path, settle: timedelta, clock: Clock) -> None:
        self.pattern = pattern
        self._settle = settle
        self._clock = clock
        self._seen: dict[Path, tuple[Signature, datetime]] = {}
        self._surveys: dict[tuple[Signature, str], Survey] = {}

    def find(self) -> list[Found]:
        """The files that are there now, by name."""
        found = []
        text = str(self.pattern)
        for path in sorted(map(Path, glob(text) if has_magic(text) else [text])):
            try:
                status = path.stat()
            except OSError:
                continue
            if path.is_file():
                found.append(Found(path, _signature(status)))
        return found

    def at_rest(self, files: Sequence[Found]) -> bool:
        """Whether none of them grows any more: not modified, and not seen to change, for `settle` seconds."""
        now = self._clock()
        rest = True
        for file in files:
            known = self._seen.get(file.path)
            if known is None:  # not seen before: its own time of modification is all there is to go by
                self._seen[file.path] = file.signature, file.modified
            elif known[0] != file.signature:
                self._seen[file.path] = file.signature, max(file.modified, now)
            since = self._seen[file.path][1]
            rest = rest and now - since >= self._settle
        return rest

    def survey(self, file: Found, wanted: str) -> Survey:
        """A look at the whole file, kept while the file stays as it is. Raises SourceRefused, Changed."""
        key = (file.signature, wanted)
        if key not in self._surveys:
            with file.open() as opened:
                found = survey(opened, wanted, file.name)
                file.unchanged(opened)
            if len(self._surveys) > 10_000:
                self._surveys.clear()
            self._surveys[key] = found
        return self._surveys[key]


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
