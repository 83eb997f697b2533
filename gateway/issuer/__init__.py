"""The built-in token issuer: OAuth 2 client credentials for one machine, so that a city can be tried without a server.

In reading order:

    clients      dev-clients.toml: client id -> hash of its secret, or public key; only its owner may read it
    assertions   private_key_jwt (RFC 7523): the checks, and the memory that lets each assertion count once
    token        the token endpoint (RFC 6749 section 4.4) and what discovery says of it

It is not Authlib's server: that one refuses plain HTTP even on loopback, tells strangers which clients exist, reads the
wall clock, and lives on a framework's request; with all of that replaced, nothing but the error names would be left.
What signs and verifies is joserfc, as everywhere here.
"""

from gateway.issuer.assertions import UsedAssertions
from gateway.issuer.clients import DevClient, hash_secret, load_clients
from gateway.issuer.token import DevIssuer, OAuthError, SigningKey, trusted

__all__ = [
    "DevClient",
    "DevIssuer",
    "OAuthError",
    "SigningKey",
    "UsedAssertions",
    "hash_secret",
    "load_clients",
    "trusted",
]
