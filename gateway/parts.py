"""From the settings to the parts, and from these to the application: the gateway's wiring place.

What is wrong in the settings is said at once; what cannot be reached is no reason not to start. The gateway then
answers 503 until it can be reached, and `/readyz` says so.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
import structlog

from exchange.audit import AuditLog, AuditStore, Holder, Sealer
from exchange.clock import Clock, system_clock
from exchange.disclosure import Disclosure, PolicyWatch
from exchange.errors import SettingWrong, TryLater
from exchange.metrics import DATA_FREE, DATA_SIZE
from exchange.registry import StoreRegistry
from exchange.settings import DISCOVERED, Settings
from exchange.store import PushLedger, SubjectsSeen, UsedProofs, open_reader
from exchange.wiring import (
    audit_keys,
    audit_url,
    data_folder,
    gateway_url,
    key_maker,
    open_broker,
    open_store,
    process_name,
    public_keys,
    refuse_while_restoring,
    signer,
    standing_name,
    store_url,
)
from gateway.app import Parts, build
from gateway.basic import BuiltIn, Secrets, TokenEndpoint
from gateway.binding import Binding
from gateway.client_cert import ClientCertificates
from gateway.discovery import check_addresses, is_loopback
from gateway.dpop import Nonces
from gateway.harvest import Harvest
from gateway.identity import Identity
from gateway.issuer import DevIssuer, SigningKey, UsedAssertions, load_clients
from gateway.keysets import IssuerKeys
from gateway.limits import Edge
from gateway.push import Pushing
from gateway.replays import Replays
from gateway.tokens import Tokens, TrustedIssuer
from gateway.trail import Trail

log = structlog.get_logger("gateway")


def create_app(settings: Settings) -> Edge:
    """The gateway of these settings. Raises SettingWrong; nothing is connected before it starts."""
    return build(make_parts(settings, system_clock), settings.city)


def make_parts(settings: Settings, clock: Clock) -> Parts:
    """Make every part. Raises SettingWrong."""
    refuse_while_restoring(settings)
    data = data_folder(settings)
    DATA_FREE.set_function(lambda: shutil.disk_usage(data).free)
    DATA_SIZE.set_function(lambda: shutil.disk_usage(data).total)
    issuers = _Issuers.of(settings, clock)
    keys, pseudonyms = key_maker(settings), audit_keys(settings)
    signing, published = signer(settings), public_keys(settings)
    store, broker = open_store(settings, clock), open_broker(settings)
    pushes, checkpoints = broker.publisher(), broker.publisher()
    audit_store = AuditStore.open(audit_url(settings), settings.audit_options)
    reader = open_reader(store_url(settings), settings.store.options)
    policy = PolicyWatch(reader, keys.mark)
    standing = standing_name(settings, f"gateway-{settings.audit.writer}")
    us = Holder(process_name("gateway"), standing.name)
    audit = AuditLog(audit_store, signing, settings.audit.writer, us)
    sealer = Sealer(audit_store, signing, published, checkpoints, settings.audit.origin, clock, us)
    tokens = Tokens(issuers.trusted, settings.gateway.audience, clock)
    replays = Replays(UsedProofs(store.engine), clock)
    binding = make_binding(settings, replays, clock)
    identity = Identity(tokens, lambda: policy.bundle, clock, binding, issuers.secrets(settings, clock))
    trail = Trail(audit, lambda: policy.bundle, clock)
    registry = StoreRegistry(store.engine, clock)
    harvest = Harvest(settings.gateway, settings.timezone, SubjectsSeen(store.engine), keys, clock)

    async def look() -> None:
        await policy.look()
        for what in settings.gateway.without_effect({each.client_id for each in policy.bundle.clients.values()}):
            log.warning("a setting is without effect", what=what)

    async def seal() -> None:
        sealer.start()

    async def last_counts() -> None:
        await _forgiving("the last counts of refused requests", lambda: trail.unknown(identity.take_refused()))()

    return Parts(
        identity=identity,
        bundle=lambda: policy.bundle,
        disclosure=Disclosure(policy, reader, audit, keys, pseudonyms, clock),
        trail=trail,
        harvest=harvest,
        registry=registry,
        pushing=Pushing(registry, PushLedger(store.engine, clock), pushes, keys, clock, settings.push, data),
        issuer=issuers.built_in,
        checks={"audit": lambda: audit.writable, "policy": lambda: policy.fresh, "issuer": lambda: issuers.known},
        signing_keys=published.jwks(),
        opening=(
            _forgiving("the store", _in_thread(store.check)),
            _forgiving("the audit log", _in_thread(audit_store.check)),
            _forgiving("the policies", look),
            _forgiving("the numbers of subjects seen", harvest.exchange),
            audit.open,
            seal,
        ),
        background=(
            policy.run,
            harvest.run,
            lambda: trail.count(identity.take_refused),
            *(source.run for source in issuers.remote),
        ),
        closing=(
            last_counts,
            _forgiving("the numbers of subjects seen", harvest.exchange),
            audit.close,
            replays.close,
            _in_thread(sealer.close),  # after the log: the last entries get their checkpoint
            reader.close,
            *(_in_thread(each.close) for each in (pushes, checkpoints, broker)),
            _in_thread(store.close),
            _in_thread(audit_store.close),
            _in_thread(standing.close),
            issuers.close,
        ),
    )


def make_binding(settings: Settings, replays: Replays, clock: Clock) -> Binding:
    """What checks tokens that are bound to a key. Raises SettingWrong."""
    gateway = settings.gateway
    secret = settings.secret("keys.audit", settings.keys.audit).strip()  # the gateways' alone: no connector has it
    nonces = Nonces(secret, clock) if gateway.dpop_nonces else None
    return Binding(gateway_url(settings), replays, nonces, ClientCertificates(gateway.client_cert_peers), clock)


@dataclass(frozen=True, slots=True)
class _Issuers:
    """The trusted issuers: remote ones whose keys are fetched, and the built-in one."""

    trusted: list[TrustedIssuer]
    remote: list[IssuerKeys]
    built_in: DevIssuer | None
    http: httpx2.AsyncClient

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> _Issuers:
        names = [each.issuer for each in settings.issuers]
        if settings.dev_issuer.enabled:
            names.append(settings.dev_issuer.issuer)
        if not names:
            raise SettingWrong("issuers: name an OIDC issuer, or enable dev_issuer on one machine")
        listed = [each.listed for each in settings.issuers] + names[len(settings.issuers) :]
        if len(set(names)) < len(names) or len(set(listed)) < len(listed):
            raise SettingWrong("issuers: one issuer, or one name, stands there twice")
        built_in = built_in_issuer(settings, clock) if settings.dev_issuer.enabled else None
        http = httpx2.AsyncClient(follow_redirects=False)
        for each in settings.issuers:
            if check_addresses(each):
                log.warning("issuer keys are fetched without TLS", issuer=each.issuer)
        remote = [IssuerKeys(each, http, clock) for each in settings.issuers]
        trusted = [TrustedIssuer(each, keys) for each, keys in zip(settings.issuers, remote, strict=True)]
        return cls([*trusted, *([built_in.trusted()] if built_in else [])], remote, built_in, http)

    def secrets(self, settings: Settings, clock: Clock) -> Secrets:
        """Who can exchange a client's secret for a token."""
        named = [(each.token_endpoint, keys) for each, keys in zip(settings.issuers, self.remote, strict=True)]
        endpoints = [_endpoint(where, keys) for where, keys in named if where]
        if len(endpoints) > 1:
            raise SettingWrong("issuers.token_endpoint: of one issuer only, since a secret names none")
        built_in = None if self.built_in is None else BuiltIn(self.built_in)
        return Secrets(built_in, TokenEndpoint(endpoints[0], self.http) if endpoints else None, clock)

    @property
    def known(self) -> bool:
        """Whether the tokens of at least one could be verified now."""
        return self.built_in is not None or any(keys.known for keys in self.remote)

    async def close(self) -> None:
        await self.http.aclose()
        if self.built_in is not None:
            self.built_in.used.close()


def built_in_issuer(settings: Settings, clock: Clock) -> DevIssuer:
    """The built-in issuer. Raises SettingWrong unless every listener is on loopback."""
    gateway = settings.gateway
    check_listeners(settings)
    dev = settings.dev_issuer
    data = data_folder(settings)
    key = SigningKey(settings.secret("dev_issuer.key", dev.key))
    clients = load_clients(settings.path(dev.clients))
    url = gateway_url(settings).rstrip("/")
    used = UsedAssertions(data / "issuer.db")
    return DevIssuer(dev.issuer, url, gateway.audience, key, clients, used, dev.lifetime_s, clock)


def check_listeners(settings: Settings) -> None:
    """Raises SettingWrong unless every listener is on loopback, where the built-in issuer may run."""
    gateway = settings.gateway
    for name, host in (
        ("gateway.host", gateway.host),
        ("gateway.metrics_host", gateway.metrics_host),
        ("materialise.metrics_host", settings.materialise.metrics_host),
        ("gateway.public_url", urlsplit(gateway.public_url).hostname if gateway.public_url else "localhost"),
    ):
        if not is_loopback(host):
            raise SettingWrong(
                f"dev_issuer.enabled: the built-in issuer runs on loopback only, and {name} is not; "
                "set it to false and name an OIDC issuer under [[issuers]]"
            )


def _endpoint(where: str, keys: IssuerKeys) -> Callable[[], str | None]:
    """The token endpoint at the moment of asking: what the settings say, or the newest discovery document."""
    return (lambda: keys.token_endpoint) if where == DISCOVERED else (lambda: where)


def _in_thread(call: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await asyncio.to_thread(call)

    return run


def _forgiving(what: str, call: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """At the start and at the stop, a part that is away is noted and no more."""

    async def run() -> None:
        try:
            await call()
        except TryLater as error:
            log.warning("not reached", part=what, error=str(error))

    return run
