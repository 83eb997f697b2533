"""What people are granted, own and ask for: social security, housing, the hotline."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from exchange.city import words
from exchange.city.draws import Draw
from exchange.city.life import State
from exchange.city.sources import Append, Column, Dataset, Push, Snapshot, Symbol, Table, Values
from exchange.city.world import Citizen, Enterprise, enterprise

SCHEMES = {"employee": "城镇职工", "resident": "城乡居民", "flexible": "灵活就业"}
STATUSES = {"active": "正常参保", "suspended": "暂停参保", "retired": "退休", "ended": "终止"}
KINDS = {
    "pension": "养老金",
    "unemployment": "失业金",
    "housing_allowance": "住房补贴",
    "child_allowance": "儿童补贴",
    "disability": "残疾补贴",
    "minimum_living": "最低生活保障",
}
USES = {"residential": "住宅", "commercial": "商业", "industrial": "工业", "parking": "车位"}
_DOTS = str.maketrans("·", "・")  # the insurance system was converted from another character set


def _insurance(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "social.insurance", citizen.index)
    world = citizen.world
    scheme = draw.pick(("employee", "employee", "employee", "resident", "flexible"))
    if citizen.relation == "parent":
        scheme = "resident"
    employed = scheme == "employee" and world.enterprises > 0
    retired = citizen.birth_date.year < 1963
    status = "retired" if retired else draw.pick(("active",) * 8 + ("suspended", "ended"))
    place, spelling = citizen.place(), draw.below(10)
    if citizen.index == 0:
        address: str | None = place.short()
    elif spelling < 4:
        address = place.full()
    elif spelling < 7:
        address = place.wide()
    elif spelling < 8:
        address = place.short()
    elif spelling < 9:
        address = citizen.place(1000).full()  # where the person lived before the last move
    else:
        address = None
    return {
        "citizen_id": citizen.id,
        "name": citizen.name.translate(_DOTS),
        "address": address,
        "phone": citizen.phone if citizen.index == 0 or draw.chance(920) else None,
        "scheme": Symbol(scheme),
        "status": Symbol(status),
        "employer_uscc": enterprise(world, draw.below(world.enterprises)).id if employed else None,
        "contribution_base": Decimal(draw.between(4462, 33891)) if employed else None,
        "months_paid": draw.between(0, 400) + state.edition,
        "insured_since": draw.day(date(1996, 1, 1), date(2026, 1, 1)),
        "updated_at": state.at,
    }


def _benefit(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "social.benefit", citizen.index, slot)
    kind = "child_allowance" if citizen.relation == "child" else draw.pick(tuple(KINDS))
    month = f"2026-{slot + 1:02}"
    return {
        "citizen_id": citizen.id,
        "benefit_no": f"B{month.replace('-', '')}{citizen.index:08}{slot}",
        "kind": Symbol(kind),
        "month": month,
        "amount": Decimal(draw.between(20_000, 450_000) + state.edition).scaleb(-2),
        "paid_on": date(2026, slot + 1, draw.between(8, 15)) if draw.chance(900) else None,
        "account_tail": draw.digits(4) if draw.chance(800) else None,
        "office": draw.pick(words.BENEFIT_OFFICES),
    }


def _benefits(citizen: Citizen) -> int:
    draw = Draw(citizen.world.seed, "social.benefit", citizen.index)
    return 3 if citizen.index == 0 else draw.pick((0, 0, 0, 0, 1, 2, 5) if citizen.relation != "parent" else (0, 5))


def _employer(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "social.employer", firm.index)
    return {
        "uscc": firm.id,
        "name": firm.name,
        "address": draw.pick((firm.place().full(), firm.place().wide(), firm.place().short(), None)),
        "insured_employees": draw.between(1, 900) + state.edition,
        "arrears": Decimal(draw.between(0, 9_000_000) if draw.chance(60) else 0).scaleb(-2),
        "paid_until": date(2026, 4, 30) if draw.chance(100) else date(2026, 5, 31),
        "payroll_account": f"6200{draw.digits(15)}",
        "updated_at": state.at,
    }


def _title(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "housing.title", citizen.index, slot)
    place = citizen.place() if slot == 0 else citizen.place(2000 + slot)
    use = "residential" if slot == 0 else draw.pick(("residential", "residential", "parking", "commercial"))
    registered = draw.day(date(1998, 1, 1), date(2026, 5, 31))
    mortgaged = draw.chance(400)
    return {
        "citizen_id": citizen.id,
        "title_no": f"澜（{registered.year}）{place.district}不动产权第{citizen.index:07}{slot}号",
        "location": place.full(),
        "area_m2": Decimal(draw.between(1_200, 21_000)).scaleb(-2),
        "use": Symbol(use),
        "share_percent": draw.pick((100, 100, 50, 33)),
        "mortgaged": mortgaged != (state.edition % 2 == 1),
        "price": Decimal(draw.between(300_000, 9_000_000)) if draw.chance(850) else None,
        "registered_on": registered,
    }


def _titles(citizen: Citizen) -> int:
    draw = Draw(citizen.world.seed, "housing.title", citizen.index)
    return 0 if not citizen.adult else 2 if citizen.index == 0 else draw.pick((0, 0, 1, 1, 2))


def _call(citizen: Citizen, slot: int, state: State) -> Values:
    draw = Draw(citizen.world.seed, "hotline.call", citizen.index, slot)
    category, summary = draw.pick(words.CALLS)
    resolved = state.edition > 0 or draw.chance(700)
    return {
        "citizen_id": citizen.id,
        "call_no": f"R2026{citizen.index:08}{slot}",
        "called_at": state.born - timedelta(minutes=draw.between(5, 3000)),
        "category": Symbol(category),
        "summary": summary,
        "caller_phone": citizen.phone if draw.chance(900) else None,
        "district": citizen.place().code if draw.chance(900) else None,
        "resolved": resolved,
        "satisfaction": draw.between(1, 5) if resolved and draw.chance(600) else None,
        "updated_at": state.at,
    }


def _calls(citizen: Citizen) -> int:
    draw = Draw(citizen.world.seed, "hotline.call", citizen.index)
    return 0 if not citizen.adult else 2 if citizen.index == 0 else draw.pick((0, 0, 0, 1, 1, 3))


CITIZENS = (
    Dataset(
        contract="social.insurance",
        source=Snapshot(encoding="gb18030"),
        columns=(
            Column("citizen_id", "证件号码"),
            Column("name", "姓名"),
            Column("address", "通讯地址"),
            Column("phone", "联系电话"),
            Column("scheme", "险种", words=SCHEMES),
            Column("status", "参保状态", words=STATUSES),
            Column("employer_uscc", "单位信用代码"),
            Column("contribution_base", "缴费基数"),
            Column("months_paid", "累计缴费月数"),
            Column("insured_since", "参保日期", form="%Y-%m-%d"),
            Column("updated_at", "更新时间", form="%Y-%m-%d %H:%M:%S"),
        ),
        slots=lambda citizen: 1 if citizen.adult else 0,
        values=_insurance,
        event_time="updated_at",
        dated="insured_since",
    ),
    Dataset(
        contract="social.benefit",
        source=Append(encoding="utf-8"),
        columns=(
            Column("citizen_id", "身份证号码"),
            Column("benefit_no", "发放编号"),
            Column("kind", "待遇类型", words=KINDS),
            Column("month", "所属月份"),
            Column("amount", "发放金额"),
            Column("paid_on", "发放日期", form="%Y%m%d"),
            Column("account_tail", "账号尾号"),
            Column("office", "经办机构"),
        ),
        slots=_benefits,
        values=_benefit,
        key=("benefit_no",),
        dated="paid_on",
    ),
    Dataset(
        contract="housing.title",
        source=Snapshot(encoding="gb18030", delimiter="\t"),
        columns=(
            Column("citizen_id", "权利人证件号"),
            Column("title_no", "不动产权证号"),
            Column("location", "坐落"),
            Column("area_m2", "建筑面积"),
            Column("use", "用途", words=USES),
            Column("share_percent", "共有份额"),
            Column("mortgaged", "是否抵押", words={True: "是", False: "否"}),
            Column("price", "交易价格"),
            Column("registered_on", "登记日期", form="%Y/%m/%d"),
        ),
        slots=_titles,
        values=_title,
        key=("title_no",),
        dated="registered_on",
    ),
    Dataset(
        contract="hotline.call",
        source=Push(),
        columns=(Column("citizen_id", "citizen_id"),),
        slots=_calls,
        values=_call,
        key=("call_no",),
        version="updated_at",
        event_time="called_at",
        required="summary",
    ),
)

ENTERPRISES = (
    Dataset(
        contract="social.employer",
        source=Table("employer", hidden=("payroll_account",)),
        columns=(
            Column("uscc", "credit_code"),
            Column("name", "unit_name"),
            Column("address", "unit_address"),
            Column("insured_employees", "insured_count", kind="number"),
            Column("arrears", "arrears", kind="money"),
            Column("paid_until", "paid_until", kind="day"),
            Column("payroll_account", "payroll_account"),
            Column("updated_at", "updated_at", kind="moment"),
        ),
        slots=lambda firm: 1 if firm.index % 5 < 4 else 0,
        values=_employer,
        event_time="updated_at",
        required="name",
    ),
)
