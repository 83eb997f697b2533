"""What the materialiser hands to the store, and what it gets back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exchange.records import Facet, Reject, Watermark


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read next in a partition, and the epoch that fences what its new owner writes."""

    offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What a stretch of one partition does to the store: `[previous, next)` in offsets.

    `epoch` and `previous` are the fence: if the stored position is not exactly these, nothing of it is written. The
    facets stand in log order.
    """

    topic: str
    partition: int
    epoch: int
    previous: int
    next: int
    facets: Sequence[Facet] = field(default=())
    rejects: Sequence[Reject] = field(default=())
    watermarks: Sequence[Watermark] = field(default=())


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch's facets.

    `repeats` were older than or equal to what stands. `clashes`, some of either, met another record of the same version
    with another value: the order rule has decided, but the source contradicts itself.
    """

    applied: int
    repeats: int
    clashes: int = 0
