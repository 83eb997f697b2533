"""The gateway with real parts where they are cheap: store, registry, ledger, tokens; a broker and a log in memory."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from exchange.agreements import Bundle, Client, Purpose, Terms
from exchange.audit import Entry
from exchange.contracts import Contract
from exchange.errors import AuditUnavailable, NothingPermitted, PolicyUnavailable
from exchange.publish import Layout
from exchange.registry import StoreRegistry
from exchange.settings import GatewaySettings, PushSettings
from exchange.store import PushLedger, Store, SubjectsSeen, UsedProofs
from exchange.store.database import open_engine
from exchange.subjects import KeyMaker
from gateway.app import Parts, build
from gateway.basic import Secrets
from gateway.binding import Binding
from gateway.client_cert import ClientCertificates
from gateway.dpop import Nonces
from gateway.harvest import Harvest
from gateway.identity import Identity
from gateway.limits import Edge
from gateway.push import Pushing
from gateway.replays import Replays
from gateway.tokens import Tokens
from gateway.trail import Trail
from tests.support.broker import FakeBroker
from tests.support.contracts import contract
from tests.support.contracts import field as avro
from tests.support.tokens import ISSUER, NOW, StandingClock, claims, ec, sign, verifier

CITIZEN = "110101190001010014"
ENTERPRISE = "91350100M000100Y43"
KEY = ec()


def client(client_id: str, department: str, *scopes: Any) -> Client:
    return Client(
        issuer=ISSUER, client_id=client_id, name=client_id, department=department, scopes=scopes,
        purposes=("tax-assessment",),
    )  # fmt: skip


class Log:
    """An audit log in memory. `broken`: it cannot be written."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.broken = False

    @property
    def writable(self) -> bool:
        return not self.broken

    async def append(self, entry: Entry, body: bytes) -> Any:
        if self.broken:
            raise AuditUnavailable("the store does not answer")
        entry.to_bytes()
        self.entries.append(entry)


@dataclass
class ShownReceipt:
    """What a receipt's header is made of."""

    text: str = "cmVjZWlwdA"

    def encode(self) -> str:
        return self.text


@dataclass
class ShownView:
    """A view's bytes with what goes into its headers."""

    body: bytes
    policy: str

    @property
    def content_digest(self) -> str:
        return f"sha-256=:{b64encode(hashlib.sha256(self.body).digest()).decode()}:"


class Disclosing:
    """A disclosure that shows the same to all, remembers what was asked, and fails on demand."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.fails: Exception | None = None
        self.body = json.dumps({"values": {}, "records": {}, "not_available": []}).encode()

    async def disclose(self, request: Any) -> tuple[ShownView, ShownReceipt]:
        self.asked.append(request)
        if self.fails is not None:
            raise self.fails
        return ShownView(self.body, "policy-1"), ShownReceipt()


@dataclass
class City:
    """One gateway and what stands behind it."""

    folder: Path
    clock: StandingClock = field(default_factory=StandingClock)
    contracts: Sequence[Contract] = field(default_factory=lambda: (person(), call(), sealed()))
    log: Log = field(default_factory=Log)
    disclosing: Disclosing = field(default_factory=Disclosing)
    broker: FakeBroker = field(default_factory=FakeBroker)
    policy_away: bool = False
    nonces: bool = True
    peers: Sequence[str] = ()

    def __post_init__(self) -> None:
        shutil.copyfile(_empty_store(), self.folder / "store.db")
        self.store = Store(open_engine(f"sqlite:///{self.folder}/store.db", {}), self.clock)
        self.registry = StoreRegistry(self.store.engine, self.clock)
        self.reset()
        served = [one for one in self.contracts if one.sharing != "withheld"]
        for one in served:
            self.registry.register(one.registry_subject, one.schema_text)
            for spec in Layout().topics(one.topic, one.department):
                self.broker.ensure(spec)
        self.bound()

    def bound(self, **bounds: Any) -> None:
        """Begin again with these bounds of pushes, as a gateway with other settings does."""
        self.pushing = Pushing(
            self.registry, PushLedger(self.store.engine, self.clock), self.broker.publisher(),
            KeyMaker("k1", b"0123456789abcdef"), self.clock, PushSettings().model_copy(update=bounds), self.folder,
        )  # fmt: skip
        self.harvest = self.make_harvest()
        self.app = self.make_app()

    def reset(self) -> None:
        """Policies, log and disclosure as in the beginning; what the store and the topics hold stays."""
        self.clients = [
            client("tax-desk", "tax", "view"),
            client("civil-push", "civil", "publish", "registry"),
            client("hotline-push", "hotline", "publish", "registry"),
        ]
        self.make_bundle()
        self.policy_away = self.log.broken = False
        self.log.entries.clear()
        self.disclosing.__init__()  # type: ignore[misc]

    def make_bundle(self) -> None:
        self.bundle = Bundle.make(
            zone="Asia/Shanghai",
            clients=self.clients,
            purposes=[
                Purpose(id="tax-assessment", title={"en": "Tax", "zh-CN": "税"}, legal_basis="§ 5", sensitive=())
            ],
            agreements=(),
            terms=[Terms.of(one) for one in self.contracts],
            guardrails=(),
            schema="",
        )

    def newest(self) -> Bundle:
        if self.policy_away:
            raise PolicyUnavailable
        return self.bundle

    def make_harvest(self, **settings: Any) -> Harvest:
        """A gateway's count of who saw how many, beside those of this store's other gateways."""
        keys = KeyMaker("k1", b"0123456789abcdef")
        seen = SubjectsSeen(self.store.engine)
        return Harvest(GatewaySettings(**settings), "Asia/Shanghai", seen, keys, self.clock)

    def make_app(self, tokens: Tokens | None = None, secrets: Secrets | None = None) -> Edge:
        """The application; `tokens` in the place of a verifier that trusts KEY, `secrets` for HTTP Basic."""
        verified = tokens or verifier(KEY, clock=self.clock)
        self.identity = Identity(verified, self.newest, self.clock, self.make_binding(), secrets)
        parts: Any = Parts(
            identity=self.identity,
            bundle=self.newest,
            disclosure=self.disclosing,  # type: ignore[arg-type]
            trail=Trail(self.log, self.newest, self.clock),  # type: ignore[arg-type]
            registry=self.registry,
            harvest=self.harvest,
            pushing=self.pushing,
            issuer=None,
            checks={"audit": lambda: self.log.writable, "policy": lambda: not self.policy_away},
            signing_keys={"keys": [{"kty": "OKP"}]},
        )
        return build(parts)

    def make_binding(self) -> Binding:
        """What another gateway of this store has too: proofs used there are used here."""
        nonces = Nonces(b"the gateways' secret", self.clock) if self.nonces else None
        self.replays = Replays(UsedProofs(self.store.engine), self.clock)
        return Binding("http://gateway", self.replays, nonces, ClientCertificates(self.peers), self.clock)

    def http(self, client_id: str | None = "tax-desk", **changes: Any) -> httpx2.AsyncClient:
        """A client of the gateway with a good token; `changes` are to the token's claims."""
        headers = {}
        if client_id is not None:
            token = sign(KEY, claims(self.clock(), client_id=client_id, sub=client_id, **changes))
            headers["authorization"] = f"Bearer {token}"
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    def close(self) -> None:
        self.store.close()


@functools.cache
def _empty_store() -> Path:
    """A migrated store, made once: a copy of it is a store of one's own."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-test-"))
    atexit.register(shutil.rmtree, folder)
    store = Store(open_engine(f"sqlite:///{folder}/store.db", {}), StandingClock())
    store.migrate()
    store.close()
    return folder / "store.db"


def person(**more: Any) -> Contract:
    """civil.person: one record per citizen."""
    name = avro("name", ["null", "string"], default=None)
    return contract(name, **{"fields": {"name": {"concept": "citizen.name", "lead": True}}, **more})


def call() -> Contract:
    """hotline.call: many records per citizen."""
    return contract(
        avro("ticket", "string"), avro("topic", ["null", "string"], default=None), name="Call", department="hotline",
        record_key=["ticket"],
    )  # fmt: skip


def sealed() -> Contract:
    """civil.case_file: withheld."""
    return contract(name="CaseFile", department="civil", sharing="withheld", reason="State secret.")


def refused() -> NothingPermitted:
    return NothingPermitted("no contract about citizens is open for this purpose")


__all__ = ["CITIZEN", "ENTERPRISE", "KEY", "NOW", "City", "Log", "call", "client", "person", "refused", "sealed"]
