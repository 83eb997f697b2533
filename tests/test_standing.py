"""A process has a standing name that its successor gets, and nobody else."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from exchange.standing import StandingName

HOLD = """
import sys
from pathlib import Path
from exchange.standing import StandingName
held = StandingName(Path(sys.argv[1]), "materialise")
print(held.name, flush=True)
sys.stdin.read()
"""


def test_two_processes_of_one_folder_have_two_names_and_a_successor_has_its_predecessors(tmp_path: Path) -> None:
    with (
        closing(StandingName(tmp_path, "materialise")) as first,
        closing(StandingName(tmp_path, "materialise")) as beside,
    ):
        assert first.name is not None
        assert first.name.endswith(".1")
        assert beside.name == first.name[:-1] + "2"
        with closing(StandingName(tmp_path, "gateway-1")) as other:
            assert other.name == first.name.replace("materialise", "gateway-1")
    with closing(StandingName(tmp_path, "materialise")) as again:
        assert again.name == first.name
    for file in ("materialise-1.lock", "place"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600


def test_a_killed_process_lets_go_of_its_name_and_a_stopped_one_does_not(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        holder.send_signal(signal.SIGSTOP)
        with closing(StandingName(tmp_path, "materialise")) as beside:
            assert beside.name != held
        holder.kill()
    with closing(StandingName(tmp_path, "materialise")) as successor:
        assert successor.name == held


def test_two_folders_have_names_of_their_own_also_if_they_are_called_alike_on_two_hosts_that_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    with closing(StandingName(tmp_path / "data", "materialise")) as first:
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        (tmp_path / "data").mkdir()
        with closing(StandingName(tmp_path / "data", "materialise")) as second:
            assert first.name != second.name
    with closing(StandingName(tmp_path / "elsewhere", "materialise")) as moved:
        assert moved.name == first.name


def test_a_place_that_was_half_written_is_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("0123")
    with closing(StandingName(tmp_path, "materialise")) as first, closing(StandingName(tmp_path, "gateway")) as second:
        assert first.name is not None
        assert second.name is not None
        assert first.name.split(".")[-2] == second.name.split(".")[-2] == (tmp_path / "place").read_text() != "0123"


def test_without_a_folder_that_can_be_written_there_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with closing(StandingName(tmp_path / "data", "materialise")) as nobody:
        assert nobody.name is None


def test_kafka_takes_the_name(tmp_path: Path) -> None:
    """`group.instance.id` is at most 249 of these characters (org.apache.kafka.common.internals.Topic)."""
    with closing(StandingName(tmp_path, "materialise")) as held:
        assert held.name is not None
        assert len(held.name) <= 249
        assert set(held.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
