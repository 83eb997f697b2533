"""What was written, and what the exchange must make of it: so that a test can account for every row.

`truth.json` stands beside the sources. For each dataset and day: `rows` in the source that are new to a reader (a
snapshot: all of them; else what the day added or changed), which are `published` + `unchanged` + `deleted` + `rejected`
(by reason), in the words of `publish`: a row that is marked as deleted before it was ever published is unchanged
if its contract has no version.
`gone` counts what a snapshot no longer has, outside that sum. `facets` are the records that stand at the end.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exchange.city.life import Fault
from exchange.city.sources import Dataset
from exchange.city.world import World, citizen, enterprise
from exchange.errors import SettingWrong

FILE = "truth.json"


@dataclass(slots=True)
class Count:
    """The figures of one dataset and one day."""

    rows: int = 0
    published: int = 0
    unchanged: int = 0
    deleted: int = 0
    gone: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    facets: int = 0

    def reject(self, reason: Fault | str) -> None:
        self.rows += 1
        self.rejected[str(reason)] += 1

    def publish(self) -> None:
        self.rows += 1
        self.published += 1

    def keep(self) -> None:
        self.rows += 1
        self.unchanged += 1

    def delete(self) -> None:
        self.rows += 1
        self.deleted += 1

    def json(self, day: int) -> dict[str, Any]:
        return {
            "day": day,
            "rows": self.rows,
            "published": self.published,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "gone": self.gone,
            "rejected": dict(sorted(self.rejected.items())),
        }


# Per contract: the kind of source, the facets that stand, and the figures of each day.
Figures = dict[str, Any]


def add(known: dict[str, Figures], dataset: Dataset, count: Count, day: int) -> dict[str, Figures]:
    """The figures with one more day of one dataset."""
    days = known.get(dataset.contract, {}).get("days", [])
    source = type(dataset.source).__name__.lower()
    return known | {dataset.contract: {"source": source, "facets": count.facets, "days": [*days, count.json(day)]}}


def write(out: Path, world: World, day: int, datasets: dict[str, Figures], *, tables: str) -> None:
    """Write truth.json. `tables` is the kind of database that holds the tables."""
    city = {
        "seed": world.seed,
        "citizens": world.citizens,
        "enterprises": world.enterprises,
        "canaries": world.canaries,
        "tables": tables,
        "day": day,
    }
    text = json.dumps({"city": city, "story": _story(world), "datasets": datasets}, ensure_ascii=False, indent=2)
    (out / FILE).write_text(text + "\n", "utf-8")


def _story(world: World) -> dict[str, str]:
    """The subjects of whom every department knows something, for those who want to ask."""
    story = {}
    if world.citizens:
        story["citizen"] = citizen(world, 0).id
    if world.enterprises:
        story["enterprise"] = enterprise(world, 0).id
    return story


def read(out: Path) -> dict[str, Any]:
    """Read truth.json. Raises SettingWrong if there is no city in that folder."""
    try:
        truth: dict[str, Any] = json.loads((out / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        raise SettingWrong(f"{out} holds no city; `exchange city generate --out {out}` writes one") from None
    return truth


def world(truth: dict[str, Any]) -> World:
    """The world that a truth.json describes."""
    city = truth["city"]
    return World(city["seed"], city["citizens"], city["enterprises"], city["canaries"])
