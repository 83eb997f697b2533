"""The one door to Cedar: policies parsed, validated, and asked. Nothing else imports cedarpy.

What bites in cedarpy 4.12, and is held off here: a policy that errors is skipped, so that a forbid that errs allows; a
value of another type is silently unequal unless the request is validated against the schema; duplicate ids are accepted
and ids are positional unless policies are loaded as JSON keyed by id; a text with some thousand nested brackets ends
the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cedarpy

from exchange.agreements import Guardrail
from exchange.agreements.masks import MASKS

MAX_TEXT = 8 * 1024  # bytes of one policy or schema: what Cedar parses without a stack of its own
MAX_NESTING = 32
_ACTION = {"type": "Action", "id": "disclose"}
_ANNOTATIONS = frozenset({"id", "doc", "mask"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one request: allowed only if Cedar allows and nothing erred. `policies` are those that decided."""

    allowed: bool
    policies: tuple[str, ...]
    errors: tuple[str, ...] = ()


def parse(text: str, name: str) -> Guardrail:
    """One guardrail of a file, which holds one policy whose @id is the file's name.

    `@doc` is the sentence that the policy stands for; `@mask` on a permit comes with it. Raises ValueError with the
    reason.
    """
    _bounded(text)
    parsed = json.loads(cedarpy.policies_to_json_str(text))
    policies = list(parsed["staticPolicies"].values())
    if parsed["templates"] or parsed["templateLinks"]:
        raise ValueError("templates are not used here; agreements reach the guardrails as context")
    if len(policies) != 1:
        raise ValueError(f"one file holds one policy, this one {len(policies)}")
    policy = policies[0]
    notes: dict[str, str | None] = policy.get("annotations", {})
    if unknown := sorted(set(notes) - _ANNOTATIONS):
        raise ValueError(f"unknown annotation @{unknown[0]}; known are @id, @doc and @mask")
    if notes.get("id") != name:
        raise ValueError(f'the policy needs @id("{name}"), as the file is named')
    says, mask = notes.get("doc"), notes.get("mask")
    if not says or not says.strip():
        raise ValueError("the policy needs @doc with the sentence that it stands for")
    if "mask" in notes and mask not in MASKS:
        raise ValueError(f"@mask is one of {', '.join(MASKS)}")
    if "mask" in notes and policy["effect"] != "permit":
        raise ValueError("@mask stands on permits only")
    return Guardrail.model_validate(
        {"id": name, "effect": policy["effect"], "says": says.strip(), "mask": mask, "policy": policy}
    )


class Engine:
    """A set of guardrails with their schema, validated against each other. Immutable; 50 microseconds a request."""

    def __init__(self, guardrails: Iterable[Guardrail], schema: str) -> None:
        """Raises ValueError with every reason, one a line, if schema or policies are not valid."""
        _bounded(schema)
        self._schema = cedarpy.Schema.from_str(schema)
        policies = {guardrail.id: dict(guardrail.policy) for guardrail in guardrails}
        as_json = json.dumps({"staticPolicies": policies, "templates": {}, "templateLinks": []})
        result = cedarpy.validate_policies(cedarpy.policies_from_json_str(as_json), self._schema)
        if not result.validation_passed:
            names = result.id_annotations_by_policy_id
            raise ValueError(
                "\n".join(f"{names.get(error.policy_id, error.policy_id)}: {error.error}" for error in result.errors)
            )
        self._policies = cedarpy.PolicySet.from_json_str(as_json)
        if len(self._policies) != len(policies):
            raise ValueError("Cedar does not hold as many policies as it was given")

    def ask(
        self, client: Mapping[str, Any], contract: Mapping[str, Any], contexts: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """May this client see this contract, under each of these contexts? One verdict for each, in order.

        The attributes are those of the schema's `Client`, `Contract` and the context of `disclose`. Attributes that do
        not fit the schema raise ValueError or TypeError (client, contract) or make a verdict with errors (context).
        """
        principal = {"type": "Client", "id": str(client["client_id"])}
        resource = {"type": "Contract", "id": str(contract["name"])}
        entities = cedarpy.Entities.from_json_str(
            json.dumps(
                [
                    {"uid": principal, "attrs": dict(client), "parents": []},
                    {"uid": resource, "attrs": dict(contract), "parents": []},
                ]
            ),
            schema=self._schema,
        )
        answers = cedarpy.is_authorized_batch(
            [
                {"principal": principal, "action": _ACTION, "resource": resource, "context": dict(context)}
                for context in contexts
            ],
            self._policies,
            entities,
            schema=self._schema,
        )
        verdicts = []
        for answer in answers:
            errors = tuple(answer.diagnostics.errors)
            allowed = answer.decision is cedarpy.Decision.Allow and not errors
            verdicts.append(Verdict(allowed, tuple(sorted(answer.diagnostics.reasons)), errors))
        return verdicts


def _bounded(text: str) -> None:
    """Refuse what would overflow the stack of Cedar's parser. Brackets in comments count too: it is a bound."""
    if len(text.encode()) > MAX_TEXT:
        raise ValueError(f"is larger than {MAX_TEXT} bytes")
    depth = 0
    for sign in text:
        if sign in "([{<":
            depth += 1
            if depth > MAX_NESTING:
                raise ValueError(f"has brackets nested more than {MAX_NESTING} deep")
        elif sign in ")]}>":
            depth = max(0, depth - 1)
