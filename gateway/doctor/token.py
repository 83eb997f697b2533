"""One access token: every reason for which the gateway would refuse it, told without the token and without a person.

Each reason is looked for by itself, so that none hides another. In the end the gateway's own verifier is asked: what it
refuses and nothing here explained is told too, so this is never milder than the gateway.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from exchange.agreements import Bundle, Client
from exchange.cli.administration import bundle_in_force
from exchange.cli.policy import read_policies
from exchange.doctor import Finding, Means, Said
from exchange.errors import ExchangeError, IssuerUnavailable
from exchange.settings import IssuerSettings
from gateway import jws
from gateway.doctor.issuers import REACH, trusted_now
from gateway.tokens import SKEW_SECONDS, TokenRefused, Tokens, TrustedIssuer, media_type

PAGE = "docs/identity.md"
SHOWN = 200  # characters of a name that came with the token
_OWN_WORDS = ("view", "publish", "registry")


def look_at_token(text: str, means: Means) -> Iterator[Said]:
    """Why this token would be refused now."""
    text = text.strip()
    scheme, _, rest = text.partition(" ")
    if rest and scheme.lower() in ("bearer", "dpop"):
        text = rest.strip()
    try:
        token = jws.unpack(text)
    except jws.NotAToken as error:
        yield Finding(
            f"it is not a signed token (JWT) that can be read: {error.detail}", "token",
            "let the issuer give access tokens in the form of RFC 9068; the gateway asks no issuer about opaque ones",
        )  # fmt: skip
        return
    found = trusted_now(means.settings, means.clock)
    issuers = {each.settings.issuer: (each, refused) for each, refused in found}
    name = token.claims.get("iss")
    known = issuers.get(name) if isinstance(name, str) else None
    rules = known[0].settings if known is not None else IssuerSettings(issuer="https://unknown")
    told = 0
    for said in chain(
        _issuer(name, list(issuers)) if known is None else (),
        _header(token, rules),
        _times(token.claims, rules, means.clock().timestamp()),
        _audience(token.claims.get("aud"), means.settings.gateway.audience),
        _client(token.claims, rules, rules.listed if known is not None else name, means),
        _signature(token, *known) if known is not None else (),
    ):
        told += isinstance(said, Finding)
        yield said
    yield from _verdict(text, [each for each, _ in found], means, explained=told > 0)


def _issuer(name: Any, trusted: list[str]) -> Iterator[Said]:
    if not isinstance(name, str):
        yield Finding("it names no issuer", "token: iss", "take a token of an issuer that the settings name")
        return
    named = ", ".join(trusted) or "none"
    do = "let both be the same text: set the issuer's own address there (Keycloak: hostname), or `issuers.issuer` here"
    twin = next((one for one in trusted if _alike(one) == _alike(name)), None)
    if twin is not None:
        do = f"the two differ only in a slash, letters' case or http/https and must not; {do}"
    yield Finding(f"its issuer {_short(name)} is none that the settings name ({named})", "token: iss", do)


def _header(token: jws.Unverified, rules: IssuerSettings) -> Iterator[Said]:
    typ = token.header.get("typ")
    if not isinstance(typ, str) or media_type(typ) not in map(media_type, rules.typ):
        shown = _short(typ) if isinstance(typ, str) else "missing"
        yield Finding(
            f"its typ is {shown}, and {' or '.join(rules.typ)} is asked for", "token: typ",
            f"let the issuer write at+jwt (Keycloak: access.token.header.type.rfc9068 at the client, {PAGE}); "
            "an ID token has JWT too, and is no access token",
        )  # fmt: skip
    if token.algorithm not in rules.algorithms:
        yield Finding(
            f"it is signed by {token.algorithm}, which is not among the issuer's algorithms here", "token: alg",
            "add it to `issuers.algorithms`, or let the issuer sign by another",
        )  # fmt: skip


def _times(claims: Mapping[str, Any], rules: IssuerSettings, now: float) -> Iterator[Said]:
    times: dict[str, float] = {}
    for name in ("iat", "exp", "nbf"):
        if name == "nbf" and name not in claims:
            continue
        try:
            times[name] = jws.numeric_date(claims, name)
        except jws.NotAToken as error:
            yield Finding(f"its {error.detail}", f"token: {name}", "let the issuer write it, in seconds since 1970")
    if "exp" in times and times["exp"] <= now:
        yield Finding(
            f"it expired {now - times['exp']:.0f} seconds ago", "token: exp",
            "take a new one; if it is new, the issuer's clock is behind (`exchange doctor` compares them)",
        )  # fmt: skip
    ahead = max((times[name] - now for name in ("iat", "nbf") if name in times), default=-math.inf)
    if ahead > SKEW_SECONDS:
        yield Finding(
            f"it is not valid for another {ahead:.0f} seconds", "token: iat, nbf",
            "the issuer's clock is ahead of this machine's: set both by NTP",
        )  # fmt: skip
    if "exp" in times and "iat" in times and times["exp"] - times["iat"] > rules.max_lifetime_s:
        yield Finding(
            f"it lives {times['exp'] - times['iat']:.0f} seconds, and {rules.max_lifetime_s} are allowed", "token: exp",
            "shorten it at the issuer, or set `issuers.max_lifetime_s`",
        )  # fmt: skip


def _audience(audience: Any, ours: str) -> Iterator[Said]:
    named = audience if isinstance(audience, list) else [audience]
    texts = [one for one in named if isinstance(one, str)]
    mapper = (
        f"let the issuer write {ours} into aud (Keycloak: an audience mapper; the scope `exchange` of {PAGE} has it)"
    )
    if not texts:
        yield Finding("it names no audience", "token: aud", mapper)
    elif len(texts) < len(named):
        yield Finding("its audience is not a text or a list of texts", "token: aud", mapper)
    elif ours not in texts:
        shown = ", ".join(map(_short, texts[:5]))
        why = " (Keycloak's own, where nobody said for whom it is)" if texts == ["account"] else ""
        yield Finding(f"its audience is {shown}{why}, and it must have {ours} (gateway.audience)", "token: aud", mapper)


def _client(claims: Mapping[str, Any], rules: IssuerSettings, issuer: Any, means: Means) -> Iterator[Said]:
    claim = next((name for name in rules.client_claims if name in claims), None)
    client_id = claims.get(claim) if claim is not None else None
    if not isinstance(client_id, str):
        yield Finding(
            f"it names no client ({' or '.join(rules.client_claims)})", "token: client",
            "let the issuer write client_id, or name its claim in `issuers.client_claims`",
        )  # fmt: skip
        return
    client = None
    for what, bundle in _policies(means):
        if isinstance(bundle, str):
            yield Finding(f"{what} cannot be read: {bundle}", "policies", "see `exchange doctor`")
            continue
        listed = bundle.client(issuer, client_id) if isinstance(issuer, str) else None
        client = client or listed
        if listed is None:
            others = sorted(one.issuer for one in bundle.clients.values() if one.client_id == client_id)
            other = f"; of {', '.join(others)} there is one of this name" if others else ""
            yield Finding(
                f"its client {_short(client_id)} is not in {what}{other}", "token: client",
                "add it to clients.toml with just this issuer, and run `exchange policy apply`",
            )  # fmt: skip
    if client is not None:
        yield from _scopes(claims, client)
        yield from _constraint(claims, client)


def _scopes(claims: Mapping[str, Any], client: Client) -> Iterator[Said]:
    said = claims.get("scope", "")
    given = said.split(" ") if isinstance(said, str) else said
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        yield Finding("its scope is neither a text nor a list of words", "token: scope", "mend it at the issuer")
        return
    words = set(given)
    for scope in client.scopes:
        if scope not in words:
            yield Finding(
                f"the scope {scope} of clients.toml is not in the token, so it does not count", "token: scope",
                "ask for it at the token endpoint, or give the client this scope at the issuer",
            )  # fmt: skip
    for more in sorted(words.intersection(_OWN_WORDS).difference(client.scopes)):
        yield f"the token has the scope {more}, which clients.toml does not give: it does not count"


def _constraint(claims: Mapping[str, Any], client: Client) -> Iterator[Said]:
    bound = claims.get("cnf")
    names = {"jkt": "dpop", "x5t#S256": "mtls"}
    kinds = {names[name] for name in bound if name in names} if isinstance(bound, dict) else set()
    wanted = client.sender_constrained
    if wanted is not None and wanted not in kinds:
        yield Finding(
            f"clients.toml demands a token that is bound to its sender by {wanted}, and this one is not", "token: cnf",
            "ask for it with a DPoP proof (RFC 9449)" if wanted == "dpop" else "ask for it with the client certificate",
        )  # fmt: skip
    if "dpop" in kinds:
        yield "it is bound to a key: each request needs a DPoP proof by that key"
    if "mtls" in kinds:
        yield "it is bound to a certificate: each request needs that one"


def _signature(token: jws.Unverified, issuer: TrustedIssuer, refused: str | None) -> Iterator[Said]:
    if refused is not None:
        yield Finding(f"its signature cannot be checked: {refused}", f"issuers: {issuer.settings.issuer}", REACH)
        return
    keys = asyncio.run(_fitting(issuer, token))
    if not keys:
        yield Finding(
            "its issuer publishes no key of this id and algorithm", "token: kid",
            "the key was taken away, or another server signs under this issuer's name: take a new token",
        )  # fmt: skip
    elif not jws.holds(token, keys):
        yield Finding(
            "its signature is not by its issuer's key: it was changed, or is not the issuer's",
            "token",
            "take a new one",
        )


def _verdict(text: str, issuers: list[TrustedIssuer], means: Means, *, explained: bool) -> Iterator[Said]:
    try:
        asyncio.run(Tokens(issuers, means.settings.gateway.audience, means.clock).verify(text))
    except (TokenRefused, IssuerUnavailable) as refused:
        if explained:
            yield "the gateway refuses it"
        else:
            yield Finding(f"the gateway refuses it: {refused.detail}", "token", f"see {PAGE}")
    else:
        yield "the gateway takes the token itself; what is said above stands" if explained else "the gateway takes it"


def _policies(means: Means) -> Iterator[tuple[str, Bundle | str]]:
    """The policies in force and those of the files, or why there are none."""
    try:
        with means.store() as store:
            bundle = bundle_in_force(store)
        yield "the policies in force", bundle or "there are none yet"
    except ExchangeError as error:
        yield "the policies in force", str(error)
    try:
        yield "clients.toml", read_policies(means.settings)[1]
    except ExchangeError as error:
        yield "clients.toml", str(error).split("\n")[0]


async def _fitting(issuer: TrustedIssuer, token: jws.Unverified) -> Any:
    return await issuer.keys.fitting(token.algorithm, token.kid)


def _alike(issuer: str) -> str:
    return issuer.lower().rstrip("/").partition("://")[2]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
