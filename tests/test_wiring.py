"""A process has a name in its consumer groups that its successor gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exchange.settings import Settings
from exchange.wiring import standing_name

HOLD = """
import sys
from pathlib import Path
from exchange.settings import Settings
from exchange.wiring import standing_name
with standing_name(Settings(root=Path(sys.argv[1])), "materialise") as name:
    print(name, flush=True)
    sys.stdin.read()
"""


def test_two_processes_of_one_folder_have_two_names_and_a_successor_has_its_predecessors(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path)
    with standing_name(settings, "materialise") as first, standing_name(settings, "materialise") as second:
        assert first is not None
        assert first.endswith(".1")
        assert second is not None
        assert second.endswith(".2")
    with standing_name(settings, "materialise") as again:
        assert again == first
    assert (tmp_path / "data" / "materialise-1.lock").stat().st_mode & 0o777 == 0o600


def test_a_killed_process_lets_go_of_its_name(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        with standing_name(Settings(root=tmp_path), "materialise") as beside:
            assert beside != held
        holder.kill()
    with standing_name(Settings(root=tmp_path), "materialise") as successor:
        assert successor == held


def test_two_folders_of_one_machine_have_names_of_their_own(tmp_path: Path) -> None:
    one, two = Settings(root=tmp_path / "a"), Settings(root=tmp_path / "b")
    with standing_name(one, "materialise") as first, standing_name(two, "materialise") as second:
        assert first != second


def test_without_a_folder_that_can_be_written_there_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with standing_name(Settings(root=tmp_path), "materialise") as name:
        assert name is None


def test_kafka_takes_the_name(tmp_path: Path) -> None:
    """`group.instance.id` is at most 249 of these characters (org.apache.kafka.common.internals.Topic)."""
    with standing_name(Settings(root=tmp_path), "materialise") as name:
        assert name is not None
        assert len(name) <= 249
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
