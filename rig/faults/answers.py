"""What was asked is done, and the answer is lost on the way."""

from __future__ import annotations

from random import Random

from rig.faults.base import Fault, Here, Struck, after

PATIENCE = 5.0  # seconds until a request comes that can be cut


def push(here: Here, dice: Random) -> Struck:
    """The answer to a push is lost: everything is in the topic, and whoever pushed does not know."""
    proxy = dice.choice(list(here.gateways))
    cuts = proxy.cuts
    proxy.cut(b"POST /v1/datasets")
    after(PATIENCE, lambda: proxy.cuts > cuts)
    return "push", ()


def commit(here: Here, dice: Random) -> Struck:
    """PostgreSQL has committed, and whoever asked for it does not know: of some commits, of whatever part."""
    assert here.database is not None
    proxy, cuts, times = here.database, here.database.cuts, dice.randint(1, 4)
    proxy.cut(b"COMMIT", times)
    after(PATIENCE, lambda: proxy.cuts == cuts + times)
    return "commit", ()


ANSWERS = (
    Fault("push-answer", 2, push),
    Fault("commit-answer", 2, commit, possible=lambda here: here.database is not None),
)
