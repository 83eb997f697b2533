"""The broker: Kafka is killed or away; a topic takes no messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from rig.faults.base import Fault, Here, Struck, after
from rig.offices import REGISTER
from rig.servers import KAFKA
from rig.tables import SqliteFile

AWAY = 60.0  # seconds
REJECTS = "market.rejects.v1"
OPERATOR = 78  # the exit status of what an operator must see to
STOPS = 30.0  # seconds within which a connector must have met the topic, and stopped


def kill(here: Here, dice: Random) -> Struck:
    """kill -9 of Kafka, and it is started again."""
    here.servers.kill(KAFKA)
    here.servers.start(KAFKA)
    return KAFKA, ()


def away(here: Here, dice: Random) -> Struck:
    """Kafka is away for a minute. Views are served meanwhile, with their as-of."""
    here.servers.stop(KAFKA)
    time.sleep(AWAY)
    here.servers.start(KAFKA)
    return KAFKA, ()


def rejects(here: Here, dice: Random) -> Struck:
    """The topic of rejects takes no messages: the connector stops, because what it sets aside must not be lost."""
    name = "connector-register"
    before = sum(end.part == name and end.status == OPERATOR for end in here.site.ends)

    def stopped() -> bool:
        return sum(end.part == name and end.status == OPERATOR for end in here.site.ends) > before

    for part in here.site.parts.values():
        if part.kind == "connector":
            here.site.suffer(part.name, OPERATOR)
    with _refusing(here):
        wrong = [] if after(STOPS, stopped) else [f"{REGISTER} went on although its rejects could not be set aside"]
    time.sleep(2)
    for part in here.site.parts.values():
        if part.kind == "connector":
            here.site.suffer(part.name)
    return REJECTS, wrong


@contextmanager
def _refusing(here: Here) -> Iterator[None]:
    """Let the broker refuse whatever is written to the topic."""
    if here.places.kafka:
        client = AdminClient({"bootstrap.servers": here.places.kafka, "log_level": 0})
        _alter(client, AlterConfigOpType.SET)
        try:
            yield
        finally:
            _alter(client, AlterConfigOpType.DELETE)
        return
    file = SqliteFile(here.site.folder / "data" / "topics.db")
    ((number,),) = file.rows(f"SELECT number FROM topics WHERE name = '{REJECTS}'")
    file.run(
        f"CREATE TRIGGER rig_refuses BEFORE INSERT ON messages WHEN NEW.topic = {number}"
        " BEGIN SELECT RAISE(ABORT, 'the rig refuses'); END"
    )
    try:
        yield
    finally:
        file.run("DROP TRIGGER rig_refuses")


def _alter(client: AdminClient, operation: AlterConfigOpType) -> None:
    """Set, or take back, that the topic takes no message of any size."""
    entry = ConfigEntry("max.message.bytes", "1", incremental_operation=operation)
    topic = ConfigResource(ResourceType.TOPIC, REJECTS, incremental_configs=[entry])
    for done in client.incremental_alter_configs([topic]).values():
        done.result(30)


def _ours(here: Here) -> bool:
    return KAFKA in here.servers.running


BROKERS = (
    Fault("broker-kill", 2, kill, kills=1, possible=_ours),
    Fault("broker-away", 1, away, possible=_ours),
    Fault("rejects-away", 1, rejects),
)
