"""Attacks by HTTP: hostile bodies on every route, and what floods do to a gateway in a process of its own."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.support.gateway import City
from tests.support.server import connect, read_all
from tests.support.site import CITIZEN, Process, Site, bearer, gateway_process
from tests.test_gateway_json import HOSTILE

PURPOSE = {"Exchange-Purpose": "tax-assessment"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.made(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def gateway(site: Site) -> Iterator[Process]:
    with gateway_process(site) as process:
        yield process


# --- hostile bodies ---------------------------------------------------------------------------------------------------

BOMB = gzip.compress(b"[" + b"0," * 30_000_000 + b"0]", 9)  # 60 MB in 60 KB
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    **{name: (body, {}) for name, body in HOSTILE.items()},
    "a bomb": (BOMB, {"Content-Encoding": "gzip"}),
    "a bomb that says nothing": (BOMB, {}),
    "a bomb in two layers": (gzip.compress(BOMB), {"Content-Encoding": "gzip, gzip"}),
    "deflated": (b"x\x9c\x03\x00\x00\x00\x00\x01", {"Content-Encoding": "deflate"}),
    "another charset": (b'{"id":"\xd6\xd0"}', {"Content-Type": "application/json; charset=gb18030"}),
    "utf-7": (b'{"id":"+AGEAYQ-"}', {"Content-Type": "application/json; charset=utf-7"}),
    "utf-16 that says so": ('{"id":"x"}'.encode("utf-16-le"), {"Content-Type": "application/json; charset=utf-16"}),
    "two media types": (b"{}", {"Content-Type": "application/json, text/plain"}),
    "multipart": (b"--x\r\n\r\n{}\r\n--x--", {"Content-Type": "multipart/form-data; boundary=x"}),
    "many members": (b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}", {}),
    "many numbers": (b"[" + b"1e308," * 170_000 + b"1]", {}),
    "names that collide": (b"{" + b",".join(b'"\\u0061%s":0' % (b"a" * n) for n in range(1_000)) + b"}", {}),
    "one long string": (b'{"id":"' + b"\\u0041" * 170_000 + b'"}', {}),
}
ROUTES = {
    "view": ("tax-desk", "/v1/citizens/view", "application/json", False),
    "array": ("civil-push", "/v1/datasets/civil.person/records", "application/json", True),
    "registry": ("civil-push", "/registry/subjects/civil.person.v1-value/versions", "application/json", False),
    "lines": ("civil-push", "/v1/datasets/civil.person/records", "application/x-ndjson", True),
}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.mark.anyio
@pytest.mark.parametrize("route", ROUTES)
async def test_hostile_bodies_are_refused_on_every_route(city: City, route: str) -> None:
    """What is one record of a push is set aside; any other body is refused whole: never a 5xx, never slow."""
    client_id, path, media, pushes = ROUTES[route]
    async with city.http(client_id) as http:
        for name, (body, headers) in BODIES.items():
            began = time.perf_counter()
            given = {"Content-Type": media, **PURPOSE, **headers}
            answer = await http.post(path, content=body, headers=given)
            assert time.perf_counter() - began < 4, name
            refused = answer.status_code in (400, 413, 415, 422)
            aside = pushes and answer.status_code == 200 and answer.json()["accepted"] == 0
            assert refused or aside, (name, answer.text[:500])
            assert CITIZEN not in answer.text


# --- floods against a process -----------------------------------------------------------------------------------------


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield b"x" * MIB


def post(gateway: Process, path: str, body: Any, headers: dict[str, str]) -> int:
    """The status of a request whose body need not be taken; 0: the connection was closed while it was sent."""
    with contextlib.suppress(httpx2.HTTPError):
        return int(httpx2.post(f"{gateway.url}{path}", content=body, headers=headers, timeout=30).status_code)
    return 0


@pytest.mark.slow
def test_bodies_of_60_mb_cost_the_gateway_nothing(site: Site, gateway: Process) -> None:
    desk = bearer(site, gateway.url, "tax-desk") | PURPOSE | {"Content-Type": "application/json"}
    pushing = bearer(site, gateway.url, "civil-connector")
    push = "/v1/datasets/civil.person/records"
    before = gateway.memory()
    assert post(gateway, "/v1/citizens/view", pieces(60 * MIB), desk) in (413, 0)
    assert post(gateway, "/v1/citizens/view", b"x" * 60_000_000, desk) in (413, 0)
    assert post(gateway, "/v1/citizens/view", BOMB, desk | {"Content-Encoding": "gzip"}) == 415
    assert post(gateway, push, b"x" * (65 * MIB), pushing | {"Content-Type": "application/json"}) in (413, 0)
    assert post(gateway, push, pieces(70 * MIB), pushing | {"Content-Type": "application/x-ndjson"}) in (413, 0)
    assert post(gateway, push, b"[" * 60_000_000, pushing | {"Content-Type": "application/json"}) == 400
    assert post(gateway, push, b'{"a":' * 12_000_000, pushing | {"Content-Type": "application/x-ndjson"}) == 200
    assert gateway.memory() - before < 100_000_000
    assert post(gateway, "/v1/citizens/view", json.dumps({"id": CITIZEN}).encode(), desk) == 200


@pytest.mark.slow
def test_a_flood_of_names_makes_no_series(site: Site, gateway: Process) -> None:
    """Paths, methods, clients, purposes, contracts and tokens as a scanner makes them up: /metrics stays as it was."""

    def series() -> int:
        return sum(1 for line in gateway.metrics().splitlines() if not line.startswith("#"))

    desk = bearer(site, gateway.url, "tax-desk")
    sizes = []
    with httpx2.Client(base_url=gateway.url) as http:
        for turn in range(3):
            for number in range(60):
                word = f"w{turn}x{number}"
                http.request(word.upper(), f"/{word}")
                http.get(f"/v1/contracts/{word}.{word}", headers=desk)
                http.post(f"/v1/datasets/{word}.{word}/records", json=[], headers=desk)
                http.post("/v1/citizens/view", json={"id": CITIZEN, "contracts": [f"{word}.a"]}, headers=desk | PURPOSE)
                http.post("/v1/citizens/view", json={"id": CITIZEN}, headers={**desk, "Exchange-Purpose": word})
                http.get("/v1/contracts", headers={"Authorization": f"Bearer {word}"})
                http.get(f"/errors/{word}")
            sizes.append(series())
    assert sizes[1] == sizes[2]
    assert sizes[2] < 400


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)]


def views(gateway: Process, headers: dict[str, str], number: int) -> list[float]:
    """The times of so many views, one after the other, in seconds; every one must be served."""
    times = []
    with httpx2.Client(base_url=gateway.url, headers=headers | PURPOSE) as http:
        for _ in range(number):
            began = time.perf_counter()
            answer = http.post("/v1/citizens/view", json={"id": CITIZEN})
            times.append(time.perf_counter() - began)
            assert answer.status_code == 200
    return times


@pytest.mark.slow
def test_a_thousand_silent_sockets_leave_good_requests_as_they_were(site: Site, gateway: Process) -> None:
    """1,000 connections that say nothing, half a header or half a body, made anew as they are closed, for ten seconds.

    p99 of the views at most doubles (against quiet rounds, in turn; in one of them at least: what else the machine does
    is not the gateway's fault), memory grows by less than 100 MB, /metrics answers, and in the end nothing is left.
    """
    desk = bearer(site, gateway.url, "tax-desk")
    views(gateway, desk, 200)
    quiet: list[list[float]] = []
    loud: list[list[float]] = []
    before = gateway.memory()
    said = [
        b"",
        b"POST /v1/citizens/view HTTP/1.1\r\nHost: g\r\nAuth",
        b"POST /v1/citizens/view HTTP/1.1\r\nHost: g\r\nContent-Length: 900\r\n\r\n{",
    ]
    silent: list[Any] = []
    peak = 0
    try:
        for _ in range(3):
            quiet.append(views(gateway, desk, 400))
            silent = [connect(gateway.port) for _ in range(1_000)]
            for number, each in enumerate(silent):
                each.sendall(said[number % 3])
            loud.append(views(gateway, desk, 400))
            peak = max(peak, gateway.memory())
            gateway.metrics()
            for each in silent:
                each.close()
    finally:
        for each in silent:
            each.close()
    late = [(quantile(alone, 0.99), quantile(beside, 0.99)) for alone, beside in zip(quiet, loud, strict=True)]
    told = ", ".join(f"{alone * 1_000:.1f} and {beside * 1_000:.1f}" for alone, beside in late)
    print(f"p99 of views in ms, alone and beside 1,000 silent sockets: {told}; {(peak - before) / 1e6:.0f} MB more")
    assert min(beside / alone for alone, beside in late) <= 2, late
    assert statistics.median(chain(*loud)) <= 2 * statistics.median(chain(*quiet))
    assert peak - before < 100_000_000


@pytest.mark.slow
def test_silent_sockets_are_closed_in_their_time(gateway: Process) -> None:
    silent = [connect(gateway.port, 20) for _ in range(1_000)]
    began = time.monotonic()
    for each in silent:
        assert b" 408 " in read_all(each)
        each.close()
    assert time.monotonic() - began < 15


# --- schemathesis -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_request_that_openapi_allows_or_forbids_is_a_5xx(site: Site, gateway: Process) -> None:
    """Generated from the document, of its form and not of its form; the answers are those that it documents."""
    import schemathesis

    document = httpx2.get(f"{gateway.url}/openapi.json").json()
    found: Counter[int] = Counter()
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        if operation.body or operation.path_parameters:  # else there is nothing to vary
            publishes = re.search("dataset|registry", operation.path)
            headers = PURPOSE | bearer(site, gateway.url, "civil-connector" if publishes else "tax-desk")
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                with contextlib.suppress(Unsatisfiable):  # a form of texts that nothing can be wrong with
                    _try(gateway.url, operation.as_strategy(generation_mode=mode), headers, found)
    assert found[200] > 20
    assert sum(found.values()) > 500


def _try(url: str, cases: Any, headers: dict[str, str], found: Counter[int]) -> None:
    @settings(max_examples=60, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=cases)
    def tried(case: Any) -> None:
        _narrow(case)
        answer = case.call(base_url=url, headers=headers)
        found[answer.status_code] += 1
        assert answer.status_code < 500, (case.method, case.path, case.body)
        documented = case.operation.definition.raw["responses"]
        assert str(answer.status_code) in documented, (case.method, case.path, answer.status_code)

    tried()


def _narrow(case: Any) -> None:
    """Of what is made up, let half pass the first check, so that the checks behind it are met as well."""
    if "dataset" in (case.path_parameters or {}):
        case.path_parameters["dataset"] = "civil.person"
    if isinstance(case.body, dict) and "id" in case.body and len(str(case.body)) % 2:
        case.body["id"] = CITIZEN
