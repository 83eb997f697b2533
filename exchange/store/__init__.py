"""The store: what is known, how far it was read, what was set aside.

In reading order:

    database          engines, transactions, what errors mean, migrations (the audit log stands on it too)
    tables            every table, for SQLite and PostgreSQL; `migrations/` arrives at them
    statements        the hot statements, written out for each database
    batches           Batch, Applied, Position: what the materialiser hands in and gets back
    positions         take-over, and compare-and-set of a position
    order             which of two facets stands
    facets            fold records into what stands, write the winners
    keyed             under which bus secret the facets' keys were made
    watermarks        those that wait for positions, and those that stand
    rejects           one row for each record that was set aside
    bundles           policy bundles, and which of them is in force
    store             Store: all of these in transactions
    seen              SubjectsSeen: how many subjects each client has seen on a day
    proofs            UsedProofs: which proofs of possession were used
    push              PushLedger: Idempotency-Keys and sequences of pushes
    reading           FacetReader: how the gateway reads
    reading_sqlite    ... inline
    reading_postgres  ... many requests in one statement

One conformance suite, tests/test_store*.py, runs over both databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchange.store.batches import Applied, Batch, Position
from exchange.store.database import is_sqlite, postgres_parameters, sqlite_path
from exchange.store.keyed import Keyed
from exchange.store.proofs import UsedProofs
from exchange.store.push import Claim, ClaimState, PushLedger
from exchange.store.reading import LIST_LIMIT, FacetReader, Place, Told
from exchange.store.reading_postgres import PostgresFacetReader
from exchange.store.reading_sqlite import SqliteFacetReader
from exchange.store.rejects import SetAside
from exchange.store.seen import SubjectsSeen
from exchange.store.store import Store

__all__ = [
    "LIST_LIMIT",
    "Applied",
    "Batch",
    "Claim",
    "ClaimState",
    "FacetReader",
    "Keyed",
    "Place",
    "Position",
    "PushLedger",
    "SetAside",
    "Store",
    "SubjectsSeen",
    "Told",
    "UsedProofs",
    "open_reader",
]


def open_reader(url: str, options: Mapping[str, Any] | None = None) -> FacetReader:
    """The reader of the store under `sqlite:///path` or `postgresql://...`; connects at the first use."""
    if is_sqlite(url):
        return SqliteFacetReader(sqlite_path(url))
    return PostgresFacetReader(postgres_parameters(url, options))
