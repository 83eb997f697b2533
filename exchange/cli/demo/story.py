"""The story, in the order in which it is told."""

from __future__ import annotations

from exchange.cli.demo import accounts, changes, evidence, readers
from exchange.cli.demo.stage import Stage
from exchange.cli.demo.steps import Step

STORY: tuple[Step[Stage], ...] = (
    Step("accounting", "Every row that came in is accounted for", accounts.accounting),
    Step("rejects", "What cannot be taken is set aside, with its place and reason", accounts.rejects),
    Step("agencies", "Five agencies ask for the same citizen, and see different fields", readers.agencies),
    Step("refused", "Who has no agreement is refused", readers.refused),
    Step("purpose", "Who names no purpose of his own is refused", readers.purpose),
    Step("enterprise", "An enterprise, merged: penalties, and addresses that disagree", readers.enterprise),
    Step("change", "A source changes, and the view changes", changes.change),
    Step("delete", "A row is deleted at its source, and is gone", changes.delete),
    Step("receipt", "A receipt verifies offline", evidence.receipt),
    Step("log", "The audit log verifies", evidence.log),
    Step("tampered", "A copy of the log with one bit changed does not", evidence.tampered),
)
