"""Checkpoints: the size and root of the tree of all commit groups, signed, in the format of the C2SP.

A checkpoint (c2sp.org/tlog-checkpoint) is a signed note (c2sp.org/signed-note) whose text is three lines: origin, tree
size, root hash in standard base64. Any tool for transparency logs reads it, and a witness can add its own signature.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from exchange import merkle
from exchange.audit.keys import PublicKey, PublicKeys, Signer
from exchange.errors import AuditBroken, SettingWrong
from exchange.topics import TopicSpec

_ED25519 = b"\x01"  # signed-note, "Signature types"
_DASH = "— "
_TEXT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n((?:[^\n]+\n)*)")
_ORIGIN = re.compile(r"[^\s+\x00-\x1f]{1,200}")
_MAX_BYTES = 65_536
_MAX_SIGNATURES = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the log called `origin`: its number of leaves and their root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """The note's text, which is what is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode('ascii')}\n".encode()

    def sign(self, signer: Signer) -> bytes:
        """The signed note. The key is named for the origin."""
        text = self.text()
        signature = b64encode(key_id(self.origin, signer.public) + signer.sign(text)).decode("ascii")
        return text + f"\n{_DASH}{self.origin} {signature}\n".encode()


def open_checkpoint(note: bytes, origin: str, keys: PublicKeys) -> Checkpoint:
    """The checkpoint of a note that one of our keys has signed. Raises AuditBroken.

    Signatures by others (witnesses) are passed over; one by a key of ours must verify.
    """
    text, signatures = _split(note)
    found = _TEXT.fullmatch(text)
    if found is None or found[4]:
        raise AuditBroken("a checkpoint is not three lines of origin, size and root")
    if found[1] != origin:
        raise AuditBroken("a checkpoint is of another log")
    ours = {key_id(origin, key): key for key in keys}
    signed = False
    for name, signature in signatures:
        key = ours.get(signature[:4]) if name == origin else None
        if key is not None:
            if not key.verifies(signature[4:], text.encode()):
                raise AuditBroken("a checkpoint's signature is wrong")
            signed = True
    if not signed:
        raise AuditBroken("a checkpoint is not signed by a known key")
    root = b64decode(found[3])
    if b64encode(root).decode("ascii") != found[3] or len(root) != merkle.HASH_BYTES:
        raise AuditBroken("a checkpoint's root is not 32 bytes of base64")
    return Checkpoint(origin, int(found[2]), root)


def key_id(name: str, key: PublicKey) -> bytes:
    """The 4 bytes by which a note's signature names its key (signed-note, "Ed25519 signatures")."""
    return sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:4]


def check_origin(origin: str) -> str:
    """The origin, if it can name a log and its key. Raises SettingWrong."""
    if not _ORIGIN.fullmatch(origin):
        raise SettingWrong("audit.origin must be 1 to 200 characters without blanks and plus signs")
    return origin


def topic(name: str, replication: int = 1) -> TopicSpec:
    """How the topic of checkpoints is made: one partition, nothing compacted away and nothing expiring."""
    return TopicSpec(name, partitions=1, replication=replication, compacted=False, retention_days=None)


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text and the signatures (key name, 4 bytes of key id and the signature) of a note. Raises AuditBroken."""
    try:
        whole = note.decode("utf-8") if len(note) <= _MAX_BYTES else ""
    except UnicodeDecodeError:
        whole = ""
    text, blank, lines = whole.rpartition("\n\n")
    rows = lines.split("\n")
    if not blank or rows.pop() != "" or not 1 <= len(rows) <= _MAX_SIGNATURES:
        raise AuditBroken("a checkpoint is not a signed note")
    signatures = []
    for row in rows:
        name, _, signature = row.removeprefix(_DASH).partition(" ")
        try:
            raw = b64decode(signature, validate=True)
        except ValueError:
            raw = b""
        if not row.startswith(_DASH) or not name or len(raw) < 5 or b64encode(raw).decode("ascii") != signature:
            raise AuditBroken("a checkpoint has a malformed signature")
        signatures.append((name, raw))
    return text + "\n", signatures
