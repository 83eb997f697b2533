"""A body of many records: kept while it arrives, then read one record at a time, as often as it takes.

It is kept in memory up to 64 KiB and in an unnamed file beyond, so that a thousand slow pushes take no room.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

from exchange.publish import Unparsed
from gateway import strictjson

SPOOL_BYTES = 64 * 1024
LINE_BYTES = 1024 * 1024
CHUNK = 256 * 1024
_BLANKS = b" \t\r\n"
_AFTER_ITEM = (" ", "\t", "\r", "\n", ",", "]")
_NO_ARRAY = "not one JSON array of records"

Form = Literal["array", "lines"]


class Spool:
    """A body on its way in: its bytes, their SHA-256, their number."""

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  closed by whoever made it
        self.size = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def close(self) -> None:
        self.file.close()


def lines(body: Spool, form: Form) -> Iterator[Any]:
    """The records of a body, one by one, each a JSON value or Unparsed. Raises Malformed if an array is none.

    An array is one JSON text, so whatever is wrong in it refuses all of it; of lines each stands for itself, and an
    empty one is none.
    """
    body.file.seek(0)
    yield from _items(_Window(body)) if form == "array" else _lines(body)


def _lines(body: Spool) -> Iterator[Any]:
    while line := body.file.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = body.file.readline(LINE_BYTES)
            yield Unparsed("", f"longer than {LINE_BYTES} bytes")
        elif stripped := line.strip(_BLANKS):
            yield _parsed(stripped)


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
            while self.place < len(self.text):
                character = self.text[self.place]
                self.place += 1
                if character not in " \t\r\n":
                    return character
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
