"""What a run tells: for people a table, for programs one JSON document, for docs/promises.md the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from rig.run import Outcome, Plan

SHOWN = 10  # cases of one finding on the terminal


def document(plan: Plan, outcome: Outcome, places: str) -> dict[str, Any]:
    """Everything that a run has shown."""
    return {
        "ok": outcome.good,
        "seed": plan.seed,
        "places": places,
        "machine": machine(),
        "faults": [fault.name for fault in plan.faults],
        "meddling": list(plan.meddling),
        "kills": outcome.kills,
        "strikes": [
            {"fault": each.fault, "target": each.target, "seconds": round(each.until - each.at, 1)}
            for each in outcome.strikes
        ],
        "seconds": round(outcome.seconds, 1),
        "settled_seconds": round(outcome.settled, 1),
        "statements": outcome.said,
        "answers": outcome.answers,
        "findings": {
            each.name: {"wrong": len(each.wrong), "of": each.of, "what": each.what, "cases": list(each.wrong)[:100]}
            for each in outcome.findings
        },
        "recovery_seconds": _recovery(outcome),
        "refused_seconds": _refused(outcome),
        "delay_seconds": _delays(outcome),
        "most": outcome.most,
    }


def table(told: dict[str, Any]) -> str:
    """The document for people."""
    lines = [
        f"{told['kills']} kills, {len(told['strikes'])} faults in {told['seconds']} s, seed {told['seed']}; "
        f"{told['places']}; settled {told['settled_seconds']} s after the last",
        f"{told['machine']}",
        "",
        *(f"  {count:5}  {what}" for what, count in _struck(told).items()),
        "",
        *(
            f"  {name:10} {found['wrong']:6} of {found['of']:7,} {found['what']}"
            for name, found in told["findings"].items()
        ),
        "",
        *(
            f"  served again: {kind:12} median {times['median']} s, at most {times['max']} s ({times['n']} times)"
            for kind, times in told["recovery_seconds"].items()
        ),
        *(
            [f"  refused with 503: {slow['n']} views, median {slow['median']:.2f} s, at most {slow['max']:.2f} s"]
            if (slow := told["refused_seconds"])["n"]
            else []
        ),
        *(
            f"  in the topic until its effect: {what:13} median {times['median']} s, p99 {times['p99']} s, "
            f"at most {times['max']} s ({times['n']:,} messages)"
            for what, times in told["delay_seconds"].items()
        ),
        f"  answers: {', '.join(f'{count:,} {what}' for what, count in told['answers'].items())}",
    ]
    for name, found in told["findings"].items():
        lines += [f"  {name}: {case}" for case in found["cases"][:SHOWN]]
    lines += ["", "everything held" if told["ok"] else f"IT DID NOT HOLD; the same faults again: --seed {told['seed']}"]
    return "\n".join(lines)


def machine() -> str:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({processor}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {dbapi2.sqlite_version}"
    )


def _struck(told: dict[str, Any]) -> dict[str, int]:
    return dict(sorted(Counter(f"{each['fault']} {each['target']}" for each in told["strikes"]).items()))


def _refused(outcome: Outcome) -> dict[str, float]:
    """How long a view took that was refused with 503, because it could not be logged or the policies not be read."""
    times = sorted(outcome.refused)
    return {"n": len(times), "median": times[len(times) // 2], "max": times[-1]} if times else {"n": 0}


def _delays(outcome: Outcome) -> dict[str, dict[str, float]]:
    return {
        what: {
            "n": len(times),
            "median": round(statistics.median(times), 3),
            "p99": round(sorted(times)[len(times) * 99 // 100], 3),
            "max": round(max(times), 3),
        }
        for what, times in outcome.delays.items()
        if times
    }


def _recovery(outcome: Outcome) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for each in outcome.recoveries:
        if each.seconds is not None:
            times[each.target.partition("-")[0]].append(each.seconds)
    return {
        kind: {"n": len(found), "median": round(statistics.median(found), 2), "max": round(max(found), 2)}
        for kind, found in sorted(times.items())
    }
