"""A body of many records: kept while it arrives, then read one record at a time, as often as it takes.

It is kept in memory up to 64 KiB and in an unnamed file beyond, so that a thousand slow pushes take no memory; and what
all of them hold together is bounded, so that they do not fill the disk either.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from exchange.publish import BLANK, Unparsed
from gateway import strictjson
from gateway.problems import BodyTooLarge, Busy

SPOOL_BYTES = 64 * 1024
LINE_BYTES = 1024 * 1024
CHUNK = 256 * 1024
_BLANKS = b" \t\r\n"
_AFTER_ITEM = (" ", "\t", "\r", "\n", ",", "]")
_NO_BLANK = re.compile(r"[^ \t\r\n]")
_NO_ARRAY = "not one JSON array of records"

Form = Literal["array", "lines"]


class Room:
    """What all bodies under way hold together, in files in `folder`: at most `most` bytes, half of it of one owner.

    The event loop alone takes and gives.
    """

    def __init__(self, most: int, folder: Path) -> None:
        self.folder = folder
        self._most = most
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Bytes that are held now."""
        return self._taken.total()

    def take(self, owner: str, size: int) -> None:
        """Raises Busy if it does not fit: room comes back as soon as another push has been answered."""
        if self.taken + size > self._most or self._taken[owner] + size > self._most // 2:
            raise Busy("too much is being pushed at the same time")
        self._taken[owner] += size

    def give(self, owner: str, size: int) -> None:
        """Give back what was taken."""
        self._taken[owner] -= size
        if not self._taken[owner]:
            del self._taken[owner]


class Spool:
    """A body on its way in: its bytes, their SHA-256, their number. It holds room for its owner until it is closed."""

    def __init__(self, room: Room, owner: str) -> None:
        self._room = room
        self._owner = owner
        self.file = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(room.folder))  # noqa: SIM115  closed by its maker
        self.size = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Keep a part of the body. Raises Busy if there is no room for it, on the disk included."""
        self._room.take(self._owner, len(chunk))
        self.size += len(chunk)
        try:
            self.file.write(chunk)
        except OSError as error:
            raise Busy(f"a body cannot be kept in the gateway's data folder ({error.strerror})") from None
        self._digest.update(chunk)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self.file.close()
        self._room.give(self._owner, self.size)


def lines(body: Spool, form: Form, most: int) -> Iterator[Any]:
    """The records of a body, one by one, each a JSON value, Unparsed or BLANK.

    An array is one JSON text, so whatever is wrong in it refuses all of it; of lines each stands for itself, and an
    empty one is BLANK. Raises Malformed if an array is none; BodyTooLarge behind `most` records, empty lines included.
    """
    body.file.seek(0)
    found = _items(_Window(body)) if form == "array" else _lines(body)
    for number, record in enumerate(found, 1):
        if number > most:
            raise BodyTooLarge(f"at most {most} records in one push, empty lines included")
        yield record


def _lines(body: Spool) -> Iterator[Any]:
    while line := body.file.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = body.file.readline(LINE_BYTES)
            yield Unparsed("", f"longer than {LINE_BYTES} bytes")
        else:
            stripped = line.strip(_BLANKS)
            yield _parsed(stripped) if stripped else BLANK


def _parsed(line: bytes) -> Any:
    try:
        return strictjson.read(line)
    except strictjson.Malformed as error:
        return Unparsed(line.decode("utf-8", "replace"), error.detail)


class _Window:
    """A body's text from some place on, as much of it as was needed so far."""

    def __init__(self, body: Spool) -> None:
        self.text = ""
        self.place = 0
        self._file = body.file
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._ended = False

    def more(self) -> bool:
        """Read on, and forget what was passed; False at the end of the body."""
        if self._ended:
            return False
        chunk = self._file.read(CHUNK)
        self._ended = not chunk
        try:
            self.text = self.text[self.place :] + self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError:
            raise strictjson.Malformed("not UTF-8") from None
        self.place = 0
        return True

    def next(self) -> str:
        """The next character that is no blank, passed over; "" at the end."""
        while True:
            found = _NO_BLANK.search(self.text, self.place)
            if found is not None:
                self.place = found.end()
                return found[0]
            self.place = len(self.text)
            if not self.more():
                return ""

    def item(self) -> Any:
        """The JSON value that stands here, passed over."""
        while True:
            try:
                value, end = strictjson.DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError:
                value, end = None, len(self.text)
            except RecursionError:
                raise strictjson.Malformed(strictjson.TOO_DEEP) from None
            # What was cut off by the end of the window, a number above all, may go on in what was not read yet; but
            # nothing longer than a record does.
            whole = self.text[end : end + 1] in _AFTER_ITEM
            if not whole and len(self.text) - self.place <= LINE_BYTES and self.more():
                continue
            if not whole:
                raise strictjson.Malformed(_NO_ARRAY)
            text = self.text[self.place : end]
            strictjson.check_depth(text)
            strictjson.check_surrogates(text, value)
            self.place = end
            return value


def _items(window: _Window) -> Iterator[Any]:
    character = window.next()
    if character == "":
        return  # an empty body is a heartbeat, whatever it calls itself
    if character != "[":
        raise strictjson.Malformed(_NO_ARRAY)
    character = window.next()
    while character != "]":
        if character == "":
            raise strictjson.Malformed(_NO_ARRAY)
        window.place -= 1
        yield window.item()
        character = window.next()
        if character == ",":
            character = window.next()
            if character == "]":
                raise strictjson.Malformed(_NO_ARRAY)
        elif character != "]":
            raise strictjson.Malformed(_NO_ARRAY)
    if window.next():
        raise strictjson.Malformed(_NO_ARRAY)
