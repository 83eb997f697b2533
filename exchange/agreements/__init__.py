"""Agreements: who may read what, for which purpose, until when; and the bundle that holds it all as one version.

In reading order:

    masks        how a permitted value is shown in part
    model        Client, Purpose, Agreement, Condition, Terms, Guardrail
    conditions   row conditions: typed when the policies are applied, exact when a row is read
    bundle       the immutable version, its bytes and its hash
    files        reading policies/: bounded, inside the folder, every reason collected
    entries      from the files' entries to clients, purposes and agreements, checked against the contracts
    editing      clients.toml with one entry added or struck

Agreements are data and never compiled to Cedar; `exchange.decisions` hands them to the guardrails as context, and its
`load_bundle` puts the whole together.
"""

from exchange.agreements.bundle import Bundle, has_version
from exchange.agreements.model import Agreement, Client, Condition, FieldTerms, Guardrail, Purpose, Terms

__all__ = ["Agreement", "Bundle", "Client", "Condition", "FieldTerms", "Guardrail", "Purpose", "Terms", "has_version"]
