"""What people and enterprises pay and what they are worth: the tax bureau's tables, the credit office's list."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from exchange.city import words
from exchange.city.draws import Draw
from exchange.city.life import State
from exchange.city.sources import Column, Dataset, Snapshot, Symbol, Table, Values
from exchange.city.world import Citizen, Enterprise, enterprise

_DOTS = str.maketrans("·", "•")
YES_NO = {True: "Y", False: "N"}
TYPES = {"general": "1", "small_scale": "2"}
FILING = {"normal": "01", "non_normal": "02", "cancelled": "03"}
GRADES = {grade: grade for grade in ("A", "B", "M", "C", "D")}
RATINGS = {grade: grade for grade in ("AAA", "AA", "A", "B", "C", "D")}


def _person(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "tax.person", citizen.index)
    income = draw.between(30_000, 600_000) * 100 + draw.below(100)
    firms = citizen.world.enterprises
    spelling, slip, other_phone = draw.below(10), draw.chance(10), draw.chance(80)
    place = citizen.place()
    address = place.short() if spelling < 4 else place.full() if spelling < 8 else citizen.place(1000).full()
    name = citizen.name.translate(_DOTS)
    if slip and citizen.index > 0:
        name = name[:-1] + draw.pick(words.GIVEN_MALE)  # a clerk chose the wrong character
    return {
        "citizen_id": citizen.id,
        "name": name,
        "address": address if draw.chance(950) or citizen.index == 0 else None,
        "phone": "100" + draw.digits(8) if other_phone else citizen.phone,
        "tax_year": 2025,
        "annual_income": Decimal(income).scaleb(-2),
        "tax_paid": Decimal(income // draw.between(8, 40)).scaleb(-2),
        "withholding_agent": enterprise(citizen.world, draw.below(firms)).name if firms else None,
        "settled": state.edition > 0 or draw.chance(800),
        "revision": state.edition + 1,
        "updated_at": state.at + timedelta(microseconds=draw.below(1_000_000)),
    }


def _enterprise(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "tax.enterprise", firm.index)
    spelling, other_head = draw.below(10), draw.chance(40)
    place = firm.place()
    if firm.index == 0 or spelling < 3:
        address: str | None = place.short()
    elif spelling < 7:
        address = place.full()
    elif spelling < 9:
        address = firm.place(1000).full()  # where it was before it moved
    else:
        address = None
    old_head = draw.pick(words.SURNAMES) + draw.pick(words.GIVEN_MALE)
    return {
        "uscc": firm.id,
        "name": firm.name.replace("（", "(").replace("）", ")"),
        "address": address,
        "legal_representative": old_head if other_head and firm.index > 0 else firm.representative,
        "taxpayer_type": Symbol(draw.pick(("general", "small_scale", "small_scale"))),
        "filing_status": Symbol(draw.pick(("normal",) * 18 + ("non_normal", "cancelled"))),
        "credit_grade": Symbol(draw.pick(tuple(GRADES))) if draw.chance(900) or firm.index == 0 else None,
        "annual_turnover": Decimal(draw.between(10_000, 4_000_000_000)).scaleb(-2) if draw.chance(850) else None,
        "arrears": Decimal(draw.between(1, 50_000_000) if draw.chance(70) else 0).scaleb(-2),
        "last_filed_on": draw.day(date(2026, 1, 1), date(2026, 5, 31)) if draw.chance(950) else None,
        "revision": state.edition + 1,
        "updated_at": state.at + timedelta(microseconds=draw.below(1_000_000)),
    }


def _rating(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "credit.rating", firm.index)
    moved = Draw(firm.world.seed, "credit.rating", firm.index, state.edition)
    score = (draw.between(3_000, 9_900) + moved.below(100)) / 10
    grade = next(grade for grade, least in _THRESHOLDS if score >= least)
    rated_on = draw.day(date(2025, 6, 1), date(2026, 5, 1)) + timedelta(days=state.edition)
    return {
        "uscc": firm.id,
        "name": firm.name,
        "grade": Symbol(grade),
        "score": score,
        "model": "lanting-2",
        "rated_on": rated_on,
        "valid_until": rated_on + timedelta(days=365),
    }


_THRESHOLDS = (("AAA", 950.0), ("AA", 850.0), ("A", 700.0), ("B", 550.0), ("C", 400.0), ("D", 0.0))

CITIZENS = (
    Dataset(
        contract="tax.person",
        source=Table("taxpayer"),
        columns=(
            Column("citizen_id", "id_number"),
            Column("name", "taxpayer_name"),
            Column("address", "address"),
            Column("phone", "phone"),
            Column("tax_year", "tax_year", kind="number"),
            Column("annual_income", "annual_income", kind="money"),
            Column("tax_paid", "tax_paid", kind="money"),
            Column("withholding_agent", "withholding_agent"),
            Column("settled", "settled", words=YES_NO),
            Column("revision", "revision", kind="number"),
            Column("updated_at", "updated_at", kind="moment"),
        ),
        slots=lambda citizen: 1 if citizen.adult and citizen.index % 5 < 4 else 0,
        values=_person,
        version="revision",
        event_time="updated_at",
        required="name",
    ),
)

ENTERPRISES = (
    Dataset(
        contract="tax.enterprise",
        source=Table("enterprise"),
        columns=(
            Column("uscc", "credit_code"),
            Column("name", "taxpayer_name"),
            Column("address", "business_address"),
            Column("legal_representative", "legal_representative"),
            Column("taxpayer_type", "taxpayer_type", words=TYPES),
            Column("filing_status", "filing_status", words=FILING),
            Column("credit_grade", "credit_grade", words=GRADES),
            Column("annual_turnover", "annual_turnover", kind="money"),
            Column("arrears", "arrears", kind="money"),
            Column("last_filed_on", "last_filed_on", kind="day"),
            Column("revision", "revision", kind="number"),
            Column("updated_at", "updated_at", kind="moment"),
        ),
        slots=lambda firm: 1,
        values=_enterprise,
        version="revision",
        event_time="updated_at",
        required="name",
    ),
    Dataset(
        contract="credit.rating",
        source=Snapshot(encoding="utf-8"),
        columns=(
            Column("uscc", "统一社会信用代码"),
            Column("name", "企业名称"),
            Column("grade", "评价等级", words=RATINGS),
            Column("score", "得分"),
            Column("model", "模型"),
            Column("rated_on", "评价日期", form="%Y-%m-%d"),
            Column("valid_until", "有效期至", form="%Y-%m-%d"),
        ),
        slots=lambda firm: 1 if firm.index % 10 < 9 else 0,
        values=_rating,
        version="rated_on",
        dated="valid_until",
    ),
)
