"""What a connector is. One kind of source, one file, one entry point, one parameter in tests/test_connectors.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from connectors.config import Instance
from exchange.clock import Clock
from exchange.contracts import Contract
from exchange.errors import TryLater
from exchange.publish import Batch, Keeps, Layout
from exchange.registry import Registry
from exchange.topics import Broker


class NotReady(TryLater):
    """The source is not ready to be read"""

    def __init__(self, detail: str, again: timedelta | None = None) -> None:
        super().__init__(detail)
        self.again = again  # when to look again; None: whenever the source is polled next


class Weight(StrEnum):
    """What a finding means: the connector will not run, or somebody should know."""

    REFUSED = "refused"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check` found: where, and what to do about it. Holds no value of the source."""

    weight: Weight
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Means:
    """What a connector has beside its settings. Relative paths and secrets are found from `root`, the folder of the
    instance file. Broker and registry of the bus are opened when they are first asked for, and not closed by it.
    """

    root: Path
    clock: Clock
    broker: Callable[[], Broker]
    registry: Callable[[], Registry]
    layout: Layout = field(default_factory=Layout)


class Connector(Protocol):
    """Reads one source and hands its rows over in batches; it knows nothing of topics.

    *Position*: `read` is given what the last acknowledged batch said to remember, and nothing else decides where it
    goes on; a batch that was not acknowledged comes again. *Order*: rows come in the order in which they were written,
    as far as the source can tell it. *Safety*: a source that cannot be read safely is refused (SourceRefused), never
    read in part without saying so. *Modesty*: nothing at the source is moved, changed or locked.
    """

    Settings: ClassVar[type[Instance]]

    def __init__(self, settings: Any, contract: Contract, means: Means) -> None: ...

    @property
    def keeps(self) -> Keeps:
        """What the cursor file has to remember of this source."""
        ...

    def check(self) -> Sequence[Finding]:
        """Look at the source without reading it through: everything that is wrong or worth knowing.

        Raises SourceUnavailable.
        """
        ...

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        """One reading: what the source has beyond `position`, in batches; complete if the last one has an `end`.

        Raises NotReady (no file is there, one still grows or changed while it was read; what was given by then is not
        a complete reading), SourceRefused, SourceUnavailable.
        """
        ...

    def ack(self, position: Mapping[str, str | None]) -> None:
        """The batch with this position is in the topic; the source may let go of it.

        The next batch may have been read by then. A batch behind which the source failed, or the process was ended, is
        in the topic without this call.
        """
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
