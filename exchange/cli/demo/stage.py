"""The stage on which the story is told: the running town, and what a step leaves for those behind it."""

from __future__ import annotations

from dataclasses import dataclass

from exchange.cli.demo.arrival import Arrival
from exchange.cli.demo.desks import Call, Desks
from exchange.cli.demo.town import Town
from exchange.store import Store


@dataclass(slots=True)
class Stage:
    """`view` is the answer whose receipt is looked at later."""

    town: Town
    desks: Desks
    store: Store
    arrival: Arrival
    view: Call | None = None

    def kept(self) -> Call:
        """The view that an earlier step kept. Raises LookupError if that step got none."""
        if self.view is None or self.view.status != 200:
            raise LookupError("no view was kept")
        return self.view
