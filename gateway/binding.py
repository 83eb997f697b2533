"""Tokens that count only for whoever holds a key: by a DPoP proof (RFC 9449), or by a certificate (RFC 8705).

A token says in `cnf` which key that is. One that says so is never a bearer token, whatever the list of clients asks
for; and a client whose entry says `sender_constrained` has no other tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

from exchange.agreements import Client
from exchange.clock import Clock
from exchange.errors import SettingWrong
from gateway import dpop
from gateway.client_cert import ClientCertificates
from gateway.limits import NEW_NONCE
from gateway.replays import Replays
from gateway.tokens import ProofRefused, Token, TokenRefused


class Binding:
    """Checks that a request comes from whom its token is for.

    `address` is where clients find this gateway, without a slash at the end. Without `nonces` no proof needs one.
    """

    def __init__(
        self,
        address: str,
        replays: Replays,
        nonces: dpop.Nonces | None,
        certificates: ClientCertificates,
        clock: Clock,
    ) -> None:
        """Raises SettingWrong if the address is none."""
        if dpop.normalised(address) is None:
            raise SettingWrong("gateway.public_url: must be a URL such as https://exchange.city.example")
        self._address = address.rstrip("/")
        self._replays = replays
        self._nonces = nonces
        self._certificates = certificates
        self._clock = clock

    async def check(self, scope: Scope, token: Token, proven: str | None) -> None:
        """Check what the token is bound to. `proven` is its text where it came as `Authorization: DPoP`, else None.

        Raises TokenRefused; StoreUnavailable if it cannot be told whether a proof is new.
        """
        if token.x5t is not None and self._certificates.thumbprint(scope) != token.x5t:
            raise TokenRefused("certificate", "the token is bound to a client certificate that did not come with it")
        if proven is not None:
            await self._prove(scope, token, proven)
        elif token.jkt is not None:
            raise ProofRefused("binding", "the token is bound to a key: send it as `Authorization: DPoP`, with a proof")

    async def _prove(self, scope: Scope, token: Token, text: str) -> None:
        now = self._clock().timestamp()
        target = dpop.normalised(f"{self._address}{_path(scope)}")
        if target is None:
            raise ProofRefused("proof", "the address of this request cannot be compared with any other")
        proof = dpop.read(_proof(scope["headers"]), scope["method"], target, text, now)
        if token.jkt != proof.jkt:
            raise ProofRefused("binding", "the token is not bound to the key of the DPoP proof", error="invalid_token")
        if self._nonces is not None:
            newest = self._nonces.newest()
            if proof.nonce != newest:
                scope[NEW_NONCE] = newest
                if proof.nonce is None or not self._nonces.counts(proof.nonce):
                    detail = "the DPoP proof needs the nonce of the header DPoP-Nonce"
                    raise ProofRefused("nonce", detail, error="use_dpop_nonce")
        if not await self._replays.first(proof.mark, proof.issued + dpop.MAX_AGE_SECONDS):
            raise ProofRefused("replay", "the DPoP proof was used before; each request needs a new one")


def demand(client: Client, token: Token, proven: str | None) -> None:
    """That the token is of the kind that the list of clients asks for. Raises TokenRefused."""
    if client.sender_constrained == "dpop" and proven is None:
        raise ProofRefused("unbound", "this client's tokens must be bound to a key and come with a DPoP proof")
    if client.sender_constrained == "mtls" and token.x5t is None:
        raise TokenRefused("unbound", "this client's tokens must be bound to its certificate (cnf x5t#S256)")


def _path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    return raw.partition(b"?")[0].decode("latin-1")


def _proof(headers: Iterable[tuple[bytes, bytes]]) -> str:
    found = [text for name, text in headers if name == b"dpop"]
    if len(found) != 1:
        raise ProofRefused("proof", "send one header `DPoP: <proof>` with the token")
    return found[0].decode("latin-1")
