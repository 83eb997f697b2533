"""All metrics, each with the sentence that documents it. docs/reference/metrics.md is checked against this file.

No label ever holds a subject, an officer, a path as it was sent, or anything else without a small bound: `contract`,
`connector`, `topic` and `client` come from configuration; everything else is a word listed here.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# --- publish: one series for each contract and connector instance of this process (`push` in a gateway)

# Rows read from the source or pushed, by what became of them: published, unchanged, deleted, rejected.
ROWS = Counter("exchange_publish_rows", "Rows by outcome", ["contract", "connector", "outcome"])
# Seconds from handing a batch to the topic until all of it was acknowledged.
PUBLISH_SECONDS = Histogram("exchange_publish_batch_seconds", "Time to acknowledge a batch", ["contract"])

# --- materialise: one series for each topic of this process

# Messages taken from the topic, by what became of them: applied, repeat (an older or equal record), rejected; and
# clash, counted beside these: a record whose version stands already with another value.
MATERIALISED = Counter("exchange_materialise_records", "Messages by outcome", ["topic", "outcome"])
# Seconds until a batch's facets and positions were durable, from when it was decoded.
MATERIALISE_SECONDS = Histogram("exchange_materialise_batch_seconds", "Time to store a batch")
# Messages between the position and the end; a series is removed when its partition moves to another process.
LAG = Gauge("exchange_materialise_lag_records", "Messages not yet read", ["topic", "partition"])
# Unix time of the watermark that is stored for a source of a contract.
WATERMARK = Gauge(
    "exchange_watermark_timestamp_seconds", "Until when a source has told everything", ["contract", "source"]
)

# How often each contract promises to have told everything; none where it promises nothing.
CYCLE = Gauge("exchange_contract_cycle_seconds", "The update cycle that a contract promises", ["contract"])

# --- disclose: this gateway process

# Decisions by outcome: own, agreement, open (permitted by), denied, error.
DECISIONS = Counter("exchange_decisions", "Decisions by outcome", ["outcome"])
# Seconds from the parsed request to the durable receipt.
VIEW_SECONDS = Histogram(
    "exchange_view_seconds",
    "Time of a view",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
# Views by outcome: served, refused, unavailable.
VIEWS = Counter("exchange_views", "Views by outcome", ["outcome"])
# Entries in one audit commit group.
AUDIT_GROUP = Histogram(
    "exchange_audit_group_entries", "Entries in a commit group", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
# Seconds to make a commit group durable.
AUDIT_SECONDS = Histogram("exchange_audit_commit_seconds", "Time to commit an audit group")
# 1 while the audit log can be written, else 0.
AUDIT_WRITABLE = Gauge("exchange_audit_writable", "Whether the audit log can be written")
# Unix time of the newest checkpoint that left the store.
CHECKPOINT = Gauge("exchange_audit_checkpoint_timestamp_seconds", "The newest published checkpoint")
# Token look-ups in the cache of verified tokens: hit, miss.
TOKEN_CACHE = Counter("exchange_token_cache", "Look-ups of verified tokens", ["outcome"])
# Requests refused before a client was known, by reason (a word of gateway.identity).
TOKEN_FAILURES = Counter("exchange_token_failures", "Refused tokens", ["reason"])
# HTTP requests by route template (`unmatched` for any other path), method (`other` for an unknown one) and status.
REQUESTS = Counter("exchange_http_requests", "HTTP requests", ["route", "method", "status"])
# Seconds since the newest policy bundle was read.
POLICY_AGE = Gauge("exchange_policy_age_seconds", "Time since the bundle was last confirmed")
# Bundles in the store, newer than the one in force, that have not the bytes of their version. Any is an alarm.
POLICY_DAMAGED = Gauge("exchange_policy_damaged_bundles", "Damaged bundles that are passed over")
# About how many distinct subjects a client has seen today, as this gateway knows it. Near its bound is an alarm.
SUBJECTS_SEEN = Gauge("exchange_client_subjects", "Distinct subjects seen today", ["client"])
# What that number may be: `subjects_per_day`, or the client's own.
SUBJECTS_BOUND = Gauge("exchange_client_subjects_bound", "Distinct subjects a day that are allowed", ["client"])
# Requests refused with 429, by client and bound: in_flight, subjects.
THROTTLED = Counter("exchange_throttled", "Requests over a client's bound", ["client", "bound"])
# Background tasks of the gateway that broke off and were begun again; the log names them. More and more is an alarm.
BACKGROUND_BREAKS = Counter("exchange_background_breaks", "Background tasks that broke off")
# The disk of the `data` folder, in which bodies of pushes and SQLite's files are.
DATA_FREE = Gauge("exchange_data_free_bytes", "Free bytes of the data folder's disk")
DATA_SIZE = Gauge("exchange_data_size_bytes", "Size of the data folder's disk")
