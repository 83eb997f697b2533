"""A small exchange on SQLite that is put back, again and again, to what it was before a process crashed."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from rig.blows import ask_to_end
from rig.checkers import REJECTS
from rig.identities import Keys
from rig.issuer import Issuer
from rig.meddling import SHARES, Meddler
from rig.offices import CONTRACTS, Penalties, Register, topic
from rig.oracle import Oracle
from rig.places import Places
from rig.site import Site, environment
from rig.tables import SqliteFile
from rig.topics import WATERMARKS

PATIENCE = 60.0  # seconds until a process must have read everything, or be dead


class Small:
    """What two offices have said stands in its topics, with copies and poison; nothing has read it yet."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Found it. Raises Failed."""
        self.issuer = Issuer()
        self.site = Site(folder, issuer=self.issuer)
        self.folder = folder
        self.oracle = Oracle()
        self.data, self._clean = folder / "data", folder / "clean"
        places = Places()
        self.tables, self.topics = places.tables(folder), places.topics(folder)
        self.tables.watch()
        self._tell(seed)
        self.keys = Keys((folder / "keys" / "bus.key").read_bytes())
        self.keep()

    def keep(self) -> None:
        """What stands now is what `put_back` puts back."""
        shutil.rmtree(self._clean, ignore_errors=True)
        shutil.copytree(self.data, self._clean)

    def put_back(self) -> None:
        """As if nothing had run since `keep`."""
        shutil.rmtree(self.data)
        shutil.copytree(self._clean, self.data)

    def run(self, part: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a process of the exchange; `before` stands before its command."""
        with (self.folder / f"{part}.log").open("ab") as log:
            command = [*before, *self.site.parts[part].command]
            return subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def materialise(self, before: Sequence[str] = ()) -> bool:
        """Run a materialiser until it has read everything or is dead; whether it had read it and ended well."""
        process = self.run("materialise-1", before)
        deadline = time.monotonic() + PATIENCE
        done = False
        while process.poll() is None and not done and time.monotonic() < deadline:
            time.sleep(0.1)
            done = self._caught_up()
        if process.poll() is None:
            ask_to_end(process, traced=bool(before))
        return process.wait() in (0, -15) and done  # the latter, SIGTERM: it had only begun, and all was read

    def broken(self, *names: str) -> list[str]:
        """What SQLite finds wrong in these files."""
        checked = {name: SqliteFile(self.data / name).rows("PRAGMA integrity_check") for name in names}
        return [f"{name}: {found[0]}" for name, found in checked.items() if found != [("ok",)]]

    def _caught_up(self) -> bool:
        positions = self.tables.positions()
        names = [*map(topic, CONTRACTS), *REJECTS, WATERMARKS]
        return all(self.topics.ends(name)[0] <= positions.get((name, 0), 0) for name in names)

    def _tell(self, seed: int) -> None:
        register = Register(self.folder, self.oracle, Random(f"{seed}/register"))
        penalties = Penalties(self.folder, self.oracle, Random(f"{seed}/penalties"))
        self.site.instance("register", Register.INSTANCE)
        self.site.instance("penalties", Penalties.INSTANCE)
        over = threading.Event()
        self.site.start("gateway-1")
        self.site.ready("gateway-1", PATIENCE)
        for _ in range(3):
            register.change()
            penalties.change()
            for name in ("register", "penalties"):
                self.site.command("connector", "run", str(self.folder / f"{name}.toml"), "--once")
        meddler = Meddler(self.topics, [topic(each) for each in CONTRACTS], SHARES, Random(f"{seed}/meddling"))
        threading.Timer(1.0, over.set).start()
        meddler.work(over, 0.1)
        self.site.stop()
