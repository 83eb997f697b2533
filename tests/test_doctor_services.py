"""`exchange doctor` on a real Kafka and PostgreSQL: well as applied, and what differs or is away is told."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from exchange.cli.init import initialise
from exchange.cli.policy import apply_policies
from exchange.clock import system_clock
from exchange.doctor import CHECKS, Means, Result, contents, examine
from exchange.kafka import KafkaBroker
from exchange.records import Message
from exchange.settings import Settings
from exchange.wiring import open_broker

pytestmark = pytest.mark.services

ROOT = Path(__file__).parent.parent
TOPIC = "civil.person.v1"


@pytest.fixture
def settings(fresh_kafka: str, fresh_postgres: Callable[[], str], tmp_path: Path) -> Settings:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    places = f'[broker]\nurl = "kafka://{fresh_kafka}"\npartitions = 2\n[store]\nurl = "{fresh_postgres()}"\n'
    config = tmp_path / "exchange.toml"
    config.write_text(f'schemas = "{ROOT / "schemas"}"\n{places}', "utf-8")
    initialise(config, ROOT / "schemas", Path("policies"))
    loaded = Settings.load(config)
    apply_policies(loaded)
    return loaded


def looked(settings: Settings, patience: float = 30.0) -> dict[str, Result]:
    return {result.name: result for result in examine(CHECKS, Means(settings, system_clock), patience)}


def found(results: dict[str, Result]) -> list[tuple[str, str]]:
    return [(finding.where, finding.what) for result in results.values() for finding in result.findings]


def changed(settings: Settings, **changes: Any) -> Settings:
    parts = {name: getattr(settings, name).model_copy(update=update) for name, update in changes.items()}
    return settings.model_copy(update=parts)


def test_as_applied_all_is_well_and_versions_are_told(settings: Settings) -> None:
    results = looked(settings)
    assert not found(results)
    assert any("PostgreSQL" in fact for fact in results["store"].facts)
    assert any(fact.startswith("brokers: ") for fact in results["broker"].facts)
    password = settings.store.url.partition("@")[0].rpartition(":")[2]
    assert password not in str(results)


def test_topics_that_differ_copies_that_cannot_be_and_messages_that_wait(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "WATCH_SECONDS", 0.2)
    with closing(open_broker(settings)) as broker, closing(broker.publisher()) as publisher:
        assert isinstance(broker, KafkaBroker)
        broker.access().configure(TOPIC, {"cleanup.policy": "delete"})
        publisher.publish("tax.rejects.v1", [Message(b"k", b"v", {})])
    said = found(looked(changed(settings, broker={"partitions": 3, "replication": 3})))
    assert (f"topic {TOPIC}", "cleanup.policy is delete, planned compact") in said
    assert (f"topic {TOPIC}", "partitions is 2, planned 3") in said
    assert any(where == "broker.replication" and "cannot keep 3 copies" in what for where, what in said)
    waiting = [where for where, what in said if "messages wait (1)" in what]
    assert len(waiting) == 1
    assert waiting[0].startswith("topic tax.rejects.v1 partition ")


def test_a_broker_that_is_away_hides_nothing_of_the_store(settings: Settings) -> None:
    began = time.monotonic()
    away = changed(settings, broker={"url": "kafka://127.0.0.1:1"})
    results = looked(away)
    assert time.monotonic() - began < 60
    assert results["broker"].findings
    assert results["topics"].skipped == ("broker",)
    assert results["policies"].ended
    assert results["schemas"].ended
    assert not results["store"].findings


def test_a_database_that_is_not_there_is_told_without_its_password(settings: Settings) -> None:
    away = changed(settings, store={"url": "postgresql://exchange:geheim@127.0.0.1:1/none"})
    results = looked(away)
    assert [where for where, _ in found(results)] == ["store.url", "audit.url"]
    assert "geheim" not in str(results)
    assert results["topics"].ended
