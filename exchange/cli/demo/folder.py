"""The demo's folder: emptied at each start, and only if an earlier demo marked it as its own."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exchange.errors import SettingWrong

MARK = ".exchange-demo"
_SENTENCE = b"Made by `exchange demo`, which empties this folder each time it starts.\n"


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """The folder, absolute and empty but for the mark, and nobody else's until the block ends.

    Raises SettingWrong for a folder with something in it that no demo made, or in which another demo runs.
    """
    folder = folder.absolute()
    mark = folder / MARK
    if folder.exists() and not folder.is_dir():
        raise SettingWrong(f"--dir: {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not mark.is_file():
        raise SettingWrong(f"--dir: {folder} holds something that no demo made; name another folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(
                handle, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # until the handle is closed, also by this process's death
        except BlockingIOError:
            raise SettingWrong(f"--dir: a demo is running in {folder}; stop it, or name another folder") from None
        os.pwrite(handle, _SENTENCE, 0)
        for entry in folder.iterdir():
            if entry.name == MARK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        yield folder
    finally:
        os.close(handle)
