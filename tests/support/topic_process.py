"""A process for the conformance suite to stop and kill: `python -m tests.support.topic_process ROLE URL TOPIC`.

publish   sends numbered messages without end; prints each number once it is acknowledged
own       joins the group `g`; prints `assigned P`, `revoked P` and `got OFFSET`
member    the same on Kafka, under the name `m`
"""

from __future__ import annotations

import sys

from exchange.kafka import KafkaBroker
from exchange.records import Message
from exchange.topics import Broker
from tests.support.backings import open_url


def publish(url: str, topic: str) -> None:
    publisher = open_url(url).publisher()
    number = 0
    while True:
        batch = [Message(b"k%d" % (n % 7), b"%d" % n, {}) for n in range(number, number + 20)]
        publisher.publish(topic, batch)
        number += len(batch)
        print(number - 1, flush=True)


class Printer:
    def assigned(self, topic: str, partition: int, topic_id: str) -> int:
        print("assigned", partition, flush=True)
        return 0

    def revoked(self, topic: str, partition: int) -> None:
        print("revoked", partition, flush=True)


def own(url: str, topic: str) -> None:
    read(open_url(url), topic)


def member(url: str, topic: str) -> None:
    read(KafkaBroker(url, member="m"), topic)


def read(broker: Broker, topic: str) -> None:
    feed = broker.feed("g", [topic], Printer())
    while True:
        for delivery in feed.poll(100, 0.1):
            print("got", delivery.offset, flush=True)


if __name__ == "__main__":
    {"publish": publish, "own": own, "member": member}[sys.argv[1]](sys.argv[2], sys.argv[3])
