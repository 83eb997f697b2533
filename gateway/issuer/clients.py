"""dev-clients.toml: who may ask the built-in issuer for tokens, and how each one shows who it is.

[clients.tax-desk]
secret = "sha256:<64 hex digits>"       # of a random secret of at least 128 bits

[clients.health-desk]
jwk = { kty = "OKP", crv = "Ed25519", x = "..." }     # a public key, for private_key_jwt
"""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.jwk import Key

from exchange.errors import SettingWrong
from gateway import jws

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DevClient:
    """One client of the built-in issuer: the hash of its secret, or its public key."""

    client_id: str
    secret: bytes | None = None
    key: Key | None = None

    def knows(self, secret: str) -> bool:
        """Whether this is the client's secret; takes the same time whether it is or not."""
        return self.secret is not None and hmac.compare_digest(self.secret, _digest(secret))


def hash_secret(secret: str) -> str:
    """How a secret stands in the file. One hash is enough for a random secret; nothing shorter belongs there."""
    return f"sha256:{_digest(secret).hex()}"


def load_clients(file: Path) -> dict[str, DevClient]:
    """Read the file. Raises SettingWrong naming the file, the client and what to do."""
    try:
        mode = file.stat().st_mode
        text = file.read_bytes()[: _MAX_BYTES + 1]
        table = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise SettingWrong(
            f"dev_issuer.clients: {file} cannot be read ({error.strerror}); `exchange init` makes one"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise SettingWrong(f"dev_issuer.clients: {file} is not TOML in UTF-8") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingWrong(f"dev_issuer.clients: {file} can be read by others; run chmod 600 on it")
    entries = table.get("clients", {})
    if set(table) - {"clients"} or not isinstance(entries, dict):
        raise SettingWrong(f"dev_issuer.clients: {file} holds tables [clients.<client id>] only")
    return {name: _client(file, name, entry) for name, entry in entries.items()}


def _client(file: Path, name: str, entry: Any) -> DevClient:
    problem = f"dev_issuer.clients: {file}: client {name}: "
    if not isinstance(entry, Mapping) or len(entry) != 1 or not set(entry) <= {"secret", "jwk"}:
        raise SettingWrong(problem + "needs one of `secret` and `jwk`, and nothing else")
    if "jwk" in entry:
        key = jws.public_key(entry["jwk"])
        if key is None or key.is_private:
            raise SettingWrong(problem + "its jwk is not a public key that can verify signatures")
        return DevClient(name, key=key)
    match = _HASH.fullmatch(entry["secret"]) if isinstance(entry["secret"], str) else None
    if match is None:
        raise SettingWrong(problem + "its secret is written as sha256:<64 hex digits>, never as the secret itself")
    return DevClient(name, secret=bytes.fromhex(match[1]))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
