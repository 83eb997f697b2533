"""Contracts that change while their records flow: nobody stops, nothing gets a value that nobody said.

The offices change their contract at random, in every way that is allowed within a major, while a materialiser reads.
Nobody changes over at once: records go on being said under every older version. What would break a reader is refused
when it is registered. At the end each record stands with exactly the values of its own version.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange.contracts import Contract
from exchange.errors import Incompatible
from exchange.store import tables
from tests.support.broker import FakeBroker
from tests.support.bus import Bus, Running, until
from tests.support.contracts import CITIZEN, contract, field
from tests.support.stores import DATABASES, new_url

CHANGES = int(os.environ.get("EXCHANGE_TEST_CHANGES", "15"))
SEED = int(os.environ.get("EXCHANGE_TEST_SEED", "0"))
RECORDS = 60  # between two changes

Fields = list[dict[str, Any]]
Levels = dict[str, dict[str, Any]]


class Office:
    """A contract with its history; `dice` draws the changes and what is said."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.fields: Fields = [
            field("number", "string"),
            field("count", "int"),
            field("state", {"type": "enum", "name": "State", "symbols": ["s0", "s1"]}),
        ]
        self.levels: Levels = {}
        self._names = 0

    def contract(self, fields: Fields | None = None, levels: Levels | None = None, **terms: Any) -> Contract:
        shape = {"name": "Penalty", "record_key": ["number"]} | terms
        return contract(
            *(self.fields if fields is None else fields), fields=self.levels if levels is None else levels, **shape
        )

    def change(self) -> str:
        """Change the contract in a way that no reader stumbles over; which."""
        changes = [self._add, self._rename, self._widen, self._allow_null, self._add_symbol, self._raise_level]
        while True:
            change = self.dice.choice(changes)
            if change():
                return change.__name__.strip("_")

    def breaks(self) -> Iterator[tuple[str, Callable[[], Contract]]]:
        """Changes of every kind that somebody would stumble over."""
        at = self.dice.randrange(1, len(self.fields))

        def without() -> Contract:
            gone = self.fields[at]["name"]
            levels = {name: one for name, one in self.levels.items() if name != gone}
            return self.contract(self.fields[:at] + self.fields[at + 1 :], levels)

        yield "a field that goes", without
        yield "a field without a default", lambda: self.contract([*self.fields, field("extra", "string")])
        yield (
            "another name without an alias",
            lambda: self.contract(
                [*self.fields[:at], {**self.fields[at], "name": "other", "aliases": []}, *self.fields[at + 1 :]], {}
            ),
        )
        yield (
            "another type",
            lambda: self.contract(
                [
                    *self.fields[:at],
                    field(self.fields[at]["name"], {"type": "array", "items": "string"}),
                    *self.fields[at + 1 :],
                ]
            ),
        )
        yield "another key", lambda: self.contract(record_key=[])
        if self.levels:
            yield "a lower level", lambda: self.contract(levels={})

    def record(self, version: Contract, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is said under a version, and what must stand: members may be left out where there is a default."""
        said, stands = {}, {}
        for about in json.loads(version.schema_text)["fields"]:
            name = about["name"]
            value = {"citizen_id": CITIZEN, "number": f"n{number}"}.get(name, self._value(about["type"]))
            if "default" in about and self.dice.random() < 0.3:
                value = about["default"]
            else:
                said[name] = value
            wide = "long" in about["type"] and value is not None
            stands[name] = str(value) if wide else value  # as JSON: no number that a reader could round
        return said, stands

    def _value(self, type_: Any) -> Any:
        if isinstance(type_, list):
            return self.dice.choice([None, *(self._value(one) for one in type_ if one != "null")])
        if isinstance(type_, dict):
            return self.dice.choice(type_["symbols"])
        return self.dice.randrange(2**31) if type_ in ("int", "long") else f"t{self.dice.randrange(10**6)}"

    def _fresh(self) -> str:
        self._names += 1
        return f"f{self._names}"

    def _add(self) -> bool:
        name = self._fresh()
        forms = [
            (["null", "string"], None),
            ("string", f"default of {name}"),
            ("int", self._names),
            (["int", "null"], 7),
        ]
        type_, default = self.dice.choice(forms)
        self.fields.append(field(name, type_, default=default))
        return True

    def _some(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        found = [about for about in self.fields[1:] if fits(about)]
        return self.dice.choice(found) if found else None

    def _rename(self) -> bool:
        about = self._some(lambda about: True)
        assert about is not None
        old, about["name"] = about["name"], self._fresh()
        about["aliases"] = [*about.get("aliases", ()), old]
        if old in self.levels:
            self.levels[about["name"]] = self.levels.pop(old)
        return True

    def _widen(self) -> bool:
        about = self._some(lambda about: about["type"] == "int")
        if about is not None:
            about["type"] = "long"
        return about is not None

    def _allow_null(self) -> bool:
        about = self._some(lambda about: isinstance(about["type"], str))
        if about is not None:
            about["type"] = [about["type"], "null"]
        return about is not None

    def _add_symbol(self) -> bool:
        about = self._some(lambda about: isinstance(about["type"], dict))
        if about is not None:
            symbols = about["type"]["symbols"]
            about["type"] = {**about["type"], "symbols": [*symbols, f"s{len(symbols)}"]}
        return about is not None

    def _raise_level(self) -> bool:
        about = self._some(lambda about: about["name"] not in self.levels)
        if about is not None:
            self.levels[about["name"]] = {"level": 3}
        return about is not None


@pytest.fixture(params=DATABASES)
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    first = Office(random.Random(SEED)).contract()
    made = Bus(FakeBroker(), new_url(request, request.param, tmp_path), [first], partitions=2)
    yield made
    made.close()


def test_changes_that_break_nobody_stop_nobody_and_others_are_refused(bus: Bus) -> None:
    office = Office(random.Random(SEED))
    versions = [office.contract()]
    (name,) = bus.contracts
    ids = [bus.ids[name]]
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    expected = []
    with Running(bus.materialiser()):
        for _ in range(CHANGES):
            for _ in range(RECORDS):
                at = office.dice.randrange(len(versions))
                said, stands = office.record(versions[at], len(expected))
                bus.contracts[name], bus.ids[name] = versions[at], ids[at]
                bus.say(versions[0].topic, bus.message(name, said, len(expected) + 1))
                expected.append(json.dumps(stands, sort_keys=True))
            for what, broken in office.breaks():
                text = broken().schema_text
                if text in {one.schema_text for one in versions}:
                    continue  # an older version, for those who still say it
                with pytest.raises(Incompatible):
                    bus.registry.register(versions[0].registry_subject, text)
                refused[what] += 1
            done[office.change()] += 1
            versions.append(office.contract())
            ids.append(bus.registry.register(versions[0].registry_subject, versions[-1].schema_text))
        until(lambda: bus.store_facets() == len(expected), 60)
    found = [json.dumps(json.loads(payload), sort_keys=True) for payload in bus.store_payloads()]
    assert sorted(found) == sorted(expected)
    with bus.store.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.rejects)) == 0
    print(
        f"seed {SEED}: {len(expected):,} records under {len(versions)} versions, each stands as said, none set aside;"
        f" changes {dict(done)}; refused at registration {dict(refused)}"
    )
