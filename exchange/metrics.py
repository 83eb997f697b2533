"""All metrics, each with the sentence that documents it, here, to Prometheus and in docs/reference/metrics.md.

No label ever holds a subject, an officer, a path as it was sent, or anything else without a small bound: `contract`,
`connector`, `topic` and `client` come from configuration; everything else is a word listed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class OfPart(Collector):
    """What one part measures: its own families of metrics, and what the library tells of every process.

    A gauge without labels is 0 before anybody sets it. Served by a part that never does, it would tell of a gateway
    whose audit log cannot be written, or whose disk has no room.
    """

    def __init__(self, *families: str) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        for metric in REGISTRY.collect():
            if not metric.name.startswith("exchange_") or metric.name.startswith(self._families):
                yield metric

    def restricted_registry(self, names: Iterable[str]) -> OfPart:
        """What `?name[]=` asks for: here all of it."""
        return self


MATERIALISER = OfPart("exchange_materialise_", "exchange_watermark_", "exchange_contract_")
CONNECTOR = OfPart("exchange_publish_")

# --- publish: one series for each contract and connector instance of this process (`push` in a gateway)

ROWS = Counter(
    "exchange_publish_rows",
    "Rows read from the source or pushed, by what became of them: published, unchanged, deleted, rejected.",
    ["contract", "connector", "outcome"],
)
PUBLISH_SECONDS = Histogram(
    "exchange_publish_batch_seconds",
    "Seconds from handing a batch to the topic until all of it was known to be acknowledged; the next batch is"
    " read and converted meanwhile.",
    ["contract"],
)

# --- materialise: one series for each topic of this process

MATERIALISED = Counter(
    "exchange_materialise_records",
    "Messages taken from the topic, by what became of them: applied, repeat (an older or equal record), "
    "rejected; and clash, counted beside these: a record whose version stands already with another value.",
    ["topic", "outcome"],
)
MATERIALISE_SECONDS = Histogram(
    "exchange_materialise_batch_seconds",
    "Seconds until a batch's facets and positions were durable, from when it was decoded.",
)
LAG = Gauge(
    "exchange_materialise_lag_records",
    "Messages between the position and the end; a series is removed when its partition moves to another process.",
    ["topic", "partition"],
)
WATERMARK = Gauge(
    "exchange_watermark_timestamp_seconds",
    "Unix time of the watermark that is stored for a source of a contract.",
    ["contract", "source"],
)

CYCLE = Gauge(
    "exchange_contract_cycle_seconds",
    "How often a contract promises to have told everything (its `cycle`); no series where it promises nothing.",
    ["contract"],
)

# --- disclose: this gateway process

DECISIONS = Counter(
    "exchange_decisions",
    "Decisions by outcome: own, agreement, open (permitted by), denied, error.",
    ["outcome"],
)
VIEW_SECONDS = Histogram(
    "exchange_view_seconds",
    "Seconds from the parsed request to the durable receipt.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
VIEWS = Counter(
    "exchange_views",
    "Views by outcome: served, refused, unavailable.",
    ["outcome"],
)
AUDIT_GROUP = Histogram(
    "exchange_audit_group_entries",
    "Entries in one audit commit group.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
AUDIT_SECONDS = Histogram(
    "exchange_audit_commit_seconds",
    "Seconds to make a commit group durable.",
)
AUDIT_WRITABLE = Gauge(
    "exchange_audit_writable",
    "1 while the audit log can be written, else 0.",
)
CHECKPOINT = Gauge(
    "exchange_audit_checkpoint_timestamp_seconds",
    "Unix time of the newest checkpoint that left the store.",
)
TOKEN_CACHE = Counter(
    "exchange_token_cache",
    "Token look-ups in the cache of verified tokens: hit, miss.",
    ["outcome"],
)
TOKEN_FAILURES = Counter(
    "exchange_token_failures",
    "Requests refused before a client was known, by reason (a word of gateway.identity).",
    ["reason"],
)
REQUESTS = Counter(
    "exchange_http_requests",
    "HTTP requests by route template (`unmatched` for any other path), method (`other` for an unknown one) and status.",
    ["route", "method", "status"],
)
POLICY_AGE = Gauge(
    "exchange_policy_age_seconds",
    "Seconds since the newest policy bundle was read.",
)
POLICY_DAMAGED = Gauge(
    "exchange_policy_damaged_bundles",
    "Bundles in the store, newer than the one in force, that have not the bytes of their version. They change "
    "nothing; any is an alarm.",
)
SUBJECTS_SEEN = Gauge(
    "exchange_client_subjects",
    "About how many distinct subjects a client has seen today. At 80 % of `subjects_per_day` the log warns; "
    "alarm there too.",
    ["client"],
)
SUBJECTS_BOUND = Gauge(
    "exchange_client_subjects_bound",
    "What that number may be: `subjects_per_day`, or the client's own.",
    ["client"],
)
THROTTLED = Counter(
    "exchange_throttled",
    "Requests refused with 429: `in_flight`, `subjects`.",
    ["client", "bound"],
)
BACKGROUND_BREAKS = Counter(
    "exchange_background_breaks",
    "Background tasks of the gateway that broke off and were begun again; the log names them. More and more is"
    " an alarm.",
)
DATA_FREE = Gauge(
    "exchange_data_free_bytes",
    "Free bytes of the disk that the gateway's `data` folder is on: bodies of pushes, and SQLite's files.",
)
DATA_SIZE = Gauge(
    "exchange_data_size_bytes",
    "The size of that disk.",
)
