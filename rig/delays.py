"""How long a message waits in its topic for its effect, and whether poison before it makes it wait longer.

A partition is read in order: what stands behind poison has no effect before the poison is set aside. So the time from
the poison's writing to its row among the rejects is the longest that it can hold anything up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rig.checkers import Evidence
from rig.meddling import mark

GOOD, BEHIND, POISON = "good", "behind poison", "poison"


def delays(evidence: Evidence) -> Mapping[str, Sequence[float]]:
    """Seconds from the topic to the effect: of what is good, of that what stands right behind poison, and of poison."""
    facets: dict[tuple[str | None, tuple[int | None, int | None]], float] = {}
    rejects: dict[str, float] = {}
    for effect in evidence.effects:
        if effect.table == "rejects":
            rejects.setdefault(effect.target, effect.at)
        else:
            facets.setdefault((effect.source, effect.number), effect.at)
    found: dict[str, list[float]] = {GOOD: [], BEHIND: [], POISON: []}
    for messages in evidence.messages.values():
        for message in messages:
            place = message.topic, message.partition, message.offset
            if place in evidence.poison:
                if (at := rejects.get("{}/{}/{}".format(*place))) is not None:
                    found[POISON].append(at - message.at)
            elif mark(message) is None and (at := facets.get((message.source, message.number))) is not None:
                found[GOOD].append(at - message.at)
                if (*place[:2], message.offset - 1) in evidence.poison:
                    found[BEHIND].append(at - message.at)
    return found
