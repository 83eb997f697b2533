"""The demo: the whole story holds in one run; and what guards it: steps that fail, a folder that is somebody's."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from exchange.cli.demo import town
from exchange.cli.demo.folder import MARK, fresh
from exchange.cli.demo.printing import Printing
from exchange.cli.demo.steps import Cell, Step, Table, Told, tell
from exchange.errors import NotFound, SettingWrong

COMMAND = [sys.executable, "-m", "exchange.cli", "demo", "--once", "--json"]
STEPS = (
    *("accounting", "rejects", "agencies", "refused", "purpose", "enterprise"),
    *("change", "delete", "receipt", "log", "tampered"),
)


# --- the story --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run in an empty folder, in an environment that would lead a careless demo to another store."""
    elsewhere = {"EXCHANGE_STORE__URL": "postgresql://127.0.0.1:1/none", "EXCHANGE_BROKER__URL": "kafka://127.0.0.1:1"}
    folder = tmp_path_factory.mktemp("demo")
    return subprocess.run(COMMAND, cwd=folder, env=os.environ | elsewhere, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def document(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.stdout, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(330)
def test_the_demo_succeeds_and_says_nothing_but_its_document(
    run: subprocess.CompletedProcess[str], document: dict[str, Any]
) -> None:
    failed = [check for step in document["steps"] for check in step["checks"] if not check["ok"]]
    assert not failed
    assert run.returncode == 0
    assert document["ok"] is True
    assert run.stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(330)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_holds(document: dict[str, Any], name: str) -> None:
    step = next(step for step in document["steps"] if step["step"] == name)
    assert step["ok"], step["checks"]
    assert step["title"]
    assert step["checks"]


@pytest.mark.slow
@pytest.mark.timeout(330)
def test_the_steps_are_told_in_order_and_show_real_requests(document: dict[str, Any]) -> None:
    assert tuple(step["step"] for step in document["steps"]) == STEPS
    steps = {step["step"]: step for step in document["steps"]}
    agencies = steps["agencies"]["requests"]
    assert len({call["client"] for call in agencies}) >= 4
    assert all(call["status"] == 200 and call["answer"]["values"] for call in agencies)
    assert all(call["headers"]["Exchange-Receipt"] for call in agencies)
    assert [call["status"] for call in steps["refused"]["requests"]] == [403]
    assert [call["status"] for call in steps["purpose"]["requests"]] == [400, 403]
    assert 0 < steps["change"]["milliseconds"] < 5_000
    assert 0 < steps["delete"]["milliseconds"] < 5_000


# --- the runner -------------------------------------------------------------------------------------------------------


def holds(_: None, told: Told) -> None:
    """A step that holds."""
    told.check(True, "it does")


def fails(_: None, told: Told) -> None:
    told.check(True, "this holds")
    told.check(False, "this does not")


def raises(_: None, told: Told) -> None:
    raise NotFound("what was sought")


def breaks(_: None, told: Told) -> None:
    raise KeyError("values")


def says_nothing(_: None, told: Told) -> None:
    told.show("nothing is checked")


def test_a_story_goes_on_behind_a_step_that_fails() -> None:
    heard: list[Told] = []
    story = [Step(tell_.__name__, "", tell_) for tell_ in (holds, fails, raises, breaks, says_nothing, holds)]
    told = tell(story, None, heard.append)
    assert heard == told
    assert [step.ok for step in told] == [True, False, False, False, False, True]
    assert told[0].lead == "A step that holds."
    assert "what was sought" in told[2].checks[-1].text
    assert "KeyError" in told[3].checks[-1].text


# --- what is printed --------------------------------------------------------------------------------------------------


def printed(told: Told) -> str:
    printing = Printing(quiet=False)
    printing.console = Console(width=100, file=io.StringIO(), force_terminal=False)
    printing.step(7, told)
    assert isinstance(printing.console.file, io.StringIO)
    return printing.console.file.getvalue()


def test_a_step_fits_a_terminal_of_a_hundred_columns() -> None:
    told = Told("agencies", "Five agencies ask", "They see different fields.")
    address = "澜汀市鹤鸣新区文澜大道123号银杏里3幢2单元1201室"
    told.show(
        Table(("", *(f"desk-\n{number}" for number in range(6))), [["address", *[address] * 5, Cell("·", "faint")]])
    )
    told.show(Table(("place", "reason"), [["person.csv line 4", "a reason that is long " * 9]], wraps=True))
    told.check(True, "this holds")
    told.check(False, "this does not")
    lines = printed(told).splitlines()
    assert max(map(cell_len, lines)) <= 100
    text = "\n".join(lines)
    assert text.count("澜汀市") == 5
    assert "".join(text.split()).count("areasonthatislong") == 9
    assert "✓ this holds" in text
    assert "✗ this does not" in text


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_that_a_demo_made_is_emptied(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "demo", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    with fresh(folder) as place:
        (place / "left").mkdir()
        (place / "left" / "over").touch()
        (place / "link").symlink_to(elsewhere)
    with fresh(folder) as place:
        assert [entry.name for entry in place.iterdir()] == [MARK]
    assert (elsewhere / "kept").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SettingWrong, match="no demo made"), fresh(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").touch()
    with pytest.raises(SettingWrong, match="is a file"), fresh(tmp_path / "demo"):
        pass


def test_a_folder_in_which_a_demo_runs_is_left_alone(tmp_path: Path) -> None:
    with fresh(tmp_path / "demo") as place:
        (place / "data").touch()
        with pytest.raises(SettingWrong, match="is running"), fresh(tmp_path / "demo"):
            pass
        assert (place / "data").exists()


# --- the town ---------------------------------------------------------------------------------------------------------


def test_ports_are_free_and_differ() -> None:
    ports = town.free_ports(3)
    assert len(set(ports)) == 3


def test_settings_of_the_environment_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"EXCHANGE_STORE__URL": "postgresql://a.real.city/store", "HOME": "/root"})
    town.forget_environment()
    assert os.environ == {"HOME": "/root"}


def test_a_town_is_whole_and_stays_inside_its_folder(tmp_path: Path) -> None:
    config = town.settle(tmp_path)
    town.populate(tmp_path, citizens=20, enterprises=20, seed=1)
    assert config.parent == tmp_path
    assert (tmp_path / "schemas/civil/person.avsc").exists()
    assert (tmp_path / "policies/clients.toml").exists()
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "keys").rglob("*") if file.is_file()} == {0o600}
    instances = {file.stem: file.read_text("utf-8") for file in (tmp_path / "connectors.d").glob("*.toml")}
    assert len(instances) == 17
    assert all(f'poll_interval = "{town.POLL}"' in text for text in instances.values() if '"sql"' in text)
