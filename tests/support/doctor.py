"""What the suites of `exchange doctor` share: an installation to copy, and this process's logs left as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.doctor import command
from tests.support.site import Site


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.logs, "configure", lambda *_: None)  # this process's logs stay as they are


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Site.made(tmp_path_factory.mktemp("made")).folder
