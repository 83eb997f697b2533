"""Attacks on the policies of running gateways: applied without a pause, killed half-way, damaged, revoked."""

from __future__ import annotations

import hashlib
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from exchange.cli.policy import apply_policies, read_policies
from exchange.clock import system_clock
from exchange.wiring import open_store
from tests.support.site import CITIZEN, Process, Site, bearer, gateway_process

pytestmark = pytest.mark.slow

RATE = 100  # policies a second
SECONDS = 8


class Asking:
    """Views without a pause, of one gateway: (time, status, policy version, contracts not available) of each."""

    def __init__(self, gateway: Process, headers: dict[str, str]) -> None:
        self.found: list[tuple[float, int, str | None, tuple[str, ...]]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(gateway, headers))
        self._thread.start()

    def _run(self, gateway: Process, headers: dict[str, str]) -> None:
        body = {"id": CITIZEN, "contracts": ["civil.person"]}
        with httpx2.Client(base_url=gateway.url, headers=headers, timeout=10) as http:
            while not self._ended.is_set():
                answer = http.post("/v1/citizens/view", json=body)
                missing = tuple(answer.json().get("not_available", ()))
                policy = answer.headers.get("exchange-policy")
                self.found.append((time.monotonic(), answer.status_code, policy, missing))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    if request.param == "sqlite":
        return Site.made(folder)
    return Site.made(folder, request.getfixturevalue("fresh_postgres")())


@pytest.fixture
def gateways(site: Site) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        yield [stack.enter_context(gateway_process(site, f"gateway-{number}")) for number in (1, 2)]


@pytest.fixture
def asking(site: Site, gateways: list[Process]) -> Iterator[list[Asking]]:
    purpose = {"Exchange-Purpose": "tax-assessment"}
    desks = [Asking(each, bearer(site, each.url, "tax-desk") | purpose) for each in gateways for _ in range(2)]
    yield desks
    for each in desks:
        each.end()


def without_civil(site: Site) -> tuple[str, str]:
    """civil's agreements as they are, and without those that let tax read civil.person."""
    text = (site.folder / "policies" / "civil" / "agreements.toml").read_text("utf-8")
    blocks = re.split(r"(?=^\[\[agreements\]\])", text, flags=re.MULTILINE)
    kept = [one for one in blocks if 'consumer = "tax"' not in one or '"civil.person"' not in one]
    assert len(kept) < len(blocks)
    return text, "".join(kept)


def test_policies_applied_a_hundred_times_a_second_under_load(site: Site, asking: list[Asking]) -> None:
    """Two policies in turn, each stored as `policy apply` does it: each answer names one, and shows what it allows."""
    granted, revoked = without_civil(site)
    file = site.folder / "policies" / "civil" / "agreements.toml"
    bodies = []
    for text in (granted, revoked):
        file.write_text(text, "utf-8")
        _, bundle = read_policies(site.settings())
        bodies.append((bundle.version, bundle.to_bytes()))
    store = open_store(site.settings(), system_clock)
    began, applied, took = time.monotonic(), 0, []
    while (now := time.monotonic()) < began + SECONDS:
        store.save_bundle(*bodies[applied % 2])
        applied += 1
        took.append((stored := time.monotonic()) - now)
        time.sleep(max(0.0, began + applied / RATE - stored))
    store.close()
    assert applied > SECONDS * RATE / 20  # a machine with much other work does not keep up
    shown: dict[str | None, set[tuple[str, ...]]] = {}
    for each in asking:
        for _, status, policy, missing in each.found:
            assert status == 200
            shown.setdefault(policy, set()).add(missing)
    assert shown == {bodies[0][0]: {()}, bodies[1][0]: {("civil.person",)}}
    answers = sum(len(each.found) for each in asking)
    print(f"{applied} bundles in {SECONDS} s ({applied / SECONDS:.0f}/s), {answers:,} answers, none mixes two")
    print(f"one took {statistics.median(took) * 1000:.1f} ms in the median, at most {max(took) * 1000:.0f} ms")


def test_a_revoked_agreement_is_dead_on_every_gateway_within_two_seconds(site: Site, asking: list[Asking]) -> None:
    _, revoked = without_civil(site)
    time.sleep(1)
    (site.folder / "policies" / "civil" / "agreements.toml").write_text(revoked, "utf-8")
    apply_policies(site.settings())
    done = time.monotonic()
    time.sleep(3)
    for each in asking:
        assert any(not missing for at, _, _, missing in each.found if at < done)
        late = [missing for at, _, _, missing in each.found if at > done + 2]
        assert len(late) > 5
        assert set(late) == {("civil.person",)}
        print(
            f"dead {max(at for at, _, _, missing in each.found if not missing) - done:.2f} s after the apply had ended"
        )


def test_a_struck_client_is_out_on_every_gateway_within_two_seconds(site: Site, asking: list[Asking]) -> None:
    time.sleep(1)
    site.strike("tax-desk")
    done = time.monotonic()
    time.sleep(3)
    for each in asking:
        assert {status for at, status, *_ in each.found if at < done - 1} == {200}
        assert {status for at, status, *_ in each.found} <= {200, 403}
        assert {status for at, status, *_ in each.found if at > done + 2} == {403}
        print(f"out {max(at for at, status, *_ in each.found if status == 200) - done:.2f} s after the apply had ended")


def test_an_apply_that_is_killed_or_refused_and_a_damaged_bundle_change_nothing(
    site: Site, gateways: list[Process], asking: list[Asking]
) -> None:
    """`policy apply` of a revocation, killed after every so many milliseconds: all of it or nothing."""
    granted, revoked = without_civil(site)
    file = site.folder / "policies" / "civil" / "agreements.toml"
    before = read_policies(site.settings())[1].version
    command = [sys.executable, "-m", "exchange.cli", "policy", "apply", "--config", str(site.config)]
    file.write_text(granted + "\n[[agreements]]\nid = 'x'\n", "utf-8")
    assert subprocess.run(command, capture_output=True).returncode == 78
    file.write_text(revoked, "utf-8")
    after = read_policies(site.settings())[1].version
    for milliseconds in range(200, 1_700, 150):
        applying = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(milliseconds / 1000)
        applying.kill()
        applying.wait()
    store = open_store(site.settings(), system_clock)
    in_force = store.newest_bundle_version()
    assert in_force in (before, after)
    store.save_bundle(hashlib.sha256(b"another").hexdigest(), b"damaged")
    store.close()
    time.sleep(3)
    for each in asking:
        assert {(status, policy) for _, status, policy, _ in each.found} <= {(200, before), (200, after)}
        assert each.found[-1][2] == in_force
    for gateway in gateways:
        assert "exchange_policy_damaged_bundles 1.0" in gateway.metrics()
