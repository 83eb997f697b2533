"""Requests that are wrong in every way we know, each full of what must not come back: numbers of people, canaries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

VIEWS = ("/v1/citizens/view", "/v1/enterprises/view")
DATASETS = ("health.record", "health.no_such", "civil.person")


@dataclass(frozen=True)
class Wrong:
    """A request, who sends it, and what it is; `taken`: it may be answered with 200."""

    what: str
    client: str
    method: str
    path: str
    request: dict[str, Any] = field(default_factory=dict)
    taken: bool = False


@dataclass(frozen=True)
class Nonsense:
    """`number` and `firm` are identifiers of the city; `text`, `day` and `amount` are canaries."""

    number: str
    firm: str
    text: str
    day: str
    amount: str

    def __iter__(self) -> Iterator[Wrong]:
        yield from self.bodies()
        yield from self.heads()
        yield from self.paths()
        yield from self.pushes()
        yield from self.records()
        yield from self.tokens()
        yield from self.schemas()

    def bodies(self) -> Iterator[Wrong]:
        """Bodies of a view."""
        number, text, amount = self.number, self.text, self.amount
        values: list[Any] = [
            number,
            [number],
            {number: text},
            {"contracts": [text], "x": number},
            {"id": int(number[:17])},
            {"id": [number, self.firm]},
            {"id": text},
            {"id": f"{number}0"},
            {"id": number[:-1] + "7"},
            {"id": number[:6] + number[8:17]},
            {"id": number, "name": text},
            {"id": number, "contracts": [number]},
            {"id": number, "contracts": [f"civil.p{number.lower()}"]},
            {"id": number, "fields": [text]},
            {"id": number, "fields": [f"civil.person.d{self.day}"]},
            {"id": number, "after": {"civil.person": {number: 1}}},
            {"id": number, "after": {text: amount}},
        ]
        contents = [json.dumps(value).encode() for value in values]
        contents += [
            f'{{"id": "{number}"'.encode(),
            f'{{"id": "{number}", "id": "{text}"}}'.encode(),
            f'{{"id": "{number}", "x": NaN, "y": "{text}"}}'.encode(),
            f'{{"id": "\\ud800{number}"}}'.encode(),
            f'{{"id": "{number}"}}'.encode("utf-16"),
            f"{number}\xff".encode("latin-1"),
        ]
        for content in contents:
            for path in VIEWS:
                yield self._view("a body", path, {"content": content})
        cursor = {"id": number, "after": {"transport.vehicle": f"{amount}.{amount}.{number}.1"}}
        yield self._view("a cursor", VIEWS[0], {"content": json.dumps(cursor).encode()})

    def heads(self) -> Iterator[Wrong]:
        """Heads of a view."""
        number, text = self.number, self.text
        for name, value in (
            ("Exchange-Purpose", number),
            ("Exchange-Purpose", f"tax-assessment {text}"),
            ("Exchange-Case", number),
            ("Exchange-Case", f"A/{self.firm.lower()}"),
            ("Exchange-On-Behalf-Of", f"{number}," * 4),
            ("Authorization", f"Bearer {number}"),
            ("Authorization", f"Basic {text}"),
            ("Content-Type", f"text/{number}"),
            ("Content-Encoding", number),
        ):
            yield self._view(f"the head {name}", VIEWS[0], {"json": {"id": number}, "headers": {name: value}})

    def paths(self) -> Iterator[Wrong]:
        """Paths and queries with a number in them."""
        number, text = self.number, self.text
        for path in (
            f"/v1/citizens/{number}",
            f"/v1/citizens/view/{number}",
            f"/v1/contracts/{number}",
            f"/v1/contracts/{text}",
            f"/{number}?id={self.firm}",
            f"/errors/{number}",
            f"/docs/{text}",
            f"/registry/schemas/ids/{number}",
            f"/registry/subjects/{number}/versions/latest",
            f"/.well-known/{number}",
        ):
            for method in ("GET", "POST", "DELETE", "TRACE"):
                yield Wrong("a path", "tax-desk", method, path)
        yield Wrong("a query", "tax-desk", "GET", f"/v1/contracts?id={number}&name={text}", taken=True)

    def pushes(self) -> Iterator[Wrong]:
        """Pushes of records that are none, of other departments, in other forms."""
        number = self.number
        record = {"citizen_id": number, "birth_date": self.day, "genome_ref": self.text, "revision": self.amount}
        for content in (
            json.dumps([record]),
            json.dumps(record),
            f"[{number}",
            f'{number} {self.text}\n{{"citizen_id": "{number}"',
            f'{{"delete": {{"citizen_id": "{self.firm}"}}}}',
        ):
            for media in ("application/json", "application/x-ndjson", f"text/{number}"):
                head = {"Content-Type": media, "Idempotency-Key": f"{number}-{len(content)}-{len(media)}"}
                for dataset in (*DATASETS, number):
                    path, request = f"/v1/datasets/{dataset}/records", {"content": content.encode(), "headers": head}
                    yield Wrong("a push", "health-connector", "POST", path, request, taken=True)

    def records(self) -> Iterator[Wrong]:
        """Pushes in which each field in turn, and one that does not exist, holds what it cannot hold."""
        number, text = self.number, self.text
        shot = {"citizen_id": number, "vaccine_code": "A", "dose": 1, "vaccine_name": "B", "given_on": "2026-01-01"}
        record = {"citizen_id": number, "birth_date": "2000-01-01", "allergies": [], "chronic_conditions": []}
        record |= {"revision": 1, "updated_at": "2026-01-01T00:00:00.000Z", "blood_type": None}
        values: list[Any] = [number, text, int(number), 1.5e17, [text], {number: text}, {"delete": text}, True]
        for dataset, sound in (("health.vaccination", shot), ("health.record", record)):
            lines: list[Any] = [sound | {name: value} for name in (*sound, number, "notes") for value in values]
            lines += [{"delete": {"citizen_id": number, name: value}} for name in (number, "dose") for value in values]
            lines += [{name: value for name, value in sound.items() if name != left} | {"x": text} for left in sound]
            content = "\n".join(json.dumps(line) for line in lines if line != sound).encode()
            request = {"content": content, "headers": {"Content-Type": "application/x-ndjson"}}
            yield Wrong("a push", "health-connector", "POST", f"/v1/datasets/{dataset}/records", request, taken=True)

    def tokens(self) -> Iterator[Wrong]:
        """Requests for a token by nobody."""
        number, text = self.number, self.text
        assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        for form in (
            {"grant_type": "client_credentials", "client_id": number, "client_secret": text},
            {"grant_type": number},
            {"grant_type": "client_credentials", "scope": f"view {number}"},
            {"client_assertion_type": assertion, "client_assertion": text, "client_id": number},
        ):
            for auth in ({}, {"auth": (number, text)}):
                yield Wrong("a token", "", "POST", "/oauth/token", {"data": form, **auth})

    def schemas(self) -> Iterator[Wrong]:
        """Schemas that are none."""
        named = {"type": "record", "name": self.text, "fields": [{"name": f"n{self.number}", "type": self.amount}]}
        for text in (self.text, json.dumps(named), f'{{"type": "{self.number}"}}'):
            for path in (f"/registry/subjects/{self.number}", "/registry/subjects/health.record.v1-value/versions"):
                yield Wrong("a schema", "health-connector", "POST", path, {"json": {"schema": text}})

    def _view(self, what: str, path: str, request: dict[str, Any]) -> Wrong:
        heads = {"Exchange-Purpose": "tax-assessment", "Content-Type": "application/json", **request.get("headers", {})}
        return Wrong(what, "tax-desk", "POST", path, {**request, "headers": heads})
