"""A push: a body of many records is received, claimed under its key, and `publish` does the rest.

The body is received whole before anything is produced: its digest is what an Idempotency-Key stands for, and an array
that breaks off has no effect at all. All of this blocks: it runs in a thread.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from exchange.agreements import Bundle, Client
from exchange.clock import Clock
from exchange.contracts import Contract
from exchange.errors import NotFound
from exchange.publish import Tolerance, publish_push
from exchange.records import Message
from exchange.registry import Registry
from exchange.settings import PushSettings
from exchange.store import ClaimState, PushLedger
from exchange.subjects import KeyMaker
from exchange.topics import Publisher
from gateway.problems import PushStopped
from gateway.spool import Form, Spool, lines


@dataclass(frozen=True, slots=True)
class Push:
    """One request: whose, for which contract, its body and its key if it has one."""

    client: Client
    contract: str
    form: Form
    body: Spool
    key: str | None
    received: datetime
    traceparent: str | None = None


class Pushing:
    """Publishes pushes, whose bodies are kept in `folder` meanwhile. May be called by several threads."""

    def __init__(
        self,
        registry: Registry,
        ledger: PushLedger,
        publisher: Publisher,
        keys: KeyMaker,
        clock: Clock,
        bounds: PushSettings,
        folder: Path,
    ) -> None:
        self._registry = registry
        self._ledger = ledger
        self._publisher = _OneAtATime(publisher)
        self._keys = keys
        self.clock = clock
        self.bounds = bounds
        self.folder = folder
        self._tolerance = Tolerance(bounds.max_reject_share, bounds.min_rejects)
        self._contracts: dict[int, Contract] = {}

    def publish(self, push: Push, bundle: Bundle) -> bytes:
        """Publish a push and give the answer's bytes: those of the first time, if its key was finished before.

        Raises NotFound for a dataset that takes no records; Malformed for an array that is none; BodyTooLarge for too
        many records; PushStopped for too many rejects, again as often as its key comes; Unprocessable and Conflict for
        a key (see PushLedger); BrokerUnavailable, StoreUnavailable, RegistryUnavailable.
        """
        contract, schema_id = self._contract(push.contract, bundle)
        count = sum(1 for _ in lines(push.body, push.form, self.bounds.records))
        if push.key is None:
            epoch, first = self._ledger.next_sequences(count)
            return _whole(self._produce(push, contract, schema_id, epoch, first))
        client = json.dumps(push.client.key)
        key = hashlib.sha256(push.key.encode()).hexdigest()  # a client may have put anything into it
        claim = self._ledger.claim(client, key, contract.name, f"{push.form}:{push.body.digest}", count)
        if claim.state is ClaimState.DONE and claim.answer is not None:
            return _whole(claim.answer.encode())
        try:
            claimed = replace(push, received=claim.received)  # a retry says again what may be in the topic already
            answer = self._produce(claimed, contract, schema_id, claim.epoch, claim.first_sequence)
        except Exception:
            self._ledger.release(client, key)
            raise
        return _whole(self._ledger.finish(client, key, answer.decode()).encode())

    def _produce(self, push: Push, contract: Contract, schema_id: int, epoch: int, first: int) -> bytes:
        answer = publish_push(
            contract,
            lines(push.body, push.form, self.bounds.records),
            first_sequence=first,
            epoch=epoch,
            keys=self._keys,
            publisher=self._publisher,
            schema_id=schema_id,
            received=push.received,
            tolerance=self._tolerance,
            traceparent=push.traceparent,
        )
        document = answer.document() | {"contract": contract.name, "epoch": epoch, "first_sequence": str(first)}
        return json.dumps(document, ensure_ascii=False).encode()

    def _contract(self, name: str, bundle: Bundle) -> tuple[Contract, int]:
        """The newest version of the newest major, as it is registered."""
        majors = [major for major in bundle.majors(name) if bundle.terms[name, major].sharing != "withheld"]
        latest = self._registry.latest(f"{name}.v{majors[0]}-value") if majors else None
        if latest is None:
            raise NotFound("there is no such dataset, or it takes no records")
        schema_id, _, text = latest
        if schema_id not in self._contracts:
            self._contracts[schema_id] = Contract.from_text(text)
        return self._contracts[schema_id], schema_id


def _whole(answer: bytes) -> bytes:
    """An answer to all of a push. Raises PushStopped if it is one to a part."""
    document = json.loads(answer)
    if "stopped_after" in document:
        raise PushStopped(document)
    return answer


class _OneAtATime(Publisher):
    """A publisher that several threads may call; it makes the calls one after the other."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        with self._lock:
            return self._publisher.publish(topic, messages)

    def close(self) -> None:
        self._publisher.close()
