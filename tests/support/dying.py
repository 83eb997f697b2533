"""At which line a process of the exchange kills itself in a test.

The product knows nothing of this: in the process that is to die one method is wrapped before the command begins. The
rest of it is what runs everywhere, and SIGKILL leaves it no time for anything.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial, wraps
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from exchange.records import Message


class When(Enum):
    """Where in the call the process dies."""

    BEFORE = auto()
    HALFWAY = auto()  # of `publish(topic, messages)`: the first half of the messages is in the topic
    COMMITTING = auto()  # everything is written, the transaction is not committed
    COMMITTED = auto()  # its first transaction is, whatever it would have done in another one
    AFTER = auto()  # done, and the caller does not know
    ANSWERED = auto()  # of an ASGI application: the answer's last byte was handed to the socket


def every(*_: Any, **__: Any) -> bool:
    """Counts every call."""
    return True


def to(topic: str, *, deletions: bool = False) -> Callable[..., bool]:
    """Counts the calls that send something to this topic, or deletions to it."""
    return partial(_sends, topic, deletions)


def on(path: str) -> Callable[..., bool]:
    """Counts the requests for this path."""
    return partial(_asks, path)


def _asks(wanted: str, scope: Mapping[str, Any]) -> bool:
    return bool(scope["path"] == wanted)


def _sends(wanted: str, deletions: bool, topic: str, messages: Sequence[Message]) -> bool:
    return topic == wanted and any(not deletions or message.value is None for message in messages)


@dataclass(frozen=True)
class Death:
    """The `nth` call of `method` (`module:Class.name`) for which `counts` holds; it is given the call's arguments."""

    method: str
    when: When
    nth: int = 1
    counts: Callable[..., bool] = every

    def arm(self) -> None:
        """From now on this process dies there."""
        module, _, path = self.method.partition(":")
        owner, _, name = path.partition(".")
        kind = getattr(import_module(module), owner)
        setattr(kind, name, self._wrapped(getattr(kind, name)))

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        left = self.nth

        def due(*arguments: Any, **named: Any) -> bool:
            nonlocal left
            left -= self.counts(*arguments, **named)
            return left == 0

        @wraps(method)
        def called(instance: Any, *arguments: Any, **named: Any) -> Any:
            if not due(*arguments, **named):
                return method(instance, *arguments, **named)
            if self.when is When.COMMITTING:
                sa.event.listen(sa.Engine, "commit", lambda _: die())
            elif self.when is When.COMMITTED:
                sa.event.listen(sa.Engine, "commit", lambda _: sa.event.listen(sa.Engine, "begin", lambda _: die()))
            elif self.when is When.HALFWAY:
                topic, messages = arguments
                done(method(instance, topic, messages[: len(messages) // 2]))
            if self.when in (When.COMMITTING, When.COMMITTED, When.AFTER):
                done(method(instance, *arguments, **named))
            return die()

        @wraps(method)
        async def answering(instance: Any, scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                await send(message)
                last = message["type"] == "http.response.body" and not message.get("more_body", False)
                if last and due(scope):
                    die()

            await method(instance, scope, receive, sent)

        return answering if self.when is When.ANSWERED else called


def done(begun: Any) -> None:
    """Wait, where the method has only begun something, and has given what waits for it."""
    if callable(begun):
        begun()


def die() -> None:
    """As `kill -9` from outside."""
    os.kill(os.getpid(), signal.SIGKILL)
