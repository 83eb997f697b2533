"""disclose, the third verb: the one way out. Decision -> facets -> trim -> merge -> view and receipt.

In reading order:

    policy      PolicyWatch: the bundle in force, looked for twice a second; none that may be old is used
    plans       by what a request reads, and what its entry says of it; kept for as long as its decisions hold
    gathering   what of a subject may be shown, trimmed as it is read; long lists in bounded pieces
    disclose    ViewRequest, View, Disclosure: whoever reads `Disclosure.disclose` has read the verb

No receipt, no view: `Disclosure.disclose` is the only function that returns a View, and it returns it with a Receipt
that is durable already. Decisions come before reads, and only permitted contracts are read, so that unknown and
forbidden look alike by construction.
"""

from exchange.disclosure.disclose import Disclosure, View, ViewRequest
from exchange.disclosure.policy import PolicyWatch

__all__ = ["Disclosure", "PolicyWatch", "View", "ViewRequest"]
