"""Runs connector instance files over a bus, as the connector runner would: check, then readings until all is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.config import load_instance
from connectors.protocol import Finding, Means, NotReady
from exchange.contracts import Catalogue
from exchange.publish import CursorFile, Outcome, Publishing, Tolerance
from tests.support.bus import KEYS, Bus


class Instances:
    """The instance files of one folder, each with its connector and its cursor file. Time passes between readings."""

    def __init__(self, bus: Bus, folder: Path, catalogue: Catalogue, cursors: Path) -> None:
        self._now = datetime.now(UTC) + timedelta(minutes=1)
        self._running = {}
        for file in sorted(folder.glob("*.toml")):
            kind, settings = load_instance(file)
            contract = catalogue.newest(settings.contract)
            means = Means(file.parent, self.clock, lambda: bus.broker, lambda: bus.registry)
            connector = kind(settings, contract, means)
            publishing = Publishing(
                contract,
                source=f"{contract.department}/{settings.name}",
                keeps=connector.keeps,
                keys=KEYS,
                broker=bus.broker,
                registry=bus.registry,
                cursor=CursorFile(cursors / f"{contract.name}.cursor"),
                clock=self.clock,
                wait=lambda attempt: True,
                tolerance=Tolerance(settings.max_reject_share, settings.min_rejects),
            )
            self._running[contract.name] = (connector, publishing)

    def clock(self) -> datetime:
        return self._now

    def check(self) -> Mapping[str, list[Finding]]:
        """What each connector's check finds, by contract."""
        return {name: list(connector.check()) for name, (connector, _) in self._running.items()}

    def read(self) -> Mapping[str, Outcome]:
        """One complete reading of each source, by contract."""
        return {name: self._read(name) for name in self._running}

    def _read(self, name: str) -> Outcome:
        connector, publishing = self._running[name]
        for _ in range(3):  # a file that has just changed is left to settle
            self._now += timedelta(minutes=1)
            reading = publishing.reading()
            try:
                for batch in reading.follow(connector.read(publishing.position)):
                    connector.ack(batch.position)
            except NotReady:
                reading.close()
                continue
            assert reading.complete
            return reading.outcome
        raise AssertionError(f"{name} is never ready")

    def close(self) -> None:
        for connector, publishing in self._running.values():
            connector.close()
            publishing.close()
