"""The audit log's migrations, lineage "audit": alembic revisions in `versions/`."""
