"""Settings: one TOML file (`exchange.toml`), each value also by environment (`EXCHANGE_STORE__URL`).

Relative paths and `sqlite:///` URLs are taken from the folder of the file. Secrets are `file:PATH` (mode 0600) or
`env:NAME`, never the value itself. What stands below a field is its page (docs/reference/settings.md).

    reading   a TOML file, a secret, and what a person is told of a value that is wrong
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exchange.errors import SettingWrong
from exchange.settings.reading import explain, read_secret, read_table

__all__ = [
    "DISCOVERED",
    "AuditSettings",
    "BrokerSettings",
    "DevIssuerSettings",
    "GatewaySettings",
    "IssuerSettings",
    "KeySettings",
    "MaterialiseSettings",
    "Network",
    "Part",
    "PrincipalSettings",
    "PushSettings",
    "QuotaSettings",
    "RejectSettings",
    "SecretReference",
    "Settings",
    "SigningAlgorithm",
    "StoreSettings",
    "TimeZone",
    "explain",
    "read_secret",
    "read_table",
]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("not a time zone of the IANA database, such as Asia/Shanghai") from None
    return name


def _secret_reference(text: str) -> str:
    if not text.startswith(("file:", "env:")):
        raise ValueError("a secret is written as file:PATH or env:NAME, never as the value itself")
    return text


def _network(text: str) -> str:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError("not a network such as 10.1.2.0/24 or 10.1.2.3") from None
    if network.prefixlen == 0:
        raise ValueError("everyone is not a network of proxies")
    return text


Network = Annotated[str, AfterValidator(_network)]
TimeZone = Annotated[str, AfterValidator(_zone)]
SecretReference = Annotated[str, AfterValidator(_secret_reference)]


class Part(BaseModel):
    """One table of exchange.toml. An unknown name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PrincipalSettings(Part):
    """[broker.principals] as whom each part logs in to Kafka; `{department}` stands for a department's name."""

    connector: str = Field(default="User:{department}-connector", pattern=r"^User:.*\{department\}")
    """a department's connectors"""
    producer: str = Field(default="User:{department}-producer", pattern=r"^User:.*\{department\}")
    """its own programs that write its inboxes"""
    reader: str = Field(default="User:{department}-reader", pattern=r"^User:.*\{department\}")
    """its programs that read whole topics"""
    materialise: str = Field(default="User:exchange-materialise", pattern="^User:")
    """materialisers"""
    gateway: str = Field(default="User:exchange-gateway", pattern="^User:")
    """gateways"""
    operators: list[str] = []
    """principals whose access `exchange broker` leaves alone"""

    def of(self, departments: Collection[str]) -> set[str]:
        """All of them, but for the operators."""
        forms = (self.connector, self.producer, self.reader)
        own = {form.format(department=department) for form in forms for department in departments}
        return own | {self.materialise, self.gateway}


class QuotaSettings(Part):
    """[broker.quotas] bytes a second, at each broker, of a department's own programs; unset: none is looked at."""

    written: int | None = Field(default=None, ge=1)
    """into inboxes, by its producer"""
    read: int | None = Field(default=None, ge=1)
    """of whole topics, by its reader"""


class BrokerSettings(Part):
    """[broker] where the topics are."""

    url: str = "sqlite:///data/topics.db"
    """or `kafka://host:port,host:port`"""
    partitions: int = Field(default=12, ge=1, le=10_000)
    """of each contract topic, fixed when it is created; SQLite topics have one"""
    replication: int = Field(default=1, ge=1, le=16)
    """copies of each topic; 3 on a cluster"""
    inbox_days: int = Field(default=7, ge=1, le=365)
    """how long a message waits in an inbox for the kafka connector"""
    properties: dict[str, str | int | float | bool] = {}
    """`[broker.properties]`: handed to librdkafka, for TLS and SASL; a value `file:PATH` (mode 0600) or `env:NAME` is a
    secret"""
    inboxes: list[str] = []
    """datasets (`<department>.<dataset>`) into whose inbox a department's own programs write (docs/broker.md)"""
    principals: PrincipalSettings = PrincipalSettings()
    quotas: QuotaSettings = QuotaSettings()


class StoreSettings(Part):
    """[store] where facets, positions, rejects, schemas and bundles are."""

    url: str = "sqlite:///data/store.db"
    """or `postgresql://user@host/database`"""
    options: dict[str, str | int | float | bool] = {}
    """`[store.options]`: handed to the driver (`sslmode`, `connect_timeout`)"""


class AuditSettings(Part):
    """[audit] where the audit log is, and who writes it."""

    url: str | None = None
    """unset: `audit.db` beside a SQLite store, else the store's database"""
    options: dict[str, str | int | float | bool] = {}
    """`[audit.options]`: handed to the driver where `url` is set; else those of `[store]` hold"""
    writer: str = Field(default="gateway-1", pattern=r"^[a-z0-9-]{1,40}$")
    """the name under which this gateway writes; each gateway process has its own"""
    origin: str = Field(default="exchange.local/audit", pattern=r"^[^\s+]{1,200}$")
    """this log's name in its checkpoints: unique, without blanks and plus signs, best a URL without its scheme"""


class KeySettings(Part):
    """[keys] the secrets; `exchange init` makes the files."""

    bus: SecretReference = "file:keys/bus.key"
    """makes the subject keys of topics and facets; connectors, materialiser and gateway share it"""
    bus_kid: str = Field(default="k1", pattern=r"^[a-z0-9]{1,8}$")
    """stands in front of each such key; another secret is another kid"""
    audit: SecretReference = "file:keys/audit.key"
    """makes the subject keys and officer pseudonyms of the audit log, and the nonces of DPoP proofs; the gateways'
    alone"""
    audit_kid: str = Field(default="a1", pattern=r"^[a-z0-9]{1,8}$")
    """the same for the audit secret"""
    former_audit: dict[str, SecretReference] = {}
    """earlier audit secrets by their ids, such as `{ a1 = "file:keys/audit-1.key" }`: entries written under them are
    still found by subject"""
    signing: SecretReference = "file:keys/signing.pem"
    """Ed25519: signs receipts and checkpoints"""
    former_signing: list[SecretReference] = []
    """earlier signing keys whose public halves stay published"""


# Signatures with a public key only: with HS* whoever can verify can sign (RFC 8725 section 3.1).
SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]


DISCOVERED = "discovery"  # the token endpoint is the one that the discovery document names


class IssuerSettings(Part):
    """[[issuers]] an OIDC issuer whose tokens are accepted."""

    issuer: str
    """exactly the token's `iss`"""
    name: str | None = None
    """what `clients.toml` calls it, so that policies stay when it moves; unset: the same"""
    discovery: str | None = None
    """where the discovery document is fetched, if not at the issuer's own address"""
    jwks: str | None = None
    """where the keys are fetched, if not where the discovery document says"""
    token_endpoint: str | None = None
    """where a client id and secret that come as HTTP Basic to the registry are exchanged for a token: an address, or
    `"discovery"` for the one that the discovery document names; of one issuer at most"""
    typ: list[str] = ["at+jwt"]
    """token types that are accepted"""
    algorithms: list[SigningAlgorithm] = ["RS256", "ES256", "PS256", "EdDSA", "Ed25519"]
    """signature algorithms that are accepted"""
    max_lifetime_s: int = Field(default=600, ge=1, le=86_400)
    """a token that lives longer is refused"""
    client_claims: list[str] = ["client_id", "azp"]
    """the first one present names the client"""
    person_subjects: bool = False
    """whether `sub` names an officer where it differs from the client"""

    @property
    def listed(self) -> str:
        """What clients.toml calls it."""
        return self.name or self.issuer


class DevIssuerSettings(Part):
    """[dev_issuer] the built-in token issuer: runs only while every listener is on loopback."""

    enabled: bool = True
    """the built-in issuer; refused unless every listener is on loopback"""
    issuer: str = "https://issuer.exchange.invalid"
    """what its tokens and `clients.toml` call it: a name, which stays when the port changes"""
    key: SecretReference = "file:keys/issuer.pem"
    """what it signs tokens with"""
    clients: Path = Path("dev-clients.toml")
    """which clients it knows, with the hashes of their secrets or their public keys"""
    lifetime_s: int = Field(default=600, ge=1, le=3_600)
    """how long its tokens live"""


class GatewaySettings(Part):
    """[gateway] the HTTP edge."""

    host: str = "127.0.0.1"
    """where it listens"""
    port: int = Field(default=8080, ge=0, le=65_535)
    """the port of it; 0 takes a free one"""
    metrics_host: str = "127.0.0.1"
    """where `/metrics` listens"""
    metrics_port: int = Field(default=9464, ge=0, le=65_535)
    """the port of it; 0 takes a free one"""
    public_url: str | None = None
    """as clients see it, and as their DPoP proofs name it; unset: `http://host:port`"""
    audience: str = "exchange"
    """what a token's `aud` must contain"""
    requests_in_flight: int = Field(default=64, ge=1, le=10_000)
    """views and pushes that one client may have under way in one gateway process"""
    subjects_per_day: int = Field(default=20_000, ge=1, le=10**9)
    """about how many citizens and enterprises one client may see in a day, in all gateways of a store together"""
    dpop_nonces: bool = True
    """whether a DPoP proof must hold a nonce of the gateway's (docs/http.md#tokens-that-are-bound-to-a-key)"""
    client_cert_peers: list[Network] = []
    """networks of proxies whose `Client-Cert` header is believed, such as `["10.1.2.3", "fd00:1::/64"]`"""
    subjects_per_day_of: dict[str, Annotated[int, Field(ge=1, le=10**9)]] = {}
    """another number for a client, by its client id, whichever issuer's: `subjects_per_day_of = { tax-desk = 500 }`. A
    name that no client has is told by `exchange policy apply` and `test`, and in the log of a gateway that starts"""

    def locked_out(self, constrained: Mapping[str, str | None]) -> list[str]:
        """Which clients, by id with how they are constrained, can never come in under these settings, and why."""
        nowhere = self.public_url is None and self.host in ("0.0.0.0", "::")  # noqa: S104
        found = []
        for client, how in sorted(constrained.items()):
            if how == "mtls" and not self.client_cert_peers:
                found.append(f"client {client} must show a certificate, and gateway.client_cert_peers names no proxy")
            if how == "dpop" and nowhere:
                found.append(f"client {client} must prove its key for an address, and gateway.public_url names none")
        return found

    def without_effect(self, client_ids: Collection[str]) -> list[str]:
        """What is set for a client that is none of these: mistyped, or struck from the list since."""
        unknown = sorted(set(self.subjects_per_day_of).difference(client_ids))
        return [f"gateway.subjects_per_day_of: there is no client {one}" for one in unknown]


class PushSettings(Part):
    """[push] what one push may bring to a gateway, and all of them together."""

    records: int = Field(default=100_000, ge=1)
    """records of one push at most, empty lines included; more is 413"""
    max_reject_share: float = Field(default=0.1, ge=0, le=1)
    """a push stops as soon as more of the records that were read so far are rejected; 1 lets every push go on"""
    min_rejects: int = Field(default=1_000, ge=1)
    """fewer rejects than this never stop it"""
    spool_bytes: int = Field(default=1 << 30, ge=1 << 27)
    """bytes of all bodies under way in one gateway process, in unnamed files in `data`, half of it for one department;
    more is 503"""


class MaterialiseSettings(Part):
    """[materialise] the second verb's process."""

    group: str = "exchange.materialise"
    """the consumer group"""
    batch: int = Field(default=10_000, ge=1, le=100_000)
    """records in one transaction at most"""
    metrics_host: str = "127.0.0.1"
    """where `/metrics` listens"""
    metrics_port: int = Field(default=9465, ge=0, le=65_535)
    """the port of it; 0: no metrics"""


class RejectSettings(Part):
    """[rejects] what was set aside."""

    keep_days: int = Field(default=30, ge=1, le=3_650)
    """how long a reject's payload is kept"""


class Settings(BaseSettings):
    """exchange.toml."""

    model_config = SettingsConfigDict(extra="forbid", env_prefix="EXCHANGE_", env_nested_delimiter="__", frozen=True)

    city: str = "Exchange"
    """the name that people see"""
    timezone: TimeZone = "Asia/Shanghai"
    """the zone in which an agreement's days begin and end"""
    schemas: Path = Path("schemas")
    """the folder of contracts"""
    policies: Path = Path("policies")
    """the folder of clients, purposes, agreements and guardrails"""
    connectors: Path = Path("connectors.d")
    """the folder of connector instance files that `exchange up` runs"""
    data: Path = Path("data")
    """the folder for connectors' cursor files and what else a machine keeps"""
    broker: BrokerSettings = BrokerSettings()
    store: StoreSettings = StoreSettings()
    audit: AuditSettings = AuditSettings()
    keys: KeySettings = KeySettings()
    issuers: list[IssuerSettings] = []
    dev_issuer: DevIssuerSettings = DevIssuerSettings()
    gateway: GatewaySettings = GatewaySettings()
    push: PushSettings = PushSettings()
    materialise: MaterialiseSettings = MaterialiseSettings()
    rejects: RejectSettings = RejectSettings()
    log: Literal["json", "console"] = "console"
    """`"json"` for machines"""
    root: Path = Field(default=Path(), exclude=True)  # the folder of the file; set by `load`

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then what `load` read from the file."""
        return (env_settings, init_settings)

    @classmethod
    def load(cls, file: Path) -> Settings:
        """Read the file and the environment. Raises SettingWrong naming file, setting and what to do."""
        table = read_table(file, "`exchange init` makes one")
        if "root" in table:
            raise SettingWrong(f"{file}: root: Extra inputs are not permitted")
        try:
            return cls(**table, root=file.resolve().parent)
        except ValidationError as error:
            raise SettingWrong(f"{file}: {explain(error)}") from None

    def path(self, path: Path) -> Path:
        """A path of the settings, made absolute from the folder of the file."""
        return self.root / path

    def url(self, url: str) -> str:
        """A URL of the settings; `sqlite:///relative` is made absolute from the folder of the file."""
        prefix = "sqlite:///"
        return prefix + str(self.root / url.removeprefix(prefix)) if url.startswith(prefix) else url

    @property
    def audit_url(self) -> str:
        """Where the audit log is: its own file beside a SQLite store, else the store's database."""
        if self.audit.url is not None:
            return self.url(self.audit.url)
        store = self.url(self.store.url)
        prefix = "sqlite:///"
        if not store.startswith(prefix):
            return store
        return prefix + str(Path(store.removeprefix(prefix)).with_name("audit.db"))

    @property
    def audit_options(self) -> dict[str, str | int | float | bool]:
        """What is handed to the audit log's driver: the store's options where the log is in the store's database."""
        return self.store.options if self.audit_url == self.url(self.store.url) else self.audit.options

    def secret_file(self, reference: str) -> Path | None:
        """The file of a secret; None for one that is in the environment."""
        kind, _, where = reference.partition(":")
        return self.root / where if kind == "file" else None

    def secret(self, name: str, reference: str) -> bytes:
        """The bytes of a secret. Raises SettingWrong naming the setting; the value is in no error."""
        return read_secret(name, reference, self.root)
