"""Acts on the city by an operator: each is an entry of the audit log."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from exchange.agreements import Bundle, has_version
from exchange.audit import AuditStore, Entry, Holder, append_admin
from exchange.clock import system_clock
from exchange.errors import NotFound, PolicyUnavailable
from exchange.settings import Settings
from exchange.store import Store
from exchange.wiring import audit_keys, audit_url, process_name, signer


def whole_bundle(store: Store, version: str) -> bytes | None:
    """A bundle's bytes; None if they are missing or not those of its version."""
    with suppress(NotFound):
        body = store.bundle(version)
        if has_version(body, version):
            return body
    return None


def bundle_in_force(store: Store) -> Bundle | None:
    """The newest bundle that has the bytes of its version, as gateways see it; None before the first.

    Raises StoreUnavailable; PolicyUnavailable if it cannot be read.
    """
    versions = store.recent_bundle_versions()
    for version in versions:
        body = whole_bundle(store, version)
        if body is not None:
            return Bundle.from_bytes(body, version)
    if versions:
        raise PolicyUnavailable("no recent bundle in the store is whole: run `exchange policy apply`")
    return None


@contextmanager
def open_audit(settings: Settings) -> Iterator[AuditStore]:
    """The audit log, its tables made if they are missing."""
    store = AuditStore.open(audit_url(settings), settings.audit_options)
    try:
        store.migrate()
        yield store
    finally:
        store.close()


def note(
    settings: Settings,
    act: str,
    *,
    subject: str | None = None,
    bundle: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write the act of this operator to the audit log, durably. Raises AuditUnavailable: then the act must not happen.

    The operator is the account that runs the command, as a pseudonym; `subject` is a subject key of the audit log;
    `details` holds no personal value.
    """
    entry = Entry(
        time=system_clock(),
        act=act,
        outcome="done",
        issuer="exchange",
        client="operator",
        department="exchange",
        officer=audit_keys(settings).officer("exchange", getpass.getuser()),
        subject=subject,
        bundle=bundle,
        details=details or {},
    )
    with open_audit(settings) as store:
        append_admin(store, signer(settings), entry, holder=Holder(process_name("operator")))
