"""The audit log: what was asked, by whom, for what, under which rules, and what became of it; provable afterwards.

In reading order:

    keys          the signing key and its public halves; the audit secret's pseudonyms
    entries       Entry, serialised once, and its two digests
    groups        the commit group: one root and one signature over what was written together
    receipts      Receipt, what its header value holds, and its verification without the log
    checkpoints   C2SP checkpoints: a signed note over the tree of all groups
    tables        the tables (migrations/ makes them)
    slots         a named place that one process at a time holds
    store         AuditStore: where the bytes are, and every statement on them
    writer        Writer: one line of numbered groups, in a slot of its own
    log           AuditLog: the asynchronous append of the gateway, in natural groups
    sealer        Sealer: groups become leaves of one tree, its checkpoints leave the store
    verify        verify_log, and a receipt against the log

docs/audit.md gives every format byte by byte.
"""
