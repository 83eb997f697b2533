"""Views: facets trimmed to what a decision gives, then merged into one answer. Pure: no store, no clock, no policy.

In reading order:

    selection    which of the permitted contracts and fields were asked for
    trim         a facet without anything that the decision does not give
    comparison   when two sources say the same
    cursors      where a long list goes on
    merge        trimmed facets into the answer
    spell        the same answer straight into bytes, for each view that is served; merge is its reference

Trim comes before merge: merge takes `Trimmed` only, so nothing after it can show what was not permitted.
"""

from exchange.views.merge import LIMIT, merge
from exchange.views.selection import Selection, select
from exchange.views.spell import Speller
from exchange.views.trim import Trimmed, Trimmer, Trimmers

__all__ = ["LIMIT", "Selection", "Speller", "Trimmed", "Trimmer", "Trimmers", "merge", "select"]
