"""`python -m rig`: an exchange under faults, held against an oracle.

    python -m rig --seed 7 --kills 30
    python -m rig --kafka --postgres --minutes 10      # on servers of its own, which it kills too

Exits with 1 if anything did not hold, with 2 if it could not be tried. The seed draws the faults and what is said; the
same seed draws them again.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.faults import ALL
from rig.faults.databases import FULL, LOG_FULL
from rig.meddling import SHARES
from rig.places import OWN, prepared
from rig.report import document, table
from rig.run import Plan, Run
from rig.servers import Servers
from rig.site import Failed

NAMES = [*(fault.name for fault in ALL), *SHARES]


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is stopped in order
    plan = Plan(
        seed=options.seed,
        faults=[fault for fault in ALL if fault.name in options.faults],
        meddling=[kind for kind in SHARES if kind in options.faults],
        kills=options.kills,
        seconds=options.minutes * 60,
        pace=options.pace,
        within=options.within,
    )
    try:
        with (
            _folder(options.dir) as folder,
            _data(options.data, folder),
            _servers(options) as servers,
            prepared(options.kafka, options.postgres, servers) as places,
        ):
            print(f"seed {plan.seed}, {places}", file=sys.stderr, flush=True)
            outcome = Run(plan, folder, places, servers).run()
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 2
    told = document(plan, outcome, str(places))
    print(json.dumps(told, indent=2, ensure_ascii=False) if options.json else table(told))
    return 0 if outcome.good else 1


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """An empty folder: a new one that is removed in the end, or the one given, which stays."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="exchange-rig-") as made:
            yield Path(made)
        return
    given.mkdir(parents=True, exist_ok=False)
    yield given.resolve()


@contextmanager
def _data(given: Path | None, folder: Path) -> Iterator[None]:
    """The product's `data` folder lies in the given one, if there is one."""
    if given is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="exchange-rig-", dir=given) as made:
        (folder / "data").symlink_to(made, target_is_directory=True)
        yield


@contextmanager
def _servers(options: argparse.Namespace) -> Iterator[Servers]:
    """The rig's own servers, in a folder that another user than root can enter. Raises Failed."""
    with tempfile.TemporaryDirectory(prefix="exchange-rig-servers-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o711)
        servers = Servers(Path(made))
        if options.postgres == OWN and {FULL, LOG_FULL} & set(options.faults):
            try:
                servers.confine()
            except Failed as failed:
                if options.faults != NAMES:
                    raise
                print(f"{FULL} and {LOG_FULL} are not tried: {failed}", file=sys.stderr)
        try:
            yield servers
        finally:
            servers.release()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rig", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="default: drawn, and printed")
    parser.add_argument("--minutes", type=float, default=5.0, help="at most so long")
    parser.add_argument("--kills", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--pace", type=float, default=5.0, help="seconds between two faults, in the mean")
    parser.add_argument("--within", type=float, default=5.0, help="seconds in which what was killed must serve again")
    parser.add_argument(
        "--kafka", nargs="?", const=OWN, default="", metavar="HOST:PORT", help="an empty Kafka; without address its own"
    )
    parser.add_argument(
        "--postgres", nargs="?", const=OWN, default="", metavar="URL", help="PostgreSQL; without address its own"
    )
    parser.add_argument("--faults", type=_names, default=NAMES, metavar="A,B", help=f"of {','.join(NAMES)}")
    parser.add_argument("--dir", type=Path, help="a folder that does not exist yet and stays; default: one that goes")
    parser.add_argument(
        "--data", type=Path, help="where the product's `data` lies, such as on a file system that may be filled"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
