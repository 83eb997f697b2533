"""`python -m bench.volume` in miniature: a town is delivered whole, every row accounted for, every process measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.volume.delivery import _first

ROOT = Path(__file__).parent.parent
TINY = ["--citizens", "60", "--enterprises", "40", "--idle", "1", "--patience", "240", "--json"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_small_town_is_delivered_and_measured(tmp_path: Path) -> None:
    done = volume(*TINY, "--dir", str(tmp_path / "town"))
    assert done.returncode == 0, done.stderr
    run: dict[str, Any] = json.loads(done.stdout)
    assert run["ok"] is True
    truth = json.loads((tmp_path / "town" / "truth.json").read_text("utf-8"))["datasets"]
    assert run["rows"] == sum(figures["days"][0]["rows"] for figures in truth.values())
    assert run["facets"] == sum(figures["facets"] for figures in truth.values())
    assert set(run["sources"]) == set(truth)
    assert len(run["processes"]) == 2 + 17
    assert all(one["peak_mib"] > 10 and one["cpu_seconds"] > 0 for one in run["processes"].values())
    assert {"sources", "cursor files", "topics", "store", "audit"} <= set(run["bytes"])


def test_readings_up_to_the_first_complete_one_count_together() -> None:
    def told(second: int, as_of: str | None, **counts: int) -> dict[str, Any]:
        outcome = dict.fromkeys(("read", "published", "unchanged", "deleted", "rejected"), 0) | counts
        moments = {"began": f"1970-01-01T00:01:0{second}Z", "ended": f"1970-01-01T00:01:0{second + 1}Z"}
        return {**moments, "as_of": as_of, "outcome": outcome}

    newest_first = [
        told(6, "later", read=3, unchanged=3),
        told(4, "then", read=2, published=2),
        told(2, None, read=2, published=1, rejected=1),
    ]
    source = _first(newest_first, clock=60.0)
    assert source.rows == {"rows": 4, "published": 3, "unchanged": 0, "deleted": 0, "rejected": 1}
    assert (source.began, source.ended) == (2.0, 5.0)


def volume(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.volume", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
