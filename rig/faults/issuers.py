"""The token issuer: away, slow, talking nonsense; and its key replaced under load.

Meanwhile tokens of unknown keys come to every gateway, so that each has a reason to ask the issuer, and good
ones, which must be taken: by the keys that are known.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx2

from rig.faults.base import Fault, Here, Struck
from rig.issuer import Key, Mood, well

CLIENT = "hotline-desk"
ISSUER = "issuer"
EVERY = 0.25  # seconds between two tokens of unknown keys
MEETS = 40.0  # seconds within which each gateway must have asked: it may, 30 s after it did so last
FELT = 5.0  # seconds that it goes on after each of them has asked
SLOW = 20.0  # seconds until the issuer answers
NOTICE = 31.0  # seconds from a key's publication to its first signature: a gateway asks again after 30
SIGNS = 5.0  # seconds in which good tokens of the new key are looked at


def away(here: Here, dice: Random) -> Struck:
    """Whoever connects is cut off."""
    return _meanwhile(here, lambda _: None)


def slow(here: Here, dice: Random) -> Struck:
    """Every document comes after 20 s."""

    def late(document: bytes) -> tuple[int, bytes]:
        time.sleep(SLOW)
        return 200, document

    return _meanwhile(here, late)


def garbage(here: Here, dice: Random) -> Struck:
    """In the place of a document: something else, or the document and something wrong about it."""
    order = list(NONSENSE)
    dice.shuffle(order)
    turns = itertools.cycle(order)

    def nonsense(document: bytes) -> tuple[int, bytes]:
        # Of every second fetch the first document is as it should be, so that the second is reached.
        return well(document) if b"jwks_uri" in document and dice.random() < 0.5 else next(turns)(document)

    return _meanwhile(here, nonsense)


NONSENSE: tuple[Callable[[bytes], tuple[int, bytes]], ...] = (
    lambda _: (200, b"<html><body>Please sign in</body></html>"),
    lambda _: (200, b""),
    lambda _: (200, b"\xff\xfe\x00" * 100),
    lambda _: (200, b"[" * 100_000),
    lambda _: (200, b" " * (8 << 20)),
    lambda _: (200, b'{"keys": [{"kty": "oct", "k": "eA"}, 7, {}]}'),
    lambda _: (200, b'{"keys": []}'),
    lambda _: (200, b"null"),
    lambda document: (200, document[: len(document) // 2]),
    lambda document: (200, document.replace(b"https://", b"https://not-")),
    lambda document: (500, document),
    lambda document: (302, document),
)


def rotated(here: Here, dice: Random) -> Struck:
    """A new key is published, and signs half a minute later; the former one is taken as long as it is published."""
    issuer = here.issuer
    former, new = issuer.key, issuer.publish()
    wrong = _ask(here, time.monotonic() + NOTICE, former)
    issuer.key = new
    wrong += _ask(here, time.monotonic() + SIGNS, new, former)
    return ISSUER, wrong


def _meanwhile(here: Here, mood: Mood) -> Struck:
    """Ask until each gateway has met the issuer as it is now, and some seconds more."""
    wrong: list[str] = []
    before = {name: len(asked.tries) for name, asked in here.issuer.asked.items()}
    with here.issuer.feeling(mood):
        end = time.monotonic() + MEETS
        while time.monotonic() < end:
            wrong += _ask(here, time.monotonic() + 1, here.issuer.key)
            if all(len(asked.tries) > before[name] for name, asked in here.issuer.asked.items()):
                wrong += _ask(here, time.monotonic() + FELT, here.issuer.key)
                return ISSUER, wrong
    return ISSUER, [*wrong, f"not every gateway asked the issuer for the unknown key within {MEETS:.0f} s"]


def _ask(here: Here, end: float, *good: Key) -> list[str]:
    """Ask every gateway with unknown keys and with these until then (monotonic seconds); what was wrong."""
    work: list[tuple[str, Sequence[Key]]]
    work = [(url, keys) for url in here.site.gateways for keys in ((), good)]
    with ThreadPoolExecutor(len(work)) as pool:
        return [
            wrong for found in pool.map(lambda each: list(_answers(each[0], each[1], end)), work) for wrong in found
        ]


def _answers(url: str, keys: Sequence[Key], end: float) -> Iterator[str]:
    """Without keys, each token is of a key that nobody has published."""
    with httpx2.Client(timeout=10) as http:
        while time.monotonic() < end:
            for key in keys or (Key(),):
                bearer = {"Authorization": f"Bearer {key.token(CLIENT)}"}
                try:
                    status = http.get(f"{url}/v1/contracts", headers=bearer).status_code
                except httpx2.TransportError as error:
                    yield f"{url} did not answer: {type(error).__name__}"
                    continue
                if status != (200 if keys else 401):
                    yield f"a token of {'a known' if keys else 'an unknown'} key was answered with {status}"
            time.sleep(EVERY)


ISSUERS = (
    Fault("issuer-away", 1, away, calm=True),
    Fault("issuer-slow", 1, slow, calm=True),
    Fault("issuer-garbage", 1, garbage, calm=True),
    Fault("key-rotated", 1, rotated, calm=True),
)
