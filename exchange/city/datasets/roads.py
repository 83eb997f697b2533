"""Transport: driving licences in a table, vehicles in a file that grows."""

from __future__ import annotations

from datetime import date, timedelta

from exchange.city import words
from exchange.city.draws import Draw
from exchange.city.life import State
from exchange.city.sources import Append, Column, Dataset, Symbol, Table, Values
from exchange.city.world import Citizen

LICENCES = {"valid": "A", "suspended": "B", "revoked": "C", "expired": "D"}
VEHICLES = {"in_use": "正常", "transferred": "转移", "scrapped": "报废", "seized": "查封"}
ENERGY = {"petrol": "汽油", "diesel": "柴油", "electric": "纯电", "hybrid": "混合动力", "other": "其他"}


def _licence(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "transport.licence", citizen.index)
    stale = draw.chance(150) and citizen.index >= 4
    first = draw.day(date(2019, 1, 1), date(2026, 5, 1))
    return {
        "citizen_id": citizen.id,
        "name": citizen.name,
        "birth_date": citizen.birth_date,
        "address": citizen.place(1000).full() if stale else citizen.place().full(),
        "file_no": f"2901{citizen.index:08}",
        "vehicle_class": draw.pick(("C1", "C1", "C1", "C2", "B2", "A1")),
        "first_issued_on": first,
        "valid_until": first + timedelta(days=3652),
        "points": (draw.below(10) + state.edition) % 12,
        "status": Symbol(draw.pick(("valid",) * 17 + ("suspended", "revoked", "expired"))),
        "organ_donor_mark": draw.chance(100) if draw.chance(400) else None,
        "revision": state.edition + 1,
        "updated_at": state.at,
    }


def _vehicle(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "transport.vehicle", citizen.index, slot)
    registered = draw.day(date(2010, 1, 1), date(2026, 5, 1))
    mileage = draw.between(10, 300_000) + 1_000 * state.edition
    return {
        "citizen_id": citizen.id,
        # No province has this abbreviation, and the number is the owner's, so that no two cars share a plate.
        "plate": f"澜{'ABCDEFGH'[slot]}{citizen.index:07}",
        "brand": draw.pick(words.CAR_BRANDS),
        "model": draw.pick(words.CAR_MODELS) if draw.chance(900) else None,
        "energy": Symbol(draw.pick(("petrol", "petrol", "diesel", "electric", "electric", "hybrid"))),
        "mileage_km": mileage if state.edition or draw.chance(800) else None,
        "registered_on": registered,
        "inspection_due": registered + timedelta(days=365 * draw.between(2, 6) + state.edition),
        "status": Symbol(draw.pick(("in_use",) * 17 + ("transferred", "scrapped", "seized"))),
        "edition": state.edition + 1,
    }


def _vehicles(citizen: Citizen) -> int:
    draw = Draw(citizen.world.seed, "transport.vehicle", citizen.index)
    return 0 if not citizen.adult else 2 if citizen.index == 0 else draw.pick((0, 0, 1, 1, 2))


CITIZENS = (
    Dataset(
        contract="transport.licence",
        source=Table("driving_licence"),
        columns=(
            Column("citizen_id", "id_number"),
            Column("name", "full_name"),
            Column("birth_date", "birth_date", kind="day"),
            Column("address", "address"),
            Column("file_no", "file_no"),
            Column("vehicle_class", "vehicle_class"),
            Column("first_issued_on", "first_issued_on", kind="day"),
            Column("valid_until", "valid_until", kind="day"),
            Column("points", "points", kind="number"),
            Column("status", "status_code", words=LICENCES),
            Column("organ_donor_mark", "donor_mark", words={True: "1", False: "0"}),
            Column("revision", "revision", kind="number"),
            Column("updated_at", "updated_at", kind="moment"),
        ),
        slots=lambda citizen: 1 if citizen.adult and citizen.index % 3 != 1 else 0,
        values=_licence,
        version="revision",
        event_time="updated_at",
        required="name",
    ),
    Dataset(
        contract="transport.vehicle",
        source=Append(encoding="utf-8", grows=True),
        columns=(
            Column("citizen_id", "车主证件号"),
            Column("plate", "号牌号码"),
            Column("brand", "品牌"),
            Column("model", "型号"),
            Column("energy", "能源种类", words=ENERGY),
            Column("mileage_km", "检验里程"),
            Column("registered_on", "登记日期", form="%Y-%m-%d"),
            Column("inspection_due", "检验有效期止", form="%Y-%m-%d"),
            Column("status", "状态", words=VEHICLES),
            Column("edition", "版次"),
        ),
        slots=_vehicles,
        values=_vehicle,
        key=("plate",),
        version="edition",
        dated="registered_on",
    ),
)
