"""Acts on the city by an operator: each is an entry of the audit log."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exchange.audit import AuditKeys, AuditStore, Entry, PublicKey, PublicKeys, Signer, append_admin
from exchange.clock import system_clock
from exchange.settings import Settings
from exchange.wiring import audit_url, process_name


@contextmanager
def open_audit(settings: Settings) -> Iterator[AuditStore]:
    """The audit log, its tables made if they are missing."""
    store = AuditStore.open(audit_url(settings), settings.store.options)
    try:
        store.migrate()
        yield store
    finally:
        store.close()


def signer(settings: Settings) -> Signer:
    """The signing key. Raises SettingWrong."""
    return Signer.from_pem(settings.secret("keys.signing", settings.keys.signing))


def public_keys(settings: Settings) -> PublicKeys:
    """The public halves of the signing key and of former ones."""
    former = [settings.secret("keys.former_signing", each) for each in settings.keys.former_signing]
    return PublicKeys([signer(settings).public, *(PublicKey.from_pem(pem) for pem in former)])


def note(settings: Settings, act: str, *, bundle: str | None = None, details: Mapping[str, Any] | None = None) -> None:
    """Write the act of this operator to the audit log, durably. Raises AuditUnavailable: then the act must not happen.

    The operator is the account that runs the command, as a pseudonym; `details` holds no personal value.
    """
    keys = AuditKeys(settings.keys.audit_kid, settings.secret("keys.audit", settings.keys.audit))
    entry = Entry(
        time=system_clock(),
        act=act,
        outcome="done",
        issuer="exchange",
        client="operator",
        department="exchange",
        officer=keys.officer("exchange", getpass.getuser()),
        bundle=bundle,
        details=details or {},
    )
    with open_audit(settings) as store:
        append_admin(store, signer(settings), entry, holder=process_name("operator"))
