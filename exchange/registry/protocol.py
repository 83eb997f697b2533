"""Registry: the protocol of both implementations."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Registered(NamedTuple):
    """A schema under its subject; versions count from 1."""

    id: int
    version: int
    text: str


class Registry(Protocol):
    """Schema ids and versions, and the gate between versions.

    Subjects are `<topic>-value`. A schema is its whole text, normalised by its contract: a changed level, default or
    doc is another schema. *Ids* never change their meaning and are never given again. *Gate*: a new version breaks no
    version before it (`Contract.breaks`). *Repeats and races*: registering one text twice, also at the same moment by
    two processes, gives one id. Every method raises RegistryUnavailable, after which the same call may be made again.
    """

    def register(self, subject: str, text: str) -> int:
        """The id of this schema, registered now if it was not.

        Raises Incompatible, naming each break; ContractRefused if the text is no contract, or one of another subject.
        """
        ...

    def lookup(self, subject: str, text: str) -> int | None:
        """The id of this schema under this subject, None if it is not registered there. Raises ContractRefused."""
        ...

    def schema(self, schema_id: int) -> str:
        """The text that an id stands for. Raises UnknownSchema if there is none."""
        ...

    def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject, None if it has none."""
        ...
