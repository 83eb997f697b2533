"""Logs: one line an event, to standard error; JSON for machines, plain for a person.

What is personal is never logged on purpose; the processor below drops it where somebody does by mistake.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

# Names under which a personal value would travel. A subject key may be logged, an identifier may not.
PERSONAL = frozenset(
    {"identifier", "id_number", "citizen_id", "credit_code", "name", "address", "phone", "payload", "value", "body",
     "record", "officer", "on_behalf_of", "authorization", "token", "client_secret", "client_assertion"}
)  # fmt: skip


def drop_personal(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: what stands under a personal name is not written."""
    for name in PERSONAL.intersection(event):
        event[name] = "[dropped]"
    return event


def configure(form: Literal["json", "console"], level: str = "info") -> None:
    """Set up structlog for this process. Called once, by a command."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            drop_personal,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
