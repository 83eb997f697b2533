"""Decisions: what a client may see of a contract, for a purpose, now. Cedar guardrails with the agreement as context.

In reading order:

    cedar        the one door to Cedar: parse, validate, ask
    guardrails   policies/guardrails and the cases that every bundle must pass
    loading      load_bundle: policies/ and the contracts become one bundle, or every reason why not
    decider      Decision and Decider: what is asked, of whom it rests, until when it holds
    explanation  the same decisions, field by field, for a person

A decision never depends on the subject, so it is made before anything is read, and kept. Any error denies.
"""

from exchange.decisions.decider import Decider, Decision
from exchange.decisions.explanation import explain, without_effect
from exchange.decisions.loading import load_bundle

__all__ = ["Decider", "Decision", "explain", "load_bundle", "without_effect"]
