"""Changes: a row changes at its source, another one is deleted there; how long until a view shows it."""

from __future__ import annotations

from exchange.city import story
from exchange.cli.demo.desks import Call
from exchange.cli.demo.stage import Stage
from exchange.cli.demo.steps import Cell, Row, Table, Told, until
from exchange.cli.demo.town import POLL
from exchange.clock import system_clock

ADDRESS = "citizen.address"
LICENCES = "market.licence"


def change(stage: Stage, told: Told) -> None:
    """The citizen moves. The civil registry writes a row into its own table, and the next view knows."""
    before = _address(stage)
    moved = story.move(stage.town.folder, system_clock())
    after, told.milliseconds = until(lambda: _address(stage), lambda call: bool(call.value(ADDRESS) == moved))
    told.show(after)
    was, said = before.value(ADDRESS), after.said_by(ADDRESS)
    rows: list[Row] = [["before", *_who(before.said_by(ADDRESS)[0]), Cell(str(was), "faint")]]
    for place, one in enumerate(said):
        rows.append(["after", *_who(one), Cell(str(one["value"]), "plain" if place else "new")])
    told.show(Table(("", "said by", ">version", "address"), rows))
    told.check(
        after.value(ADDRESS) == moved,
        f"{_spent(told)} from the registry's commit to the view (it is polled every {POLL})",
    )
    told.check(
        moved != was and said[0]["contract"] == "civil.person", "the registry leads, so its new address is shown"
    )
    told.check(
        after.answer["values"][ADDRESS]["conflict"], "the driving licence still has the old one: now they disagree"
    )


def delete(stage: Stage, told: Told) -> None:
    """A licence is taken back. Its row is marked as deleted at the source, and gone from the view."""
    before = _licences(stage)
    number = story.withdraw(stage.town.folder, system_clock())
    after, told.milliseconds = until(
        lambda: _licences(stage), lambda call: number not in [item["licence_no"] for item in call.items(LICENCES)]
    )
    told.show(after)
    left = [item["licence_no"] for item in after.items(LICENCES)]
    rows: list[Row] = [
        [
            item["licence_no"],
            item["kind"],
            item["status"],
            Cell("stands", "plain") if item["licence_no"] in left else Cell("gone", "gone"),
        ]
        for item in before.items(LICENCES)
    ]
    told.show(Table(("licence", "kind", "status", ""), rows))
    told.check(number in [row[0] for row in rows], f"{number} was in the view before")
    told.check(number not in left, f"{_spent(told)} after the commit at the source it is gone")
    told.check(len(left) == len(rows) - 1, "the other one stands")


def _address(stage: Stage) -> Call:
    return stage.desks.view("transport-window", "licence-service", "citizen", stage.town.citizen, fields=[ADDRESS])


def _licences(stage: Stage) -> Call:
    enterprise = stage.town.enterprise
    return stage.desks.view("market-inspector", "market-supervision", "enterprise", enterprise, contracts=[LICENCES])


def _who(said: dict[str, str]) -> tuple[str, str]:
    return said["contract"], said["version"]


def _spent(told: Told) -> str:
    return f"{told.milliseconds or 0:,.0f} ms"
