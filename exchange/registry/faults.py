"""What a registry refuses, each with the code that Confluent's clients look at."""

from __future__ import annotations

from exchange.errors import NotFound, Unprocessable


class SubjectNotFound(NotFound):
    """Subject not found"""

    code = 40401


class VersionNotFound(NotFound):
    """Version not found"""

    code = 40402


class SchemaNotFound(NotFound):
    """Schema not found"""

    code = 40403


class SubjectDeleted(NotFound):
    """The subject was soft deleted; permanent=true deletes it for good"""

    code = 40404


class SubjectNotDeleted(NotFound):
    """The subject is not soft deleted, which comes before it is deleted for good"""

    code = 40405


class VersionDeleted(NotFound):
    """The version was soft deleted; permanent=true deletes it for good"""

    code = 40406


class VersionNotDeleted(NotFound):
    """The version is not soft deleted, which comes before it is deleted for good"""

    code = 40407


class LevelNotSet(NotFound):
    """The subject has no compatibility level of its own"""

    code = 40408


class ModeNotSet(NotFound):
    """The subject has no mode of its own"""

    code = 40409


class InvalidSchema(Unprocessable):
    """Input schema is an invalid Avro schema, or not of this subject"""

    code = 42201


class InvalidVersion(Unprocessable):
    """The version is neither a whole number from 1 nor latest"""

    code = 42202


class InvalidLevel(Unprocessable):
    """Invalid compatibility level"""

    code = 42203


class InvalidMode(Unprocessable):
    """Invalid mode"""

    code = 42204


class NotPermitted(Unprocessable):
    """The subject does not permit this"""

    code = 42205


class ReferenceExists(Unprocessable):
    """Another schema refers to it"""

    code = 42206


class InvalidSubject(Unprocessable):
    """The subject's name is not valid"""

    code = 42208
