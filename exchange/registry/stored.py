"""The registry on the store's tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from exchange.clock import Clock, system_clock
from exchange.contracts import Contract
from exchange.errors import ContractRefused, Incompatible, RegistryUnavailable, StoreUnavailable, UnknownSchema
from exchange.registry.protocol import Registered
from exchange.store.database import insert_into, is_postgres, reading, writing
from exchange.store.tables import schema_versions as versions
from exchange.store.tables import schemas


class StoreRegistry:
    """See Registry. Its tables are the store's: `Store.migrate` makes them. May be used by several threads."""

    def __init__(self, engine: sa.Engine, clock: Clock = system_clock) -> None:
        self._engine = engine
        self._clock = clock

    def register(self, subject: str, text: str) -> int:
        """See Registry."""
        contract = _contract(subject, text)
        while True:
            with _reading(self._engine) as connection:
                known = _versions(connection, subject)
            found = _find(known, contract)
            if found is not None:
                return found.id
            _gate(contract, known)  # outside the transaction that writes: reading old schemas takes its time
            with _writing(self._engine) as connection:
                if is_postgres(connection):  # on SQLite a writer is alone
                    connection.execute(sa.text("LOCK TABLE schema_versions IN SHARE ROW EXCLUSIVE MODE"))
                if len(_versions(connection, subject)) == len(known):  # nobody was faster
                    return self._add(connection, subject, len(known) + 1, contract.schema_text)

    def check(self, texts: Mapping[str, str]) -> None:
        """Raise what `register` would, for any of these subjects, without registering anything."""
        refused = []
        for subject, text in texts.items():
            contract = _contract(subject, text)
            with _reading(self._engine) as connection:
                known = _versions(connection, subject)
            if _find(known, contract) is None:
                try:
                    _gate(contract, known)
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
        contract = _contract(subject, text)
        with _reading(self._engine) as connection:
            return _find(_versions(connection, subject), contract)

    def schema(self, schema_id: int) -> str:
        """See Registry."""
        with _reading(self._engine) as connection:
            text: str | None = connection.execute(
                sa.select(schemas.c.text).where(schemas.c.id == schema_id)
            ).scalar_one_or_none()
        if text is None:
            raise UnknownSchema(str(schema_id))
        return text

    def newest_id(self) -> int:
        """The greatest id that was given, 0 before the first. Raises RegistryUnavailable."""
        with _reading(self._engine) as connection:
            return int(connection.execute(sa.select(sa.func.max(schemas.c.id))).scalar_one() or 0)

    def latest(self, subject: str) -> Registered | None:
        """See Registry."""
        with _reading(self._engine) as connection:
            known = _versions(connection, subject)
        return known[-1] if known else None

    def _add(self, connection: sa.Connection, subject: str, version: int, text: str) -> int:
        digest = _digest(text)
        connection.execute(insert_into(connection, schemas).values(digest=digest, text=text).on_conflict_do_nothing())
        schema_id: int = connection.execute(sa.select(schemas.c.id).where(schemas.c.digest == digest)).scalar_one()
        connection.execute(
            versions.insert().values(subject=subject, version=version, schema_id=schema_id, registered_at=self._clock())
        )
        return schema_id


def _contract(subject: str, text: str) -> Contract:
    contract = Contract.from_text(text)
    if contract.registry_subject != subject:
        raise ContractRefused(f"its subject is {contract.registry_subject}, not {subject}")
    return contract


def _gate(contract: Contract, known: Sequence[Registered]) -> None:
    """Raise Incompatible if the contract breaks any version of its subject (BACKWARD_TRANSITIVE, and our own rules)."""
    broken = [
        f"against version {older.version}: {reason}"
        for older in known
        for reason in contract.breaks(Contract.from_text(older.text))
    ]
    if broken:
        raise Incompatible(f"{contract.registry_subject}: " + "; ".join(broken))


def _find(known: Sequence[Registered], contract: Contract) -> Registered | None:
    return next((one for one in known if one.text == contract.schema_text), None)


def _versions(connection: sa.Connection, subject: str) -> list[Registered]:
    """Every version of a subject, oldest first."""
    found = connection.execute(
        sa.select(schemas.c.id, versions.c.version, schemas.c.text)
        .join(versions, versions.c.schema_id == schemas.c.id)
        .where(versions.c.subject == subject)
        .order_by(versions.c.version)
    )
    return [Registered(*row) for row in found]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    try:
        with reading(engine) as connection:
            yield connection
    except StoreUnavailable as error:
        raise RegistryUnavailable(error.detail) from None


@contextmanager
def _writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    try:
        with writing(engine) as connection:
            yield connection
    except StoreUnavailable as error:
        raise RegistryUnavailable(error.detail) from None
