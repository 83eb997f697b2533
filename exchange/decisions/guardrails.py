"""The guardrails' folder: one file a policy, its cases beside it, the schema. Each case is run before a bundle is made.

The set is small and constant: `PERMITS` and `FORBIDS` must be there. A city may add forbids of its own; it cannot add a
permit, because what a permit shows is decided with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from exchange.agreements import Guardrail
from exchange.agreements.files import Place, Reasons, names, read_text, read_toml
from exchange.decisions.cedar import MAX_TEXT, Engine, parse

PERMITS = ("own", "agreement", "open")  # in this order: a decision rests on the first one that gives something
FORBIDS = ("level-3", "level-4", "purpose", "scope", "withheld")
SCHEMA = "schema.cedarschema"
_POLICY, _CASES = ".cedar", ".cases.toml"


class Case(BaseModel):
    """A request with the answer it must have: `client`, `contract` and `request` in the words of the Cedar schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    says: Annotated[str, StringConstraints(min_length=1)]
    expect: Literal["ALLOW", "DENY"]
    client: dict[str, Any]
    contract: dict[str, Any]
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the folder holds: the guardrails by id, the cases of each, and the schema."""

    guardrails: Mapping[str, Guardrail]
    cases: Mapping[str, tuple[Case, ...]]
    schema: str


def read(folder: Path, reasons: Reasons) -> Guarded:
    """Read the folder; what is wrong with a file goes into `reasons`."""
    guardrails: dict[str, Guardrail] = {}
    cases: dict[str, tuple[Case, ...]] = {}
    schema = read_text(folder / SCHEMA, folder, reasons, MAX_TEXT) or ""
    for file in names(folder, reasons):
        place = reasons.at(file)
        if file.name.endswith(_POLICY):
            name = file.name.removesuffix(_POLICY)
            text = read_text(file, folder, reasons, MAX_TEXT)
            if text is not None:
                try:
                    guardrails[name] = parse(text, name)
                except ValueError as error:
                    place.refuse(str(error))
        elif file.name.endswith(_CASES):
            cases[file.name.removesuffix(_CASES)] = _cases(read_toml(file, folder, reasons) or {}, place)
        elif file.name != SCHEMA:
            place.refuse(f"is neither <id>{_POLICY} nor <id>{_CASES} nor {SCHEMA}")
    return Guarded(guardrails, cases, schema)


def incomplete(guardrails: Iterable[Guardrail]) -> list[str]:
    """What keeps a set from being the constant one: a permit or forbid that is missing, a permit that is added."""
    effects = {guardrail.id: guardrail.effect for guardrail in guardrails}
    found = [f"permit `{name}` is missing" for name in PERMITS if effects.get(name) != "permit"]
    found += [f"forbid `{name}` is missing" for name in FORBIDS if effects.get(name) != "forbid"]
    found += [
        f"`{name}` is a permit; only {', '.join(PERMITS)} permit, a city adds forbids"
        for name, effect in sorted(effects.items())
        if effect == "permit" and name not in PERMITS
    ]
    return found


def check(guarded: Guarded, folder: Place) -> None:
    """Refuse a set that is incomplete, not valid against its schema, without cases, or that fails one of them."""
    for reason in incomplete(guarded.guardrails.values()):
        folder.refuse(reason)
    try:
        engine = Engine(guarded.guardrails.values(), guarded.schema)
    except ValueError as error:
        for reason in str(error).splitlines():
            folder.refuse(reason)
        return
    for file, reason in failing(guarded, engine):
        replace(folder, file=f"{folder.file}/{file}").refuse(reason)


def failing(guarded: Guarded, engine: Engine) -> list[tuple[str, str]]:
    """The cases that do not come out as they say, and the guardrails that have not both kinds: file and reason.

    An ALLOW beside a permit must rest on that permit, a DENY beside a forbid on that forbid; no case may err.
    """
    found = [(name + _CASES, "stands beside no policy") for name in guarded.cases if name not in guarded.guardrails]
    for name, guardrail in guarded.guardrails.items():
        cases = guarded.cases.get(name, ())
        missing = {"ALLOW", "DENY"} - {case.expect for case in cases}
        found += [(name + _CASES, f"at least one {kind} case is needed") for kind in sorted(missing)]
        for number, case in enumerate(cases, 1):
            reason = _fails(case, guardrail, engine)
            if reason is not None:
                found.append((name + _CASES, f"case {number} ({case.says}): {reason}"))
    return found


def _fails(case: Case, guardrail: Guardrail, engine: Engine) -> str | None:
    try:
        (verdict,) = engine.ask(_in_seconds(case.client), _in_seconds(case.contract), [_in_seconds(case.request)])
    except (ValueError, TypeError, KeyError) as error:
        return f"is not a request of the schema: {error}"
    if verdict.errors:
        return f"errs: {'; '.join(verdict.errors)}"
    came_out = "ALLOW" if verdict.allowed else "DENY"
    by = ", ".join(verdict.policies) or "no permit"
    if came_out != case.expect:
        return f"expected {case.expect}, came out {came_out} by {by}"
    speaks = came_out == ("ALLOW" if guardrail.effect == "permit" else "DENY")
    if speaks and guardrail.id not in verdict.policies:
        return f"came out {came_out}, but by {by}, not by {guardrail.id}"
    return None


def _cases(table: Mapping[str, Any], file: Place) -> tuple[Case, ...]:
    for key in table:
        if key != "cases":
            file.refuse(f"unknown key {key}; entries stand under [[cases]]")
    given = table.get("cases", [])
    if not isinstance(given, list):
        file.refuse("write [[cases]], in double brackets, before each entry")
        return ()
    cases = []
    for number, entry in enumerate(given, 1):
        try:
            cases.append(Case.model_validate(entry))
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_input=False, include_context=False):
                file.inside(f"case {number}").refuse(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
    return tuple(cases)


def _in_seconds(given: Any) -> Any:
    """A TOML table with its times as Unix seconds, which is how Cedar is told them."""
    if isinstance(given, dict):
        return {name: _in_seconds(value) for name, value in given.items()}
    if isinstance(given, datetime):
        return int(given.timestamp())
    return given
