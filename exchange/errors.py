"""Errors, sorted by who must act: the publisher, the caller, time, the operator.

An error's docstring is its message; what is raised adds the detail. No detail ever holds a personal value: it names the
department, contract, file, line and field, and says what to do.
"""

from __future__ import annotations

import inspect


class ExchangeError(Exception):
    """Exchange could not do what was asked"""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        message = (inspect.getdoc(type(self)) or type(self).__name__).split("\n", 1)[0]
        return f"{message}: {self.detail}" if self.detail else message


# --- the publishing department must act -------------------------------------------------------------------------------


class PublisherError(ExchangeError):
    """The publishing department must act"""


class Rejected(PublisherError):
    """The record does not keep its contract"""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field

    def kept(self) -> Rejected:
        """The same without the frames that it passed through, for whoever keeps it as a value.

        They would keep it in return, and all rows of its batch with them, until the cyclic collector comes by.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


class InvalidIdentifier(Rejected):
    """The identifier does not pass the check of its scheme"""


class ContractRefused(PublisherError):
    """The contract cannot be loaded"""


class Incompatible(PublisherError):
    """The schema breaks readers of an older version"""


class SourceRefused(PublisherError):
    """The source cannot be read safely"""


class TooManyRejects(PublisherError):
    """More rows were rejected than the connector's limit allows"""


# --- the caller must act ----------------------------------------------------------------------------------------------


class CallerError(ExchangeError):
    """The caller must act"""


class BadRequest(CallerError):
    """The request cannot be understood"""


class Unauthenticated(CallerError):
    """The access token is missing or not valid"""


class Forbidden(CallerError):
    """This client may not do that"""


class NothingPermitted(Forbidden):
    """No contract is open to this client for this purpose"""


class NotFound(CallerError):
    """There is no such thing here"""


class UnknownSchema(NotFound):
    """The schema registry does not know this schema id"""


class Conflict(CallerError):
    """The request conflicts with one that is under way"""


class Unprocessable(CallerError):
    """The request is well-formed but cannot be carried out"""


class ReceiptInvalid(CallerError):
    """The receipt does not prove this answer"""


# --- time will mend it ------------------------------------------------------------------------------------------------


class TryLater(ExchangeError):
    """A part is out of reach; the same call can succeed later"""


class BrokerUnavailable(TryLater):
    """The broker cannot be reached or did not acknowledge in time"""


class StoreUnavailable(TryLater):
    """The store cannot be reached"""


class RegistryUnavailable(TryLater):
    """The schema registry cannot be reached"""


class AuditUnavailable(TryLater):
    """The audit log cannot be written, so nothing is shown"""


class GatewayUnavailable(TryLater):
    """The gateway cannot be reached"""


class PolicyUnavailable(TryLater):
    """The newest policy bundle cannot be read, so nothing is shown"""


class SourceUnavailable(TryLater):
    """The source cannot be reached"""


class CursorUnavailable(TryLater):
    """The cursor file cannot be written"""


class IssuerUnavailable(TryLater):
    """The token issuer cannot be reached"""


# --- the operator must act --------------------------------------------------------------------------------------------


class OperatorError(ExchangeError):
    """The operator must act"""


class SettingWrong(OperatorError):
    """A setting is wrong"""


class PolicyRefused(OperatorError):
    """The policies cannot be applied; nothing was changed"""


class TopicChanged(OperatorError):
    """A topic is not the one that was read so far (docs/topics.md says what to do)"""


class Fenced(OperatorError):
    """Another process has taken over this work"""


class NameTaken(Fenced):
    """The consumer group knows another session under this one's name"""


class CursorHeld(OperatorError):
    """Another process holds the cursor file"""


class SchemaOutdated(OperatorError):
    """The database's tables are not those of this version"""


class StoreRefused(OperatorError):
    """The database refused a statement that should have passed; this is a defect"""


class UnsafeSQLite(OperatorError):
    """This SQLite build can corrupt a database under concurrent checkpoints"""


class AuditBroken(OperatorError):
    """The audit log does not verify"""
