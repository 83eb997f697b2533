"""The demo's town: settings with free ports, keys, a small city with its offices, and the policies applied.

Everything is inside the demo's folder, copies of schemas/ and policies/ too: whoever plays with an agreement there
changes nothing in the repository.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exchange
from exchange import city
from exchange.city import instances, truth
from exchange.cli.init import initialise
from exchange.cli.policy import apply_policies
from exchange.contracts import Contract, load_catalogue
from exchange.errors import SettingWrong
from exchange.settings import Settings

DATA = ("schemas", "policies")
POLL = "250ms"  # how often the demo's connectors look at a table; the instance files of a city say 1s

_INTERVAL = re.compile(r"^poll_interval = .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Town:
    """Where everything is. `contracts` are those with a topic, by name; `truth` is the city's truth.json."""

    folder: Path
    config: Path
    settings: Settings
    contracts: Mapping[str, Contract]
    truth: Mapping[str, Any]
    policy: str

    @property
    def citizen(self) -> str:
        """The story's citizen: invented, as everybody in the city."""
        return str(self.truth["story"]["citizen"])

    @property
    def enterprise(self) -> str:
        """The story's enterprise."""
        return str(self.truth["story"]["enterprise"])

    @property
    def departments(self) -> list[str]:
        """Those that publish, in order."""
        return sorted({contract.department for contract in self.contracts.values()})

    def day(self, contract: str) -> Mapping[str, Any]:
        """What truth.json says of the first delivery of a dataset."""
        figures: Mapping[str, Any] = self.truth["datasets"][contract]["days"][0]
        return figures


def forget_environment() -> None:
    """Take settings out of this process's environment: a demo must never meet the store of a real city."""
    for name in [name for name in os.environ if name.startswith("EXCHANGE_")]:
        del os.environ[name]


def settle(folder: Path) -> Path:
    """Settings, keys and each client's secret; answers the settings file. Raises SettingWrong."""
    for name in DATA:
        shutil.copytree(_repository() / name, folder / name)
    config = folder / "exchange.toml"
    port, gateway_metrics, materialise_metrics = free_ports(3)
    initialise(
        config,
        *map(Path, DATA),
        port=port,
        gateway_metrics=gateway_metrics,
        materialise_metrics=materialise_metrics,
    )
    return config


def populate(folder: Path, *, citizens: int, enterprises: int, seed: int) -> None:
    """The city's offices and their instance files, which look often. Raises SettingWrong."""
    city.generate(folder, citizens=citizens, enterprises=enterprises, seed=seed)
    for file in (folder / instances.FOLDER).glob("*.toml"):
        text = file.read_text("utf-8")
        if 'connector = "sql"' in text:
            file.write_text(_INTERVAL.sub(f'poll_interval = "{POLL}"', text), "utf-8")


def govern(folder: Path, config: Path) -> Town:
    """Apply the policies. Raises what `exchange policy apply` raises."""
    settings = Settings.load(config)
    applied = apply_policies(settings)
    catalogue = load_catalogue(settings.path(settings.schemas))
    return Town(
        folder=folder,
        config=config,
        settings=settings,
        contracts={one.name: one for one in catalogue.served()},
        truth=truth.read(folder),
        policy=str(applied["policy"]),
    )


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, each another."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _repository() -> Path:
    """Where schemas/ and policies/ are: beside the packages, as in a clone, or here."""
    for place in (Path(exchange.__file__).parents[1], Path.cwd()):
        if all((place / name).is_dir() for name in DATA):
            return place
    raise SettingWrong("schemas/ and policies/ are not here: run the demo in a clone of the repository")
