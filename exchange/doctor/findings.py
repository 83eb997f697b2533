"""Findings, facts, and the checks that tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from exchange.audit import AuditStore
from exchange.clock import Clock
from exchange.errors import NotFound
from exchange.settings import Settings
from exchange.store import Store
from exchange.store.database import is_sqlite, open_engine, sqlite_path
from exchange.topics import Broker
from exchange.wiring import KAFKA, open_broker


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, where (a setting, a file, a topic), and what to do. It holds no secret and no personal value."""

    what: str
    where: str
    do: str


Said = Finding | str  # a text is a fact, worth knowing and not wrong


@dataclass(frozen=True, slots=True)
class Means:
    """What every check is given; it opens what it needs and closes it."""

    settings: Settings
    clock: Clock

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, for reading. Raises NotFound where its file was never made."""
        url, options = self.settings.url(self.settings.store.url), self.settings.store.options
        with closing(Store(open_engine(url, _reading(url, options)), self.clock)) as store:
            yield store

    @contextmanager
    def audit(self) -> Iterator[AuditStore]:
        """The audit log, for reading. Raises NotFound where its file was never made."""
        url, options = self.settings.audit_url, self.settings.audit_options
        with closing(AuditStore.open(url, _reading(url, options))) as store:
            yield store

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """The broker. Raises NotFound where the file of its topics was never made."""
        url = self.settings.url(self.settings.broker.url)
        if is_sqlite(url):
            _exists(url)
        with closing(open_broker(self.settings)) as broker:
            yield broker

    @property
    def on_kafka(self) -> bool:
        return self.settings.broker.url.startswith(KAFKA)


@dataclass(frozen=True, slots=True)
class Check:
    """One look. `where` is the setting that it is about, for what it raises; `needs` are checks that must have ended.

    What `look` yields is kept also if it raises or hangs afterwards.
    """

    name: str
    where: str
    look: Callable[[Means], Iterator[Said]]
    needs: tuple[str, ...] = ()


def _reading(url: str, options: dict[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """The driver's options for one who only reads: SQLite refuses to write then. PostgreSQL's readers roll back."""
    if not is_sqlite(url):
        return options
    _exists(url)
    return {**options, "readonly": True}


def _exists(url: str) -> None:
    """Opening a file would make it."""
    if not sqlite_path(url).exists():
        raise NotFound(f"there is no file {sqlite_path(url)}")
