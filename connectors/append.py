"""What is known of files that are only ever appended to: each by its content, never by its name.

Known is a beginning: so many bytes with this digest. A file that begins with them goes on where they ended; a file that
is all of them is known whole. What has grown stays known as it was, for copies of it may lie beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from connectors.delimited import Place
from connectors.files import Found
from connectors.textfile import BLOCK, Survey

PREFIX = "file:"
OUTGROWN_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Beginning:
    """So much of a file was read.

    `digest` and `size` are of the file as it was then; `offset`, `line` and `number` (of records) say how far of it was
    read. `root` names the file through its growth. `encoding` is empty while all was ASCII. `tail` is where the last
    record began if its line had no end yet. `turn` counts what became known.
    """

    digest: str
    size: int
    offset: int
    line: int
    number: int
    root: str
    encoding: str = ""
    tail: Place | None = None
    turn: int = 0
    outgrown: bool = False

    def text(self) -> str:
        """The form in which the cursor file keeps it."""
        members = asdict(self)
        del members["digest"]
        return json.dumps(members)


class Known:
    """All known beginnings of one instance."""

    def __init__(self, position: Mapping[str, str]) -> None:
        self._by_digest: dict[str, Beginning] = {}
        for name, text in position.items():
            if name.startswith(PREFIX):
                members = json.loads(text)
                members["tail"] = members["tail"] and Place(*members["tail"])
                digest = name.removeprefix(PREFIX)
                self._by_digest[digest] = Beginning(digest=digest, **members)

    def beginning(self, file: Found, survey: Survey) -> Beginning | None:
        """The longest known beginning of this file, None if it is new. Raises files.Changed."""
        whole = self._by_digest.get(survey.digest)
        if whole is not None:
            return whole
        by_size = {known.size: known.digest for known in self._by_digest.values()}
        sizes = sorted(size for size in by_size if 0 < size < survey.size)
        digests = _digests(file, sizes)
        for size in reversed(sizes):
            known = self._by_digest.get(digests[size])
            if known is not None and known.size == size:
                return known
        return None

    def moved(self, start: Beginning | None, reached: Beginning) -> dict[str, str | None]:
        """The change of position that notes how far a file was read, starting from `start`."""
        changes: dict[str, str | None] = {}
        turn = max((known.turn for known in self._by_digest.values()), default=0) + 1
        self._by_digest[reached.digest] = replace(reached, turn=turn)
        changes[PREFIX + reached.digest] = self._by_digest[reached.digest].text()
        if start is not None and start.digest != reached.digest and not self._by_digest[start.digest].outgrown:
            self._by_digest[start.digest] = replace(self._by_digest[start.digest], outgrown=True)
            changes[PREFIX + start.digest] = self._by_digest[start.digest].text()
        outgrown = sorted((k for k in self._by_digest.values() if k.outgrown), key=lambda known: known.turn)
        for old in outgrown[:-OUTGROWN_KEPT]:
            del self._by_digest[old.digest]
            changes[PREFIX + old.digest] = None
        return changes


def _digests(file: Found, sizes: list[int]) -> dict[int, str]:
    """The digests of a file's first so many bytes, in one pass."""
    found: dict[int, str] = {}
    if not sizes:
        return found
    state, done = hashlib.blake2b(digest_size=16), 0
    with file.open() as opened:
        for size in sizes:
            while done < size and (block := opened.read(min(BLOCK, size - done))):
                state.update(block)
                done += len(block)
            found[size] = state.hexdigest()
        file.unchanged(opened)
    return found
