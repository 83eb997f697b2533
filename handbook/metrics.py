"""docs/reference/metrics.md, from exchange.metrics: type, labels, and the sentence that Prometheus gets of each."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram

from exchange import metrics
from handbook.writing import linked, prose, table

PAGE = "reference/metrics.md"
_INTRODUCTION = """
Served in Prometheus' text format: the gateway on `gateway.metrics_port`, the materialiser on
`materialise.metrics_port`, a connector on the `metrics_port` of its instance file, if it has one. What begins with
`exchange_publish_` is served by connectors, and by the gateway for what is pushed (`connector="push"`); what begins
with `exchange_materialise_`, `exchange_watermark_` or `exchange_contract_` by materialisers; the rest by the gateway.
No label holds a subject, an officer or a path as it was sent. docs/monitoring.md says
what to watch of them.
"""

Metric = Counter | Gauge | Histogram


def page() -> str:
    """The whole page, in the order of exchange/metrics.py."""
    rows = ((f"`{name}`", f"{kind}{_by(metric)}. {metric._documentation}") for metric, name, kind in _declared())
    told = table(("metric", "what it tells"), rows)
    return f"# Metrics\n\n{linked(prose(_INTRODUCTION), PAGE)}\n{told}"


def _by(metric: Metric) -> str:
    return f" by {', '.join(f'`{label}`' for label in metric._labelnames)}" if metric._labelnames else ""


def _declared() -> Iterator[tuple[Metric, str, str]]:
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            name = f"{metric._name}_total" if isinstance(metric, Counter) else metric._name
            yield metric, name, type(metric).__name__
