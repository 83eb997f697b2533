"""What leaves: every byte of the whole story searched for values that name their origin, and for every identifier.

A city of canaries is published, materialised and asked, by every client for every purpose about everybody. An oracle
that knows only policies/ and schemas/ says what each answer may show; an answer shows exactly that. Nothing of it is in
anything else: heads, problems, logs, metrics, message headers and keys, the audit log, what commands print.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from exchange.cli.administration import open_audit
from exchange.records import CHECKPOINTS_TOPIC, WATERMARKS_TOPIC, rejects_topic
from exchange.subjects import Subject, split_key
from exchange.wiring import audit_keys, open_broker
from tests.support.lanting import SCHEME
from tests.support.nonsense import Nonsense
from tests.support.sharing import Grant, shown
from tests.support.town import Apart, Here, Left, Town, left

CASE = "2026/L-1"
PATHS = {"citizen": "/v1/citizens/view", "enterprise": "/v1/enterprises/view"}
STRANGERS = {"citizen": ["110101190001010014", "11010119000101009X"], "enterprise": ["91350100M000100Y43"]}
AT_ONCE = 8


@pytest.fixture(
    params=[
        "here",
        pytest.param("apart", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        pytest.param("apart, kafka and postgresql", marks=[pytest.mark.services, pytest.mark.timeout(600)]),
    ]
)
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    """The city, delivered twice: a day passed between."""
    if request.param == "here":
        made: Town = Here(tmp_path, citizens=20, enterprises=12)
    elif request.param == "apart":
        made = Apart(tmp_path, citizens=24, enterprises=16)
    else:
        kafka, postgres = request.getfixturevalue("fresh_kafka"), request.getfixturevalue("fresh_postgres")()
        places = f'[broker]\nurl = "kafka://{kafka}"\npartitions = 3\n[store]\nurl = "{postgres}"\n'
        made = Apart(tmp_path, citizens=24, enterprises=16, places=places)
    with closing(made):
        yield made


# --- asking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """Who asks for whom, why; `more` are other members of the body."""

    client: str
    purpose: str
    kind: str
    number: str
    case: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    question: Question
    response: httpx2.Response

    @property
    def document(self) -> Any:
        return self.response.json()

    @property
    def alike(self) -> tuple[Any, ...]:
        """All that a caller can tell two refusals apart by, but for the request's own id and the time."""
        heads = {name: text for name, text in self.response.headers.items() if name not in ("date", "x-request-id")}
        body = re.sub(rb'"request_id": "[0-9a-f]{32}"', b"", self.response.content)
        return (self.response.status_code, tuple(sorted(heads.items())), body)


class Desk:
    """Asks over HTTP, several questions at once, each at the next gateway."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.answers: list[Answer] = []
        self._http = httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_connections=AT_ONCE))
        self._asked = 0

    async def __aenter__(self) -> Desk:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, *questions: Question) -> list[Answer]:
        """The answers, in the order of the questions."""
        waiting, answers = list(enumerate(questions))[::-1], dict[int, Answer]()

        async def work() -> None:
            while waiting:
                place, question = waiting.pop()
                answers[place] = await self._ask(question)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return [answers[place] for place in range(len(questions))]

    async def send(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Any request, at the next gateway."""
        self._asked += 1
        gateway = self.town.gateways[self._asked % len(self.town.gateways)]
        return await self._http.request(method, gateway + path, **request)

    async def _ask(self, question: Question) -> Answer:
        headers = self.town.bearer(question.client) | {"Exchange-Purpose": question.purpose}
        if question.case:
            headers["Exchange-Case"] = question.case
        body = {"id": question.number, **question.more}
        answer = Answer(question, await self.send("POST", PATHS[question.kind], json=body, headers=headers))
        self.answers.append(answer)
        return answer


def grants(town: Town, question: Question) -> dict[str, Grant]:
    """What the oracle gives, narrowed to what was asked for."""
    found = town.sharing.grants(question.client, question.purpose, question.kind, case=question.case is not None)
    if (contracts := question.more.get("contracts")) is not None:
        found = {contract: grant for contract, grant in found.items() if contract in contracts}
    if (fields := question.more.get("fields")) is not None:
        narrowed = {
            contract: {
                name: mask
                for name, mask in grant.fields.items()
                if {f"{contract}.{name}", town.sharing.name(contract, name)} & set(fields)
            }
            for contract, grant in found.items()
        }
        found = {
            contract: Grant(grant.rests_on, narrowed[contract], grant.condition)
            for contract, grant in found.items()
            if narrowed[contract]
        }
    return found


# --- what an answer may be --------------------------------------------------------------------------------------------


class Judge:
    """Holds answers against the oracle and against the records that stand."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self._rows = {place: [json.loads(payload) for payload in payloads] for place, payloads in town.rows().items()}
        self.values = 0
        self.fields: dict[str, set[tuple[str, str]]] = defaultdict(set)  # which fields each client ever saw
        self.let: Counter[tuple[str, bool]] = Counter()  # rows under each condition, by whether it lets them through

    def judge(self, answer: Answer) -> None:
        """Exactly what the oracle gives is in the answer, and nothing that is recognisable beside it."""
        question, town = answer.question, self.town
        assert answer.response.status_code == self._status(question), (question, answer.response.text)
        expected = frozenset()
        if answer.response.status_code == 200:
            rows = {contract: self._rows.get((question.number, contract), []) for contract in town.sharing.contracts}
            seen = town.sharing.seen(given := grants(town, question), rows)
            assert shown(answer.document) == seen, question
            assert answer.document["not_available"] == self._not_available(question), question
            self._consistent(answer.document, question)
            expected = frozenset(town.canaries.leaks(json.dumps([value for _, _, value in seen]).encode()))
            self.values += len(expected)
            for contract, grant in given.items():
                self.fields[question.client] |= {(contract, name) for name in grant.fields}
                self.let.update((grant.rests_on, grant.lets(row)) for row in rows[contract] if grant.condition)
        found: set[str] = set()
        for each in left(str(question), answer.response):
            here = town.canaries.leaks(each.data)
            assert not here or each.where.endswith("body of 200"), each.where
            found |= here
        assert found == expected, question
        for text in found - set(town.canaries.identifiers):
            for canary in town.canaries.planted[text]:
                assert self._owner(canary.subject, question.kind, question.number), (question, canary)

    def _status(self, question: Question) -> int:
        sharing = self.town.sharing
        if "view" not in sharing.clients[question.client]["scopes"]:
            return 403
        if question.purpose not in sharing.purposes:
            return 400
        allowed = sharing.grants(question.client, question.purpose, question.kind, case=question.case is not None)
        return 200 if allowed else 403

    def _not_available(self, question: Question) -> list[str]:
        """What was asked for by name and is not given: whether it exists makes no difference."""
        contracts, names = question.more.get("contracts"), question.more.get("fields")
        sharing = self.town.sharing
        given = sharing.grants(question.client, question.purpose, question.kind, case=question.case is not None)
        if contracts is not None:
            given = {contract: grant for contract, grant in given.items() if contract in contracts}
        known = {f"{contract}.{name}" for contract, grant in given.items() for name in grant.fields}
        concepts = {sharing.name(contract, name) for contract, grant in given.items() for name in grant.fields}
        return sorted((set(contracts or ()) - set(given)) | (set(names or ()) - known - concepts))

    def _consistent(self, document: Any, question: Question) -> None:
        """The value shown first is one that was said; what is not visible makes no conflict; nothing is cut here."""
        given = grants(self.town, question)
        for name, one in document["values"].items():
            assert one["value"] == one["said_by"][0]["value"]
            open_ = {
                json.dumps(said["value"])
                for said in one["said_by"]
                if said["value"] is not None and not self._masked(given[said["contract"]], said["contract"], name)
            }
            assert one["conflict"] is (len(open_) > 1), (question, name)
        for listed in document["records"].values():
            assert (listed["more"], listed["next"]) == (False, None)
            assert listed["items"]

    def _masked(self, grant: Grant, contract: str, name: str) -> bool:
        masks = {mask for field, mask in grant.fields.items() if self.town.sharing.name(contract, field) == name}
        return masks != {"plain"}

    def _owner(self, subject: int, kind: str, number: str) -> bool:
        """Whether the subject of this number was asked for, under its own identifier or the one it was mistaken for."""
        what = self.town.canaries.identifiers[number]
        return what in (f"{kind} {subject}", f"ghost of {kind} {subject}")


# --- the story --------------------------------------------------------------------------------------------------------


def test_nothing_leaves_but_what_the_agreements_allow(town: Town) -> None:
    everything = [*town.deliver()]
    town.advance()
    everything += town.deliver()

    async def ask() -> Desk:
        async with Desk(town) as desk:
            await everybody(desk)
            await alike(desk)
            await narrowed(desk)
            await stated(desk)
            everything.extend([each async for each in nonsense(desk)])
            everything.extend([each async for each in open_pages(desk)])
        return desk

    judge = Judge(town)  # now: pushes that make no sense make records, too
    desk = asyncio.run(ask())
    for answer in desk.answers:
        judge.judge(answer)
    assert judge.values > 5_000  # else there was nothing to be seen
    every_field_is_seen_by_somebody(town, judge)

    audit_entries_are(town, desk.answers)
    for each in [*everything, *town.logs(), *town.metrics(), *messages(town), *audit(town), *printed(town)]:
        assert not town.canaries.leaks(each.data), each.where
        assert each.data or "head" in each.where or "body" in each.where, each.where
    level_4_stays_at_its_office(town)
    print(f"{len(desk.answers):,} answers judged, {judge.values:,} values in them; {len(everything):,} other texts")


async def everybody(desk: Desk) -> None:
    """Every client, for every purpose, with and without a case, about everybody it may ask for, and some others."""
    sharing, numbers = desk.town.sharing, desk.town.numbers
    questions = []
    for client, about in sharing.clients.items():
        for place, purpose in enumerate([*sharing.purposes, "no-such-purpose"]):
            for kind in PATHS:
                every, strangers = numbers[kind], STRANGERS[kind]
                may = purpose in about["purposes"]
                questions += [
                    Question(client, purpose, kind, number, case)
                    for number in ([*every, *strangers] if may else [every[place % len(every)], strangers[0]])
                    for case in ((None, CASE) if may else (CASE,))
                ]
    refusals = defaultdict(set)
    for answer in await desk.ask(*questions):
        question = answer.question
        if answer.response.status_code != 200:
            refusals[question.client, question.purpose, question.kind, question.case].add(answer.alike)
    assert all(len(found) == 1 for found in refusals.values())  # whoever the subject is


async def alike(desk: Desk) -> None:
    """A contract or field that is forbidden, one that does not exist, a subject that nobody knows: the same answer."""
    sharing, town = desk.town.sharing, desk.town
    every = {f"{contract}.{name}" for contract in sharing.contracts for name in fields(town, contract)}
    for client, purpose, kind in viewing(town):
        given = sharing.grants(client, purpose, kind, case=False)
        shown_ = {f"{contract}.{name}" for contract, grant in given.items() for name in grant.fields}
        contracts = [*sorted(set(sharing.contracts) - set(given)), "civil.no_such_dataset", "no_such.person"]
        names = [*sorted(every - shown_), "civil.person.no_such_field", "citizen.no_such_concept"]
        asked = [{"contracts": [name]} for name in (contracts[0], "civil.case_file", *contracts[-2:])]
        asked += [{"contracts": contracts}]
        asked += [{"fields": names[at : at + 50]} for at in range(0, len(names), 50)]
        numbers = (town.numbers[kind][0], STRANGERS[kind][0])
        answers = await desk.ask(
            *(Question(client, purpose, kind, number, more=more) for more in asked for number in numbers)
        )
        for answer in answers:
            assert answer.document == {
                "values": {},
                "records": {},
                "not_available": sorted(one for named in answer.question.more.values() for one in named),
            }
        assert len({(one.response.status_code, *sorted(one.response.headers)) for one in answers}) == 1


async def narrowed(desk: Desk) -> None:
    """Contracts, fields and cursors narrow what is shown, and never widen it."""
    sharing, town = desk.town.sharing, desk.town
    concepts = sorted({town.sharing.name(one, name) for one in sharing.contracts for name in fields(town, one)})
    for client, purpose, kind in viewing(town):
        given = sharing.grants(client, purpose, kind, case=True)
        asked: list[Mapping[str, Any]] = [
            {"contracts": sorted(sharing.contracts)},
            {"contracts": [*sorted(given)[:1], "health.record"], "fields": [one for one in concepts if "." in one]},
            {"after": dict.fromkeys(sharing.contracts, f"0.0.{'0' * 32}.1")},
            {"after": {"no_such.dataset": "x", "civil.case_file": "x", "civil.person": "x"}},
        ]
        numbers = town.numbers[kind][:3]
        await desk.ask(*(Question(client, purpose, kind, number, CASE, more) for number in numbers for more in asked))


async def nonsense(desk: Desk) -> AsyncIterator[Left]:
    """Requests that are wrong in every way we know, each full of identifiers and canaries; their answers."""
    town = desk.town
    planted = [text for text, places in town.canaries.planted.items() if min(places).contract.startswith("health.")]
    wrongs = Nonsense(
        number=next(one for one in town.numbers["citizen"] if one.isdigit()),
        firm=town.numbers["enterprise"][1],
        text=next(one for one in planted if "record-primary_clinic" in one),
        day=next(one for one in planted if one[4] == "-"),
        amount=next(one for one in planted if one.isdigit()),
    )
    for wrong in wrongs:
        given = {**(town.bearer(wrong.client) if wrong.client else {}), **wrong.request.get("headers", {})}
        answer = await desk.send(wrong.method, wrong.path, **{**wrong.request, "headers": given})
        assert 400 <= answer.status_code < 500 or wrong.taken, (wrong, answer.status_code)
        for each in left(wrong.what, answer):
            yield each


async def stated(desk: Desk) -> None:
    """A view with everything that a client states about itself: an officer, a case, a trace that holds a number."""
    town = desk.town
    number = next(one for one in town.numbers["citizen"] if one.isdigit())
    headers = town.bearer("hotline-desk") | {
        "Exchange-Purpose": "hotline-service",
        "Exchange-On-Behalf-Of": number,
        "traceparent": f"00-{number}{'a' * 14}-{'b' * 16}-01",
    }
    answer = await desk.send("POST", PATHS["citizen"], json={"id": town.numbers["citizen"][2]}, headers=headers)
    assert answer.status_code == 200
    assert not town.canaries.named(next(left("head", answer)).data)


async def open_pages(desk: Desk) -> AsyncIterator[Left]:
    """Everything that is not a view: the catalogue, the registry, the documentation, the state of the process."""
    town = desk.town
    caller, registrar = town.bearer("tax-desk"), town.bearer("tax-connector")
    paths = ["/v1/contracts", *(f"/v1/contracts/{contract}" for contract in town.sharing.contracts)]
    paths += ["/docs", "/openapi.json", "/healthz", "/readyz", "/.well-known/exchange-keys.json", "/oauth/jwks.json"]
    paths += ["/.well-known/openid-configuration", "/errors/forbidden", "/metrics"]
    for path in paths:
        for each in left(path, await desk.send("GET", path, headers=caller)):
            yield each
    for schema_id in range(1, 21):
        path = f"/registry/schemas/ids/{schema_id}"
        for each in left(path, await desk.send("GET", path, headers=registrar)):
            yield each


def viewing(town: Town) -> Iterator[tuple[str, str, str]]:
    """Each client with each purpose that it may name and each kind of subject of which it then sees something."""
    for client, about in town.sharing.clients.items():
        for purpose in about["purposes"]:
            for kind in PATHS:
                if town.sharing.grants(client, purpose, kind, case=False):
                    yield client, purpose, kind


def fields(town: Town, contract: str) -> list[str]:
    return list(town.sharing.contracts[contract]["fields"])


# --- everything else that leaves --------------------------------------------------------------------------------------


def every_field_is_seen_by_somebody(town: Town, judge: Judge) -> None:
    """What is granted was shown: the exchange does not keep its secrets by showing nothing."""
    seen = set().union(*judge.fields.values())
    granted = {(one["contract"], name) for one in town.sharing.agreements for name in one["fields"]}
    assert granted <= seen
    conditional = {one["id"] for one in town.sharing.agreements if "condition" in one}
    assert set(judge.let) == {(agreement, let) for agreement in conditional for let in (True, False)}  # each does both
    assert len({client for client, found in judge.fields.items() if found}) == 10


def messages(town: Town) -> Iterator[Left]:
    """Heads and keys of every message of every topic, and the values of those topics that are no department's."""
    shared = {name: about for name, about in town.sharing.contracts.items() if about["sharing"] != "withheld"}
    owners, counted = town.subject_keys(), 0
    open_topics = [WATERMARKS_TOPIC, CHECKPOINTS_TOPIC]
    rejects = [rejects_topic(department) for department in sorted({about["owner"] for about in shared.values()})]
    with closing(open_broker(town.settings)) as broker:
        for topic in (*(f"{name}.v1" for name in shared), *rejects, *open_topics):
            for message in broker.read(topic):
                head = b"\n".join(name.encode() + b": " + text for name, text in message.headers.items())
                yield Left(f"a head in {topic}", head)
                yield Left(f"a key in {topic}", message.key or b"none")
                if topic in open_topics:
                    yield Left(f"a value in {topic}", message.value or b"none")
                elif topic not in rejects:
                    assert split_key(message.key or b"")[0] in owners
                    counted += 1
                else:
                    department = topic.partition(".")[0]
                    for text in town.canaries.found(message.value or b""):
                        assert {one.contract.partition(".")[0] for one in town.canaries.planted[text]} == {department}
    assert counted > 300


def audit(town: Town) -> Iterator[Left]:
    """Every entry as it is stored."""
    with open_audit(town.settings) as log, log.reading() as connection:
        for stored in log.walk_entries(connection):
            yield Left("an entry of the audit log", stored.entry)


def audit_entries_are(town: Town, answers: list[Answer]) -> None:
    """Each answer of a view has exactly one entry, under its request, with whom it was about and what it could show."""
    entries = defaultdict(list)
    for each in audit(town):
        entry = json.loads(each.data)
        entries[entry.get("request")].append(entry)
    keys = audit_keys(town.settings)
    for answer in answers:
        question = answer.question
        found = entries[answer.response.headers["x-request-id"]]
        assert len(found) == (answer.response.status_code in (200, 403)), question
        for entry in found:
            assert entry["client"] == question.client
            if entry["act"] != "view":
                continue
            assert entry["outcome"] == ("served" if answer.response.status_code == 200 else "refused")
            assert entry["subject"] == keys.subject(Subject(SCHEME[question.kind], question.number))
            assert (entry["purpose"], entry.get("case")) == (question.purpose, question.case)
            given = grants(town, question) if answer.response.status_code == 200 else {}
            told = {f"{contract}.v1": sorted(grant.fields) for contract, grant in given.items()}
            assert entry.get("contracts", {}) == told, question


def printed(town: Town) -> Iterator[Left]:
    """What the operator's commands print, but for `rejects show --reveal`."""
    if not isinstance(town, Apart):
        return
    instances = [str(file) for file in town.instances]
    listed = town.command("rejects", "list", "--limit", "1000", "--json")
    yield listed
    found = json.loads(listed.data)
    assert len(found) > 100
    for each in (found[0], found[len(found) // 2], found[-1]):
        yield town.command("rejects", "show", each["id"])
        yield town.command("rejects", "show", each["id"], "--json")
    for arguments in (
        ("rejects", "list", "--limit", "1000"), ("connector", "status", *instances, "--json"),
        ("connector", "status", *instances), ("connector", "check", *instances), ("audit", "verify", "--json"),
        ("policy", "explain", "tax-desk", "tax-assessment", "civil.person", "--json"), ("policy", "test"),
    ):  # fmt: skip
        yield town.command(*arguments)


def level_4_stays_at_its_office(town: Town) -> None:
    """No byte of what the exchange keeps holds a level 4 value, wherever it may have come in."""
    sealed = {
        text
        for text, places in town.canaries.planted.items()
        if any(
            town.sharing.level(one.contract, one.field) == 4
            for one in places
            if one.field in fields(town, one.contract)
        )
    }
    assert sealed
    for file in sorted((town.folder / "data").rglob("*")):
        if file.is_file():
            assert not town.canaries.found(file.read_bytes()) & sealed, file
