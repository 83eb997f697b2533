#!/usr/bin/env python3
"""Real Apache Kafka, PostgreSQL and Keycloak on free ports of this machine's loopback, without containers or root.

    deploy/local/services.py start [kafka] [postgres] [keycloak]
                                   start what does not run yet; prints KEY=VALUE lines
    deploy/local/services.py status [kafka] [postgres] [keycloak]
                                   the same lines for what runs; exits with 1 if a part does not
    deploy/local/services.py stop  stop what this script started in this folder, and wait for it

Without a name, kafka and postgres are meant.

    --dir DIR     where data, logs and ports are kept (default: .services in the project); keep one folder per use
    --env         write `export KEY=VALUE`, for `eval "$(deploy/local/services.py start --env)"`
    --secured     Kafka asks who it is (SASL/SCRAM-SHA-512) and has access rules; the password of `admin` is kept there
    --product     the product's settings (EXCHANGE_BROKER__URL, EXCHANGE_STORE__URL, EXCHANGE_ISSUERS) instead of the
                  tests' variables

Needs Java 17 or newer and Maven for Kafka and Keycloak (fetched into .services once; Keycloak brings the realm of
deploy/keycloak), and Debian's package `postgresql` for PostgreSQL. Only Python's standard library is used, so any
Python 3.11 runs it. Data survives stop and start; remove the folder to begin afresh. Where root starts PostgreSQL in a
folder that PostgreSQL's user cannot enter, its data is in /var/tmp, as `start` says.
"""

from __future__ import annotations

import argparse
import fcntl
import re
import shlex
import sys
from pathlib import Path

from kafka import Kafka
from keycloak import Keycloak
from postgres import Postgres
from processes import Refused, say

USUAL = ("kafka", "postgres")
PROJECT = Path(__file__).resolve().parent.parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 1 if a part could not be started or (status) does not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["start", "stop", "status"])
    parser.add_argument("services", nargs="*", metavar="kafka|postgres|keycloak")
    parser.add_argument("--dir", type=Path, default=PROJECT / ".services")
    parser.add_argument("--env", action="store_true")
    parser.add_argument("--product", action="store_true")
    parser.add_argument("--secured", action="store_true")
    options = parser.parse_intermixed_args(arguments)
    folder = options.dir.resolve()
    if re.search(r"\s", str(folder)):
        parser.error("--dir: no blanks, Kafka's configuration has no way to write them")
    known: dict[str, Kafka | Postgres | Keycloak] = {
        "kafka": Kafka(folder, secured=options.secured),
        "postgres": Postgres(folder),
        "keycloak": Keycloak(folder),
    }
    if unknown := set(options.services) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    parts = [known[name] for name in options.services or (known if options.command == "stop" else USUAL)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one run at a time in this folder
        try:
            for part in parts:
                if options.command == "stop":
                    part.stop()
                elif options.command == "start" and part.process.running() is None:
                    say(f"starting {part.name} in {part.folder}")
                    part.start()
        except Refused as refusal:
            say(str(refusal))
            return 1
        running = [part for part in parts if part.process.running() is not None]
        for part in running:
            for name, value in part.lines(options.product).items():
                print(f"export {name}={shlex.quote(value)}" if options.env else f"{name}={value}")
    return 1 if options.command == "status" and len(running) < len(parts) else 0


if __name__ == "__main__":
    sys.exit(main())
