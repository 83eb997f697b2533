"""How the gateway reads: few rows, many times, without ever waiting for a writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from exchange.records import Facet

LIST_LIMIT = 201  # facets of one contract in one answer: a view shows 200 and must know whether there are more


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a facet stands in its contract's list (newest event time first): what follows is read `after` it."""

    event_time: datetime
    record_key: str


@dataclass(frozen=True, slots=True)
class Told:
    """Until when a source has told everything about a contract."""

    contract: str
    source: str
    as_of: datetime


class FacetReader(Protocol):
    """Reads for views. Every method raises StoreUnavailable.

    *Isolation*: what was committed when the call was made. *Bounds*: at most LIST_LIMIT facets of each contract.
    """

    async def facets(
        self, subject_key: str, wanted: Sequence[tuple[str, int]], after: Mapping[str, Place] = ...
    ) -> list[Facet]:
        """The facets of a subject under these (contract, major), without tombstones.

        Of each contract at most LIST_LIMIT, newest event time first, equal times by record key from the greatest; with
        `after[contract]` those that follow that place. Fewer than LIST_LIMIT: there are no more.
        """
        ...

    async def watermarks(self, contracts: Sequence[str]) -> list[Told]:
        """The watermarks of these contracts, one for each source that has one."""
        ...

    async def newest_bundle(self) -> str | None:
        """The version of the newest policy bundle, None if there is none."""
        ...

    async def bundle(self, version: str) -> bytes:
        """The bytes of a bundle. Raises NotFound."""
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...
