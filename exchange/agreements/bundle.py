"""The policy bundle: everything that decisions and views rest on, as one immutable version.

Its bytes are canonical JSON (RFC 8785) and its version is their SHA-256 in hex. A process that reads a bundle from the
store needs no file beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import rfc8785
from pydantic import ValidationError

from exchange.agreements.masks import MASKS, MaskName
from exchange.agreements.model import Agreement, Client, Guardrail, Part, Purpose, Terms
from exchange.errors import PolicyUnavailable


class _Body(Part):
    """What a bundle's bytes say. Lists are sorted by their keys, so that one content has one version."""

    format: Literal[1]
    zone: str
    clients: tuple[Client, ...]
    purposes: tuple[Purpose, ...]
    agreements: tuple[Agreement, ...]
    terms: tuple[Terms, ...]
    masks: dict[MaskName, tuple[str, ...] | None]
    guardrails: tuple[Guardrail, ...]
    guardrail_schema: str

    def canonical(self) -> bytes:
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))


def has_version(body: bytes, version: str) -> bool:
    """Whether these are the bytes of this version. `policy apply` writes no others: they were damaged, or put there."""
    return hashlib.sha256(body).hexdigest() == version


@dataclass(frozen=True, eq=False)
class Bundle:
    """One version of the policies. Made by `make` or `from_bytes` only; two with one version are the same."""

    version: str
    zone: str
    clients: Mapping[tuple[str, str], Client]
    purposes: Mapping[str, Purpose]
    agreements: Mapping[str, Agreement]
    terms: Mapping[tuple[str, int], Terms]
    guardrails: tuple[Guardrail, ...]
    schema: str
    _bytes: bytes = field(repr=False)

    @classmethod
    def make(
        cls,
        *,
        zone: str,
        clients: Iterable[Client],
        purposes: Iterable[Purpose],
        agreements: Iterable[Agreement],
        terms: Iterable[Terms],
        guardrails: Iterable[Guardrail],
        schema: str,
    ) -> Bundle:
        """Put the parts together. Keys must be unique: the loader has seen to it. Raises ValueError if they are not."""
        body = _Body(
            format=1,
            zone=zone,
            clients=tuple(sorted(clients, key=lambda client: client.key)),
            purposes=tuple(sorted(purposes, key=lambda purpose: purpose.id)),
            agreements=tuple(sorted(agreements, key=lambda agreement: agreement.id)),
            terms=tuple(sorted(terms, key=lambda one: (one.contract, one.major))),
            masks={name: None if mask.types is None else tuple(sorted(mask.types)) for name, mask in MASKS.items()},
            guardrails=tuple(sorted(guardrails, key=lambda guardrail: guardrail.id)),
            guardrail_schema=schema,
        )
        return cls._of(body, body.canonical())

    @classmethod
    def from_bytes(cls, body: bytes, version: str) -> Bundle:
        """Rebuild a bundle from its bytes, which must have this version.

        Raises PolicyUnavailable if the bytes are not those of the version, or not a bundle that this program can read.
        """
        if not has_version(body, version):
            raise PolicyUnavailable("the stored bundle does not match its version")
        try:
            read = _Body.model_validate_json(body)
            if read.canonical() != body:
                raise PolicyUnavailable("the stored bundle is not in canonical form")
            return cls._of(read, body)
        except (ValidationError, ValueError) as error:
            count = error.error_count() if isinstance(error, ValidationError) else 1
            raise PolicyUnavailable(f"the stored bundle is not one of this program's ({count} errors)") from None

    def to_bytes(self) -> bytes:
        """The canonical bytes; their SHA-256 is the version."""
        return self._bytes

    def client(self, issuer: str, client_id: str) -> Client | None:
        """The client that is listed under these exact names, None if there is none."""
        return self.clients.get((issuer, client_id))

    def served(self) -> list[Terms]:
        """The terms of what has a topic: all but what is withheld."""
        return [terms for terms in self.terms.values() if terms.sharing != "withheld"]

    def majors(self, contract: str) -> list[int]:
        """The majors of a contract, newest first; empty if there is none of that name."""
        return sorted((major for name, major in self.terms if name == contract), reverse=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bundle) and self.version == other.version

    def __hash__(self) -> int:
        return hash(self.version)

    @classmethod
    def _of(cls, body: _Body, canonical: bytes) -> Bundle:
        bundle = cls(
            version=hashlib.sha256(canonical).hexdigest(),
            zone=body.zone,
            clients=MappingProxyType({client.key: client for client in body.clients}),
            purposes=MappingProxyType({purpose.id: purpose for purpose in body.purposes}),
            agreements=MappingProxyType({agreement.id: agreement for agreement in body.agreements}),
            terms=MappingProxyType({(one.contract, one.major): one for one in body.terms}),
            guardrails=body.guardrails,
            schema=body.guardrail_schema,
            _bytes=canonical,
        )
        for kept, given in (
            (bundle.clients, body.clients),
            (bundle.purposes, body.purposes),
            (bundle.agreements, body.agreements),
            (bundle.terms, body.terms),
            ({guardrail.id for guardrail in body.guardrails}, body.guardrails),
        ):
            if len(kept) != len(given):
                raise ValueError("two entries of the bundle have one key")
        return bundle
