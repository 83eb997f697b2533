"""Exchange: departments publish what they know once; others read it merged, under the owners' rules, with evidence.

The system is three verbs: `publish`, `materialise`, `disclose`. In reading order, each importing only from those above:

    errors, clock, settings, metrics   what every module may use
    subjects      identifiers checked and normalised, subject keys
    records       Record, Origin, Delivery, Facet
    contracts     load, check, encode, decode, breaks(older)
    topics        Publisher and Feed protocols; the durable SQLite topic
    kafka         the same protocols on Apache Kafka
    store         facets, positions, rejects in one transaction; SQLite or PostgreSQL
    registry      schema ids and versions behind a compatibility gate
    publish       the first verb: check, encode, produce, set rejects aside
    materialise   the second verb: poll, decode, put with position, set rejects aside
    agreements    who may read what, for which purpose, until when; the policy bundle
    decisions     Cedar guardrails with the agreement as context
    views         trim and merge: pure
    merkle        RFC 6962 tree and proofs: pure
    audit         entries, receipts, checkpoints, verify
    disclosure    disclose, the third verb: the one way out

Outside the order: `cli` (the `exchange` command) and `city` (the generator of the reference city).
"""
