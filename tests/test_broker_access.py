"""Who may do what on a cluster: what the policies imply, and that a real Kafka then lets each do that and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from connectors.kafka import KafkaConnector, KafkaSettings
from connectors.protocol import Means
from exchange.agreements import Bundle
from exchange.audit import AuditStore
from exchange.cli.init import initialise
from exchange.clock import system_clock
from exchange.contracts import load_catalogue
from exchange.decisions import load_bundle
from exchange.kafka import KafkaBroker
from exchange.kafka.access import Acl
from exchange.principals import Plan, plan, surplus, whole_topics
from exchange.publish import CursorFile, Layout, Publishing
from exchange.records import CHECKPOINTS_TOPIC, Message
from exchange.registry import StoreRegistry
from exchange.settings import PrincipalSettings, QuotaSettings, Settings
from exchange.store import Store
from exchange.topics import TopicSpec
from exchange.wiring import audit_url, key_maker, open_store
from tests.support import policies
from tests.support.secured import Secured
from tests.support.services import Missing, local_services, skip_or_fail
from tests.support.sharing import Sharing
from tests.support.site import CITIZEN, ROOT, free_port

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = PrincipalSettings()
WHOLE = """
[[agreements]]
id = "all-vehicles-2026"
consumer = "social"
contract = "transport.vehicle"
major = 1
purpose = "social-assistance"
from = 2026-01-01
until = 2030-12-31
approved_by = "Data office, decision 2026-041"
[agreements.fields]
"""


def planned(bundle: Bundle, *inboxes: str) -> Plan:
    specs = [TopicSpec(f"{terms.contract}.v{terms.major}") for terms in bundle.terms.values()]
    specs += [Layout().inbox(name) for name in inboxes]
    return plan(bundle, specs, inboxes, NAMES, QuotaSettings(written=9, read=5), "exchange.materialise", NOW)


# --- what is implied --------------------------------------------------------------------------------------------------

VEHICLE = policies.contract("transport.vehicle", {"plate": ("string", 1)})
SEALED = policies.contract("transport.sealed", {"plate": ("string", 1), "sealed": ("string", 4)})
LICENCE = policies.contract("transport.licence", {"number": ("string", 1), "donor": ("string", 3)})
ALL = 'id = "plain"\nplate = "plain"'


def small(tmp_path: Path, text: str, **changes: str) -> Bundle:
    purposes = policies.PURPOSES.replace('["civil.person"]', '["transport.licence"]')
    agreements = {"transport": text}
    folder = policies.write(tmp_path / "policies", purposes=purposes, agreements=agreements, **changes)
    return load_bundle(folder, policies.catalogue(VEHICLE, LICENCE, SEALED), policies.ZONE)


def granted(fields: str = ALL, **changes: str) -> str:
    return policies.agreement(fields, contract='"transport.vehicle"', **changes)


def test_a_reader_may_read_a_topic_of_which_an_agreement_gives_every_field(tmp_path: Path) -> None:
    acls = planned(small(tmp_path, granted())).acls
    reader = {acl for acl in acls if acl.principal == "User:tax-reader"}
    assert reader == {
        Acl("User:tax-reader", "read", "topic", "transport.vehicle.v1"),
        Acl("User:tax-reader", "read", "group", "tax.", prefixed=True),
    }
    assert "agreement a-1" in acls[Acl("User:tax-reader", "read", "topic", "transport.vehicle.v1")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (granted('plate = "plain"'), "a field is missing"),
        (granted('id = "plain"\nplate = "last4"'), "a field is masked"),
        (granted(condition='[["plate", "=", "A"]]'), "rows are left out"),
        (granted(quota="100"), "so many a day, and a topic counts nobody"),
        (granted(**{"from": "2026-05-01"}), "it is not in force yet"),
        (granted(until="2026-02-27"), "it has ended"),
        (granted(purpose='"child-protection"'), "no client of the consumer reads for that purpose"),
        (
            policies.agreement('id = "plain"\nnumber = "plain"\ndonor = "plain"', contract='"transport.licence"'),
            "a field of level 3 takes a case at each reading",
        ),
        (policies.agreement(ALL, contract='"transport.sealed"'), "a field of level 4 may have been of another before"),
        ("", "there is none"),
    ],
)
def test_anything_less_gives_no_topic(tmp_path: Path, text: str, why: str) -> None:
    acls = planned(small(tmp_path, text)).acls
    assert not [acl for acl in acls if acl.principal.endswith("-reader")], why


def test_a_guardrail_that_forbids_forbids_the_topic_too(tmp_path: Path) -> None:
    """The guardrails decide, not this module's reading of an agreement: here one that the project does not have."""
    clients = policies.CLIENTS.replace('scopes = ["view"]', 'scopes = ["publish"]')
    assert not [
        a for a in planned(small(tmp_path, granted(), clients=clients)).acls if a.principal == "User:tax-reader"
    ]


def test_the_reference_city_gives_whole_topics_as_an_oracle_of_its_files_says(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    file = tmp_path / "policies" / "transport" / "agreements.toml"
    vehicle = load_catalogue(ROOT / "schemas").contracts["transport.vehicle", 1]
    fields = "\n".join(f'{name} = "plain"' for name in vehicle.fields)
    file.write_text(file.read_text("utf-8") + WHOLE + fields, "utf-8")
    bundle = load_bundle(tmp_path / "policies", load_catalogue(ROOT / "schemas"), "Asia/Shanghai")
    oracle = Sharing(tmp_path / "policies", ROOT / "schemas", NOW.date())
    expected = {
        (client["department"], contract)
        for client_id, client in oracle.clients.items()
        for purpose in client["purposes"]
        for contract, about in oracle.contracts.items()
        if (grant := oracle.grant(client_id, purpose, contract, case=False)) is not None
        and grant.rests_on not in ("own", "open")
        and not grant.condition
        and all(grant.fields.get(name) == "plain" for name in about["fields"])
        and not any(one.get("quota") for one in oracle.agreements if one["id"] == grant.rests_on)
    }
    found = {(agreement.consumer, terms.contract) for agreement, terms in whole_topics(bundle, NOW)}
    assert found == expected
    assert ("social", "transport.vehicle") in found


def test_contract_topics_are_written_by_their_owners_connector_and_the_gateway_alone(tmp_path: Path) -> None:
    bundle = load_bundle(ROOT / "policies", load_catalogue(ROOT / "schemas"), "Asia/Shanghai")
    found = planned(bundle, "civil.person")
    for terms in bundle.terms.values():
        topic = f"{terms.contract}.v{terms.major}"
        writers = {acl.principal for acl in found.acls if acl.operation == "write" and acl.covers("topic", topic)}
        owner = f"User:{terms.owner}-connector"
        assert writers == (set() if terms.sharing == "withheld" else {owner, "User:exchange-gateway"})
    producers = {acl for acl in found.acls if acl.principal.endswith("-producer")}
    assert producers == {
        Acl("User:civil-producer", "write", "topic", "civil.person.inbox"),
        Acl("User:civil-producer", "write", "transactional_id", "civil.", prefixed=True),
    }
    assert {acl.operation for acl in found.acls} == {"read", "write"}
    assert "civil.person.inbox" in [spec.name for spec in found.topics]


def test_a_connector_may_read_whatever_a_new_cursor_file_is_filled_from(tmp_path: Path) -> None:
    acls = planned(small(tmp_path, granted())).acls
    for topic in ("transport.vehicle.v1", "transport.rejects.v1", "exchange.watermarks.v1"):
        assert Acl("User:transport-connector", "read", "topic", topic) in acls
    assert not [acl for acl in acls if acl.principal == "User:transport-connector" and acl.name.startswith("tax.")]


def test_programs_of_departments_are_bounded_and_no_part_of_the_exchange(tmp_path: Path) -> None:
    found = planned(small(tmp_path, granted()), "transport.vehicle")
    assert found.quotas == {
        ("transport-producer", "producer_byte_rate"): 9.0,
        ("tax-reader", "consumer_byte_rate"): 5.0,
    }


def test_what_nothing_implies_is_surplus_and_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    found = planned(small(tmp_path, granted()))
    stray = [
        Acl("User:press", "read", "topic", "transport.vehicle.v1"),
        Acl("User:press", "read", "topic", "*"),
        Acl("User:press", "read", "topic", "trans", prefixed=True),
        Acl("User:tax-reader", "read", "topic", "transport.licence.v1"),
        Acl("User:tax-reader", "write", "topic", "elsewhere"),
        Acl("User:press", "read", "topic", "transport.vehicle.v1", host="10.0.0.5"),
        Acl("User:*", "read", "topic", "transport.vehicle.v1"),
        Acl("User:press", "read", "group", "exchange.materialise"),
        Acl("User:press", "alter", "cluster", "kafka-cluster"),
    ]
    foreign = [
        Acl("User:press", "read", "topic", "press.articles"),
        Acl("User:press", "read", "group", "press"),
        Acl("User:press", "describe", "cluster", "kafka-cluster"),
        Acl("User:admin", "alter", "topic", "transport.vehicle.v1"),
    ]
    names = NAMES.model_copy(update={"operators": ["User:admin"]})
    assert surplus([*found.acls, *stray, *foreign], found, names, {"tax", "transport"}) == sorted(stray)


# --- the commands -----------------------------------------------------------------------------------------------------


class City:
    """An installation whose topics are on this cluster."""

    def __init__(self, folder: Path, broker: str = "") -> None:
        self.folder = folder
        self.config = folder / "exchange.toml"
        shutil.copytree(ROOT / "policies", folder / "policies")
        vehicle = load_catalogue(ROOT / "schemas").contracts["transport.vehicle", 1]
        fields = "\n".join(f'{name} = "plain"' for name in vehicle.fields)
        file = folder / "policies" / "transport" / "agreements.toml"
        file.write_text(file.read_text("utf-8") + WHOLE + fields, "utf-8")
        self.config.write_text(
            f'schemas = "{ROOT / "schemas"}"\npolicies = "policies"\n{broker}'
            f"[gateway]\nport = {free_port()}\nmetrics_port = 0\n[materialise]\nmetrics_port = 0\n"
        )
        initialise(self.config, ROOT / "schemas", folder / "policies")

    @property
    def settings(self) -> Settings:
        return Settings.load(self.config)

    def store(self) -> Store:
        return open_store(self.settings, system_clock)

    def command(self, *words: str, expect: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "exchange.cli", *words, "--config", str(self.config)],
            capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path)


def test_the_plan_is_printed_without_a_cluster(city: City) -> None:
    assert "`exchange policy apply`" in city.command("broker", "plan", expect=78)
    city.command("policy", "apply")
    text = city.command("broker", "plan")
    assert "topic civil.person.v1: 12 partitions, 1 copies, compacted" in text
    assert (
        "User:social-reader may read topic transport.vehicle.v1  (agreement all-vehicles-2026 gives social all" in text
    )
    document = json.loads(city.command("broker", "plan", "--json"))
    written = {"operation": "write", "resource": "topic", "name": "civil.person.v1", "prefixed": False, "host": "*"}
    why = {"principal": "User:civil-connector", "why": "civil publishes civil.person"}
    assert written | why in document["access"]
    assert "topics in a SQLite file have no access rules" in city.command("broker", "check", expect=78)


def test_an_inbox_of_what_is_no_contract_is_refused(tmp_path: Path) -> None:
    refused = City(tmp_path, '[broker]\ninboxes = ["civil.nobody"]\n').command("policy", "apply", expect=78)
    assert "broker.inboxes: no contract that is shared is called civil.nobody" in refused


@pytest.mark.parametrize("name", ["civil-connector", "User:connector", "Group:{department}"])
def test_principals_are_users_one_for_each_department(name: str) -> None:
    with pytest.raises(ValueError, match="connector"):
        PrincipalSettings(connector=name)


# --- on a real cluster that asks who it is ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    services = local_services()
    try:
        yield Secured(services)
    except Missing as missing:
        skip_or_fail(str(missing))
    finally:
        services.stop()


def refused(answer: object) -> bool:
    """Whether Kafka refused access."""
    codes = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
    return isinstance(answer, KafkaError) and answer.code() in codes


@pytest.mark.services
@pytest.mark.timeout(240)
def test_each_may_do_what_the_policies_imply_and_no_more(secured: Secured, tmp_path: Path) -> None:
    properties = "".join(f'"{name}" = "{value}"\n' for name, value in secured.properties("admin").items())
    city = City(
        tmp_path,
        f'[broker]\nurl = "kafka://{secured.servers}"\npartitions = 2\ninboxes = ["transport.vehicle"]\n'
        f"[broker.properties]\n{properties}[broker.quotas]\nwritten = 100_000\nread = 200_000\n",
    )
    city.command("policy", "apply")

    # The cluster lacks all of it; a dry run changes nothing; then it is as planned.
    assert "missing: User:transport-connector may write topic transport.vehicle.v1" in city.command(
        "broker", "check", expect=1
    )
    city.command("broker", "apply", expect=1)
    with secured.broker("admin") as admin:
        assert admin.access().acls() == set()
    assert "the cluster is as planned" in city.command("broker", "apply", "--yes")
    assert "the cluster is as planned" in city.command("broker", "check")
    with secured.broker("admin") as admin:
        assert admin.quotas().standing() == {
            "transport-producer": {"producer_byte_rate": 100_000.0},
            "social-reader": {"consumer_byte_rate": 200_000.0},
        }
        admin.quotas().set(
            {("transport-producer", "producer_byte_rate"): 5.0, ("civil-producer", "producer_byte_rate"): 7.0}
        )
    told = city.command("broker", "apply", "--yes", expect=1)
    assert "transport-producer" not in told, "it is as planned again"
    assert "quota producer_byte_rate of civil-producer is 7, planned not set" in told
    city.command("broker", "apply", "--yes", "--delete")

    secured.add(
        "transport-connector", "transport-producer", "civil-producer", "social-reader", "exchange-materialise",
        "exchange-gateway",
    )  # fmt: skip

    # A producer writes its own department's inboxes, and nothing else.
    vehicle = {"citizen_id": CITIZEN, **VALUES}
    assert secured.write("transport-producer", "transport.vehicle.inbox", json.dumps(vehicle).encode()) is None
    for user, topic in (
        ("transport-producer", "transport.vehicle.v1"),
        ("transport-producer", "transport.rejects.v1"),
        ("transport-producer", "exchange.watermarks.v1"),
        ("civil-producer", "transport.vehicle.inbox"),
        ("civil-producer", "transport.vehicle.v1"),
    ):
        assert refused(secured.write(user, topic, b"forged")), f"{user} writes {topic}"
    assert refused(secured.read("transport-producer", "transport.vehicle.inbox", "transport.x"))

    # Its connector publishes what is there, and cannot write another department's topic.
    with secured.broker("transport-connector") as broker, closing(city.store()) as store:
        _publish_inbox(city, broker, store)
        with pytest.raises(Exception, match=r"refuses access to topic civil\.person\.v1"):
            broker.publisher().publish("civil.person.v1", [Message(b"k", b"forged", {})])

    # A materialiser stores it; the gateway signs its log.
    _until_stored(city, secured)
    _until_signed(city, secured)

    # A reader reads the one topic that it may, in a group of its own, and writes nothing.
    assert secured.read("social-reader", "transport.vehicle.v1", "social.analysis") == 1
    for topic in ("transport.licence.v1", "civil.person.v1", "transport.vehicle.inbox", "exchange.watermarks.v1"):
        assert refused(secured.read("social-reader", topic, "social.analysis")), topic
    assert refused(secured.read("social-reader", "transport.vehicle.v1", "exchange.materialise"))
    assert refused(secured.write("social-reader", "transport.vehicle.v1", b"forged"))

    # What somebody granted by hand is told, and taken away only when that is asked for.
    by_hand = Acl("User:press", "read", "topic", "transport.", prefixed=True)
    bound = Acl("User:press", "read", "topic", "civil.person.v1", host="10.0.0.5")
    with secured.broker("admin") as admin:
        admin.access().grant([by_hand, bound])
        admin.access().configure("transport.vehicle.v1", {"retention.ms": "60000"})
    told = city.command("broker", "check", expect=1)
    assert "surplus: User:press may read topic transport...." in told
    assert "surplus: User:press may read topic civil.person.v1 from 10.0.0.5" in told
    assert "topic transport.vehicle.v1: retention.ms is 60000, planned -1" in told
    told = city.command("broker", "apply", "--yes", expect=1)
    assert "surplus: User:press" in told
    assert "retention.ms" not in told
    city.command("broker", "apply", "--yes", "--delete")

    # An agreement that ends takes its access with it.
    file = tmp_path / "policies" / "transport" / "agreements.toml"
    file.write_text(file.read_text("utf-8").replace(WHOLE, WHOLE.replace("2030-12-31", "2026-01-31")))
    city.command("policy", "apply")
    assert "surplus: User:social-reader may read topic transport.vehicle.v1" in city.command(
        "broker", "check", expect=1
    )
    city.command("broker", "apply", "--yes", "--delete")
    assert refused(secured.read("social-reader", "transport.vehicle.v1", "social.analysis"))
    with closing(AuditStore.open(audit_url(city.settings))) as log, log.reading() as connection:
        acts = [json.loads(each.entry) for each in log.walk_entries(connection)]
    granted = [name for act in acts if act["act"] == "broker apply" for name in act["details"]["granted"]]
    assert "User:social-reader may read topic transport.vehicle.v1" in granted


VALUES: dict[str, Any] = {
    "plate": "A1", "brand": "b", "energy": "petrol", "registered_on": "2020-01-01", "inspection_due": "2027-01-01",
    "status": "in_use", "edition": 1,
}  # fmt: skip


def _publish_inbox(city: City, broker: KafkaBroker, store: Store) -> None:
    said = load_catalogue(ROOT / "schemas").contracts["transport.vehicle", 1]
    registry = StoreRegistry(store.engine)
    settings = KafkaSettings.model_validate(
        {"name": "inbox", "connector": "kafka", "contract": said.name, "value": "json"}
    )
    connector = KafkaConnector(settings, said, Means(city.folder, system_clock, lambda: broker, lambda: registry))
    publishing = Publishing(
        said, source="transport/inbox", keeps=connector.keeps, keys=key_maker(city.settings), broker=broker,
        registry=registry, cursor=CursorFile(city.folder / "inbox.db"), clock=system_clock, wait=lambda _: True,
    )  # fmt: skip
    with closing(publishing):
        reading = publishing.reading()
        for _ in reading.follow(connector.read(publishing.position)):
            pass
        reading.close()
    assert reading.outcome.published == 1, reading.outcome


@contextmanager
def _running(city: City, secured: Secured, part: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"EXCHANGE_BROKER__PROPERTIES": json.dumps(secured.properties(f"exchange-{part}"))}
    with (city.folder / f"{part}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli", part, "--config", str(city.config)],
            env={**os.environ, **environment}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(20) == 0, (city.folder / f"{part}.log").read_text()


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def _until_stored(city: City, secured: Secured) -> None:
    with _running(city, secured, "materialise"), closing(city.store()) as store:
        _wait(lambda: "transport.vehicle" in _stored(store), (city.folder / "materialise.log").read_text())


def _stored(store: Store) -> set[str]:
    with store.engine.connect() as connection:
        return {row[0] for row in connection.exec_driver_sql("SELECT contract FROM facets")}


def _until_signed(city: City, secured: Secured) -> None:
    with _running(city, secured, "gateway"), secured.broker("admin") as admin:
        _wait(lambda: bool(list(admin.read(CHECKPOINTS_TOPIC))), "no checkpoint was written")
