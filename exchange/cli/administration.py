"""Acts on the city by an operator: each is an entry of the audit log."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exchange.audit import AuditStore, Entry, append_admin
from exchange.clock import system_clock
from exchange.settings import Settings
from exchange.wiring import audit_keys, audit_url, process_name, signer


@contextmanager
def open_audit(settings: Settings) -> Iterator[AuditStore]:
    """The audit log, its tables made if they are missing."""
    store = AuditStore.open(audit_url(settings), settings.audit_options)
    try:
        store.migrate()
        yield store
    finally:
        store.close()


def note(settings: Settings, act: str, *, bundle: str | None = None, details: Mapping[str, Any] | None = None) -> None:
    """Write the act of this operator to the audit log, durably. Raises AuditUnavailable: then the act must not happen.

    The operator is the account that runs the command, as a pseudonym; `details` holds no personal value.
    """
    entry = Entry(
        time=system_clock(),
        act=act,
        outcome="done",
        issuer="exchange",
        client="operator",
        department="exchange",
        officer=audit_keys(settings).officer("exchange", getpass.getuser()),
        bundle=bundle,
        details=details or {},
    )
    with open_audit(settings) as store:
        append_admin(store, signer(settings), entry, holder=process_name("operator"))
