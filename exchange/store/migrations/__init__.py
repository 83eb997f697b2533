"""The migrations of the store's tables, in `versions/`, applied by `exchange.store.database.migrate`."""
