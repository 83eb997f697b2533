"""Enterprises as the market regulator registers, licenses and penalises them; and what they may build."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from exchange.city import words
from exchange.city.draws import Draw
from exchange.city.life import State
from exchange.city.sources import Append, Column, Dataset, Snapshot, Symbol, Table, Values
from exchange.city.world import Enterprise

KINDS = {
    "limited": "有限责任公司",
    "joint_stock": "股份有限公司",
    "sole_proprietor": "个人独资企业",
    "partnership": "合伙企业",
    "branch": "分支机构",
}
STATES = {"active": "存续", "revoked": "吊销", "cancelled": "注销"}
LICENCE_KINDS = {
    "food": "SP",
    "medicine": "YP",
    "catering": "CY",
    "publishing": "CB",
    "hazardous_goods": "WH",
}
LICENCE_STATES = {"valid": "1", "suspended": "2", "revoked": "3", "expired": "4"}
PENALTY_STATES = {"decided": "已决定", "executed": "已执行", "revoked": "已撤销"}
GRADES = {"special": "特级", "first": "一级", "second": "二级", "third": "三级", "unrated": "不分等级"}


def _registration(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "market.registration", firm.index)
    foreign, status = draw.chance(40), draw.pick(("active",) * 17 + ("revoked", "cancelled", "active"))
    return {
        "uscc": firm.id,
        "name": firm.name,
        "kind": Symbol(firm.kind),
        "legal_representative": firm.representative if draw.chance(980) or firm.index == 0 else None,
        "capital": Decimal(draw.between(3, 50_000) * 10_000) if draw.chance(930) else None,
        "currency": "USD" if foreign else "CNY",
        "registered_on": firm.registered_on,
        "address": firm.place(state.edition).full() if draw.chance(980) or state.edition or firm.index == 0 else None,
        "scope": firm.scope if draw.chance(950) else None,
        "status": Symbol("active" if firm.index == 0 else status),
        "contact_phone": firm.phone if draw.chance(800) else None,
    }


def _licence(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "market.licence", firm.index, slot)
    issued = draw.day(date(2021, 1, 1), date(2026, 4, 30))
    kind = firm.licence_kind if firm.licence_kind and slot == 0 else draw.pick(tuple(LICENCE_KINDS))
    statuses = ("valid",) if firm.index == 0 and slot == 0 else ("valid",) * 7 + ("suspended", "revoked", "expired")
    return {
        "uscc": firm.id,
        "licence_no": f"{LICENCE_KINDS[kind]}2901{firm.index:07}{slot}",
        "kind": Symbol(kind),
        "holder_name": firm.name,
        "issued_on": issued,
        "valid_until": issued + timedelta(days=5 * 365) if draw.chance(900) else None,
        "status": Symbol(draw.pick(statuses)),
        "inspector_note": "复查时重点检查仓储条件" if draw.chance(150) else None,
        "revision": state.edition + 1,
        "updated_at": state.at,
    }


def _licences(firm: Enterprise) -> int:
    draw = Draw(firm.world.seed, "market.licence", firm.index)
    return 2 if firm.index == 0 else draw.pick((1, 1, 2)) if firm.licence_kind else draw.pick((0, 0, 0, 1))


def _penalty(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "market.penalty", firm.index, slot)
    violation, basis = draw.pick(words.VIOLATIONS)
    statuses = ("decided", "executed", "revoked")
    status = statuses[slot % 3] if firm.index == 0 else draw.pick(statuses[:2] * 4 + statuses)
    return {
        "uscc": firm.id,
        "decision_no": f"澜市监罚〔2026〕{firm.index:06}-{slot + 1}号",
        "violation": violation,
        "basis": basis if draw.chance(950) else None,
        "amount": Decimal(draw.between(5, 2_000) * 100) if draw.chance(850) or firm.index == 0 else None,
        "decided_on": draw.day(date(2024, 1, 1), date(2026, 5, 31)),
        "status": Symbol("executed" if state.edition > 0 and status == "decided" else status),
        "authority": draw.pick(words.AUTHORITIES),
        "responsible_person": firm.representative if draw.chance(300) else None,
        "edition": state.edition + 1,
    }


def _penalties(firm: Enterprise) -> int:
    draw = Draw(firm.world.seed, "market.penalty", firm.index)
    return 3 if firm.index == 0 else draw.pick((0, 0, 0, 0, 0, 1, 1, 3))


def _qualification(firm: Enterprise, slot: int, state: State) -> Values:
    draw = Draw(firm.world.seed, "housing.qualification", firm.index, slot)
    issued = draw.day(date(2021, 6, 1), date(2026, 5, 1))
    return {
        "uscc": firm.id,
        "certificate_no": f"D2901{firm.index:07}{slot}",
        "company_name": firm.name.replace("（", "(").replace("）", ")"),
        "category": words.QUALIFICATIONS[slot % len(words.QUALIFICATIONS)],
        "grade": Symbol(draw.pick(tuple(GRADES))),
        "issued_on": issued,
        "valid_until": issued + timedelta(days=1826 + 365 * state.edition),
    }


def _qualifications(firm: Enterprise) -> int:
    draw = Draw(firm.world.seed, "housing.qualification", firm.index)
    return draw.between(1, 4) if firm.trade == "建设工程" else 0


ENTERPRISES = (
    Dataset(
        contract="market.registration",
        source=Snapshot(encoding="utf-8", split=True),
        columns=(
            Column("uscc", "统一社会信用代码"),
            Column("name", "名称"),
            Column("kind", "类型", words=KINDS),
            Column("legal_representative", "法定代表人"),
            Column("capital", "注册资本"),
            Column("currency", "币种"),
            Column("registered_on", "成立日期", form="%Y年%m月%d日"),
            Column("address", "住所"),
            Column("scope", "经营范围"),
            Column("status", "登记状态", words=STATES),
            Column("contact_phone", "联络员电话"),
        ),
        slots=lambda firm: 1,
        values=_registration,
        dated="registered_on",
    ),
    Dataset(
        contract="market.licence",
        source=Table("licence"),
        columns=(
            Column("uscc", "credit_code"),
            Column("licence_no", "licence_no"),
            Column("kind", "kind_code", words=LICENCE_KINDS),
            Column("holder_name", "holder_name"),
            Column("issued_on", "issued_on", kind="day"),
            Column("valid_until", "valid_until", kind="day"),
            Column("status", "status_code", words=LICENCE_STATES),
            Column("inspector_note", "inspector_note"),
            Column("revision", "revision", kind="number"),
            Column("updated_at", "updated_at", kind="moment"),
        ),
        slots=_licences,
        values=_licence,
        key=("licence_no",),
        version="revision",
        event_time="updated_at",
        required="holder_name",
    ),
    Dataset(
        contract="market.penalty",
        source=Append(encoding="gb18030"),
        columns=(
            Column("uscc", "统一社会信用代码"),
            Column("decision_no", "处罚决定书文号"),
            Column("violation", "违法行为"),
            Column("basis", "处罚依据"),
            Column("amount", "罚款金额"),
            Column("decided_on", "处罚决定日期", form="%Y-%m-%d"),
            Column("status", "处罚状态", words=PENALTY_STATES),
            Column("authority", "处罚机关"),
            Column("responsible_person", "责任人"),
            Column("edition", "版次"),
        ),
        slots=_penalties,
        values=_penalty,
        key=("decision_no",),
        version="edition",
        dated="decided_on",
    ),
    Dataset(
        contract="housing.qualification",
        source=Snapshot(encoding="gb18030"),
        columns=(
            Column("uscc", "统一社会信用代码"),
            Column("certificate_no", "资质证书号"),
            Column("company_name", "企业名称"),
            Column("category", "资质类别"),
            Column("grade", "资质等级", words=GRADES),
            Column("issued_on", "发证日期", form="%Y-%m-%d"),
            Column("valid_until", "有效期至", form="%Y-%m-%d"),
        ),
        slots=_qualifications,
        values=_qualification,
        key=("certificate_no",),
        dated="issued_on",
    ),
)
