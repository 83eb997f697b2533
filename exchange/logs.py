"""Logs: one line an event, to standard error; JSON for machines, plain for a person.

What is personal is never logged on purpose; the processor below drops it where somebody does by mistake. An error that
nobody expected is told by its class and by where it rose: its text, and a traceback with it, can hold any value.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
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


def where(error: BaseException) -> list[str]:
    """Where an error rose: file, line and function of the innermost calls, the last one last."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames]


def unexpected(error: BaseException, **facts: Any) -> None:
    """Log an error that nobody expected, without its text."""
    if not structlog.is_configured():
        configure("console")
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    structlog.get_logger().error("unexpected error", **facts, error=name, at=where(error))


def guard() -> None:
    """From now on whatever is raised in a thread, or logged by a library, is written in our form. Once in a process."""
    threading.excepthook = _in_thread
    logging.getLogger().addHandler(_Library())


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        unexpected(args.exc_value, thread=args.thread.name if args.thread else None)


class _Library(logging.Handler):
    """What a library logs: the first line of its message, before anything is put into it, and what was raised.

    What stands under our own name is librdkafka's word on its brokers, and is shown whole.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        ours = record.name.startswith("exchange.")
        said = (record.getMessage() if ours else str(record.msg)).strip().split("\n", 1)[0]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            unexpected(error, library=record.name, said=said)
        else:
            structlog.get_logger().warning("a library warns", library=record.name, said=said)


def _json(_logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    """The line of an event, all in one step: a gateway writes one for each request."""
    event["level"] = method
    event["timestamp"] = datetime.now(UTC)
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def configure(form: Literal["json", "console"], level: str = "info") -> None:
    """Set up structlog for this process. Called once, by a command."""
    processors: list[Any]
    if form == "json":
        processors = [drop_personal, _json]
        factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        processors = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            drop_personal,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ]
        factory = structlog.WriteLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
