"""A process on a machine without any network but loopback: a network namespace of its own (unshare, util-linux).

    python -m tests.support.apart COMMAND [ARGUMENT...]

Ends as the command does; with 99 where anything was tried to be sent out of loopback, whatever the command made of it.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.services import skip_or_fail

TRIED = 99  # exit status: something was to leave
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


def run_apart(command: Sequence[str], *, cwd: Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command so; skips the test, or fails it where nothing may be skipped, if this system has no namespaces."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode:
        skip_or_fail("this system makes no network namespaces: Linux with unshare (util-linux) is needed")
    wrapped = [str(unshare), "-rn", sys.executable, "-m", __name__, *command]
    root = Path(__file__).parents[2]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(root), "LANG": "C.UTF-8", "HOME": str(cwd)}
    return subprocess.run(
        wrapped, cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


def _raise_loopback() -> None:
    """Switch `lo` on, which a new namespace has, switched off (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def _tried() -> int:
    """How often the kernel had no way for what was to be sent, a look-up of a name included (SNMP, RFC 4293)."""
    names, values = re.findall(r"^Ip: (.*)$", Path("/proc/net/snmp").read_text("ascii"), re.MULTILINE)
    count = int(dict(zip(names.split(), values.split(), strict=True))["OutNoRoutes"])
    six = re.search(r"^Ip6OutNoRoutes\s+(\d+)$", Path("/proc/net/snmp6").read_text("ascii"), re.MULTILINE)
    return count + (int(six[1]) if six else 0)


if __name__ == "__main__":
    _raise_loopback()
    before = _tried()
    status = subprocess.run(sys.argv[1:], check=False).returncode
    if tried := _tried() - before:
        print(f"{tried} times something was to leave this machine", file=sys.stderr)
        status = TRIED
    sys.exit(status)
