"""The path of one record, from the file of a department to a receipt that verifies. Read this first.

Market regulation keeps its register of enterprises in a CSV file, the tax bureau its own in a table. Both publish.
The tax desk asks for one enterprise and sees it merged; market regulation's inspector asks and sees less. Rows change,
one is deleted, and the views follow. In the end each answer has its entry in the audit log, and the log verifies.

The same story runs on SQLite and on Apache Kafka with PostgreSQL: only two URLs differ.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from connectors.reporting import JsonReport
from connectors.runner import run
from exchange.audit import PublicKeys, Receipt, verify_log, verify_receipt
from exchange.cli.administration import open_audit
from exchange.cli.init import initialise
from exchange.cli.materialise import topics_to_read
from exchange.cli.policy import apply_policies
from exchange.cli.token import fetch
from exchange.clock import system_clock
from exchange.errors import TooManyRejects
from exchange.materialise import Effects, Materialiser
from exchange.publish import Outcome
from exchange.records import CHECKPOINTS_TOPIC
from exchange.registry import StoreRegistry
from exchange.settings import Settings
from exchange.wiring import key_maker, open_broker, open_store, public_keys
from gateway.parts import create_app
from tests.support.bus import Running
from tests.support.server import serving

ROOT = Path(__file__).parent.parent
TEA = "91290101429607868H"  # 澜汀茶叶有限公司: both departments know it
SILK = "91290102439607896Y"  # only market regulation knows it


@dataclass
class City:
    """Two departments, a materialiser and a gateway, on the brokers and stores that its settings name."""

    folder: Path
    config: Path
    settings: Settings
    gateway: str
    answers: list[httpx2.Response] = field(default_factory=list)

    # -- what the departments have --

    def register(self, *rows: tuple[str, str, str]) -> None:
        """Market regulation writes its whole register: code, name, seat."""
        lines = [
            "code,name,kind,registered,seat,state",
            *(f"{c},{n},limited,2020-05-06,{s},active" for c, n, s in rows),
        ]
        file = self.folder / "register.csv"
        file.with_suffix(".part").write_text("\n".join(lines) + "\n", "utf-8")
        file.with_suffix(".part").replace(file)

    def assess(self, code: str, name: str, address: str, *, deleted: int = 0) -> None:
        """The tax bureau writes a row of its table."""
        with closing(sqlite3.connect(self.folder / "tax.db")) as tax, tax:
            tax.execute(
                "create table if not exists enterprise (code text primary key, name text, address text, kind text,"
                " filing text, revision integer, updated_at text not null, deleted integer)"
            )
            (revision,) = tax.execute("select coalesce(max(revision), 0) + 1 from enterprise").fetchone()
            tax.execute(
                "insert or replace into enterprise values (?, ?, ?, 'general', 'normal', ?,"
                " strftime('%Y-%m-%d %H:%M:%f', 'now'), ?)",
                (code, name, address, revision, deleted),
            )

    # -- publish --

    def publish(self, source: str) -> Outcome:
        """One complete reading of a department's source, as `exchange connector run --once` does it."""
        report = (self.folder / f"{source}.log").open("a")
        outcome = run(
            self.folder / f"{source}.toml",
            self.settings,
            system_clock,
            lambda name: JsonReport(name, report),
            threading.Event(),
            once=True,
        )
        assert outcome is not None
        assert outcome.accounted, "every row became something"
        return outcome

    # -- disclose --

    def ask(self, client: str, purpose: str, code: str) -> httpx2.Response:
        """A view over HTTP with a real token. Every answer is remembered."""
        token = fetch(self.settings, client)["access_token"]
        answer = httpx2.post(
            f"{self.gateway}/v1/enterprises/view",
            json={"id": code},
            headers={"Authorization": f"Bearer {token}", "Exchange-Purpose": purpose},
        )
        self.answers.append(answer)
        return answer

    def sees(self, client: str, purpose: str, code: str, name: str) -> list[tuple[str, Any]]:
        """Who said what of one value: (department, value), the one shown first."""
        answer = self.ask(client, purpose, code)
        assert answer.status_code == 200, answer.text
        value = answer.json()["values"].get(name, {"said_by": []})
        return [(said["department"], said["value"]) for said in value["said_by"]]

    def stale(self, client: str, purpose: str, code: str, name: str) -> bool:
        """Whether the value shown is older than the promised cycle."""
        said_by = self.ask(client, purpose, code).json()["values"][name]["said_by"]
        return bool(said_by[0]["stale"])

    def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the view did not follow in time"
            time.sleep(0.05)


@pytest.fixture(params=["sqlite", pytest.param("kafka-postgresql", marks=pytest.mark.services)])
def city(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[City]:
    config = tmp_path / "exchange.toml"
    if request.param == "kafka-postgresql":
        kafka, postgres = request.getfixturevalue("fresh_kafka"), request.getfixturevalue("fresh_postgres")()
        places = f'[broker]\nurl = "kafka://{kafka}"\n[store]\nurl = "{postgres}"\n'
    else:
        places = ""
    config.write_text(f'schemas = "{ROOT / "schemas"}"\npolicies = "{ROOT / "policies"}"\n{places}')
    initialise(config, ROOT / "schemas", ROOT / "policies")
    settings = Settings.load(config)
    apply_policies(settings)
    with ExitStack() as stack:
        port = stack.enter_context(serving(create_app(settings), lifespan=True))
        url = f"http://127.0.0.1:{port}"
        settings = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"port": port})})
        for source, text in SOURCES.items():
            (tmp_path / f"{source}.toml").write_text(text)
        store = stack.enter_context(closing(open_store(settings, system_clock)))
        broker = stack.enter_context(closing(open_broker(settings)))
        effects = Effects(StoreRegistry(store.engine), key_maker(settings), system_clock)
        materialiser = Materialiser(broker, store, effects, lambda: topics_to_read(store), group="path", owner="path")
        stack.enter_context(Running(materialiser))
        yield City(tmp_path, config, settings, url)


SOURCES = {
    "market": """
        name = "register"
        connector = "csv"
        contract = "market.registration"
        path = "register.csv"
        mode = "snapshot"
        timezone = "Asia/Shanghai"
        settle = "0s"
        [mapping]
        uscc = "code"
        name = "name"
        kind = "kind"
        registered_on = { column = "registered", formats = ["%Y-%m-%d"] }
        address = "seat"
        status = "state"
        currency = { value = "CNY" }
    """,
    "tax": """
        name = "enterprises"
        connector = "sql"
        contract = "tax.enterprise"
        url = "sqlite:///tax.db"
        table = "enterprise"
        key = "code"
        updated_at = "updated_at"
        timezone = "UTC"
        [mapping]
        uscc = "code"
        name = "name"
        address = "address"
        arrears = { value = "0.00" }
        taxpayer_type = "kind"
        filing_status = "filing"
        revision = "revision"
        updated_at = "updated_at"
        [deleted_when]
        column = "deleted"
        values = [1]
    """,
}


def test_the_path_of_one_record(city: City) -> None:
    # Publish: two departments, each from what it has. A row that cannot be right is set aside; the others go on.
    city.register(
        (TEA, "澜汀茶叶有限公司", "茶园路1号"), (SILK, "澜汀丝绸厂", "桑树街2号"), ("91290101429607868X", "?", "?")
    )
    city.assess(TEA, "澜汀茶叶有限公司", "茶园路1号之二")
    assert str(city.publish("market")) == "3 rows in = 2 published + 0 unchanged + 0 deleted + 1 rejected"
    assert city.publish("tax").published == 1

    # Materialise, then disclose: the tax desk sees both departments' words on one enterprise. They differ: that is a
    # conflict, and the lead source (market regulation leads the address) is shown first, the other as evidence.
    both = [("market", "茶园路1号"), ("tax", "茶园路1号之二")]
    city.until(lambda: city.sees("tax-desk", "tax-assessment", TEA, "enterprise.address") == both)
    view = city.ask("tax-desk", "tax-assessment", TEA).json()
    assert view["values"]["enterprise.address"]["conflict"] is True
    assert view["values"]["enterprise.name"]["conflict"] is False
    # The register's watermark follows its rows: until when market regulation has told everything.
    city.until(lambda: not city.stale("tax-desk", "tax-assessment", TEA, "enterprise.address"))

    # The hotline has no agreement with the tax bureau: it sees what is public, and no trace of what is not.
    public = city.ask("hotline-desk", "hotline-service", TEA)
    assert "tax" not in public.text
    assert public.json()["values"]["enterprise.address"]["conflict"] is False

    # Unknown and forbidden look alike.
    asked = {"id": TEA, "contracts": ["tax.enterprise", "tax.no_such_thing"]}
    token = fetch(city.settings, "hotline-desk")["access_token"]
    alike = httpx2.post(
        f"{city.gateway}/v1/enterprises/view",
        json=asked,
        headers={"Authorization": f"Bearer {token}", "Exchange-Purpose": "hotline-service"},
    )
    city.answers.append(alike)
    assert alike.json() == {"values": {}, "records": {}, "not_available": ["tax.enterprise", "tax.no_such_thing"]}

    # A source changes, and the view follows; what did not change is not published again.
    city.register((TEA, "澜汀茶叶有限公司", "茶园路1号之二"), (SILK, "澜汀丝绸厂", "桑树街2号"))
    outcome = city.publish("market")
    assert (outcome.published, outcome.unchanged) == (1, 1)
    agreed = [("market", "茶园路1号之二"), ("tax", "茶园路1号之二")]
    city.until(lambda: city.sees("tax-desk", "tax-assessment", TEA, "enterprise.address") == agreed)

    # A row is marked as deleted at the tax bureau, another is missing from the register: both are gone.
    city.assess(TEA, "澜汀茶叶有限公司", "茶园路1号之二", deleted=1)
    assert city.publish("tax").deleted == 1
    city.register((TEA, "澜汀茶叶有限公司", "茶园路1号之二"))
    assert city.publish("market").gone == 1
    city.until(lambda: city.sees("tax-desk", "tax-assessment", TEA, "enterprise.address") == agreed[:1])
    city.until(lambda: city.sees("tax-desk", "tax-assessment", SILK, "enterprise.name") == [])

    # Every answer has a receipt that verifies with the published keys alone, over the bytes that were received ...
    keys = PublicKeys.from_jwks(httpx2.get(f"{city.gateway}/.well-known/exchange-keys.json").json())
    for answer in city.answers:
        verify_receipt(Receipt.decode(answer.headers["Exchange-Receipt"]), answer.content, keys)

    # ... and one entry in the audit log, which verifies against the checkpoints that left it.
    with closing(open_broker(city.settings)) as broker, open_audit(city.settings) as log:
        city.until(lambda: any(True for _ in broker.read(CHECKPOINTS_TOPIC)))
        time.sleep(1.0)  # the newest checkpoint leaves at most a second after the newest entry
        notes = [delivery.value for delivery in broker.read(CHECKPOINTS_TOPIC) if delivery.value is not None]
        report = verify_log(log, notes, public_keys(city.settings), city.settings.audit.origin)
        with log.reading() as connection:
            entries = [json.loads(stored.entry) for stored in log.walk_entries(connection)]
    assert report, report.findings
    assert report.uncovered == 0
    views = [entry for entry in entries if entry["act"] == "view"]
    assert [entry["request"] for entry in views] == [answer.headers["X-Request-Id"] for answer in city.answers]
    assert TEA not in json.dumps(entries)


def test_a_source_that_is_mostly_wrong_stops_and_loses_nothing(city: City) -> None:
    city.register((TEA, "澜汀茶叶有限公司", "茶园路1号"), *(("91290101429607868X", "?", "?") for _ in range(9)))
    with pytest.raises(TooManyRejects):
        city.publish("market")
    city.until(
        lambda: city.sees("tax-desk", "tax-assessment", TEA, "enterprise.name") == [("market", "澜汀茶叶有限公司")]
    )
