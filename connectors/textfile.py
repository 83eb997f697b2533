"""A text file as bytes: its marks, its encoding by a look at the whole of it, its digest, its physical lines.

The encoding is decided once, before the first row: UTF-8 where the whole file is UTF-8, else GB18030 where that fits
better. A line that does not fit the encoding is handed on with the place of its first bad byte, and nothing is ever
decoded in another encoding half-way. Only blocks of the file are in memory.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, NamedTuple

from exchange.errors import SourceRefused

BLOCK = 1 << 20
LONGEST_LINE = 8 << 20
# Byte order marks of either encoding, of which files made by joining exports have several.
_MARKS = (b"\xef\xbb\xbf", b"\x84\x31\x95\x33")
_UTF16 = {b"\xff\xfe": "UTF-16 (little endian)", b"\xfe\xff": "UTF-16 (big endian)"}
_SAVE_AS = "save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')"


class Line(NamedTuple):
    """A physical line with its line end; `end` is the offset behind it, `bad` that of its first undecodable byte."""

    text: str
    end: int
    bad: int | None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at a whole file found. `start` is the offset behind its marks, `digest` is of all its bytes."""

    size: int
    digest: str
    encoding: str
    start: int
    ascii: bool  # whether there is nothing but ASCII, so that any encoding would do
    closed: bool  # whether its last line has a line end


def survey(file: BinaryIO, wanted: str, name: str) -> Survey:
    """Look at the whole file; `wanted` is auto, utf-8 or gb18030.

    Raises SourceRefused for UTF-16, saying how to save the file, and for lines that are no lines.
    """
    file.seek(0)
    head = file.read(4096)
    start = _refuse_utf16(head, name) or _marks(head)
    file.seek(0)
    digest = hashlib.blake2b(digest_size=16)
    decoder = codecs.getincrementaldecoder("utf-8")()
    fits, ascii_only, size, last = True, True, 0, b""
    while block := file.read(BLOCK):
        digest.update(block)
        ascii_only = ascii_only and block.isascii()
        if fits and wanted == "auto":
            try:
                decoder.decode(block if size else block[start:])
            except UnicodeDecodeError:
                fits = False
        size += len(block)
        last = block[-1:]
    if fits and wanted == "auto":
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            fits = False
    encoding = wanted
    if wanted == "auto":
        encoding = "utf-8" if fits else _weigh(file, start, name)
    return Survey(size, digest.hexdigest(), encoding, start, ascii_only, last in (b"", b"\n", b"\r"))


def lines(file: BinaryIO, encoding: str, start: int, name: str) -> Iterator[Line]:
    """Physical lines from offset `start`, each ended by LF, CR LF or CR. Raises SourceRefused for an endless one."""
    new, end = tuple.__new__, start
    for block in _raw_lines(file, start, name):
        for raw in block:
            end += len(raw)
            try:
                yield new(Line, (raw.decode(encoding), end, None))
            except UnicodeDecodeError as error:
                yield Line(raw.decode(encoding, "replace"), end, end - len(raw) + error.start)


def _raw_lines(file: BinaryIO, start: int, name: str) -> Iterator[list[bytes]]:
    """The lines of block after block, none left out.

    Line ends are found in the bytes: neither encoding has them inside a character (GB18030-2022, 4.2).
    """
    file.seek(start)
    offset, carry = start, b""
    while block := file.read(BLOCK):
        carry += block
        cut = carry.rfind(b"\n") + 1 or carry.rfind(b"\r", 0, len(carry) - 1) + 1
        if not cut and len(carry) > LONGEST_LINE:
            raise SourceRefused(f"{name}: a line of over {LONGEST_LINE >> 20} MiB at byte {offset}: this is no table")
        yield carry[:cut].splitlines(keepends=True)
        offset, carry = offset + cut, carry[cut:]
    yield carry.splitlines(keepends=True)


def _marks(head: bytes) -> int:
    """The offset behind the marks at the beginning."""
    start = 0
    while mark := next((mark for mark in _MARKS if head.startswith(mark, start)), None):
        start += len(mark)
    return start


def _refuse_utf16(head: bytes, name: str) -> int:
    found = _UTF16.get(head[:2])
    if found is None and len(head) >= 8:
        # Text of mostly ASCII in UTF-16 has a NUL in every second byte, and on that side only.
        even, odd = head[::2], head[1::2]
        if odd.count(0) > len(odd) * 0.4 and even.count(0) < len(even) * 0.1:
            found = "UTF-16 (little endian)"
        elif even.count(0) > len(even) * 0.4 and odd.count(0) < len(odd) * 0.1:
            found = "UTF-16 (big endian)"
    if found is not None:
        raise SourceRefused(f"{name}: the encoding is {found}; {_SAVE_AS}")
    return 0


def _weigh(file: BinaryIO, start: int, name: str) -> str:
    """UTF-8 or GB18030 for a file that is not UTF-8 throughout: the one that its lines speak for.

    A line with Chinese in UTF-8 is seldom valid by chance, so as many such lines as bad ones mean a UTF-8 file with
    bad lines. GB18030 accepts much: it has to be clearly better.
    """
    good_utf8 = bad_utf8 = bad_gb = 0
    for raw in chain.from_iterable(_raw_lines(file, start, name)):
        if raw.isascii():
            continue
        try:
            raw.decode("utf-8")
            good_utf8 += 1
        except UnicodeDecodeError:
            bad_utf8 += 1
        try:
            raw.decode("gb18030")
        except UnicodeDecodeError:
            bad_gb += 1
    return "utf-8" if good_utf8 >= bad_utf8 or bad_gb >= bad_utf8 else "gb18030"
