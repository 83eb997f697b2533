"""Erasure: what was said of a subject until now is gone, from every place that is ours.

The order stands in a list first, a topic that is kept for ever and knows subject keys only, so that it can be carried
out to its end after a crash, and again on a store that was restored from an older backup. Then, in this order, so that
a crash at any line leaves nothing that a second run would not find:

1. a deletion goes to the contract's topic for every key of the subject, of those that are stored and of those that were
   not read yet: what the topic still holds of it is overwritten, and compaction removes the bytes;
2. the facets are emptied in the store, and rejects whose payload names the subject are removed;
3. once every position has passed what was in the topics, there must be nothing left; else it begins again;
4. the list says that it is done.

What a department says of the subject after that is new, and stands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta

from exchange.clock import Clock
from exchange.contracts import Contract
from exchange.errors import InvalidIdentifier, Rejected, StoreUnavailable
from exchange.records import ERASE, ERASURES_TOPIC, Envelope, Erasure, Message, Origin, rejects_topic
from exchange.store import Store
from exchange.subjects import KeyMaker, message_key, parse, split_key
from exchange.topics import Broker, TopicSpec

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_ROUNDS = 100  # of a subject about whom records come in without pause
_EARLIER = timedelta(hours=1)  # clocks of the hosts on which backups and orders are made differ by less

Identity = tuple[str, int, str]  # contract, major, record key


def topic(replication: int = 1) -> TopicSpec:
    """How the list is made: one partition, the newest word on each subject, for ever."""
    return TopicSpec(ERASURES_TOPIC, partitions=1, replication=replication)


def listed(broker: Broker) -> dict[str, Erasure]:
    """The list, by subject key; empty where there is none yet. Raises BrokerUnavailable; Rejected if it is damaged."""
    if broker.state(ERASURES_TOPIC) is None:
        return {}
    found = [Erasure.read(delivery) for delivery in broker.read(ERASURES_TOPIC) if delivery.value is not None]
    return {each.subject_key: each for each in found}


def merged(*lists: Mapping[str, Erasure]) -> dict[str, Erasure]:
    """The newest word on each subject."""
    found: dict[str, Erasure] = {}
    for each in (erasure for known in lists for erasure in known.values()):
        other = found.get(each.subject_key)
        if other is None or (each.ordered, each.done is not None) >= (other.ordered, other.done is not None):
            found[each.subject_key] = each
    return found


def again(orders: Mapping[str, Erasure], restored: Mapping[str, Erasure], made: datetime) -> list[Erasure]:
    """Those of which a backup of this time may not know yet. `restored` is the list as it stands behind the restore.

    What is done and stands there word for word, from before the backup, needs no second time: what was said of the
    subject since is in the backup too.
    """
    return [
        each
        for key, each in merged(restored, orders).items()
        if each.done is None
        or each.done > made
        or (each.done > made - _EARLIER and (key not in restored or restored[key] != each))
    ]


class Eraser:
    """Orders erasures and carries them out. `contracts` are the newest of every contract and major that has a topic.

    `read` are the topics that materialisers read, of those and of rejects: what is served no longer is erased too, and
    nobody would read it to its end.

    Every method raises StoreUnavailable and BrokerUnavailable, after which the same call may be made again.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        contracts: Sequence[Contract],
        read: Collection[str],
        keys: KeyMaker,
        clock: Clock,
    ) -> None:
        self._store = store
        self._read = set(read)
        self._broker = broker
        self._contracts = contracts
        self._topics = {
            (each.name, each.major): each.topic for each in contracts if broker.state(each.topic) is not None
        }
        self._keys = keys
        self._clock = clock

    def order(self, subject_key: str, reference: str) -> Erasure:
        """Put an order on the list; durable when this returns."""
        erasure = Erasure(subject_key, reference, self._clock())
        self._put(erasure)
        return erasure

    def apply_again(self, erasure: Erasure, *, topics: bool, store: bool) -> None:
        """Apply an erasure to what was restored from a backup of before it, while nothing runs.

        `topics`, `store`: whether these were restored. Topics that were not have its deletions, and behind them what
        was said of the subject since, which stands: materialisers read both in their order. A store that was not knows
        what was said since.
        """
        if topics:
            self._delete(erasure.subject_key, self._identities(erasure.subject_key, whole=not store))
            self._put(erasure)
        if store:
            self._store.erase(erasure.subject_key)
            self._drop_rejects(erasure.subject_key)

    def would(self, subject_key: str) -> dict[str, int]:
        """How many records of each topic an erasure would find now."""
        found: dict[str, int] = {}
        for contract, major, _ in self._identities(subject_key):
            found[f"{contract}.v{major}"] = found.get(f"{contract}.v{major}", 0) + 1
        return found

    def carry_out(self, erasure: Erasure, patience_s: float = PATIENCE_SECONDS) -> Erasure:
        """Erase; the erasure as it stands in the list then.

        `patience_s` is how long the materialisers may take to read what is in the topics. Raises StoreUnavailable also
        if they take longer: then nothing is shown any more, and it stays open.
        """
        records = rejects = 0
        deadline = time.monotonic() + patience_s
        for _ in range(_ROUNDS):
            found = self._identities(erasure.subject_key)
            self._delete(erasure.subject_key, found)
            self._store.erase(erasure.subject_key)
            records += len(found)
            rejects += self._drop_rejects(erasure.subject_key)
            self._until_read(deadline)
            rejects += self._drop_rejects(erasure.subject_key)  # those that waited in the rejects topics too
            if not self._identities(erasure.subject_key):
                self._store.overwrite_log()
                done = erasure.finished(self._clock(), records, rejects)
                listed_now = listed(self._broker).get(erasure.subject_key)
                if listed_now is None or listed_now.ordered <= erasure.ordered:
                    self._put(done)  # else somebody has ordered it once more meanwhile, and that one is open
                return done
        raise StoreUnavailable("records of this subject come in without pause")

    # --- what there is ------------------------------------------------------------------------------------------------

    def _identities(self, subject_key: str, *, whole: bool = False) -> list[Identity]:
        """What is stored with a value, and what stands with one in the topics behind the positions (or anywhere)."""
        known = dict.fromkeys(self._store.known_of(subject_key))
        positions = {} if whole else self._store.positions(self._topics.values())
        for (contract, major), name in self._topics.items():
            begin = {partition: offset for (of, partition), offset in positions.items() if of == name}
            unread: dict[str, bool] = {}  # record key -> whether its newest word has a value
            for delivery in self._broker.read(name, begin):
                with suppress(Rejected):
                    subject, record_key = split_key(delivery.key or b"")
                    if subject == subject_key:
                        unread[record_key] = delivery.value is not None
            known |= {(contract, major, record_key): None for record_key, has_value in unread.items() if has_value}
        return list(known)

    # --- taking it away -----------------------------------------------------------------------------------------------

    def _delete(self, subject_key: str, found: Iterable[Identity]) -> None:
        """A deletion for each, behind all that its topic has. Without a version it takes that of what it ends.

        A major that nobody serves any more may have no topic left; then the store alone had it.
        """
        now = self._clock()
        epoch = int(now.timestamp() * 1000)
        by_topic: dict[str, list[Message]] = {}
        for sequence, (contract, major, record_key) in enumerate(found):
            name = f"{contract}.v{major}"
            owner = contract.partition(".")[0]
            headers = Envelope(Origin(f"{owner}/{ERASE}", epoch, sequence), name, now).headers()
            by_topic.setdefault(name, []).append(Message(message_key(subject_key, record_key), None, headers))
        with closing(self._broker.publisher()) as publisher:
            for name, messages in by_topic.items():
                if self._broker.state(name) is not None:
                    publisher.publish(name, messages)

    def _drop_rejects(self, subject_key: str) -> int:
        """Remove the rejects whose payload names the subject where its contract has it."""
        majors: dict[str, list[Contract]] = {}
        for contract in self._contracts:
            majors.setdefault(contract.name, []).append(contract)
        gone = [
            reject_id
            for name, contracts in majors.items()
            for reject_id, payload in self._store.payloads(name)
            if any(self._names(each, payload) == subject_key for each in contracts)
        ]
        return self._store.drop_rejects(gone)

    def _names(self, contract: Contract, payload: str) -> str | None:
        """The subject key that a payload names, if it can be read."""
        with suppress(ValueError, RecursionError, InvalidIdentifier):
            value = json.loads(payload)
            found = value.get(contract.subject_field) if isinstance(value, dict) else None
            if isinstance(found, str):
                return self._keys.subject(parse(contract.scheme, found))
        return None

    def _until_read(self, deadline: float) -> None:
        """Wait until the positions have passed what is in the topics now. Raises StoreUnavailable."""
        rejects = {rejects_topic(each.department) for each in self._contracts}
        awaited = self._read & {*self._topics.values(), *rejects}
        states = [state for name in awaited if (state := self._broker.state(name)) is not None]
        ends = {
            (each.name, partition): end
            for each in states
            for partition, (earliest, end) in each.bounds.items()
            if earliest < end
        }
        while True:
            positions = self._store.positions(awaited)
            behind = [place for place, end in ends.items() if positions.get(place, 0) < end]
            if not behind:
                return
            if time.monotonic() >= deadline:
                name, partition = behind[0]
                raise StoreUnavailable(
                    f"nothing of the subject is shown any more, but {name} partition {partition} was not read to "
                    "its end: see that materialisers run, then `exchange erase resume`"
                )
            time.sleep(_POLL_SECONDS)

    def _put(self, erasure: Erasure) -> None:
        with closing(self._broker.publisher()) as publisher:
            publisher.publish(ERASURES_TOPIC, [erasure.message()])
