"""The faults: `base` says what one is and draws the schedule; the others hold one kind each.

processes     what happens to our own processes
answers       what was done, and the answer was lost
brokers       Kafka, or the file of topics
databases     PostgreSQL
disks         the disk under the product's files
issuers       who issues the tokens
audits        the audit log
"""

from rig.faults.answers import ANSWERS
from rig.faults.audits import AUDITS
from rig.faults.base import Fault, Here, Planned, Strike, schedule
from rig.faults.brokers import BROKERS
from rig.faults.databases import DATABASES
from rig.faults.disks import DISKS
from rig.faults.issuers import ISSUERS
from rig.faults.processes import PROCESSES

ALL: tuple[Fault, ...] = (*PROCESSES, *ANSWERS, *BROKERS, *DATABASES, *DISKS, *ISSUERS, *AUDITS)

__all__ = ["ALL", "Fault", "Here", "Planned", "Strike", "schedule"]
