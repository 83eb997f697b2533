"""The contracts that records were written under, by the schema id in their framing.

An id is four bytes that anybody may have written. Ids are given in turn, so one question, which is the newest, answers
for all that lie above it, however many a flood of records makes up. It is asked anew for every poll: a schema is
registered before the first record is written under it, so what is not known after the poll was never registered.
"""

from __future__ import annotations

from typing import Protocol

from exchange.contracts import Contract
from exchange.errors import ContractRefused, UnknownSchema

MAX_REASON = 1_000  # characters kept of why an id stands for no contract: a schema may have any number of faults


class SchemaSource(Protocol):
    """What is asked of the registry. Both raise RegistryUnavailable."""

    def schema(self, schema_id: int) -> str:
        """The text that an id stands for. Raises UnknownSchema if there is none."""
        ...

    def newest_id(self) -> int:
        """The greatest id that was given, 0 before the first."""
        ...


class Schemas:
    """Contracts by schema id; `polled` is called after every poll, before what it brought is decided on."""

    def __init__(self, registry: SchemaSource) -> None:
        self._registry = registry
        self._contracts: dict[int, Contract] = {}
        self._refused: dict[int, str] = {}  # registered, and no contract of this program
        self._missing: set[int] = set()  # below the newest, and never given: as few as a database leaves out
        self._newest: int | None = None

    def polled(self) -> None:
        """What is not known now is asked about once more."""
        self._newest = None
        self._missing.clear()

    def contract(self, schema_id: int) -> Contract:
        """Raises UnknownSchema, ContractRefused; RegistryUnavailable: nobody knows yet."""
        known = self._contracts.get(schema_id)
        if known is not None:
            return known
        if schema_id in self._refused:
            raise ContractRefused(self._refused[schema_id])
        if self._newest is None:
            self._newest = self._registry.newest_id()
        if not 0 < schema_id <= self._newest or schema_id in self._missing:
            raise UnknownSchema(str(schema_id))
        try:
            contract = self._contracts[schema_id] = Contract.from_text(self._registry.schema(schema_id))
        except UnknownSchema:
            self._missing.add(schema_id)
            raise
        except ContractRefused as refused:
            self._refused[schema_id] = refused.detail[:MAX_REASON]
            raise
        return contract
