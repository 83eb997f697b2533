"""A gateway on a socket whose registry takes client ids with secrets, as foreign clients send them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.jwk import OKPKey

from exchange.clock import Clock, system_clock
from gateway.basic import BuiltIn, Secrets
from gateway.issuer import DevClient, DevIssuer, SigningKey, UsedAssertions, hash_secret
from gateway.tokens import Tokens
from tests.support.gateway import City
from tests.support.server import serving
from tests.support.tokens import ISSUER

SECRET = "geheim: 密 & 100 %"


@dataclass(frozen=True)
class Site:
    """`url` is the registry's; each of the city's clients has SECRET."""

    url: str
    city: City

    def credentials(self, client_id: str) -> dict[str, Any]:
        """What confluent-kafka's client is configured with."""
        return {"url": self.url, "basic.auth.user.info": f"{client_id}:{SECRET}"}


def built_in(folder: Path, clock: Clock) -> DevIssuer:
    """An issuer whose clients are the city's."""
    clients = {
        name: DevClient(name, secret=bytes.fromhex(hash_secret(SECRET)[7:]))
        for name in ("civil-push", "hotline-push", "tax-desk")
    }
    key = SigningKey(OKPKey.generate_key("Ed25519").as_pem(private=True))
    return DevIssuer(ISSUER, "http://127.0.0.1", "exchange", key, clients, UsedAssertions(folder / "u.db"), 600, clock)


@contextlib.contextmanager
def registry_site(folder: Path) -> Iterator[Site]:
    """Serve it."""
    city, issuer = City(folder), built_in(folder, system_clock)
    city.clock = system_clock  # type: ignore[assignment]
    city.app = city.make_app(
        Tokens([issuer.trusted()], "exchange", system_clock), Secrets(BuiltIn(issuer), None, system_clock)
    )
    try:
        with serving(city.app) as port:
            yield Site(f"http://127.0.0.1:{port}/registry", city)
    finally:
        issuer.used.close()
        city.close()
