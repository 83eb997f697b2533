"""A folder of its own: settings with free ports, keys, the city's offices, the policies applied."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from bench.volume.sizes import size_of
from exchange import city
from exchange.cli.demo import town as towns
from exchange.cli.demo.town import Town
from exchange.errors import OperatorError
from exchange.settings import Settings
from exchange.wiring import open_broker


@dataclass(frozen=True, slots=True)
class Founded:
    """A town whose sources are written and whose policies are in force; nothing runs yet."""

    town: Town
    generated_seconds: float
    source_bytes: int

    @property
    def rows(self) -> int:
        """Rows that the offices deliver, by truth.json."""
        return sum(int(self.town.day(contract)["rows"]) for contract in self.town.contracts)


def found(folder: Path, *, citizens: int, enterprises: int, seed: int) -> Founded:
    """Make the town in an empty folder. Raises what `exchange init`, `city generate` and `policy apply` raise."""
    config = towns.settle(folder)
    _refuse_used(Settings.load(config))
    began = time.monotonic()
    city.generate(folder, citizens=citizens, enterprises=enterprises, seed=seed)
    seconds = time.monotonic() - began
    return Founded(towns.govern(folder, config), seconds, size_of(folder / "offices"))


@contextmanager
def backing(kafka: str | None, postgres: str | None) -> Iterator[str | None]:
    """Let this process and those that it starts use these; the URL of the store's own database, if there is one.

    They are two URLs in the environment, as an operator would set them. The database is dropped in the end.
    """
    towns.forget_environment()
    if kafka is not None:
        os.environ["EXCHANGE_BROKER__URL"] = f"kafka://{kafka}"
    if postgres is None:
        yield None
        return
    name = f"volume_{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        url = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
        os.environ["EXCHANGE_STORE__URL"] = url
        yield url
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _refuse_used(settings: Settings) -> None:
    """Topics have the names of their contracts: of two cities on one cluster neither would come out right."""
    with closing(open_broker(settings)) as broker:
        if broker.state("civil.person.v1") is not None:
            raise OperatorError(f"{settings.broker.url} holds a city already: give an empty cluster")
