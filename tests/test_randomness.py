"""Random pieces: each is given once, to whatever thread or process asks."""

from __future__ import annotations

import os
import threading

from exchange.randomness import PIECE, piece


def test_no_piece_is_given_twice_by_threads() -> None:
    given: list[bytes] = []
    threads = [threading.Thread(target=lambda: given.extend(piece() for _ in range(2_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(one) for one in given} == {PIECE}
    assert len(set(given)) == len(given) == 16_000


def test_no_piece_is_given_twice_by_a_fork() -> None:
    piece()  # so that some are kept
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"".join(piece() for _ in range(200)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 200 * PIECE)
    os.close(reading)
    os.close(writing)
    ours = {piece() for _ in range(200)}
    assert len(theirs) == 200 * PIECE
    assert ours.isdisjoint(theirs[at : at + PIECE] for at in range(0, len(theirs), PIECE))
