"""Who people are: the civil registry's tables and lists, the schools' certificates, the clinics' records."""

from __future__ import annotations

from datetime import date, timedelta

from exchange.city import words
from exchange.city.draws import Draw
from exchange.city.life import State
from exchange.city.sources import Append, Column, Dataset, Push, Snapshot, Symbol, Table, Values
from exchange.city.world import Citizen

GENDERS = {"male": "1", "female": "2", "unspecified": "9"}  # GB/T 2261.1
MARITAL = {"single": "10", "married": "20", "widowed": "30", "divorced": "40"}  # GB/T 2261.2
RELATIONS = {"head": "户主", "spouse": "配偶", "child": "子女", "parent": "父母", "other": "其他"}
YES_NO = {True: "是", False: "否"}
LEVELS = {"associate": "专科", "bachelor": "本科", "master": "硕士研究生", "doctor": "博士研究生"}


def _person(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "civil.person", citizen.index)
    place = citizen.place(state.edition)
    married = citizen.relation in ("head", "spouse") and citizen.household_size > 1
    unknown, moving = draw.chance(60), draw.chance(15)
    return {
        "citizen_id": citizen.id,
        "name": citizen.name,
        "former_name": citizen.name[0] + draw.pick(words.GIVEN_FEMALE) if draw.chance(40) else None,
        "gender": Symbol(citizen.gender),
        "birth_date": citizen.birth_date,
        "ethnicity": draw.pick(words.ETHNICITIES),
        "marital_status": None if unknown else Symbol("married" if married else "single"),
        "address": None if moving and citizen.index > 0 else place.full(),
        "district": place.code,
        "registered_on": citizen.birth_date + timedelta(days=draw.between(10, 90)),
        "fingerprint_ref": f"FP-{draw.digits(12)}",
        "revision": state.edition + 1,
        "updated_at": state.at,
    }


def _household_member(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "civil.household_member", citizen.index, slot)
    collective = slot > 0
    place = citizen.place(state.edition)
    return {
        "citizen_id": citizen.id,
        "household_no": f"C{citizen.index % 40:05}" if collective else f"H{citizen.household:08}",
        "relation": Symbol("other" if collective else citizen.relation),
        "collective": collective,
        "household_size": draw.between(40, 400) if collective else citizen.household_size,
        "address": place.full(),
        "moved_in_on": citizen.birth_date + timedelta(days=draw.between(0, 5000)),
        "moved_out_on": draw.day(date(2020, 1, 1), date(2026, 5, 1)) if collective and draw.chance(500) else None,
    }


def _degree(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "education.degree", citizen.index, slot)
    level = ("associate", "bachelor", "master", "doctor")[min(slot + draw.below(2), 3)]
    graduated = date(citizen.birth_date.year + 21 + 3 * slot, 6, draw.between(20, 30))
    subject = words.SUBJECTS[(draw.below(len(words.SUBJECTS)) + state.edition) % len(words.SUBJECTS)]
    return {
        "citizen_id": citizen.id,
        "certificate_no": f"{draw.digits(5)}{graduated.year}{citizen.index:07}{slot}",
        "holder_name": citizen.name,
        "school": draw.pick(words.SCHOOLS),
        "level": Symbol(level),
        "subject": subject,
        "enrolled_on": None if graduated.year < 1990 else date(graduated.year - 4, 9, 1),
        "graduated_on": graduated,
        "degree_awarded": level != "associate",
    }


def _degrees(citizen: Citizen) -> int:
    if citizen.relation not in ("head", "spouse"):
        return 0
    draw = Draw(citizen.world.seed, "education.degree", citizen.index)
    return draw.pick((0, 1, 1, 1, 2)) if citizen.index > 0 else 2


def _record(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "health.record", citizen.index)
    old = citizen.relation in ("head", "parent")
    conditions = [draw.pick(words.CONDITIONS) for _ in range(draw.below(3))] if old else []
    allergies = sorted({draw.pick(words.ALLERGIES) for _ in range(draw.pick((0, 0, 0, 1, 2)))})
    if citizen.index == 0:
        conditions, allergies = [words.CONDITIONS[0]], [words.ALLERGIES[0]]
    tested, swapped = draw.chance(800) or citizen.index == 0, draw.chance(10)
    born = citizen.birth_date
    if swapped and born.day <= 12 and citizen.index >= 4:
        born = born.replace(month=born.day, day=born.month)  # day and month changed places on an old card
    return {
        "citizen_id": citizen.id,
        "birth_date": born,
        "primary_clinic": draw.pick(words.CLINICS) if draw.chance(900) or citizen.index == 0 else None,
        "blood_type": Symbol(draw.pick(("A", "B", "O", "O", "AB"))) if tested else None,
        "rh_negative": draw.chance(5) if tested else None,
        "allergies": allergies,
        "chronic_conditions": [
            {"code": code, "name": name, "since": draw.day(date(2005, 1, 1), date(2025, 12, 31))}
            for code, name in dict(conditions).items()
        ],
        "last_visit_at": state.at if draw.chance(700) else None,
        "revision": state.edition + 1,
        "updated_at": state.at,
    }


def _vaccination(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "health.vaccination", citizen.index, slot)
    code, name, doses = words.VACCINES[slot % len(words.VACCINES)]
    lot = f"L{draw.digits(8)}-{state.edition + 1}"
    return {
        "citizen_id": citizen.id,
        "vaccine_code": code,
        "dose": draw.between(1, doses),
        "vaccine_name": name,
        "given_on": citizen.birth_date + timedelta(days=draw.between(30, 400)),
        "site": draw.pick(words.CLINICS) if draw.chance(950) else None,
        "lot": lot if state.edition or draw.chance(900) else None,
    }


def _vaccinations(citizen: Citizen) -> int:
    draw = Draw(citizen.world.seed, "health.vaccination", citizen.index)
    return draw.between(2, len(words.VACCINES)) if citizen.relation == "child" else draw.below(2)


def _collective(citizen: Citizen) -> int:
    return 2 if citizen.adult and Draw(citizen.world.seed, "collective", citizen.index).chance(80) else 1


CITIZENS = (
    Dataset(
        contract="civil.person",
        source=Table("person", hidden=("fingerprint_ref",)),
        columns=(
            Column("citizen_id", "citizen_id"),
            Column("name", "full_name"),
            Column("former_name", "former_name"),
            Column("gender", "gender_code", words=GENDERS),
            Column("birth_date", "birth_date", kind="day"),
            Column("ethnicity", "ethnicity"),
            Column("marital_status", "marital_code", words=MARITAL),
            Column("address", "residence"),
            Column("district", "district_code"),
            Column("registered_on", "registered_on", kind="day"),
            Column("fingerprint_ref", "fingerprint_ref"),
            Column("revision", "revision", kind="number"),
            Column("updated_at", "updated_at", kind="moment"),
        ),
        slots=lambda citizen: 1,
        values=_person,
        version="revision",
        event_time="updated_at",
        required="name",
    ),
    Dataset(
        contract="civil.household_member",
        source=Snapshot(encoding="utf-8"),
        columns=(
            Column("citizen_id", "公民身份号码"),
            Column("household_no", "户号"),
            Column("relation", "与户主关系", words=RELATIONS),
            Column("collective", "集体户", words=YES_NO),
            Column("household_size", "户内人数"),
            Column("address", "户址"),
            Column("moved_in_on", "迁入日期", form="%Y-%m-%d"),
            Column("moved_out_on", "迁出日期", form="%Y-%m-%d"),
        ),
        slots=_collective,
        values=_household_member,
        key=("household_no",),
        dated="moved_in_on",
    ),
    Dataset(
        contract="education.degree",
        source=Snapshot(encoding="utf-8-sig"),
        columns=(
            Column("citizen_id", "身份证号"),
            Column("certificate_no", "证书编号"),
            Column("holder_name", "姓名"),
            Column("school", "学校名称"),
            Column("level", "学历层次", words=LEVELS),
            Column("subject", "专业"),
            Column("enrolled_on", "入学日期", form="%Y年%m月%d日"),
            Column("graduated_on", "毕业日期", form="%Y年%m月%d日"),
            Column("degree_awarded", "是否授予学位", words={True: "Y", False: "N"}),
        ),
        slots=_degrees,
        values=_degree,
        key=("certificate_no",),
        dated="graduated_on",
    ),
    Dataset(
        contract="health.record",
        source=Push(level_4="genome_ref"),
        columns=(Column("citizen_id", "citizen_id"),),
        slots=lambda citizen: 1 if citizen.index % 10 < 7 else 0,
        values=_record,
        version="revision",
        event_time="updated_at",
        required="birth_date",
    ),
    Dataset(
        contract="health.vaccination",
        source=Append(encoding="utf-8", header=False),
        columns=(
            Column("citizen_id", "1"),
            Column("vaccine_code", "2"),
            Column("dose", "3"),
            Column("vaccine_name", "4"),
            Column("given_on", "5", form="%Y%m%d"),
            Column("site", "6"),
            Column("lot", "7"),
        ),
        slots=_vaccinations,
        values=_vaccination,
        key=("vaccine_code", "dose"),
        dated="given_on",
    ),
)
