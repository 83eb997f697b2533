"""The push ledger: one effect for one Idempotency-Key, whatever is repeated, crossed or crashed."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from exchange.errors import Conflict, StoreUnavailable, Unprocessable
from exchange.store import Claim, ClaimState, PushLedger
from tests.support.stores import NOW, Stores, stores

__all__ = ["stores"]


@pytest.fixture
def ledger(stores: Stores) -> PushLedger:
    return PushLedger(stores.open().engine, stores.clock)


def claim(ledger: PushLedger, **changes: object) -> Claim:
    values = {"client": "tax-office", "key": "k", "contract": "tax.person", "digest": "d", "lines": 5}
    return ledger.claim(**values | changes)  # type: ignore[arg-type]


def test_sequences_follow_each_other(ledger: PushLedger) -> None:
    epoch = ledger.epoch()
    assert claim(ledger) == Claim(ClaimState.NEW, epoch, 1, NOW)
    assert ledger.next_sequences(3) == (epoch, 6)
    assert claim(ledger, key="k2", lines=1).first_sequence == 9
    assert claim(ledger, client="market-office").first_sequence == 10, "clients do not see each other's keys"


def test_a_finished_push_is_answered_again(stores: Stores, ledger: PushLedger) -> None:
    first = claim(ledger)
    assert ledger.finish("tax-office", "k", '{"accepted":5}') == '{"accepted":5}'
    again = claim(PushLedger(stores.open().engine, stores.clock))
    assert again == Claim(ClaimState.DONE, first.epoch, first.first_sequence, NOW, '{"accepted":5}')


@pytest.mark.parametrize("changes", [{"digest": "e"}, {"contract": "tax.enterprise"}])
@pytest.mark.parametrize("finished", [True, False])
def test_another_body_or_contract_is_refused(ledger: PushLedger, changes: dict[str, object], finished: bool) -> None:
    claim(ledger)
    if finished:
        ledger.finish("tax-office", "k", "{}")
    with pytest.raises(Unprocessable):
        claim(ledger, **changes)


def test_while_the_lease_lives_others_wait(stores: Stores, ledger: PushLedger) -> None:
    claim(ledger)
    stores.clock.move(seconds=9.9)
    with pytest.raises(Conflict):
        claim(ledger)


def test_after_a_crash_the_retry_has_the_same_sequences(stores: Stores, ledger: PushLedger) -> None:
    first = claim(ledger)
    stores.clock.move(seconds=10)
    again = claim(ledger)
    assert again == Claim(ClaimState.RETRY, first.epoch, first.first_sequence, NOW)
    with pytest.raises(Conflict):
        claim(ledger)  # the retry has a lease of its own
    assert ledger.next_sequences(1)[1] == 6, "no new ones were given"


def test_the_answer_that_came_first_stays(stores: Stores, ledger: PushLedger) -> None:
    """Who claimed first was slow, not dead."""
    claim(ledger)
    stores.clock.move(seconds=11)
    claim(ledger)
    assert ledger.finish("tax-office", "k", "of the retry") == "of the retry"
    assert ledger.finish("tax-office", "k", "of the first") == "of the retry"


def test_a_released_claim_can_be_retried_at_once(ledger: PushLedger) -> None:
    first = claim(ledger)
    ledger.release("tax-office", "k")
    assert claim(ledger) == Claim(ClaimState.RETRY, first.epoch, first.first_sequence, NOW)


def test_fifty_at_once_have_one_claim(stores: Stores) -> None:
    barrier = threading.Barrier(10)
    got: list[Claim | None] = []

    def send() -> None:
        store = stores.open()
        ledger = PushLedger(store.engine, stores.clock)
        barrier.wait()
        for _ in range(5):
            try:
                got.append(claim(ledger))
            except (Conflict, StoreUnavailable):
                got.append(None)

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 50
    assert [one.state for one in got if one is not None] == [ClaimState.NEW]


def test_sequences_given_at_once_never_overlap(stores: Stores) -> None:
    given: list[int] = []

    def take() -> None:
        ledger = PushLedger(stores.open().engine, stores.clock)
        for _ in range(10):
            given.append(ledger.next_sequences(3)[1])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 121, 3))


def test_a_key_is_kept_seven_days(stores: Stores, ledger: PushLedger) -> None:
    claim(ledger)
    ledger.finish("tax-office", "k", "{}")
    stores.clock.move(days=7)
    assert claim(ledger).state is ClaimState.DONE
    assert ledger.purge() == 0
    stores.clock.move(seconds=1)
    assert claim(ledger, digest="another body") == Claim(ClaimState.NEW, ledger.epoch(), 6, stores.clock.now), (
        "a new life"
    )
    stores.clock.move(days=8)
    assert ledger.purge() == 1


def test_a_new_store_begins_above_the_one_that_was_lost(stores: Stores, ledger: PushLedger) -> None:
    assert ledger.epoch() == int(NOW.timestamp())


def test_a_restore_renews_the_epoch_but_not_that_of_a_claim(stores: Stores, ledger: PushLedger) -> None:
    """A retry of what was claimed before is that same push; everything else has numbers that were never given."""
    first = claim(ledger)
    stores.clock.move(minutes=1)
    assert ledger.renew_epoch() == first.epoch + 60
    assert claim(ledger) == Claim(ClaimState.RETRY, first.epoch, first.first_sequence, NOW)
    assert ledger.next_sequences(1) == (first.epoch + 60, 1)
    stores.clock.now -= timedelta(days=1)
    assert ledger.renew_epoch() == first.epoch + 61, "also where the clock went back"
