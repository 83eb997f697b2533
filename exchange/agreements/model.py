"""What the policies speak of: clients, purposes, agreements, and the terms of each contract.

All of it is typed, immutable and refuses unknown members: whatever stands in a bundle passes the same checks when it is
read back as when it was applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exchange.agreements.masks import MaskName

if TYPE_CHECKING:  # a gateway reads bundles and needs no codec
    from exchange.contracts import Contract

Op = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
Scope = Literal["view", "publish", "registry"]
Constraint = Literal["dpop", "mtls"]
Effect = Literal["permit", "forbid"]
Level = Annotated[int, Field(ge=1, le=4)]
Scalar = bool | int | float | str


def _whole_second(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone")
    if moment.microsecond:
        raise ValueError("a time is given in whole seconds")
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_whole_second)]


class Part(BaseModel):
    """A part of the bundle. Unknown members, other types and changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Client(Part):
    """A program of a department that calls the gateway, known by (issuer, client id).

    `sender_constrained`: only tokens that are bound to its key (RFC 9449) or its certificate (RFC 8705) count. It is
    left out of the bytes where it is not set, so that a bundle without it is what it was.
    """

    issuer: str
    client_id: str
    name: str
    department: str
    scopes: tuple[Scope, ...]
    purposes: tuple[str, ...]
    sender_constrained: Constraint | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def key(self) -> tuple[str, str]:
        return (self.issuer, self.client_id)


class Purpose(Part):
    """Why data is read. `sensitive` lists the contracts whose level 3 fields it may see, if a case is given too."""

    id: str
    title: dict[str, str]
    legal_basis: str
    sensitive: tuple[str, ...]


class Condition(Part):
    """One term of a row condition. The literal stands in the JSON form of the field's type; for `in` a list of them."""

    field: str
    op: Op
    literal: Scalar | tuple[Scalar, ...]


class Agreement(Part):
    """What the owner of a contract grants to a department for a purpose: in force while from_ <= now < until.

    Both are instants in UTC; `until` lies behind the last day, which counts in full in the bundle's zone.
    """

    id: str
    owner: str
    consumer: str
    contract: str
    major: int
    fields: dict[str, MaskName | None]
    purpose: str
    condition: tuple[Condition, ...]
    quota: int | None
    from_: Moment = Field(validation_alias="from", serialization_alias="from")
    until: Moment
    approved_by: str

    def in_force(self, now: datetime) -> bool:
        return self.from_ <= now < self.until


class FieldTerms(Part):
    """What policies and views need to know of a field. `type` is the contract's word, such as `timestamp-millis`."""

    name: str
    aliases: tuple[str, ...]
    level: Level
    concept: str | None
    leads: bool
    type: str
    nullable: bool
    doc: str


class Terms(Part):
    """The properties of one major of a contract, as they were when the bundle was made.

    `cycle_s` is the promised update cycle in seconds; `reason` says why a withheld contract is withheld.
    """

    contract: str
    major: int
    owner: str
    title: dict[str, str]
    kind: Literal["citizen", "enterprise"]
    scheme: str
    sharing: Literal["unconditional", "conditional", "withheld"]
    reason: str | None
    cycle_s: int | None
    record_key: tuple[str, ...]
    fields: dict[str, FieldTerms]

    @property
    def topic(self) -> str:
        """The contract's topic, as `Contract.topic`."""
        return f"{self.contract}.v{self.major}"

    @property
    def cycle(self) -> timedelta | None:
        return None if self.cycle_s is None else timedelta(seconds=self.cycle_s)

    def shown_name(self, field: str) -> str:
        """The field's name in a view's values: its concept, else `<contract>.<field>`."""
        return self.fields[field].concept or f"{self.contract}.{field}"

    @classmethod
    def of(cls, contract: Contract) -> Terms:
        """The terms of a contract that was loaded."""
        return cls(
            contract=contract.name,
            major=contract.major,
            owner=contract.owner,
            title=dict(contract.title),
            kind=contract.kind,
            scheme=contract.scheme,
            sharing=contract.sharing,
            reason=contract.reason,
            cycle_s=None if contract.cycle is None else int(contract.cycle.total_seconds()),
            record_key=tuple(contract.record_key),
            fields={
                field.name: FieldTerms(
                    name=field.name,
                    aliases=tuple(field.aliases),
                    level=field.level,
                    concept=field.concept,
                    leads=field.leads,
                    type=field.type,
                    nullable=field.nullable,
                    doc=field.doc,
                )
                for field in contract.fields.values()
            },
        )


class Guardrail(Part):
    """One Cedar policy: its @id, the sentence it stands for, a mask that comes with a permit, and its JSON form."""

    id: str
    effect: Effect
    says: str
    mask: MaskName | None
    policy: Mapping[str, Any]
