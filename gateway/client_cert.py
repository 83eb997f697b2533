"""The certificate that a client showed to the proxy in front: `Client-Cert` (RFC 9440).

Anyone can write such a header. It is read only on connections from the networks in `gateway.client_cert_peers`, whose
proxies overwrite it; from anywhere else it is as if it were not there.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cryptography import x509
from starlette.types import Scope

from exchange.audit.encoding import encoded
from gateway.tokens import TokenRefused

Network = IPv4Network | IPv6Network


class ClientCertificates:
    """Reads the header on connections from these networks."""

    def __init__(self, peers: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(ip_network(peer) for peer in peers)

    def thumbprint(self, scope: Scope) -> str | None:
        """The RFC 8705 thumbprint of the certificate, None if none came. Raises TokenRefused if it cannot be read."""
        if not self._believes(scope.get("client")):
            return None
        found = [text for name, text in scope["headers"] if name == b"client-cert"]
        if len(found) > 1:
            raise _unreadable()
        return thumbprint(found[0]) if found else None

    def _believes(self, peer: tuple[str, int] | None) -> bool:
        if peer is None or not self._networks:
            return False
        try:
            address = ip_address(peer[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


@lru_cache(1024)
def thumbprint(field: bytes) -> str:
    """The thumbprint (base64url of SHA-256) of a header's certificate: DER as a byte sequence of RFC 8941.

    Raises TokenRefused for anything else: parameters, a chain, PEM.
    """
    if len(field) < 3 or field[:1] != b":" or field[-1:] != b":":
        raise _unreadable()
    try:
        der = b64decode(field[1:-1], validate=True)
        x509.load_der_x509_certificate(der)
    except (binascii.Error, ValueError):
        raise _unreadable() from None
    return encoded(hashlib.sha256(der).digest())


def _unreadable() -> TokenRefused:
    return TokenRefused("certificate", "the header Client-Cert is not one certificate as RFC 9440 writes it")
