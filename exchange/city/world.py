"""The city's people and enterprises, each computed from the seed and its number alone.

Their identifiers are valid by GB 11643 and GB 32100, and clearly invented: they all begin with the area 29, which is no
province's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal

from exchange.city import words
from exchange.city.draws import Draw

BEIJING = timezone(timedelta(hours=8))
# Day 0 ends here; what offices hold then is the first delivery. Fixed: the same seed gives the same bytes on any day.
DAY_ZERO = datetime(2026, 6, 1, tzinfo=BEIJING).astimezone(UTC)

Gender = Literal["male", "female"]
Relation = Literal["head", "spouse", "child", "parent"]


@dataclass(frozen=True, slots=True)
class World:
    """The size of a city and its seed. `canaries` makes every text, number and date of every record unique."""

    seed: int
    citizens: int
    enterprises: int
    canaries: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """An address, with the spellings in which offices write it."""

    code: str
    district: str
    road: str
    number: int
    community: str
    building: int
    unit: int
    room: int

    def full(self) -> str:
        """As the civil registry writes it."""
        return (
            f"{words.CITY}{self.district}{self.road}{self.number}号{self.community}"
            f"{self.building}幢{self.unit}单元{self.room}室"
        )

    def short(self) -> str:
        """As people write it on a form: another text for the same door."""
        return f"{self.district}{self.road}{self.number}号{self.community}{self.building}-{self.unit}-{self.room}"

    def wide(self) -> str:
        """The full form with full-width digits and blanks: no difference for a reader, nor for a view."""
        return self.full().translate(_FULL_WIDTH).replace(self.district, f" {self.district} ")


@dataclass(frozen=True, slots=True)
class Citizen:
    """One person. `phone` has eleven digits; `adult` is 18 or older on day 0."""

    world: World
    index: int
    id: str
    name: str
    gender: Gender
    birth_date: date
    household: int
    household_size: int
    relation: Relation
    phone: str

    @property
    def adult(self) -> bool:
        return self.relation != "child"

    @property
    def ghost_id(self) -> str:
        """A valid number that belongs to nobody in the city: what a clerk typed instead of this person's."""
        return _citizen_id(self.world, self.world.citizens + self.index, self.relation, self.gender)[0]

    def place(self, edition: int = 0) -> Place:
        """Where the household lives; each later edition is another place to which this person moved."""
        if edition == 0:
            return _place(Draw(self.world.seed, "home", self.household))
        return _place(Draw(self.world.seed, "move", self.index, edition))


@dataclass(frozen=True, slots=True)
class Enterprise:
    """One enterprise. `licence_kind` is the licence that its trade needs, if any."""

    world: World
    index: int
    id: str
    name: str
    kind: str
    trade: str
    scope: str
    licence_kind: str | None
    representative: str
    registered_on: date
    phone: str

    @property
    def ghost_id(self) -> str:
        """A valid code that belongs to no enterprise of the city."""
        return _enterprise_id(self.world, self.world.enterprises + self.index)

    def place(self, edition: int = 0) -> Place:
        """The registered seat; each later edition is another one."""
        return _place(Draw(self.world.seed, "seat", self.index, edition))


Subject = Citizen | Enterprise

# --- citizens ---------------------------------------------------------------------------------------------------------

# Twelve people in a row are five households; the relations of each, in order.
_HOUSEHOLDS: tuple[tuple[Relation, ...], ...] = (
    ("head",),
    ("head", "spouse"),
    ("head", "spouse", "child"),
    ("head", "spouse", "child", "parent"),
    ("head", "child"),
)
_PLACES_AT_TABLE = tuple(
    (household, len(relations), relation) for household, relations in enumerate(_HOUSEHOLDS) for relation in relations
)
_BLOCK = len(_PLACES_AT_TABLE)

_BIRTHS: dict[Relation, tuple[date, date]] = {
    "head": (date(1955, 1, 1), date(1979, 12, 31)),
    "spouse": (date(1980, 1, 1), date(2000, 12, 31)),
    "child": (date(2009, 1, 1), date(2025, 12, 31)),
    "parent": (date(1933, 1, 1), date(1950, 12, 31)),
}
_STRIDE = 1_000_003  # a prime, so that i -> i * stride + offset never meets itself modulo the number of identifiers
_PAIRS = 499  # sequence numbers 002 to 999: even for women, odd for men


def citizen(world: World, index: int) -> Citizen:
    """Person number `index` of the city, from 0."""
    block, seat = divmod(index, _BLOCK)
    table, size, relation = _PLACES_AT_TABLE[seat]
    household = block * len(_HOUSEHOLDS) + table
    draw = Draw(world.seed, "citizen", index)
    gender: Gender = "male" if draw.chance(500) else "female"
    identifier, birth_date = _citizen_id(world, index, relation, gender)
    # A child has the name of its household; the others bring their own.
    surname = (Draw(world.seed, "surname", household) if relation in ("head", "child") else draw).pick(words.SURNAMES)
    given = words.GIVEN_MALE if gender == "male" else words.GIVEN_FEMALE
    name = surname + draw.pick(given) + (draw.pick(given) if draw.chance(700) else "")
    if draw.chance(10):
        name = draw.pick(words.DOTTED)
    return Citizen(
        world=world,
        index=index,
        id=identifier,
        name=name,
        gender=gender,
        birth_date=birth_date,
        household=household,
        household_size=size,
        relation=relation,
        phone="100" + draw.digits(8),  # no mobile number begins with 100
    )


def _citizen_id(world: World, index: int, relation: Relation, gender: Gender) -> tuple[str, date]:
    """A number that no other index of this relation has, and its birth date. Relations have years of their own."""
    first, last = _BIRTHS[relation]
    days = (last - first).days + 1
    areas = len(words.DISTRICTS)
    offset = Draw(world.seed, "offset").below(1 << 30)
    rest = (index * _STRIDE + offset) % (areas * days * _PAIRS)
    rest, area = divmod(rest, areas)
    pair, day = divmod(rest, days)
    birth_date = first + timedelta(days=day)
    sequence = 2 * (pair + 1) + (gender == "male")
    body = f"{words.DISTRICTS[area][0]}{birth_date:%Y%m%d}{sequence:03}"
    total = sum(weight * int(digit) for weight, digit in zip(_CITIZEN_WEIGHTS, body, strict=True))
    return body + "10X98765432"[total % 11], birth_date


# GB 11643 section 4.4: ISO 7064 MOD 11-2 over the first 17 digits.
_CITIZEN_WEIGHTS = tuple(pow(2, place, 11) for place in range(17, 0, -1))

# --- enterprises ------------------------------------------------------------------------------------------------------

_KINDS = ("limited", "limited", "limited", "joint_stock", "sole_proprietor", "partnership", "branch")
_FORMS = {
    "limited": "有限公司",
    "joint_stock": "股份有限公司",
    "sole_proprietor": "经营部",
    "partnership": "合伙企业（有限合伙）",
    "branch": "有限公司分公司",
}


def enterprise(world: World, index: int) -> Enterprise:
    """Enterprise number `index` of the city, from 0."""
    draw = Draw(world.seed, "enterprise", index)
    kind = "limited" if index == 0 else draw.pick(_KINDS)
    trade, scope, licence_kind = draw.pick(words.TRADES)
    brand = "".join(draw.pick(words.BRANDS) for _ in range(draw.between(2, 3)))
    return Enterprise(
        world=world,
        index=index,
        id=_enterprise_id(world, index),
        name=f"澜汀{brand}{trade}{_FORMS[kind]}",
        kind=kind,
        trade=trade,
        scope=scope,
        licence_kind=licence_kind,
        representative=draw.pick(words.SURNAMES) + draw.pick(words.GIVEN_MALE) + draw.pick(words.GIVEN_FEMALE),
        registered_on=draw.day(date(1992, 1, 1), date(2025, 12, 31)),
        phone="100" + draw.digits(8),
    )


_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100: without I, O, S, V and Z
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)  # GB 11714
_ORGANISATIONS = 10**8


def _enterprise_id(world: World, index: int) -> str:
    """A code that no other index has: department 9, area 29, an organisation code with its own check (GB 11714)."""
    offset = Draw(world.seed, "organisations").below(_ORGANISATIONS)
    organisation = f"{(index * _STRIDE + offset) % _ORGANISATIONS:08}"
    total = sum(weight * int(digit) for weight, digit in zip(_ORGANISATION_WEIGHTS, organisation, strict=True))
    check = "0123456789X0"[11 - total % 11] if total % 11 else "0"
    area = words.DISTRICTS[index % len(words.DISTRICTS)][0]
    body = f"91{area}{organisation}{check}"
    value = sum(pow(3, place, 31) * _ALPHABET.index(character) for place, character in enumerate(body))
    return body + _ALPHABET[-value % 31]


# --- places -----------------------------------------------------------------------------------------------------------

_FULL_WIDTH = {ord("0") + digit: ord("０") + digit for digit in range(10)}


def _place(draw: Draw) -> Place:
    code, district = draw.pick(words.DISTRICTS)
    return Place(
        code=code,
        district=district,
        road=draw.pick(words.ROADS),
        number=draw.between(1, 399),
        community=draw.pick(words.COMMUNITIES),
        building=draw.between(1, 30),
        unit=draw.between(1, 6),
        room=draw.between(1, 32) * 100 + draw.between(1, 4),
    )
