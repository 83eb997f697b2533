"""Runs one connector: opens what its settings name, then reads, publishes, acknowledges, sleeps, until it is stopped.

This is one of the three places in which concrete things are built; all other code receives what it needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

import structlog

from connectors.config import Instance, RegistrySettings, load_instance
from connectors.protocol import Connector, Finding, Means, NotReady, Weight
from connectors.reporting import Report
from exchange.clock import Clock
from exchange.contracts import Contract, load_catalogue
from exchange.credentials import Client, ClientCredentials, ClientKey, ClientSecret
from exchange.errors import CursorUnavailable, ExchangeError, SettingWrong, SourceRefused, TryLater
from exchange.metrics import CONNECTOR
from exchange.publish import CursorFile, Layout, Outcome, Publishing, Reading, Tolerance
from exchange.registry import HttpRegistry, Registry
from exchange.settings import Settings, read_secret
from exchange.wiring import client_secret, gateway_url, key_maker, metrics_listener, open_broker, refuse_while_restoring

log = structlog.get_logger()

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0

T = TypeVar("T")


class Loaded:
    """An instance file with what belongs to it: its settings, its contract, its connector.

    Raises SettingWrong, naming file and setting; ContractRefused.
    """

    def __init__(self, file: Path, settings: Settings, clock: Clock) -> None:
        self.file = file
        kind, self.instance = load_instance(file)
        self.contract = _contract(file, self.instance, settings)
        self.cursor = cursor_path(file, self.instance, settings)
        self.source = f"{self.contract.department}/{self.instance.name}"
        self.layout = Layout.of(settings)
        self._opened = ExitStack()
        self.broker = cache(lambda: self._opened.enter_context(closing(open_broker(settings))))
        self.registry = cache(lambda: open_registry(self, settings))
        means = Means(file.resolve().parent, clock, self.broker, self.registry, self.layout)
        try:
            self.connector: Connector = kind(self.instance, self.contract, means)
        except SettingWrong as wrong:
            raise SettingWrong(f"{file}: {wrong.detail}") from None

    def close(self) -> None:
        """Close the connector, and what was opened for it."""
        self.connector.close()
        self._opened.close()

    def refuse_findings(self, findings: list[Finding]) -> None:
        """Raise SourceRefused with every finding that keeps the connector from running."""
        refused = [f"{found.subject}: {found.text}" for found in findings if found.weight is Weight.REFUSED]
        if refused:
            raise SourceRefused("; ".join(refused))


class Runner:
    """Reads and publishes, once or until `stop` is set; a batch in hand is finished first."""

    def __init__(
        self, connector: Connector, publishing: Publishing, instance: Instance, report: Report, stop: threading.Event
    ) -> None:
        self._connector = connector
        self._publishing = publishing
        self._instance = instance
        self._report = report
        self._stop = stop

    def once(self) -> Outcome:
        """One complete reading; a source that is not ready yet is waited for, one that has no file is not.

        Raises SourceRefused, TooManyRejects, SourceUnavailable.
        """
        while True:
            try:
                return self._read()
            except NotReady as waiting:
                self._report.note(waiting.detail)
                if waiting.again is None or self._stop.wait(max(0.05, waiting.again.total_seconds() / 4)):
                    return Outcome()

    def forever(self) -> None:
        """Reading after reading, until stopped. Raises SourceRefused, TooManyRejects."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            wait = self._instance.poll_interval.total_seconds()
            try:
                self._read()
                pause = FIRST_PAUSE
            except NotReady as waiting:
                self._report.note(waiting.detail)
                if waiting.again is not None:
                    wait = min(wait, max(0.05, waiting.again.total_seconds() / 4))
            except TryLater as unavailable:
                log.warning("waiting", source=self._publishing.source, error=str(unavailable))
                wait, pause = pause, min(pause * 2, LONGEST_PAUSE)
            self._stop.wait(wait)

    def _read(self) -> Outcome:
        reading: Reading | None = None  # a poll that meets a source that is not ready is none
        try:
            batches = self._connector.read(self._publishing.position)
            first = next(batches, None)
            if first is None:
                return Outcome()
            reading = self._publishing.reading()
            for batch in reading.follow(chain([first], batches)):
                self._connector.ack(batch.position)
                for note in batch.notes:
                    self._report.note(note)
                self._report.batch(reading.outcome, batch.progress)
                if self._stop.is_set() and not reading.complete:
                    break
        except BaseException as error:
            if reading is not None:
                note = str(error) if isinstance(error, ExchangeError) else type(error).__name__
                with suppress(CursorUnavailable):  # then it says nothing of this reading
                    reading.close(note)
                self._report.reading(reading.outcome, None, note)
            raise
        reading.close("stopped")
        self._report.reading(reading.outcome, reading.as_of, None if reading.complete else "stopped")
        return reading.outcome


def run(
    file: Path, settings: Settings, clock: Clock, report: Callable[[str], Report], stop: threading.Event, *, once: bool
) -> Outcome | None:
    """Run the instance of a file: one reading if `once` (its outcome is returned), else until `stop` is set.

    Raises SettingWrong, SourceRefused, TooManyRejects, CursorHeld, TopicChanged, Incompatible; if `once`, also what
    time would mend: SourceUnavailable, RegistryUnavailable, BrokerUnavailable, CursorUnavailable.
    """
    refuse_while_restoring(settings)
    loaded = Loaded(file, settings, clock)

    def patiently(call: Callable[[], T]) -> T:
        pause = FIRST_PAUSE
        while True:
            try:
                return call()
            except TryLater as unavailable:
                if once:
                    raise
                log.warning("waiting", source=loaded.source, error=str(unavailable), again_in_s=pause)
                if stop.wait(pause):
                    raise _Stopped from None
                pause = min(pause * 2, LONGEST_PAUSE)

    with suppress(_Stopped), ExitStack() as stack:
        stack.enter_context(closing(loaded))
        watched = loaded.instance
        if watched.metrics_port is not None:
            setting = f"{file}: metrics_port"
            stack.enter_context(metrics_listener(watched.metrics_host, watched.metrics_port, setting, CONNECTOR))
        loaded.refuse_findings(list(patiently(loaded.connector.check)))
        cursor = stack.enter_context(closing(patiently(lambda: CursorFile(loaded.cursor))))
        publishing = patiently(
            lambda: Publishing(
                loaded.contract,
                source=loaded.source,
                keeps=loaded.connector.keeps,
                keys=key_maker(settings),
                broker=loaded.broker(),
                registry=loaded.registry(),
                cursor=cursor,
                clock=clock,
                wait=stop.wait,
                tolerance=Tolerance(loaded.instance.max_reject_share, loaded.instance.min_rejects),
                layout=loaded.layout,
            )
        )
        stack.enter_context(closing(publishing))
        shown = stack.enter_context(closing(report(loaded.source)))
        runner = Runner(loaded.connector, publishing, loaded.instance, shown, stop)
        if once:
            return runner.once()
        runner.forever()
    return None


class _Stopped(Exception):
    """`stop` was set before the first reading, while something was away."""


def open_registry(loaded: Loaded, settings: Settings) -> Registry:
    """The registry of the instance; without one of its own that of this machine's gateway. Raises SettingWrong."""
    given = loaded.instance.registry
    if given is None:
        given, root = _registry_here(loaded, settings), settings.root
    else:
        root = loaded.file.resolve().parent
    token_url = given.token_url or given.url.rstrip("/").removesuffix("/registry") + "/oauth/token"
    client: Client
    if given.client_id is None:
        return HttpRegistry(given.url, lambda: "")
    if given.client_key is not None:
        pem = read_secret("registry.client_key", given.client_key, root)
        client = ClientKey(given.client_id, pem, given.issuer or token_url)
    else:
        secret = read_secret("registry.client_secret", given.client_secret or "", root)
        client = ClientSecret(given.client_id, secret.decode("utf-8").strip())
    return HttpRegistry(given.url, ClientCredentials(token_url, client, "registry"))


def cursor_path(file: Path, instance: Instance, settings: Settings) -> Path:
    """Where the instance's cursor file is; its folder exists afterwards."""
    if instance.cursor is not None:
        return file.resolve().parent / instance.cursor
    folder = settings.path(settings.data) / "cursors"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{instance.contract.partition('.')[0]}.{instance.name}.db"


def _contract(file: Path, instance: Instance, settings: Settings) -> Contract:
    catalogue = load_catalogue(settings.path(settings.schemas))
    if instance.major is None:
        contract = catalogue.newest(instance.contract)
    else:
        contract = catalogue.contracts.get((instance.contract, instance.major))
    if contract is None:
        wanted = instance.contract + ("" if instance.major is None else f" major {instance.major}")
        raise SettingWrong(f"{file}: contract: there is no {wanted} in {settings.path(settings.schemas)}")
    return contract


def _registry_here(loaded: Loaded, settings: Settings) -> RegistrySettings:
    """The gateway on this machine, with the client that `exchange init` made for the department's connectors."""
    client = f"{loaded.contract.department}-connector"
    secret = client_secret(settings, client)
    if not secret.exists():
        raise SettingWrong(
            f"{loaded.file}: [registry] is missing (url, client_id, client_secret), and {secret} is not there either"
        )
    return RegistrySettings(
        url=f"{gateway_url(settings)}/registry", client_id=client, client_secret=f"file:{secret.resolve()}"
    )
