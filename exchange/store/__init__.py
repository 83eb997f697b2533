"""The store: what is known, how far it was read, what was set aside.

In reading order:

    database   engines, transactions, what errors mean, migrations (the audit log stands on it too)
    tables     every table, for SQLite and PostgreSQL
    batches    Batch, Applied, Position: what the materialiser hands in and gets back
    reading    FacetReader: how the gateway reads
    store      Store: the whole for everyone else
"""

from exchange.store.batches import Applied, Batch, Position
from exchange.store.reading import LIST_LIMIT, FacetReader, Place, Told
from exchange.store.store import Store

__all__ = ["LIST_LIMIT", "Applied", "Batch", "FacetReader", "Place", "Position", "Store", "Told"]
