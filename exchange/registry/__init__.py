"""The schema registry: which text an id stands for, and which texts may follow each other under a subject.

In reading order:

    protocol   Registry, and what it promises
    forms      what is registered, and under which name; faults: what is refused, with Confluent's codes
    verdicts   the seven levels: which versions count, and who must read whom
    rows       the statements on the store's tables
    settings   levels and modes of subjects; striking deletes; shelf lists and shows
    stored     StoreRegistry: what the gateway, the materialiser and the operator's commands use
    http       over HTTP, in the form of Confluent's REST interface: what a connector uses

One conformance suite, tests/test_registry.py, runs over both.
"""

from typing import TYPE_CHECKING, Any

from exchange.registry.http import HttpRegistry
from exchange.registry.protocol import Registered, Registry

if TYPE_CHECKING:
    from exchange.registry.stored import StoreRegistry

__all__ = ["HttpRegistry", "Registered", "Registry", "StoreRegistry"]


def __getattr__(name: str) -> Any:
    """StoreRegistry when it is first asked for (PEP 562): a connector never meets the store, nor loads it."""
    if name == "StoreRegistry":
        from exchange.registry.stored import StoreRegistry

        return StoreRegistry
    raise AttributeError(name)
