"""The checks, in threads: those that need nothing first, then those that need what has been reached.

A check that hangs costs the patience and no more: its thread is left behind, and what it had found is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from exchange.doctor.findings import Check, Finding, Means
from exchange.errors import ContractRefused, ExchangeError, NotFound, SchemaOutdated, SettingWrong, TryLater

PATIENCE = 20.0  # seconds for one check; Kafka's own answers may take ten

_DO: tuple[tuple[type[ExchangeError], str], ...] = (
    (SchemaOutdated, "run `exchange policy apply` with the program of the newest version"),
    (NotFound, "run `exchange policy apply`, which makes it"),
    (SettingWrong, "mend the setting (docs/reference/settings.md)"),
    (ContractRefused, "mend the contract (docs/contracts.md); `exchange policy test` says the same"),
    (TryLater, "see that it runs and can be reached from this machine under this address and name"),
)


@dataclass(slots=True)
class Result:
    """What a check found. `skipped` names what it needs and could not have; then it was not looked at."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    skipped: tuple[str, ...] = ()
    ended: bool = False  # it looked to the end


def examine(checks: Sequence[Check], means: Means, patience: float = PATIENCE) -> list[Result]:
    """Every check's result, in the order of the checks. Never raises what a check raises."""
    results = {check.name: Result(check.name) for check in checks}
    waiting = list(checks)
    while waiting:
        names = {check.name for check in waiting}
        now = [check for check in waiting if not names.intersection(check.needs)]
        waiting = [check for check in waiting if names.intersection(check.needs)]
        for check in now:
            results[check.name].skipped = tuple(name for name in check.needs if not results[name].ended)
        _run([check for check in now if not results[check.name].skipped], means, results, patience)
    return [results[check.name] for check in checks]


def _run(checks: Sequence[Check], means: Means, results: dict[str, Result], patience: float) -> None:
    threads = {}
    for check in checks:
        kept = Result(check.name)
        thread = threading.Thread(target=_look, args=(check, means, kept), daemon=True)
        threads[check.name] = (thread, kept)
        thread.start()
    end = time.monotonic() + patience
    for check in checks:
        thread, kept = threads[check.name]
        thread.join(max(0.0, end - time.monotonic()))
        told = results[check.name] = Result(check.name, list(kept.findings), list(kept.facts), (), kept.ended)
        if thread.is_alive():
            told.ended = False
            told.findings.append(
                Finding(
                    f"no answer within {patience:.0f} seconds",
                    check.where,
                    "see what it waits for: a server that accepts and does not answer, a lock, a full disk",
                )
            )


def _look(check: Check, means: Means, result: Result) -> None:
    try:
        for said in check.look(means):
            if isinstance(said, str):
                result.facts.append(said)
            else:
                result.findings.append(said)
    except ExchangeError as error:
        do = next((do for kind, do in _DO if isinstance(error, kind)), "see the message")
        result.findings += [Finding(line, check.where, do) for line in str(error).split("\n")]
    except Exception as error:  # noqa: BLE001  a defect here must not hide what the others find; its text may hold values
        result.findings.append(
            Finding(f"the check broke off ({type(error).__name__})", check.where, "report this defect")
        )
    else:
        result.ended = True
