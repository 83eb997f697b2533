"""Which of two facets stands: the one rule of order. It never looks at a clock.

Records of one identity come late, twice and from several sources. What a source said is ordered by its version, else by
its own numbers; what two sources said, by the log. As those two orders may disagree, a facet remembers the last word of
each other source: else a repeat of one, or an old number that comes late, would undo what another has said since.
"""

from __future__ import annotations

from exchange.records import Facet, Said, heard

HEARD = 32  # sources of one identity whose last word is kept beside that of the one that stands


def succeed(candidate: Facet, standing: Facet) -> Facet:
    """What stands once `candidate` has come upon `standing`, both of one identity; `standing` itself if nothing is new.

    In this order: the greater version, where both have one and they differ. Else the candidate must be later than the
    last word of its own source, also where another source has spoken since: a repeat changes nothing. Else, of two
    sources, log order. Never the wall clock. What has no version takes over the one that it replaces, so that no older
    one comes back after it. What loses against another source is its own source's last word all the same, if it is
    later than the one before: an older one without a version, that comes late, would be taken for new.
    """
    source = candidate.source
    ours = _last_word(source, standing)
    later = ours is None or _later(candidate, ours)
    if _newer(candidate, standing, later=later):
        others = standing.heard if source == standing.source else _beside(standing, source, _said(standing))
        version = standing.version if candidate.version is None else candidate.version
        if others == candidate.heard and version == candidate.version:
            return candidate
        return candidate._replace(heard=others, version=version)
    if later and source != standing.source:
        return standing._replace(heard=_beside(standing, source, _said(candidate)))
    return standing


def _newer(candidate: Facet, standing: Facet, *, later: bool) -> bool:
    """Whether it takes the place of what stands; `later`: than the last word of its own source."""
    if candidate.version is not None and standing.version is not None and candidate.version != standing.version:
        return candidate.version > standing.version
    if candidate.source == standing.source:
        return later
    return later and (candidate.partition, candidate.offset) > (standing.partition, standing.offset)


def _beside(standing: Facet, source: str, said: Said) -> str | None:
    """What is remembered besides what will stand: this, and what was, but nothing older of this source."""
    return heard([*(each for each in standing.others if each.source != source), said][-HEARD:])


def _said(facet: Facet) -> Said:
    return Said(facet.source, facet.version, facet.epoch, facet.sequence)


def _last_word(source: str, standing: Facet) -> Said | None:
    if source == standing.source:
        return _said(standing)
    return next((said for said in standing.others if said.source == source), None)


def _later(candidate: Facet, said: Said) -> bool:
    """Whether this is later than what its source said: by version where both have one, else by epoch and sequence."""
    if candidate.version is not None and said.version is not None and candidate.version != said.version:
        return candidate.version > said.version
    return (candidate.epoch, candidate.sequence) > (said.epoch, said.sequence)
