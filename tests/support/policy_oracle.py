"""The rules of semantics 7 once more, from plain data, sharing no line with the code that decisions are tried on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from exchange.agreements import Agreement, Bundle, Client, FieldTerms, Guardrail, Purpose, Terms
from tests.support.policies import ZONE

DEPARTMENTS = ["civil", "tax", "market"]
PURPOSE_IDS = ["assess", "protect", "audit"]
FITTING = {"string": ["last4", "initial", "redact"], "date": ["year_only", "redact"], "int": ["last4", "redact"]}


class Oracle:
    """A random city with its policies: days as days, levels as they are, nothing asked of Cedar."""

    def __init__(self, random_: random.Random, guardrails: tuple[Guardrail, ...], schema: str) -> None:
        self.random = random_
        self.clients = [
            {
                "department": department,
                "scopes": random_.choice([["view"], ["view", "publish"], ["publish"], []]) if number else ["view"],
                "purposes": random_.sample(PURPOSE_IDS, random_.randrange(4)) if number else PURPOSE_IDS,
            }
            for number in range(2)
            for department in DEPARTMENTS
        ]
        self.sensitive = {
            one: random_.sample(["civil.a", "tax.b", "market.c"], random_.randrange(4)) for one in PURPOSE_IDS
        }
        self.contracts = {
            (name, major): {
                "owner": name.split(".")[0],
                "sharing": random_.choice(["conditional", "conditional", "unconditional", "withheld"]),
                "fields": {
                    f"f{number}": (random_.choice(list(FITTING)), random_.choice([1, 2, 3, 4]))
                    for number in range(random_.randrange(1, 6))
                },
            }
            for name in ("civil.a", "tax.b", "market.c")
            for major in (1, 2)
        }
        self.agreements = list(self._agreements())
        self.permit_masks = {
            one: random_.choice([None] * 6 + ["redact", "last4"]) for one in ("own", "agreement", "open")
        }
        self.bundle = self._bundle(guardrails, schema)

    def _agreements(self) -> Iterator[dict[str, Any]]:
        random_ = self.random
        for (name, major), about in self.contracts.items():
            for consumer in DEPARTMENTS:
                for purpose in PURPOSE_IDS:
                    start = date(2026, 1, 1) + timedelta(days=random_.randrange(300))
                    for number in range(random_.randrange(3)):
                        end = start + timedelta(days=random_.randrange(60))
                        fields = random_.sample(list(about["fields"]), random_.randint(1, len(about["fields"])))
                        yield {
                            "id": f"{name}-{major}-{consumer}-{purpose}-{number}".replace(".", "-"),
                            "contract": name,
                            "major": major,
                            "consumer": consumer,
                            "purpose": purpose,
                            "days": (start, end),
                            "fields": {
                                field: random_.choice([None, None, *FITTING[about["fields"][field][0]]])
                                for field in fields
                            },
                        }
                        start = end + timedelta(days=1 + random_.randrange(2))

    def _bundle(self, guardrails: tuple[Guardrail, ...], schema: str) -> Bundle:
        def midnight(day: date) -> datetime:
            return datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=8)  # in Shanghai

        return Bundle.make(
            zone=ZONE,
            clients=[
                Client(
                    issuer="i",
                    client_id=str(number),
                    name="n",
                    department=one["department"],
                    scopes=tuple(one["scopes"]),
                    purposes=tuple(one["purposes"]),
                )
                for number, one in enumerate(self.clients)
            ],
            purposes=[
                Purpose(id=one, title={}, legal_basis="law", sensitive=tuple(of)) for one, of in self.sensitive.items()
            ],
            agreements=[
                Agreement(
                    id=one["id"],
                    owner=one["contract"].split(".")[0],
                    consumer=one["consumer"],
                    contract=one["contract"],
                    major=one["major"],
                    fields=one["fields"],
                    purpose=one["purpose"],
                    condition=(),
                    quota=None,
                    from_=midnight(one["days"][0]),
                    until=midnight(one["days"][1] + timedelta(days=1)),
                    approved_by="x",
                )
                for one in self.agreements
            ],
            terms=[
                Terms(
                    contract=name,
                    major=major,
                    owner=one["owner"],
                    title={},
                    kind="citizen",
                    scheme="cn.ric",
                    sharing=one["sharing"],
                    reason=None,
                    cycle_s=None,
                    record_key=(),
                    fields={
                        field: FieldTerms(
                            name=field,
                            aliases=(),
                            level=level,
                            concept=None,
                            leads=False,
                            type=type_,
                            nullable=True,
                            doc="d",
                        )
                        for field, (type_, level) in one["fields"].items()
                    },
                )
                for (name, major), one in self.contracts.items()
            ],
            guardrails=[one.model_copy(update={"mask": self.permit_masks.get(one.id)}) for one in guardrails],
            schema=schema,
        )

    def expected(
        self, client: int, purpose: str, name: str, major: int, case: bool, now: datetime
    ) -> tuple[str | None, str | None, dict[str, str | None]]:
        """On which permit and agreement it rests, and the fields with their masks; nothing if it is denied."""
        nothing: tuple[None, None, dict[str, str | None]] = (None, None, {})
        who, about = self.clients[client], self.contracts.get((name, major))
        if about is None or purpose not in who["purposes"] or "view" not in who["scopes"]:
            return nothing
        if about["sharing"] not in ("conditional", "unconditional"):
            return nothing
        visible = set()
        for field, (_, level) in about["fields"].items():
            if level in (1, 2) or (level == 3 and case and name in self.sensitive[purpose]):
                visible.add(field)
        today = (now + timedelta(hours=8)).date()
        agreed = [
            one
            for one in self.agreements
            if (one["contract"], one["major"], one["consumer"], one["purpose"])
            == (name, major, who["department"], purpose)
            and one["days"][0] <= today <= one["days"][1]
        ]
        assert len(agreed) < 2
        ways: list[tuple[str, str | None, dict[str, str | None]]] = []
        if who["department"] == about["owner"]:
            ways.append(("own", None, dict.fromkeys(visible)))
        for one in agreed:
            ways.append(
                ("agreement", one["id"], {field: mask for field, mask in one["fields"].items() if field in visible})
            )
        if about["sharing"] == "unconditional":
            ways.append(("open", None, {field: None for field in visible if about["fields"][field][1] < 3}))
        for permit, agreement_id, fields in ways:
            if fields:
                masked = {
                    field: self._mask(about["fields"][field][0], mask, self.permit_masks[permit])
                    for field, mask in fields.items()
                }
                return permit, agreement_id, masked
        return nothing

    def _mask(self, type_: str, agreed: str | None, permits: str | None) -> str | None:
        wanted = {agreed, permits} - {None}
        if len(wanted) > 1:
            return "redact"
        for mask in wanted:
            return mask if mask in FITTING[type_] else "redact"
        return None

    def question(self) -> tuple[int, str, str, int, bool, datetime]:
        random_ = self.random
        moment = datetime(2025, 12, 20, tzinfo=UTC) + timedelta(seconds=random_.randrange(400 * 86_400))
        if random_.random() < 0.3:  # at the very edge of a day
            midnight = moment.replace(hour=16, minute=0, second=0)
            moment = midnight + random_.choice([timedelta(), -timedelta(microseconds=1), timedelta(seconds=-1)])
        return (
            random_.randrange(len(self.clients)),
            random_.choice(PURPOSE_IDS),
            random_.choice(["civil.a", "tax.b", "market.c", "market.c", "no.such"]),
            random_.choice([1, 2, 2, 3]),
            random_.random() < 0.5,
            moment,
        )
