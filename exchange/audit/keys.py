"""Keys of the audit log: the signing key with its public halves, and the secret that makes its pseudonyms.

The signing key (Ed25519) signs commit groups and checkpoints; it is not the token issuer's key. Its kid is the JWK
thumbprint (RFC 7638). The audit secret never leaves the gateway and the operator's commands: with the bus secret alone
nobody can tell whom an entry of a leaked log is about.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from exchange.audit.encoding import canonical, decoded, encoded
from exchange.errors import AuditBroken, SettingWrong
from exchange.subjects import KeyMaker, Subject

ALGORITHM = "Ed25519"  # fully specified; "EdDSA" is deprecated (RFC 9864)


class PublicKey:
    """The public half of a signing key, known by its kid."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self.raw = key.public_bytes_raw()
        self.jwk = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encoded(self.raw)})
        self.kid = self.jwk.thumbprint()
        self._key = key

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature (RFC 8032)."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """The key as PEM (SubjectPublicKeyInfo)."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """The public half that a PEM holds: of a private key or of a public one. Raises SettingWrong."""
        try:
            key = load_pem_public_key(pem) if b"PUBLIC KEY" in pem else load_pem_private_key(pem, None).public_key()
        except (ValueError, TypeError):
            raise SettingWrong("the signing key cannot be read as PEM without a password") from None
        if not isinstance(key, Ed25519PublicKey):
            raise SettingWrong("the signing key is not Ed25519; `exchange init` makes one")
        return cls(key)


class PublicKeys:
    """Every key that has ever signed this log, former ones too."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = {key.kid: key for key in keys}
        self._headers: dict[str, dict[bytes, PublicKey]] = {}  # by typ: the header of each key's tokens

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self._keys.values())

    def find(self, kid: str) -> PublicKey | None:
        return self._keys.get(kid)

    def verify(self, token: bytes, kind: str) -> bytes:
        """The payload of a compact JWS of this `typ`. Raises AuditBroken unless one of these keys has signed it.

        A token has one spelling only: exactly our three header members, and strict base64url. One that is not good in
        our own spelling is read by joserfc, which takes three times as long and tells what is wrong with it.
        """
        payload = self._own(token, kind)
        return self._any(token, kind) if payload is None else payload

    def _own(self, token: bytes, kind: str) -> bytes | None:
        """The payload of a good token that begins as ours do; None leaves every judgement to `_any`."""
        headers = self._headers.get(kind)
        if headers is None:
            headers = self._headers[kind] = {_header(key.kid, kind): key for key in self}
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        key = headers.get(header)
        try:
            if key is not None and key.verifies(decoded(signature.decode("ascii")), signed):
                return decoded(payload.decode("ascii"))
        except ValueError:
            pass
        return None

    def _any(self, token: bytes, kind: str) -> bytes:
        try:
            found = jws.extract_compact(token)
            header = found.headers()
        except (JoseError, ValueError, RecursionError):
            raise AuditBroken("the signature is not a compact JWS") from None
        key = self.find(str(header.get("kid")))
        if set(header) != {"alg", "kid", "typ"} or header["typ"] != kind or header["alg"] != ALGORITHM:
            raise AuditBroken(f"the signature's header is not {kind} by {ALGORITHM}")
        if key is None:
            raise AuditBroken("the signature is by an unknown key")
        try:
            genuine = jws.validate_compact(found, key.jwk, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            genuine = False
        if not genuine:
            raise AuditBroken("the signature is wrong")
        return found.payload

    def jwks(self) -> dict[str, Any]:
        """The JWK Set (RFC 7517) that is served at /.well-known/exchange-keys.json."""
        return {"keys": [{**key.jwk.as_dict(), "kid": key.kid, "alg": ALGORITHM, "use": "sig"} for key in self]}

    @classmethod
    def from_jwks(cls, document: object) -> PublicKeys:
        """Read a JWK Set; keys of other kinds are passed over. Raises SettingWrong if it is none or holds none of ours.

        `document` is what somebody's file or server says, parsed from JSON: anything.
        """
        entries = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(entries, list):
            raise SettingWrong('the key set is not a JWK Set: an object with a list "keys" (RFC 7517)')
        keys = [_ed25519(entry) for entry in entries if _is_ed25519(entry)]
        if not keys:
            raise SettingWrong("the key set holds no Ed25519 key")
        return cls(keys)


def _header(kid: str, kind: str) -> bytes:
    """The first part of a compact JWS of this key."""
    return encoded(canonical({"alg": ALGORITHM, "kid": kid, "typ": kind})).encode("ascii")


def _is_ed25519(entry: object) -> bool:
    return isinstance(entry, Mapping) and entry.get("kty") == "OKP" and entry.get("crv") == "Ed25519"


def _ed25519(entry: Mapping[str, Any]) -> PublicKey:
    """A key of a JWK Set, from `x` alone: what else stands there is not ours to judge. Raises SettingWrong."""
    try:
        return PublicKey(Ed25519PublicKey.from_public_bytes(decoded(entry["x"])))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise SettingWrong("the key set holds an Ed25519 key that cannot be read") from None


class Signer:
    """The private half of a signing key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def __repr__(self) -> str:
        return f"Signer({self.kid!r})"

    @property
    def kid(self) -> str:
        return self.public.kid

    @classmethod
    def generate(cls) -> Signer:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Signer:
        """Read a private key (PKCS #8, without password). Raises SettingWrong."""
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            raise SettingWrong("the signing key cannot be read as PEM without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingWrong("the signing key is not Ed25519; `exchange init` makes one")
        return cls(key)

    def pem(self) -> bytes:
        """The private key as PEM: for its 0600 file only."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature (RFC 8032)."""
        return self._key.sign(message)

    def token(self, payload: bytes, kind: str) -> bytes:
        """A compact JWS (RFC 7515) over `payload`, with `typ` = kind.

        Put together here, as a gateway signs hundreds of groups in a second; joserfc, which reads it, is the reference.
        """
        signed = _header(self.kid, kind) + b"." + encoded(payload).encode("ascii")
        return signed + b"." + encoded(self.sign(signed)).encode("ascii")


def generate_signing_key(path: Path) -> Signer:
    """Make a signing key and its file, mode 0600. Raises FileExistsError: a key is never overwritten."""
    signer = Signer.generate()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(signer.pem())
        file.flush()
        os.fsync(file.fileno())
    return signer


class AuditKeys:
    """Makes the subject keys and officer pseudonyms of the audit log.

    Secrets are only added: `former` maps the kids of earlier ones, so that a subject's older entries can be found.
    """

    def __init__(self, kid: str, secret: bytes, former: Mapping[str, bytes] | None = None) -> None:
        self._maker = KeyMaker(kid, secret)
        self._former = [KeyMaker(former_kid, former_secret) for former_kid, former_secret in (former or {}).items()]
        self._officer = hashlib.blake2b(digest_size=16, key=secret.strip(), person=b"officer")

    def subject(self, subject: Subject) -> str:
        """The subject key of new entries, `a1.<22>`: the bus's function under the audit secret."""
        return self._maker.subject(subject)

    def subjects(self, subject: Subject) -> list[str]:
        """Under every secret, newest first: what to look for in the log."""
        return [maker.subject(subject) for maker in (self._maker, *self._former)]

    def officer(self, department: str, name: str) -> str:
        """The pseudonym of an officer, `a1.<22>`; the same name in two departments is two officers."""
        state = self._officer.copy()
        state.update(rfc8785.dumps([department, name]))
        return f"{self._maker.kid}.{encoded(state.digest())}"
