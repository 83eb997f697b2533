"""A real nginx, run by the user who runs the tests."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.services import skip_or_fail
from tests.support.site import ending

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def nginx(folder: Path, http: str, port: int) -> Iterator[None]:
    """It runs with this in `http { }`, everything it writes in `folder`, once it listens on the port of loopback."""
    if PROGRAM is None:
        skip_or_fail("nginx is missing: install Debian's package nginx-light")
    folder.mkdir(exist_ok=True)
    places = "".join(
        f"{what}_temp_path {folder}/{what};\n" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{http}\n}}\n"
    )
    log = folder / "nginx.log"
    with log.open("wb") as output:
        command = [str(PROGRAM), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
        running = subprocess.Popen(command, stderr=output)
    with ending(running):
        deadline = time.monotonic() + 20
        while running.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"nginx did not start: {log.read_text('utf-8')}")
        yield
