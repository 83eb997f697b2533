"""Settings: one TOML file (`exchange.toml`), each value also by environment (`EXCHANGE_STORE__URL`).

Relative paths and `sqlite:///` URLs are taken from the folder of the file. Secrets are `file:PATH` (mode 0600) or
`env:NAME`, never the value itself.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Collection
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exchange.errors import SettingWrong
from exchange.files import Unfit, content

TABLE_BYTES = 1 << 20


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
    producer: str = Field(default="User:{department}-producer", pattern=r"^User:.*\{department\}")  # of inboxes
    reader: str = Field(default="User:{department}-reader", pattern=r"^User:.*\{department\}")  # of whole topics
    materialise: str = Field(default="User:exchange-materialise", pattern="^User:")
    gateway: str = Field(default="User:exchange-gateway", pattern="^User:")
    operators: list[str] = []  # whose access `exchange broker` leaves alone

    def of(self, departments: Collection[str]) -> set[str]:
        """All of them, but for the operators."""
        forms = (self.connector, self.producer, self.reader)
        own = {form.format(department=department) for form in forms for department in departments}
        return own | {self.materialise, self.gateway}


class QuotaSettings(Part):
    """[broker.quotas] bytes a second, at each broker, of a department's own programs; unset: none is looked at."""

    written: int | None = Field(default=None, ge=1)  # into inboxes, by a producer
    read: int | None = Field(default=None, ge=1)  # of whole topics, by a reader


class BrokerSettings(Part):
    """[broker] where the topics are."""

    url: str = "sqlite:///data/topics.db"  # or kafka://host:port,host:port
    partitions: int = Field(
        default=12, ge=1, le=10_000
    )  # of each contract topic, fixed at creation; SQLite topics have one
    replication: int = Field(default=1, ge=1, le=16)
    inbox_days: int = Field(default=7, ge=1, le=365)  # how long a message waits for the kafka connector
    properties: dict[str, str | int | float | bool] = {}  # handed to librdkafka: TLS, SASL
    inboxes: list[str] = []  # datasets (<department>.<dataset>) into whose inbox a department's own programs write
    principals: PrincipalSettings = PrincipalSettings()
    quotas: QuotaSettings = QuotaSettings()


class StoreSettings(Part):
    """[store] where facets, positions, rejects, schemas and bundles are."""

    url: str = "sqlite:///data/store.db"  # or postgresql://user@host/database
    options: dict[str, str | int | float | bool] = {}  # handed to the driver


class AuditSettings(Part):
    """[audit] where the audit log is, and who writes it."""

    url: str | None = None  # unset: audit.db beside a SQLite store, else the store's database
    options: dict[str, str | int | float | bool] = {}  # handed to the driver where `url` is set
    writer: str = Field(default="gateway-1", pattern=r"^[a-z0-9-]{1,40}$")  # each gateway process has a name of its own
    origin: str = Field(default="exchange.local/audit", pattern=r"^[^\s+]{1,200}$")  # the name in its checkpoints


class KeySettings(Part):
    """[keys] the secrets; `exchange init` makes the files."""

    bus: SecretReference = "file:keys/bus.key"
    bus_kid: str = Field(default="k1", pattern=r"^[a-z0-9]{1,8}$")
    audit: SecretReference = "file:keys/audit.key"
    audit_kid: str = Field(default="a1", pattern=r"^[a-z0-9]{1,8}$")
    former_audit: dict[str, SecretReference] = {}  # by key id: entries written under old secrets are still found
    signing: SecretReference = "file:keys/signing.pem"
    former_signing: list[SecretReference] = []  # public halves of old keys stay published


# Signatures with a public key only: with HS* whoever can verify can sign (RFC 8725 section 3.1).
SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]


DISCOVERED = "discovery"  # the token endpoint is the one that the discovery document names


class IssuerSettings(Part):
    """[[issuers]] an OIDC issuer whose tokens are accepted."""

    issuer: str  # compared exactly with a token's `iss`
    discovery: str | None = None  # where the discovery document is fetched, if not at the issuer's own address
    jwks: str | None = None  # where the keys are fetched, if not where the discovery document says
    token_endpoint: str | None = None  # where client id and secret (HTTP Basic) become a token, or DISCOVERED
    typ: list[str] = ["at+jwt"]
    algorithms: list[SigningAlgorithm] = ["RS256", "ES256", "PS256", "EdDSA", "Ed25519"]
    max_lifetime_s: int = Field(default=600, ge=1, le=86_400)
    client_claims: list[str] = ["client_id", "azp"]  # the first one present names the client
    person_subjects: bool = False  # whether `sub` names a person (an officer) where it differs from the client


class DevIssuerSettings(Part):
    """[dev_issuer] the built-in token issuer: runs only while every listener is on loopback."""

    enabled: bool = True
    # What its tokens and clients.toml call it. A name, not an address: the policies stay when the port changes.
    issuer: str = "https://issuer.exchange.invalid"
    key: SecretReference = "file:keys/issuer.pem"
    clients: Path = Path("dev-clients.toml")  # client id -> secret or public JWK; 0600
    lifetime_s: int = Field(default=600, ge=1, le=3_600)


class GatewaySettings(Part):
    """[gateway] the HTTP edge."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9464, ge=0, le=65_535)
    public_url: str | None = None  # as clients see it; unset: http://host:port
    audience: str = "exchange"
    requests_in_flight: int = Field(default=64, ge=1, le=10_000)  # of one client, in each gateway process
    subjects_per_day: int = Field(default=20_000, ge=1, le=10**9)  # distinct ones that a client may see, all gateways
    dpop_nonces: bool = True  # whether a DPoP proof must hold a nonce of the gateway's (RFC 9449 section 9)
    client_cert_peers: list[Network] = []  # proxies whose Client-Cert header (RFC 9440) is believed
    subjects_per_day_of: dict[str, Annotated[int, Field(ge=1, le=10**9)]] = {}  # client id -> its own number

    def without_effect(self, client_ids: Collection[str]) -> list[str]:
        """What is set for a client that is none of these: mistyped, or struck from the list since."""
        unknown = sorted(set(self.subjects_per_day_of).difference(client_ids))
        return [f"gateway.subjects_per_day_of: there is no client {one}" for one in unknown]


class PushSettings(Part):
    """[push] what one push may bring to a gateway, and all of them together."""

    records: int = Field(default=100_000, ge=1)  # of one push, empty lines included
    max_reject_share: float = Field(default=0.1, ge=0, le=1)  # of what was read so far; over it the push stops
    min_rejects: int = Field(default=1_000, ge=1)  # fewer rejects than this never stop it
    spool_bytes: int = Field(default=1 << 30, ge=1 << 27)  # of all bodies under way; half of it for one department


class MaterialiseSettings(Part):
    """[materialise] the second verb's process."""

    group: str = "exchange.materialise"
    batch: int = Field(default=10_000, ge=1, le=100_000)  # records in one transaction at most
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9465, ge=0, le=65_535)


class RejectSettings(Part):
    """[rejects] what was set aside."""

    keep_days: int = Field(default=30, ge=1, le=3_650)


class Settings(BaseSettings):
    """exchange.toml."""

    model_config = SettingsConfigDict(extra="forbid", env_prefix="EXCHANGE_", env_nested_delimiter="__", frozen=True)

    city: str = "Exchange"
    timezone: TimeZone = "Asia/Shanghai"
    schemas: Path = Path("schemas")
    policies: Path = Path("policies")
    connectors: Path = Path("connectors.d")
    data: Path = Path("data")
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


def read_table(file: Path, missing: str) -> dict[str, Any]:
    """The table in a TOML file. `missing` says what to do where there is none. Raises SettingWrong naming the file."""
    try:
        return tomllib.loads(content(file, TABLE_BYTES).decode("utf-8"))
    except Unfit as unfit:
        raise SettingWrong(f"{file} {unfit}") from None
    except FileNotFoundError:
        raise SettingWrong(f"{file} does not exist; {missing}") from None
    except RecursionError:
        raise SettingWrong(f"{file} cannot be read as TOML: it is nested too deeply") from None
    except (OSError, ValueError) as error:  # a decoder's errors, and those of numbers that are too long
        raise SettingWrong(f"{file} cannot be read as TOML: {error}") from None


def read_secret(name: str, reference: str, root: Path) -> bytes:
    """The bytes behind `file:PATH` (only readable by its owner) or `env:NAME`.

    Raises SettingWrong naming the setting `name`, what was found and what to do.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        value = os.environ.get(where)
        if not value:
            raise SettingWrong(f"{name}: the environment variable {where} is not set")
        return value.encode()
    file = root / where
    try:
        mode = file.stat().st_mode
        value_bytes = file.read_bytes()
    except OSError as error:
        raise SettingWrong(f"{name}: {file} cannot be read ({error.strerror}); `exchange init` makes keys") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingWrong(f"{name}: {file} can be read by others (mode {stat.S_IMODE(mode):04o}); run chmod 600 on it")
    if not value_bytes.strip():
        raise SettingWrong(f"{name}: {file} is empty")
    return value_bytes


def explain(error: ValidationError) -> str:
    """What a person needs of a validation error: each setting and its reason, never the value found."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in problems
    )
