"""Instance files: one TOML file for each connector instance, a model of settings for each kind of connector.

The words are Kafka Connect's where it has one; docs/reference/connectors.md is made of the sentences below each field.
An unknown setting is refused; an error names the file, the setting and what to do, never a value that was found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from exchange.errors import SettingWrong
from exchange.publish import PUSH
from exchange.records import ERASE
from exchange.settings import Part, SecretReference, TimeZone, explain, read_table

GROUP = "exchange.connectors"

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(given: Any) -> timedelta:
    """`30s`, `500ms`, `5m`, `1h`, `1d`, or seconds as a number."""
    if isinstance(given, timedelta):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 10**9:
        return timedelta(seconds=given)
    found = _DURATION.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise ValueError("write a number of seconds, or a text such as 500ms, 30s, 5m, 1h, 1d")
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Scalar = bool | int | float | str
ColumnName = Annotated[str, Field(min_length=1)]
Position = Annotated[int, Field(ge=1, le=10_000, strict=True)]


class FieldSettings(Part):
    """[mapping.<field>] where a field's value comes from and how it is read."""

    column: ColumnName | Position | None = None
    """the column's name, or its position from 1. Names are compared without blanks and invisible characters around
    them, case and width"""
    value: Scalar | None = None
    """a constant instead of a column"""
    values: dict[str, Scalar] = Field(default={})
    """value mapping: text of the source = value. The list is closed: what is not in it is a reject"""
    other_values: str = Field(default="reject", pattern="^(reject|keep)$")
    """`keep`: what `values` does not list goes on as it is"""
    formats: list[str] = Field(default=[])
    """the forms of this field's dates or times; unset: those of `[formats]`"""
    thousands: str | None = Field(default=None, pattern=r"^[,.'\u00a0\u202f_ ]$")
    """the thousands separator; it must stand before groups of three digits"""
    decimal: str = Field(default=".", pattern="^[.,]$")
    """the decimal point, `.` or `,`"""
    null_values: list[str] | None = None
    """texts that mean null in this field; unset: the instance's"""
    empty: str | None = Field(default=None, pattern="^(null|text)$")
    """an empty text of this field; unset: the instance's"""

    @model_validator(mode="after")
    def _one_source(self) -> FieldSettings:
        if (self.column is None) == (self.value is None):
            raise ValueError("give either `column` or `value`")
        return self


class Formats(Part):
    """[formats] the forms of dates and times, unless a field names its own. The first that fits counts."""

    date: list[str] = Field(default=["%Y-%m-%d"])
    """forms of dates, the first that fits counts"""
    time: list[str] = Field(default=["%H:%M:%S", "%H:%M:%S.%f"])
    """forms of times of day"""
    timestamp: list[str] = Field(
        default=[
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S.%f",
            "%Y-%m-%dT%H:%M:%S%z",
            "%Y-%m-%dT%H:%M:%S.%f%z",
            "%Y-%m-%dT%H:%M:%S",
            "%Y-%m-%dT%H:%M:%S.%f",
        ]
    )
    """forms of times"""


class DeletedWhen(Part):
    """[deleted_when] the mark by which the source says that a row is deleted."""

    column: ColumnName | Position
    """name or position"""
    values: list[Scalar] = Field(default=[])
    """the marks; none given: any value but null and the empty text (a column such as `deleted_at`)"""


class RegistrySettings(Part):
    """[registry] where schemas are registered: the gateway's address and this connector's client there."""

    url: str = Field(pattern=r"^https?://")
    """such as `https://gateway.example/registry`; any registry of Confluent's form will do"""
    client_id: str | None = None
    """the connector's client, with scope `registry`"""
    client_secret: SecretReference | None = None
    """`file:PATH` (mode 0600) or `env:NAME`, never the secret itself"""
    client_key: SecretReference | None = None
    """instead of a secret: the client's private key (PEM: EC, Ed25519 or RSA), `file:PATH` or `env:NAME`;
    `private_key_jwt` (RFC 7523), as Keycloak's realm asks for it (docs/identity.md)"""
    token_url: str | None = None
    """the token endpoint of the issuer; unset: `<url without /registry>/oauth/token`"""
    issuer: str | None = None
    """with `client_key`: for whom it signs, the issuer as it stands in its tokens; unset: `token_url`"""

    @model_validator(mode="after")
    def _whole(self) -> RegistrySettings:
        if (self.client_id is None) != (self.client_secret is None and self.client_key is None):
            raise ValueError("client_id and client_secret go together, or client_id and client_key")
        if self.client_secret is not None and self.client_key is not None:
            raise ValueError("give either `client_secret` or `client_key`")
        return self


class Instance(Part):
    """The settings that every kind of connector has."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    """the instance: unique in its department, small letters, digits, hyphens. `<department>/<name>` stands on every
    record as its source. Changing it makes another source"""
    connector: str
    """`csv`, `sql`, `kafka`, or another kind that is installed"""
    contract: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    """`<department>.<dataset>`"""
    major: int | None = Field(default=None, ge=1)
    """which major of the contract; unset: the newest"""
    poll_interval: Duration = timedelta(seconds=30)
    """pause between readings: `500ms`, `30s`, `5m`, `1h`, `1d`, or seconds"""
    batch_size: int = Field(default=2_000, ge=1, le=50_000)
    """rows that are published and acknowledged together"""
    timezone: TimeZone | None = None
    """the zone of times that have none, such as `Asia/Shanghai`. Without it such a time is a reject"""
    max_reject_share: float = Field(default=0.1, ge=0, le=1)
    """more rejects than this share of a reading's rows stop the connector (docs/connectors.md#rejects)"""
    min_rejects: int = Field(default=3, ge=1)
    """fewer rejects than this never stop it"""
    cursor: Path | None = None
    """the file of docs/connectors.md#the-cursor-file; unset: `<data>/cursors/<department>.<name>.db`"""
    registry: RegistrySettings | None = None
    """where schemas are registered; unset: this machine's gateway"""
    metrics_host: str = "127.0.0.1"
    """the address of that port"""
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """where `connector run` serves `/metrics` (docs/reference/metrics.md); each instance of a machine has a port of
    its own"""
    mapping: dict[str, ColumnName | Position | FieldSettings] = Field(default={})
    """where each field comes from; a field that is not mentioned comes from the column of its own name"""
    formats: Formats = Formats()
    """forms of dates and times for all fields"""
    null_values: list[str] = Field(default=[])
    """texts that mean null, such as `NULL`, `N/A`"""
    empty: str = Field(default="null", pattern="^(null|text)$")
    """`text`: an empty text in a string field stays an empty text"""
    trim: bool = True
    """blanks (also U+3000 and U+00A0) at both ends of a text are dropped"""
    deleted_when: DeletedWhen | None = None
    """the mark by which the source says that a row is deleted"""

    @model_validator(mode="after")
    def _not_push(self) -> Instance:
        if self.name in (PUSH, ERASE):
            raise ValueError(f"the name {self.name} belongs to what is pushed over HTTP, or erased")
        return self

    def field_settings(self, field: str) -> FieldSettings | None:
        """What the file says of a contract's field, in the long form; None if it says nothing."""
        given = self.mapping.get(field)
        if given is None or isinstance(given, FieldSettings):
            return given
        return FieldSettings(column=given)


def read_toml(file: Path) -> Mapping[str, Any]:
    """The table in an instance file. Raises SettingWrong."""
    return read_table(file, "docs/connectors.md shows what an instance file holds")


def kinds() -> dict[str, Any]:
    """The kinds of connectors that are installed, by name: classes as connectors.protocol says, not loaded yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load_instance(file: Path) -> tuple[Any, Instance]:
    """The connector class and the settings of an instance file. Raises SettingWrong naming file and setting."""
    table = read_toml(file)
    installed = kinds()
    kind = table.get("connector")
    if kind not in installed:
        raise SettingWrong(f"{file}: connector: one of {', '.join(sorted(installed))} is expected")
    connector = installed[str(kind)].load()
    try:
        return connector, connector.Settings(**table)
    except ValidationError as error:
        raise SettingWrong(f"{file}: {explain(error)}") from None
