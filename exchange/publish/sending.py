"""Sending batches until the topic has acknowledged them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog

from exchange.errors import BrokerUnavailable
from exchange.records import Message
from exchange.topics import Publisher

log = structlog.get_logger()

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
MESSAGES_AT_ONCE = 5_000
_BYTES_AT_ONCE = 8 << 20

# Waits that many seconds; answers whether to give up because the process is asked to stop.
Wait = Callable[[float], bool]
# Waits for what was begun: (partition, offset) of each message.
Answer = Callable[[], list[tuple[int, int]]]


class Sender:
    """Sends to a Publisher with patience: the same messages again, after pauses that double up to 10 s.

    It gives up, raising BrokerUnavailable, only when `wait` says so; what was sent by then is doubtful.
    """

    def __init__(self, publisher: Publisher, wait: Wait) -> None:
        self._publisher = publisher
        self._wait = wait

    def send(self, topic: str, messages: Sequence[Message]) -> dict[int, int]:
        """Send all of them, in order; the last offset per partition. Raises BrokerUnavailable, TopicChanged."""
        return self.begin(topic, messages)()

    def begin(self, topic: str, messages: Sequence[Message]) -> Callable[[], dict[int, int]]:
        """Hand them over; what it answers waits until all are acknowledged. Until then nothing else is sent."""
        *front, part = list(_parts(messages)) or [[]]
        last: dict[int, int] = {}
        for each in front:
            _note(last, self._patiently(topic, each))
        answer = self._begun(topic, part) if part else None

        def wait() -> dict[int, int]:
            if answer is not None:
                _note(last, self._patiently(topic, part, answer))
            return last

        return wait

    def _begun(self, topic: str, messages: Sequence[Message]) -> Answer:
        """What waits for the messages, also if they cannot be handed over now."""
        try:
            return self._publisher.begin(topic, messages)
        except BrokerUnavailable as unavailable:
            error = unavailable.with_traceback(None)  # else it holds the messages, in a ring, until the collector comes

        def fail() -> list[tuple[int, int]]:
            raise error

        return fail

    def _patiently(
        self, topic: str, messages: Sequence[Message], answer: Answer | None = None
    ) -> list[tuple[int, int]]:
        """Wait for what was begun; what fails is sent again."""
        pause = FIRST_PAUSE
        while True:
            try:
                return self._publisher.publish(topic, messages) if answer is None else answer()
            except BrokerUnavailable as unavailable:
                log.warning("waiting for the broker", topic=topic, error=str(unavailable), again_in_s=pause)
                if self._wait(pause):
                    raise
                answer = None
                pause = min(pause * 2, LONGEST_PAUSE)


def _note(last: dict[int, int], places: Sequence[tuple[int, int]]) -> None:
    for partition, offset in places:
        last[partition] = max(offset, last.get(partition, -1))


def _parts(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Parts that a broker takes at once: not too many messages, not too many bytes."""
    part: list[Message] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.value or b"")
        if len(part) == MESSAGES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part
