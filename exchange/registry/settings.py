"""Levels and modes: what holds for all, and what an owner has set for a subject of its own.

For all subjects it is BACKWARD_TRANSITIVE and READWRITE, and nobody can change that. The subjects of contracts keep
it: readers rely on their past.
"""

from __future__ import annotations

import sqlalchemy as sa

from exchange.registry import rows
from exchange.registry.faults import (
    InvalidLevel,
    InvalidMode,
    LevelNotSet,
    ModeNotSet,
    NotPermitted,
    SubjectNotFound,
)
from exchange.registry.forms import check_owned, is_contract, is_name
from exchange.registry.rows import Settings
from exchange.registry.verdicts import DEFAULT_LEVEL, LEVELS

DEFAULT_MODE, IMPORT = "READWRITE", "IMPORT"
MODES = (DEFAULT_MODE, "READONLY", "READONLY_OVERRIDE", IMPORT)


class Configured:
    """What is set. Every method raises RegistryUnavailable. May be used by several threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def level(self, subject: str, *, in_scope: bool) -> Settings:
        """The subject's own level and normalising; `in_scope`: else what holds for all. Raises LevelNotSet."""
        found = self._own(subject)
        if is_contract(subject):
            return Settings(DEFAULT_LEVEL)
        if found.compatibility is None and found.normalize is None and not in_scope:
            raise LevelNotSet
        if in_scope and found.compatibility is None:
            return found._replace(compatibility=DEFAULT_LEVEL)
        return found

    def mode(self, subject: str, *, in_scope: bool) -> str:
        """The subject's own mode; `in_scope`: else what holds for all. Raises ModeNotSet."""
        found = self._own(subject).mode
        if found is None and not in_scope:
            raise ModeNotSet
        return found or DEFAULT_MODE

    def check_level(self, subject: str, level: str | None, normalize: bool | None) -> None:
        """Whether this may be set. Raises InvalidLevel, InvalidSubject, NotPermitted."""
        check_owned(subject)
        if level is not None and level not in LEVELS:
            raise InvalidLevel(f"one of {', '.join(LEVELS)}")
        if is_contract(subject) and (level not in (None, DEFAULT_LEVEL) or normalize):
            raise NotPermitted(
                f"a contract's subject is {DEFAULT_LEVEL} for good; a change that breaks is the next major"
            )

    def set_level(self, subject: str, level: str | None, normalize: bool | None) -> Settings:
        """Set what is not None. Raises as `check_level`."""
        self.check_level(subject, level, normalize)
        if is_contract(subject):
            return Settings(DEFAULT_LEVEL)
        with rows.writing(self._engine) as connection:
            former = rows.setting(connection, subject)
            chosen = former._replace(
                compatibility=level or former.compatibility,
                normalize=former.normalize if normalize is None else normalize,
            )
            rows.put_setting(connection, subject, chosen)
        return chosen

    def check_own_level(self, subject: str) -> Settings:
        """What the subject has of its own and can lose. Raises SubjectNotFound."""
        found = self._own(subject)
        if is_contract(subject) or (found.compatibility is None and found.normalize is None):
            raise SubjectNotFound
        return found

    def drop_level(self, subject: str) -> None:
        """What holds for all holds again."""
        with rows.writing(self._engine) as connection:
            former = rows.setting(connection, subject)
            rows.put_setting(connection, subject, Settings(mode=former.mode))

    def check_mode(self, subject: str, mode: str, *, force: bool = False) -> None:
        """Whether this mode may be set. Raises InvalidMode, InvalidSubject, NotPermitted.

        A subject is filled from another registry before it has a version of its own, unless that is forced: in import
        mode no version is compared with those before it.
        """
        check_owned(subject)
        if mode not in MODES:
            raise InvalidMode(f"one of {', '.join(MODES)}")
        if is_contract(subject) and mode != DEFAULT_MODE:
            raise NotPermitted("a contract's subject is read and written")
        if mode == IMPORT and not force:
            with rows.reading(self._engine) as connection:
                if rows.exists(connection, subject, deleted=True) and rows.setting(connection, subject).mode != IMPORT:
                    raise NotPermitted("it has versions already")

    def set_mode(self, subject: str, mode: str, *, force: bool = False) -> None:
        """Set it. Raises as `check_mode`."""
        self.check_mode(subject, mode, force=force)
        if not is_contract(subject):
            with rows.writing(self._engine) as connection:
                rows.put_setting(connection, subject, rows.setting(connection, subject)._replace(mode=mode))

    def check_own_mode(self, subject: str) -> str:
        """The mode that the subject has of its own and can lose. Raises SubjectNotFound."""
        found = self._own(subject).mode
        if found is None:
            raise SubjectNotFound
        return found

    def drop_mode(self, subject: str) -> None:
        """What holds for all holds again."""
        with rows.writing(self._engine) as connection:
            rows.put_setting(connection, subject, rows.setting(connection, subject)._replace(mode=None))

    def _own(self, subject: str) -> Settings:
        if not is_name(subject):
            return Settings()
        with rows.reading(self._engine) as connection:
            return rows.setting(connection, subject)
