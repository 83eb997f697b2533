"""The rig: it shares no code with what it judges, its checkers can fail, and a short run holds."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, cast

import httpx2
import pytest

from exchange.clock import system_clock
from exchange.settings import IssuerSettings
from exchange.subjects import KeyMaker, parse
from gateway.keysets import IssuerKeys
from gateway.tokens import Tokens, TrustedIssuer
from rig.acknowledged import Acknowledged, unsynced
from rig.checkers import Evidence, Finding, leaked, lost, order, phantom, poison, twice
from rig.delays import delays
from rig.faults import ALL, schedule
from rig.faults.issuers import NONSENSE
from rig.identities import Identity, Keys, code
from rig.issuer import NAME, Issuer
from rig.leaks import Metrics
from rig.meddling import DUPLICATES, MARK, POISON
from rig.offices import PENALTY, TABLE, penalty
from rig.oracle import Oracle, Statement, admitted
from rig.powercut import Event, events, files_after
from rig.site import Site
from rig.tables import Effect, Facet, Reject, SqliteFile
from rig.topics import Away, Message, SqliteTopics
from rig.watch import Watch
from tests.support.services import skip_or_fail

ROOT = Path(__file__).parent.parent
SECRET = b"a secret of a test, 32 bytes...."


def test_the_rig_imports_nothing_that_it_judges() -> None:
    for file in (ROOT / "rig").rglob("*.py"):
        if file.name == "writing.py":  # it is what is judged, in a process of its own
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = {"exchange", "connectors", "gateway", "bench", "tests"}
            assert not ours.intersection(name.partition(".")[0] for name in names), file
            assert "rig.writing" not in names, file


def test_the_seed_draws_the_same_faults_again() -> None:
    def drawn(seed: int) -> list[tuple[float, str, str]]:
        planned = itertools.islice(schedule(seed, ALL, 2.0), 50)
        return [(each.pause, each.fault.name, each.seed) for each in planned]

    assert drawn(7) == drawn(7) != drawn(8)


def test_codes_and_keys_are_those_of_the_product() -> None:
    keys, makers = Keys(SECRET), KeyMaker("k1", SECRET)
    for number in (0, 1, 17, 139):
        subject = parse("cn.uscc", code(number))
        assert (
            keys.of(Identity(PENALTY, code(number), "罚1号"))
            == makers.message_key(subject, PENALTY, ["罚1号"]).decode()
        )
    with pytest.raises(Exception, match="check character"):
        parse("cn.uscc", code(17, wrong=True))


@pytest.mark.anyio
async def test_the_rigs_issuer_is_understood_by_the_product_and_its_nonsense_is_not() -> None:
    issuer = Issuer()
    settings = IssuerSettings(issuer=NAME, discovery=issuer.discovery("gateway-1"))
    async with httpx2.AsyncClient() as http:
        keys = IssuerKeys(settings, http, system_clock)
        tokens = Tokens([TrustedIssuer(settings, keys)], "exchange", system_clock)
        assert await keys.refresh()
        assert (await tokens.verify(issuer.token("hotline-desk"))).client_id == "hotline-desk"
        for nonsense in NONSENSE:
            with issuer.feeling(nonsense):
                assert not await keys.refresh()
        new = issuer.publish()
        assert await keys.refresh()
        for key in (issuer.key, new):
            assert await tokens.verify(key.token("hotline-desk"))
    issuer.close()
    asked = issuer.asked["gateway-1"]
    assert (len(asked.tries), len(asked.given), len(list(asked.pairs()))) == (len(NONSENSE) + 2, 2, 1)


def test_of_two_versions_the_greater_one_is_admitted_and_of_two_sources_each_last_word() -> None:
    about = Identity(PENALTY, code(1), "1")

    def said(serial: int, source: str, version: int | None = None) -> Statement:
        return Statement(serial, about, source, {}, version)

    assert [each.serial for each in admitted([said(1, "a"), said(2, "b"), said(3, "a")])] == [3, 2]
    assert [each.serial for each in admitted([said(1, "a", 2), said(2, "b", 1)])] == [1]
    assert admitted([]) == []


# --- each checker finds what it is there for --------------------------------------------------------------------------

DECISION = Identity(PENALTY, code(1), "1")
KEY = Keys(SECRET).of(DECISION)
FIRST, SECOND = (penalty(1, "1", serial, serial) for serial in (1, 2))


def message(offset: int, sequence: int, value: bytes = b"", *, mark: str | None = None) -> Message:
    headers = [("ce_source", f"{TABLE}/5"), ("ce_sequence", f"{sequence:020}"), ("exchange_version", str(sequence))]
    headers += [(MARK, mark)] if mark else []
    return Message(f"{PENALTY}.v1", 0, offset, 0.0, KEY, value or str(sequence).encode(), tuple(headers))


def effect(sequence: int) -> Effect:
    return Effect(0.0, "facets", f"{KEY} {PENALTY}", TABLE, (5, sequence), sequence)


GOOD: Mapping[str, Any] = {
    "messages": {
        PENALTY: [message(0, 1), message(1, 2), message(2, 2, mark=DUPLICATES), message(3, 2, b"?", mark=POISON)]
    },
    "facets": {(KEY, PENALTY): Facet(KEY, PENALTY, dict(SECOND), TABLE, (5, 2), (0, 1))},
    "effects": [effect(1), effect(2)],
    "rejects": [Reject("p", None, (None, None), (f"{PENALTY}.v1", 0, 3), "no record")],
}


class NoTopics:
    """Of the rejects' topics: nothing."""

    def since(self, topic: str, positions: Mapping[int, int]) -> list[Message]:
        return []


def evidence(**otherwise: Any) -> Evidence:
    """What a good run left, and what of it was otherwise."""
    oracle = Oracle()
    oracle.say(Statement(1, DECISION, TABLE, FIRST, 1), Statement(2, DECISION, TABLE, SECOND, 2))
    oracle.say(Statement(9, DECISION, TABLE, {}, refused=True))
    made = Evidence(oracle, Keys(SECRET), cast("Any", NoTopics()), cast("Any", None), [], [], [])
    made.__dict__.update({**GOOD, **otherwise})
    return made


def facet(payload: Mapping[str, Any] | None, offset: int = 1) -> dict[tuple[str, str], Facet]:
    return {(KEY, PENALTY): Facet(KEY, PENALTY, None if payload is None else dict(payload), TABLE, (5, 2), (0, offset))}


@pytest.mark.parametrize("check", [lost, twice, order, phantom, poison])
def test_nothing_is_found_where_all_is_well(check: Callable[[Evidence], Finding]) -> None:
    assert check(evidence()).wrong == []


@pytest.mark.parametrize(
    ("check", "otherwise"),
    [
        (lost, {"facets": {}}),
        (lost, {"facets": facet(FIRST)}),
        (lost, {"facets": facet(None)}),
        (twice, {"effects": [effect(1), effect(2), effect(2)]}),
        (twice, {"messages": {PENALTY: [message(0, 1), message(1, 1, b"another")]}}),
        (order, {"facets": facet(FIRST, 0)}),
        (order, {"effects": [effect(2), effect(1)]}),
        (order, {"messages": {PENALTY: []}}),
        (phantom, {"facets": facet({**SECOND, "violation": "case 9"})}),
        (phantom, {"facets": facet({**SECOND, "authority": "?"})}),
        (poison, {"rejects": []}),
        (poison, {"rejects": [*GOOD["rejects"], *GOOD["rejects"]]}),
        (poison, {"rejects": [*GOOD["rejects"], Reject("g", None, (None, None), (f"{PENALTY}.v1", 0, 1), "good")]}),
    ],
)
def test_what_is_wrong_is_found(check: Callable[[Evidence], Finding], otherwise: Mapping[str, Any]) -> None:
    assert check(evidence(**otherwise)).wrong


def test_a_canary_in_the_metrics_of_a_process_is_a_leak() -> None:
    page = f'exchange_requests_total{{subject="{code(17)}"}} 1\n'
    metrics = Metrics()
    metrics.look(httpx2.Response(200, text=page, request=httpx2.Request("GET", "http://127.0.0.1/metrics")))
    assert leaked(evidence()).wrong == []
    assert code(17) in str(leaked(dataclasses.replace(evidence(), metrics=metrics)).wrong)


def test_poison_delays_what_it_holds_up_until_it_is_set_aside() -> None:
    last = message(4, 3)
    messages = [*GOOD["messages"][PENALTY], last]
    set_aside = Effect(2.5, "rejects", f"{PENALTY}.v1/0/3", None, (None, None), None)
    behind = Effect(3.0, "facets", f"{KEY} {PENALTY}", TABLE, (5, 3), 3)
    found = delays(evidence(messages={PENALTY: messages}, effects=[effect(1), effect(2), set_aside, behind]))
    assert found == {"good": [0.0, 0.0, 3.0], "behind poison": [3.0], "poison": [2.5]}


def test_a_file_of_topics_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    with pytest.raises(Away):
        SqliteTopics(tmp_path / "topics.db").append([message(0, 1)])


GROWING = """
import os, socket, sys
held = []
for line in sys.stdin:
    held.append(socket.create_server(("127.0.0.1", 0)) if not held else None)
    held += [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
    print("done", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="Linux tells what a process holds")
def test_what_a_process_takes_until_it_serves_is_no_growth_and_what_it_takes_later_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rig.watch.LONG_ENOUGH", 0.0)
    with subprocess.Popen([sys.executable, "-c", GROWING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        watch, grown = Watch(lambda: {"gateway-1": child.pid}), []
        for _ in range(2):
            watch.look()
            watch.look()
            grown += [(name, held.descriptors) for name, held in watch.growth()]
            child.stdin.write(b"more\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
        watch.look()
        grown += [(name, held.descriptors) for name, held in watch.growth()]
        child.stdin.close()
    assert grown == [("gateway-1", 0), ("gateway-1", 40)]  # nothing is said of it before it serves


WRITE = '7 pwrite64(12</data/audit.db-wal>, "..."..., 24, 32) = 24'
SYNC = "7 fsync(12</data/audit.db-wal>) = 0"
SHOWN = '5 write(9<pipe:[3]>, "\\0\\0\\3\\24shown 1000 eyJ"..., 792) = 792'


@pytest.mark.parametrize(
    "trace",
    [
        [WRITE, SYNC, SHOWN],
        [WRITE, "7 fsync(12</data/audit.db-wal> <unfinished ...>", "7 <... fsync resumed>) = 0", SHOWN],
        [WRITE, SYNC, "8" + WRITE[1:], SHOWN],  # what another thread writes is not acknowledged here
    ],
)
def test_what_was_synced_before_it_was_acknowledged_is_no_finding(trace: list[str]) -> None:
    assert unsynced(trace, "7", 1) == []


@pytest.mark.parametrize(
    "trace",
    [
        [WRITE, SHOWN],
        [WRITE, SHOWN, SYNC],
        [WRITE, "8" + SYNC[1:], SHOWN],
        [WRITE, SYNC.replace("= 0", "= -1 EIO (Input/output error)"), SHOWN],
        [WRITE, SYNC.replace("audit.db-wal", "topics.db-wal"), SHOWN],
        [WRITE, "7 fsync(12</data/audit.db-wal> <unfinished ...>", SHOWN, "7 <... fsync resumed>) = 0"],
        [WRITE, SYNC],  # an acknowledgement that the trace does not show proves nothing
    ],
)
def test_what_was_acknowledged_before_it_was_synced_is_found(trace: list[str]) -> None:
    assert unsynced(trace, "7", 1)


def hexed(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def test_the_calls_of_a_trace_are_read() -> None:
    wal = f"12<{hexed(b'/d/audit.db-wal')}>"
    said = b"\0\0\0\x10shown 1000 eyJ"
    assert events(
        [
            f'7 pwrite64({wal}, "{hexed(b"ab")}", 2, 512) = 2',
            f'8 pwrite64(13<{hexed(b"/d/audit.db-shm")}>, "{hexed(b"a")}", 1, 4095) = 1',
            f"7 fsync({wal} <unfinished ...>",
            f'8 pwrite64({wal}, "{hexed(b"cd")}", 2, 0 <unfinished ...>',
            "8 <... pwrite64 resumed>)            = 2",
            "7 <... fsync resumed>)               = 0",
            f'5 write(9<{hexed(b"pipe:[3]")}>, "{hexed(said)}", {len(said)}) = {len(said)}',
            f"7 fsync({wal}) = -1 EIO (Input/output error) (INJECTED)",
            f"7 ftruncate({wal}, 0) = 0",
            f'7 unlink("{hexed(b"/d/audit.db-wal")}") = 0',
        ]
    ) == [
        Event("write", "audit.db-wal", 512, b"ab"),
        Event("write", "audit.db-wal", 0, b"cd"),
        Event("sync", "audit.db-wal", since=1),  # what was written while it went on may be lost
        Event("shown", "1000", data=b"eyJ"),
        Event("cut", "audit.db-wal"),
        Event("remove", "audit.db-wal"),
    ]


def test_after_a_power_cut_there_is_what_was_synced_and_a_part_of_the_rest() -> None:
    first, second, third = (Event("write", "audit.db", at, bytes([65 + at // 512]) * 512) for at in (0, 512, 1024))
    done = [first, second, Event("sync", "topics.db", since=2), Event("sync", "audit.db", since=1), third]

    def after(kept: float, seed: int = 0) -> bytes:
        return files_after({"audit.db": b"z" * 512}, done, kept, Random(seed))["audit.db"]

    assert after(0.0) == b"A" * 512
    assert after(1.0) == b"A" * 512 + b"B" * 512 + b"C" * 512
    parts = {after(0.5, seed) for seed in range(50)}
    assert parts == {after(0.0), after(1.0), b"A" * 512 + b"B" * 512, b"A" * 512 + bytes(512) + b"C" * 512}
    gone = [*done, Event("remove", "audit.db")]
    assert files_after({}, gone, 1.0, Random(0)) == {}
    assert files_after({}, gone, 0.0, Random(0)) == {"audit.db": b"A" * 512}


def test_a_finding_is_of_something() -> None:
    assert dataclasses.asdict(lost(evidence()))["of"] == 1


# --- a whole run ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_thirty_kills_on_one_machine() -> None:
    told = rig(
        "--seed",
        "30",
        "--kills",
        "30",
        "--pace",
        "1",
        "--faults",
        "kill,restart,cursor,push-answer,duplicates,late,poison",
    )
    assert told["kills"] == 30
    assert told["findings"]["lost"]["of"] > 1_000
    assert told["findings"]["unaudited"]["of"] > 100


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.timeout(400)
def test_a_writer_of_the_audit_log_that_crashes_here_and_there() -> None:
    few = ["--of", "audit", "--calls", "pwrite64", "--step", "40"]
    done = subprocess.run(
        [sys.executable, "-m", "rig.syscalls", *few], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert int(done.stdout.partition(" crashes")[0]) >= 12


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.timeout(400)
def test_a_writer_of_the_audit_log_whose_power_goes_here_and_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rig.powercut", "--step", "40"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert int(done.stdout.partition(" power cuts")[0]) >= 6


@pytest.mark.slow
def test_an_acknowledged_entry_that_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    log = Acknowledged(tmp_path / "log", Site(tmp_path / "site"))
    log.put_back()
    words = log.write(1_000)
    assert words.status == 0
    assert len(words.shown) > 1
    assert log.wrong([words]) == []
    SqliteFile(tmp_path / "log" / "data" / "audit.db").run(
        "DELETE FROM audit_entries WHERE writer = 'gateway-1' AND number = 2"
    )
    found = "\n".join(log.wrong([words]))
    assert "1001 was acknowledged and is there 0 times" in found
    assert "audit verify ended with 1" in found
    assert log.wrong([dataclasses.replace(words, shown={}, status=1)])  # what is there and nobody said


@pytest.mark.services
@pytest.mark.timeout(400)
def test_eight_kills_on_kafka_and_postgresql_some_of_them_theirs() -> None:
    faults = "kill,push-answer,commit-answer,broker-kill,database-kill,duplicates,late,poison"
    told = rig("--kafka", "--postgres", "--seed", "39", "--kills", "8", "--pace", "2.5", "--faults", faults)
    assert told["kills"] == 8
    assert {"broker-kill", "database-kill"} < {strike["fault"] for strike in told["strikes"]}


@pytest.mark.services
@pytest.mark.timeout(400)
def test_what_waited_for_a_server_is_caught_up_while_more_comes_in() -> None:
    few = ["--records", "10000", "--seconds", "1", "--times", "1", "--share", "0.1"]
    done = subprocess.run(
        [sys.executable, "-m", "rig.drain", "--json", *few], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 2:
        skip_or_fail(done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["lost"] == 0
    assert {one["server"] for one in told["drained"]} == {"postgres", "kafka"}
    assert all(one["waited"] > 0 and one["read"] > 0 for one in told["drained"])


def rig(*arguments: str) -> dict[str, Any]:
    """A run that must hold; only for seconds a shared machine is given more of them."""
    command = [sys.executable, "-m", "rig", "--json", "--within", "60", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        skip_or_fail(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    wrong = {name: found["cases"] for name, found in told.get("findings", {}).items() if found["wrong"]}
    assert done.returncode == 0, f"{wrong}\n{done.stderr[-3000:]}"
    return told
