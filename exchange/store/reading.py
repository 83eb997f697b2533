"""How the gateway reads: few rows, many times, without ever waiting for a writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from exchange.records import Facet, micros
from exchange.store.keyed import Keyed

LIST_LIMIT = 201  # facets of one contract at once: a view shows 200 and must know whether there are more


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

    *Isolation*: what was committed when the call was made. *Memory*: at most `limit` facets of each contract, however
    many there are.
    """

    async def facets(
        self,
        subject_key: str,
        wanted: Sequence[tuple[str, int]],
        after: Mapping[str, Place] = ...,
        limit: int = LIST_LIMIT,
    ) -> list[Facet]:
        """The facets of a subject under these (contract, major), without tombstones, contract by contract.

        Of each contract at most `limit`, newest event time first, equal times by record key from the greatest; with
        `after[contract]` those that follow that place. Fewer than `limit`: there are no more. The first page of a list
        costs the database a look at all of it, so whoever has to pass over many asks for more at once.
        """
        ...

    async def watermarks(self, contracts: Sequence[str]) -> list[Told]:
        """The watermarks of these contracts, one for each source that has one."""
        ...

    async def recent_bundles(self) -> list[str]:
        """The versions of the last sixteen policy bundles that were applied, the newest first."""
        ...

    async def bundle(self, version: str) -> bytes:
        """The bytes of a bundle. Raises NotFound."""
        ...

    async def keyed(self) -> Keyed | None:
        """The bus secret that the facets are keyed by; None if nobody has said it yet."""
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...


def start(place: Place | None) -> tuple[int, str]:
    """The (event time, record key) below which to read; without a place, above all there are."""
    return (2**63 - 1, "") if place is None else (micros(place.event_time), place.record_key)


def in_order(found: Iterable[Facet], wanted: Sequence[tuple[str, int]]) -> list[Facet]:
    """Facets contract by contract as wanted, each contract's newest first."""
    newest_first = sorted(found, key=lambda facet: (facet.event_time, facet.record_key), reverse=True)
    place = {pair: number for number, pair in enumerate(wanted)}
    return sorted(newest_first, key=lambda facet: place[facet.contract, facet.major])
