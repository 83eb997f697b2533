"""The registry on the store's tables: what may be registered, and that it is registered once.

Subjects of contracts take contracts only, and each must break no version before it, whatever was set. All other
subjects take any Avro schema, at the level that its owner has chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from exchange.clock import Clock, system_clock
from exchange.contracts import Contract
from exchange.contracts.avro import Schema, read
from exchange.errors import ContractRefused, Incompatible, UnknownSchema
from exchange.registry import rows
from exchange.registry.faults import InvalidSchema, NotPermitted
from exchange.registry.forms import Form, Version, check_owned, department, is_contract
from exchange.registry.protocol import Registered
from exchange.registry.rows import Settings
from exchange.registry.settings import DEFAULT_MODE, IMPORT, Configured
from exchange.registry.shelf import Shelf
from exchange.registry.striking import Striking
from exchange.registry.verdicts import DEFAULT_LEVEL, Older, counted, faults
from exchange.store.tables import schema_versions as versions
from exchange.store.tables import schemas

MAX_VERSIONS = 500  # of one subject, those deleted softly included
MAX_HISTORY = 8 * 1024 * 1024  # characters of all versions of one subject that is no contract's
MAX_SUBJECTS = 5_000  # of one department
MAX_IMPORTED_ID = 100_000_000  # leaves room for all that come after it in the four bytes of a message's framing


@dataclass(frozen=True, slots=True)
class Asked:
    """A registration: the form, and in import mode the id and version that it had elsewhere."""

    form: Form
    normalize: bool = False
    schema_id: int | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A registration that may be carried out; `found` if it need not be, because it has been."""

    subject: str
    asked: Asked
    form: Form
    state: tuple[object, ...]  # what the verdict rests on
    found: Version | None


class StoreRegistry:
    """See Registry. Its tables are the store's: `Store.migrate` makes them. May be used by several threads.

    Beside what a connector needs it is the whole registry: `shelf` lists and shows, `striking` deletes, `configured`
    knows the levels and modes.
    """

    def __init__(self, engine: sa.Engine, clock: Clock = system_clock) -> None:
        self._engine = engine
        self._clock = clock
        self.shelf = Shelf(engine)
        self.striking = Striking(engine, clock)
        self.configured = Configured(engine)

    # --- what a connector needs ---------------------------------------------------------------------------------------

    def register(self, subject: str, text: str) -> int:
        """See Registry."""
        return self.carry_out(self.prepare(subject, Asked(Form(text)))).id

    def check(self, texts: Mapping[str, str]) -> None:
        """Raise what `register` would, for any of these subjects, without registering anything."""
        refused = []
        for subject, text in texts.items():
            try:
                self.prepare(subject, Asked(Form(text)))
            except Incompatible as incompatible:
                refused.append(incompatible.detail)
        if refused:
            raise Incompatible("\n".join(refused))

    def lookup(self, subject: str, text: str) -> int | None:
        """See Registry."""
        found = self.find(subject, text)
        return None if found is None else found.id

    def find(self, subject: str, text: str) -> Registered | None:
        """This schema as it stands under this subject, None if it is not registered there. Raises ContractRefused."""
        found = self.find_form(subject, Form(text))
        return None if found is None else Registered(found.id, found.version, found.form.text)

    def schema(self, schema_id: int) -> str:
        """See Registry."""
        with rows.reading(self._engine) as connection:
            text: str | None = connection.execute(
                sa.select(schemas.c.text).where(schemas.c.id == schema_id, schemas.c.text != rows.STRUCK)
            ).scalar_one_or_none()
        if text is None:
            raise UnknownSchema(str(schema_id))
        return text

    def newest_id(self) -> int:
        """The greatest id that was given, 0 before the first. Raises RegistryUnavailable."""
        with rows.reading(self._engine) as connection:
            return int(connection.execute(sa.select(sa.func.max(schemas.c.id))).scalar_one() or 0)

    def latest(self, subject: str) -> Registered | None:
        """See Registry."""
        with rows.reading(self._engine) as connection:
            found = rows.latest(connection, subject)
        return None if found is None else Registered(found.id, found.version, found.form.text)

    # --- any schema ---------------------------------------------------------------------------------------------------

    def find_form(self, subject: str, form: Form, *, normalize: bool = False, deleted: bool = False) -> Version | None:
        """A form as it stands under a subject; without metadata or rules also with those of the newest version.

        Raises ContractRefused, InvalidSchema for what cannot be registered anyway.
        """
        with rows.reading(self._engine) as connection:
            normalize = bool(normalize or rows.setting(connection, subject).normalize)
            form, _ = _read(connection, subject, form, normalize=normalize)
            return _found(connection, subject, form, deleted=deleted)

    def prepare(self, subject: str, asked: Asked) -> Prepared:
        """Whether this may be registered, or is.

        Raises Incompatible, naming each break; ContractRefused, InvalidSchema; InvalidSubject; NotPermitted.
        """
        check_owned(subject)
        with rows.reading(self._engine) as connection:
            setting = rows.setting(connection, subject)
            normalize = bool(asked.normalize or setting.normalize)
            form, newer = _read(connection, subject, asked.form, normalize=normalize, live=True)
            found = None if asked.schema_id or asked.version else _found(connection, subject, form)
            if found is not None:
                return Prepared(subject, asked, form, (), found)
            known = rows.history(connection, subject)
            if not known:
                _room(connection, subject)
        live = [each for each in known if not each.deleted]
        form = _filled(form, live[-1] if live else None)
        _permit(setting.mode or DEFAULT_MODE, asked, known)
        _bounded(subject, form, known)
        broken = [] if setting.mode == IMPORT else self._faults(newer, setting, live)
        if broken:
            raise Incompatible(f"{subject}: " + "; ".join(broken))
        return Prepared(subject, asked, form, (_state(known), setting), None)

    def carry_out(self, prepared: Prepared) -> Version:
        """Register what was prepared, which is looked at again if anything has changed since. Raises as `prepare`."""
        while prepared.found is None:
            subject = prepared.subject
            with rows.writing(self._engine) as connection:
                known = rows.history(connection, subject)
                if (_state(known), rows.setting(connection, subject)) == prepared.state:  # nobody was faster
                    return self._add(connection, prepared, known)
            prepared = self.prepare(subject, prepared.asked)
        return prepared.found

    def verdict(self, subject: str, form: Form, version: int | None, *, normalize: bool = False) -> list[str]:
        """Why this form would be refused against that version alone, or against those that its level looks at.

        Raises ContractRefused, InvalidSchema.
        """
        with rows.reading(self._engine) as connection:
            setting = rows.setting(connection, subject)
            normalize = bool(normalize or setting.normalize)
            _, newer = _read(connection, subject, form, normalize=normalize, live=True)
            known = [each for each in rows.history(connection, subject) if not each.deleted]
        if version is not None:
            known = [each for each in known if each.version == version]
        return self._faults(newer, setting, known)

    def _faults(self, newer: Contract | Schema, setting: Settings, known: Sequence[Version]) -> list[str]:
        """Why it may not follow these versions. Outside of any transaction: it takes its time."""
        if isinstance(newer, Contract):  # BACKWARD_TRANSITIVE, and our own rules
            return [
                f"against version {each.version}: {reason}"
                for each in known
                for reason in newer.breaks(Contract.from_text(each.form.text))
            ]
        level = setting.compatibility or DEFAULT_LEVEL
        newest_first = reversed(counted(level, known))  # the newest says most
        return faults(level, newer.type, map(self._older, newest_first))

    def _older(self, version: Version) -> Older:
        if not version.form.references:
            return Older(version.version, (), version.form.text)
        with rows.reading(self._engine) as connection:
            return Older(version.version, rows.referred(connection, version.form.references), version.form.text)

    def _add(self, connection: sa.Connection, prepared: Prepared, known: Sequence[Version]) -> Version:
        subject, form = prepared.subject, prepared.form
        rows.referred(connection, form.references, live=True)  # none was deleted meanwhile
        version = prepared.asked.version or max((each.version for each in known), default=0) + 1
        schema_id = _id(connection, form, prepared.asked.schema_id)
        former = next((each for each in known if each.id == schema_id), None)
        if former is not None and (
            not former.deleted or rows.referrers(connection, subject, former.version, deleted=True)
        ):
            # It stands there already, or others refer to it by its number: it comes back under that.
            where = versions.c.subject == subject, versions.c.version == former.version
            connection.execute(versions.update().where(*where).values(deleted_at=None))
            return former._replace(deleted=False)
        if former is not None:  # one subject has a schema once
            where = versions.c.subject == subject, versions.c.version == former.version
            connection.execute(versions.delete().where(*where))
        connection.execute(
            versions.insert().values(subject=subject, version=version, schema_id=schema_id, registered_at=self._clock())
        )
        return Version(subject, version, schema_id, form, deleted=False)


# --- forms ------------------------------------------------------------------------------------------------------------


def _read(
    connection: sa.Connection, subject: str, form: Form, *, normalize: bool, live: bool = False
) -> tuple[Form, Contract | Schema]:
    """The form with its text in the one form that is stored, and what it says."""
    if is_contract(subject):
        if form.references:
            raise InvalidSchema("a contract has no references")
        contract = Contract.from_text(form.text)
        if contract.registry_subject != subject:
            raise ContractRefused(f"its subject is {contract.registry_subject}, not {subject}")
        return replace(form, text=contract.schema_text), contract
    schema = read(form.text, rows.referred(connection, form.references, live=live), normalize=normalize)
    return replace(form, text=schema.text), schema


def _found(connection: sa.Connection, subject: str, form: Form, *, deleted: bool = False) -> Version | None:
    found = rows.find(connection, subject, form, deleted=deleted)
    if found is None and (form.metadata is None or form.rule_set is None):
        filled = _filled(form, rows.latest(connection, subject))
        found = None if filled == form else rows.find(connection, subject, filled, deleted=deleted)
    return found


def _filled(form: Form, latest: Version | None) -> Form:
    """What a client leaves out is as it was: serializers send the text alone, though rules have been set for it."""
    if latest is None:
        return form
    return replace(
        form,
        metadata=form.metadata if form.metadata is not None else latest.form.metadata,
        rule_set=form.rule_set if form.rule_set is not None else latest.form.rule_set,
    )


# --- rules ------------------------------------------------------------------------------------------------------------


def _permit(mode: str, asked: Asked, known: Sequence[Version]) -> None:
    """Ids and versions are given here, unless the subject is filled from another registry."""
    if mode == IMPORT:
        if asked.schema_id is None:
            raise NotPermitted("it is in import mode: a schema comes with its id")
        if not 0 < asked.schema_id <= MAX_IMPORTED_ID:
            raise NotPermitted(f"an id is imported up to {MAX_IMPORTED_ID}")
        if asked.version is not None and any(each.version == asked.version for each in known):
            raise NotPermitted("this version exists")
        return
    if mode != DEFAULT_MODE:
        raise NotPermitted("it is in read-only mode")
    if asked.schema_id is not None:
        raise NotPermitted("it is not in import mode: ids are given here")
    if asked.version is not None and asked.version != max((each.version for each in known), default=0) + 1:
        raise InvalidSchema("the version is not the one that comes next")


def _bounded(subject: str, form: Form, known: Sequence[Version]) -> None:
    if len(known) >= MAX_VERSIONS:
        raise NotPermitted(f"a subject has at most {MAX_VERSIONS} versions")
    if not is_contract(subject) and len(form.text) + sum(len(each.form.text) for each in known) > MAX_HISTORY:
        raise NotPermitted(f"the versions of a subject have at most {MAX_HISTORY} characters together")


def _room(connection: sa.Connection, subject: str) -> None:
    where = rows.beginning(f"{department(subject)}.")
    statement = sa.select(sa.func.count(versions.c.subject.distinct())).where(*where)
    if connection.execute(statement).scalar_one() >= MAX_SUBJECTS:
        raise NotPermitted(f"a department has at most {MAX_SUBJECTS} subjects")


def _id(connection: sa.Connection, form: Form, asked: int | None) -> int:
    if asked is not None:
        known = rows.form_of(connection, asked)
        if known is not None and known != form:
            raise NotPermitted("this id stands for another schema")
        if known is None and rows.is_given(connection, asked):
            raise NotPermitted("this id stood for a schema that was deleted for good")
    given = rows.keep(connection, form, asked)
    if asked is not None and given != asked:
        raise NotPermitted("this schema has another id here")
    return given


def _state(known: Sequence[Version]) -> tuple[tuple[int, int, bool], ...]:
    return tuple((each.version, each.id, each.deleted) for each in known)
