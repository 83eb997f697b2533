"""Each issuer as a gateway would meet it now: its documents, its keys, its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx2
from joserfc.jwk import Key

from exchange.agreements import Bundle
from exchange.cli.policy import read_policies
from exchange.clock import Clock
from exchange.doctor import Check, Finding, Means, Said
from exchange.doctor.servers import CLOCK_SECONDS, clock_difference, clock_finding
from exchange.errors import ContractRefused, PolicyRefused, SettingWrong
from exchange.settings import DISCOVERED, IssuerSettings, Settings
from gateway.discovery import Metadata, Refused, check_addresses
from gateway.issuer import SigningKey, load_clients, trusted
from gateway.keysets import FETCH_SECONDS, FixedKeys, read_keys, select
from gateway.parts import check_listeners
from gateway.tokens import TrustedIssuer

REACH = "see that the issuer runs and that this machine reaches it; `issuers.discovery` is for another address inside"


@dataclass(frozen=True, slots=True)
class Met:
    """What an issuer answered. `keys` is empty where `refused` says why; `off`: how far its clock is ahead of ours."""

    settings: IssuerSettings
    keys: tuple[Key, ...] = ()
    metadata: Metadata | None = None
    off: float | None = None
    refused: str | None = None


def meet(issuers: Sequence[IssuerSettings], clock: Clock) -> list[Met]:
    """Ask each of them, all at once, each for a few seconds at most."""

    async def all_of_them() -> list[Met]:
        return await asyncio.gather(*(_meet(each, clock) for each in issuers))

    return asyncio.run(all_of_them())


def trusted_now(settings: Settings, clock: Clock) -> list[tuple[TrustedIssuer, str | None]]:
    """Every issuer that is trusted with the keys that it has now, and why there are none."""
    found: list[tuple[TrustedIssuer, str | None]] = [
        (TrustedIssuer(each.settings, FixedKeys(each.keys)), each.refused) for each in meet(settings.issuers, clock)
    ]
    dev = settings.dev_issuer
    if dev.enabled:
        try:
            key = SigningKey(settings.secret("dev_issuer.key", dev.key))
            found.append((trusted(dev.issuer, key, dev.lifetime_s), None))
        except SettingWrong as wrong:
            found.append((TrustedIssuer(IssuerSettings(issuer=dev.issuer), FixedKeys([])), wrong.detail))
    return found


def look_at_issuers(means: Means) -> Iterator[Said]:
    """Every issuer that the settings name: what a gateway needs of it is there, and its clock is ours."""
    settings = means.settings
    names = [each.issuer for each in settings.issuers] + [each.name for each in settings.issuers if each.name]
    yield from _built_in(settings, names)
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding("this issuer stands there twice", f"issuers: {name}", "take one of the tables away")
    if len([each for each in settings.issuers if each.token_endpoint]) > 1:
        yield Finding(
            "more than one issuer has a token endpoint for secrets, and a secret names none", "issuers.token_endpoint",
            "leave it at one of them; the gateway does not start",
        )  # fmt: skip
    sound = []
    for issuer in settings.issuers:
        try:
            clear = check_addresses(issuer)
        except SettingWrong as wrong:
            yield Finding(wrong.detail, f"issuers: {issuer.issuer}", "mend the address; the gateway does not start")
            continue
        sound.append(issuer)
        if clear:
            yield Finding(
                "its keys come without TLS: whoever is on the way can choose who may read", f"issuers: {issuer.issuer}",
                "use an address that begins with https://",
            )  # fmt: skip
    for met in meet(sound, means.clock):
        yield from _judged(met)


def look_at_clients(means: Means) -> Iterator[Said]:
    """Each client of the list has an issuer that is trusted."""
    settings = means.settings
    known = {each.listed for each in settings.issuers}
    if settings.dev_issuer.enabled:
        known.add(settings.dev_issuer.issuer)
    try:
        bundle: Bundle = read_policies(settings)[1]
    except (PolicyRefused, ContractRefused):  # the check of the policies tells that
        return
    strangers: dict[str, list[str]] = {}
    for client in bundle.clients.values():
        if client.issuer not in known:
            strangers.setdefault(client.issuer, []).append(client.client_id)
    for issuer, clients in sorted(strangers.items()):
        yield Finding(
            f"{len(clients)} clients are of the issuer {issuer}, which is not trusted: {', '.join(sorted(clients))}",
            "policies/clients.toml",
            "name the issuer under [[issuers]], exactly so, or correct it in clients.toml and apply",
        )
    yield f"{len(bundle.clients)} clients of {len({client.issuer for client in bundle.clients.values()})} issuers"


CHECKS = (Check("issuers", "issuers", look_at_issuers), Check("clients", "policies/clients.toml", look_at_clients))


def _built_in(settings: Settings, names: list[str]) -> Iterator[Said]:
    dev = settings.dev_issuer
    if not dev.enabled:
        return
    names.append(dev.issuer)
    try:
        check_listeners(settings)
        load_clients(settings.path(dev.clients))
    except SettingWrong as wrong:
        yield Finding(wrong.detail, "dev_issuer", "see the message; the gateway does not start")
    yield f"{dev.issuer} is the built-in issuer"


def _judged(met: Met) -> Iterator[Said]:
    issuer, where = met.settings, f"issuers: {met.settings.issuer}"
    if met.off is not None and abs(met.off) > CLOCK_SECONDS:
        yield clock_finding(met.off, where)
    if met.refused is not None:
        yield Finding(f"its keys cannot be read: {met.refused}", where, REACH)
        return
    fitting = {alg for alg in issuer.algorithms if select(met.keys, alg, None)}
    if not fitting:
        yield Finding(
            f"none of its {len(met.keys)} keys signs by {', '.join(issuer.algorithms)}", where,
            "add its algorithm to `algorithms`, or let it sign by one of these",
        )  # fmt: skip
    if issuer.token_endpoint == DISCOVERED and (met.metadata is None or met.metadata.token_endpoint is None):
        yield Finding(
            "its discovery document names no token endpoint that secrets may go to", where,
            "set `token_endpoint` to its address, by https",
        )  # fmt: skip
    yield f"{issuer.issuer} answers: {len(met.keys)} keys, for {', '.join(sorted(fitting)) or 'nothing'}"


async def _meet(issuer: IssuerSettings, clock: Clock) -> Met:
    said: list[float] = []
    asked: datetime = clock()

    async def note(response: httpx2.Response) -> None:
        told = _date(response)
        if told is not None and not said:
            said.append(clock_difference(told, asked, clock()))

    async with httpx2.AsyncClient(follow_redirects=False, event_hooks={"response": [note]}) as http:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys, metadata = await read_keys(issuer, http)
        except Refused as refused:
            return Met(issuer, refused=str(refused), off=said[0] if said else None)
        except TimeoutError:
            return Met(issuer, refused=f"no answer within {FETCH_SECONDS:.0f} seconds", off=said[0] if said else None)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:  # ValueError: an address that is none
            return Met(issuer, refused=type(error).__name__)
    return Met(issuer, keys, metadata, said[0] if said else None)


def _date(response: httpx2.Response) -> datetime | None:
    """The server's clock by its Date header, which counts whole seconds; None if it says none."""
    try:
        told = parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError, TypeError):
        return None
    return told if told.tzinfo is not None else None
