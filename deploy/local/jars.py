#!/usr/bin/env python3
"""The jars that a pom.xml names, fetched with Maven into a folder, once.

deploy/local/jars.py POM FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from processes import Refused, run, say


def resolve(pom: Path, folder: Path) -> None:
    """Fetch what `pom` names, with all that it needs at run time, unless `folder` holds just that. Raises Refused."""
    mark = folder / "pom.xml"
    if mark.exists() and mark.read_bytes() == pom.read_bytes():
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise Refused(f"the jars of {pom} are fetched with Maven: install Debian's package maven")
    say(f"fetching the jars of {pom} with Maven (once)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    done = run([maven, "-q", "-B", "-f", str(pom), *goal])
    if done.returncode:
        raise Refused(f"Maven could not resolve {pom}:\n{done.stdout}{done.stderr}")
    mark.write_bytes(pom.read_bytes())


if __name__ == "__main__":
    try:
        resolve(*(Path(argument).resolve() for argument in sys.argv[1:]))
    except Refused as refusal:
        sys.exit(str(refusal))
