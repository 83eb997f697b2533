"""The memory of used proofs, on each database, as several gateways use it at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exchange.errors import StoreUnavailable
from exchange.store import UsedProofs
from gateway import replays
from gateway.replays import Replays
from tests.support.stores import NOW, Stores, stores

__all__ = ["stores"]

AT = int(NOW.timestamp())


def test_each_is_new_once(stores: Stores) -> None:
    used = UsedProofs(stores.open().engine)
    assert used.use([("b", AT), ("a", AT), ("b", AT)]) == [True, True, False]
    other = UsedProofs(stores.open().engine)  # another gateway, or the same one after a restart
    assert other.use([("a", AT + 1), ("c", AT), ("b", AT)]) == [False, True, False]
    assert used.use([("'; DROP TABLE used_proofs; --", AT), ('"%s', AT)]) == [True, True]
    assert used.use([]) == []


def test_what_has_ended_is_forgotten(stores: Stores) -> None:
    used = UsedProofs(stores.open().engine)
    used.use([("a", AT), ("b", AT + 10)])
    assert used.forget(AT) == 0
    assert used.forget(AT + 1) == 1
    assert used.use([("a", AT), ("b", AT)]) == [True, False]


def test_of_one_that_comes_twice_at_once_the_later_end_counts(stores: Stores) -> None:
    used = UsedProofs(stores.open().engine)
    assert used.use([("twice", 200), ("twice", 100)]) == [True, False]
    used.forget(150)
    assert used.use([("twice", 300)]) == [False]


def test_many_at_once_are_each_new_in_one_of_them(stores: Stores) -> None:
    """In any order, and while others are forgotten: no deadlock, no proof that counts twice."""
    wanted = [(f"proof {number}", AT + 100) for number in range(200)]
    found: list[list[bool]] = [[] for _ in range(4)]
    old = UsedProofs(stores.open().engine)
    old.use([(f"old {number}", AT - 100) for number in range(200)])

    def gateway(which: int) -> None:
        used = UsedProofs(stores.open().engine)
        order = wanted if which % 2 else wanted[::-1]
        for at in range(0, 200, 20):
            found[which] += used.use(order[at : at + 20])
            used.forget(AT)
        if not which % 2:
            found[which].reverse()

    threads = [threading.Thread(target=gateway, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [sum(each) for each in zip(*found, strict=True)] == [1] * 200
    assert old.forget(AT) == 0


class Slow:
    """A memory that tells when it is asked, and answers when it is told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.forgotten: list[int] = []
        self.asked, self.go = threading.Event(), threading.Event()
        self.fails: Exception | None = None

    def use(self, proofs: list[tuple[str, int]]) -> list[bool]:
        self.batches.append([mark for mark, _ in proofs])
        self.asked.set()
        self.go.wait(10)
        if self.fails is not None:
            raise self.fails
        return [True] * len(proofs)

    def forget(self, now: int) -> int:
        self.forgotten.append(now)
        return 0


@pytest.mark.anyio
async def test_what_comes_while_one_is_written_shares_the_next_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "AT_ONCE", 3)
    slow = Slow()
    waiting = Replays(slow, lambda: NOW)  # type: ignore[arg-type]
    first = asyncio.create_task(waiting.first("0", AT))
    await asyncio.to_thread(slow.asked.wait, 10)
    rest = [asyncio.create_task(waiting.first(str(number), AT)) for number in range(1, 6)]
    gone = asyncio.create_task(waiting.first("gone", AT))
    await asyncio.sleep(0)
    gone.cancel()
    slow.go.set()
    assert await asyncio.gather(first, *rest) == [True] * 6
    await waiting.close()
    assert slow.batches == [["0"], ["1", "2", "3"], ["4", "5", "gone"]]
    assert slow.forgotten == [AT]
    slow.fails = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await waiting.first("6", AT)
    slow.fails = ZeroDivisionError("a defect")
    with pytest.raises(ZeroDivisionError):
        await waiting.first("7", AT)
    slow.fails = None
    assert await waiting.first("8", AT)
    await waiting.close()
