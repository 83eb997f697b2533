"""What is wrong with an installation, where, and what to do: looked at from outside, with nothing changed.

In reading order:

    findings     a finding, a fact, a check; what a check needs
    examination  the checks in threads, each for a bounded time; what one of them finds hides nothing of another
    machine      settings, keys and their age, disk, the programs' versions
    servers      broker, store and audit log: reached, their versions and clocks, their tables
    contents     policies, schemas, topics, positions, watermarks, checkpoints

The command is `exchange doctor` (gateway.doctor), which adds what the gateway knows: issuers and tokens.
"""

from exchange.doctor.contents import CONTENTS
from exchange.doctor.examination import Result, examine
from exchange.doctor.findings import Check, Finding, Means, Said
from exchange.doctor.machine import MACHINE
from exchange.doctor.servers import SERVERS

CHECKS: tuple[Check, ...] = (*MACHINE, *SERVERS, *CONTENTS)

__all__ = ["CHECKS", "Check", "Finding", "Means", "Result", "Said", "examine"]
