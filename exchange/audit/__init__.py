"""The audit log: what was asked, by whom, for what, under which rules, and what became of it; provable afterwards.

In reading order:

    keys          the signing key and its public halves; the audit secret's pseudonyms
    entries       Entry, serialised once, and its two digests
    encoding      base64url and canonical JSON
    groups        the commit group: one root and one signature over what was written together
    receipts      Receipt, what its header value holds, and its verification without the log
    checkpoints   C2SP checkpoints: a signed note over the tree of all groups
    tables        the tables (migrations/ makes them)
    store         AuditStore: where the bytes are, and the statements on them
    slots         a named place that one process at a time holds
    commits       the hot statement: a group and its entries, fenced
    writer        Writer: one line of numbered groups, in a slot of its own
    log           AuditLog: the asynchronous append of the gateway, in natural groups
    sealer        Sealer: groups become leaves of one tree, its checkpoints leave the store
    verify        verify_log, and a receipt against the log

docs/audit.md gives every format byte by byte.
"""

from exchange.audit.entries import Entry, Outcome
from exchange.audit.keys import AuditKeys, PublicKey, PublicKeys, Signer, generate_signing_key
from exchange.audit.log import AuditLog
from exchange.audit.receipts import Receipt, verify_receipt
from exchange.audit.sealer import Sealer
from exchange.audit.slots import Holder
from exchange.audit.store import AuditStore
from exchange.audit.verify import Finding, Report, find, verify_log
from exchange.audit.writer import append_admin

__all__ = [
    "AuditKeys",
    "AuditLog",
    "AuditStore",
    "Entry",
    "Finding",
    "Holder",
    "Outcome",
    "PublicKey",
    "PublicKeys",
    "Receipt",
    "Report",
    "Sealer",
    "Signer",
    "append_admin",
    "find",
    "generate_signing_key",
    "verify_log",
    "verify_receipt",
]
