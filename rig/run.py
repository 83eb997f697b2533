"""One run: found an exchange, set the offices and desks to work, strike, let it settle, hold everything to account."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from rig.checkers import CHECKERS, REJECTS, Evidence, Finding
from rig.delays import delays
from rig.desks import ENTERPRISES
from rig.faults import Fault, Here, Strike, schedule
from rig.identities import Keys
from rig.issuer import Issuer
from rig.leaks import Metrics
from rig.offices import CONTRACTS, REGISTER, TABLE, Penalties, Register, topic
from rig.places import Places
from rig.proxy import Proxy
from rig.recovery import Probe, Recovery, gaps, recoveries
from rig.servers import Servers
from rig.site import Site
from rig.topics import WATERMARKS, Away
from rig.watch import Held, Watch
from rig.workload import Workload

READY = 90.0  # seconds until everything runs at first
SETTLE = 180.0  # seconds, after the last fault, until everything that was said must have had its effect
TRIES = 5  # to have a view in the end, of a gateway that has a processor to itself only now and then
AWAY = ("broker-away", "issuer-away", "issuer-slow", "issuer-garbage", "key-rotated")
GAP = 10.0  # while one of these lasts, a view is served at least every so many seconds
UNLOGGED, SURELY = "audit-locked", 2.0  # so many seconds from its begin, and before its end, the lock surely holds
KEYS_KEPT = 28.0  # seconds between two fetches of keys: 30, and what a busy machine takes from that
GROWS = Held(mib=32, descriptors=32, threads=8)  # more than this in one life is a leak


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is asked to do. It ends after so many kills or so many seconds, whichever comes first."""

    seed: int
    faults: Sequence[Fault]
    meddling: Sequence[str]
    kills: int
    seconds: float
    pace: float  # seconds between two faults, in the mean
    within: float  # seconds in which a killed process must serve again


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    seconds: float = 0.0
    settled: float = 0.0
    strikes: list[Strike] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    refused: list[float] = field(default_factory=list)  # seconds until a view was refused with 503
    delays: Mapping[str, Sequence[float]] = field(default_factory=dict)
    said: int = 0
    most: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        return sum(strike.kills for strike in self.strikes)

    @property
    def good(self) -> bool:
        return not any(finding.wrong for finding in self.findings)


class Run:
    """A run in an empty folder."""

    def __init__(self, plan: Plan, folder: Path, places: Places, servers: Servers) -> None:
        self._plan = plan
        self._places = places
        database = Proxy(*places.database) if places.store else None
        store = places.store_through(database.port) if database else ""
        self._issuer = Issuer()
        self._site = Site(folder, places.broker, store, self._issuer)
        self._tables = places.tables(folder)
        self._tables.watch()
        gateways = [Proxy("127.0.0.1", urlsplit(url).port or 0) for url in self._site.gateways]
        self._here = Here(self._site, places, self._tables, servers, self._issuer, gateways, database)
        self._workload = Workload(self._here, plan.seed, plan.meddling)
        self._site.instance("register", Register.INSTANCE)
        self._site.instance("penalties", Penalties.INSTANCE)
        self._workload.begin()
        self._probe = Probe(dict(zip(("gateway-1", "gateway-2"), self._site.gateways, strict=True)))
        self._watch = Watch(self._site.pids)
        self._metrics = Metrics(self._site.metrics)

    def run(self) -> Outcome:
        """Everything, to the end."""
        outcome = Outcome()
        over, give_up, done = threading.Event(), threading.Event(), threading.Event()
        too_late = threading.Timer(SETTLE, give_up.set)
        try:
            self._site.start()
            with _beside(done, self._site.work, self._probe.work, self._watch.work, self._metrics.work):
                self._until(self._probe.last, READY, "the gateways are not ready")
                self._workload.learn_keys()
                with _beside(over, *self._workload.workers(give_up)):
                    outcome.seconds = self._strike(outcome.strikes)
                    over.set()
                    too_late.start()
                began = time.monotonic()
                unsettled = self._settle()
                outcome.settled = time.monotonic() - began
                views = self._views()
                self._watch.look()
        finally:
            too_late.cancel()
            done.set()
            stopped = self._site.stop()
        self._judge(outcome, unsettled, views, stopped)
        return outcome

    # -- while it runs --

    def _strike(self, strikes: list[Strike]) -> float:
        began = time.monotonic()
        kills = 0
        faults = [fault for fault in self._plan.faults if fault.possible(self._here)]
        for planned in schedule(self._plan.seed, faults, self._plan.pace):
            left = self._plan.seconds - (time.monotonic() - began)
            if kills >= self._plan.kills:
                break
            if planned.pause >= left:
                break
            time.sleep(planned.pause)
            strike = planned.fault.strike(self._here, Random(planned.seed))
            strikes.append(strike)
            kills += strike.kills
            print(f"{time.monotonic() - began:7.1f} s  {strike.fault} {strike.target}", file=sys.stderr, flush=True)
        if kills < self._plan.kills:
            time.sleep(max(0.0, self._plan.seconds - (time.monotonic() - began)))
        return time.monotonic() - began

    # -- until all of it has had its effect --

    def _settle(self) -> list[str]:
        with closing(self._places.topics(self._site.folder)) as topics:
            names = [*map(topic, CONTRACTS), *REJECTS, WATERMARKS]

            told = ((REGISTER, self._workload.register.told), (TABLE, self._workload.penalties.told))

            def behind() -> str | None:
                for source, moment in told:
                    if self._tables.as_of(source) < moment:
                        return f"{source} has not told everything"
                positions = self._tables.positions()
                for name in names:
                    for partition, end in topics.ends(name).items():
                        if end > positions.get((name, partition), 0):
                            return f"{name} was not read to its end"
                return None if self._probe.last() else "a gateway is not ready"

            reason: str | None = ""
            deadline = time.monotonic() + SETTLE
            while time.monotonic() < deadline:
                try:
                    reason = behind()
                except Away as away:
                    reason = str(away) or "the broker is away"
                if reason is None:
                    return []
                time.sleep(0.2)
            return [f"not settled after {SETTLE:.0f} s: {reason}"]

    def _views(self) -> Finding:
        """Every view, once more: now it must be exactly the one that was predicted."""
        wrong, count = [], 0
        for desk in self._workload.desks:
            for number in ENTERPRISES:
                count += 1
                shown = next((found for _ in range(TRIES) if (found := desk.ask(number)) is not None), None)
                if shown is None:
                    wrong.append(f"no view of enterprise {number} was answered in {TRIES} tries")
                elif shown not in desk.predicted(number):
                    wrong.append(f"the view of enterprise {number} is not the one that was predicted")
        return Finding("views", count, "views predicted", wrong)

    def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} after {seconds:.0f} s; see {self._site.folder}")
            time.sleep(0.05)

    # -- when it is over --

    def _judge(self, outcome: Outcome, unsettled: list[str], views: Finding, stopped: list[str]) -> None:
        folder = self._site.folder
        with closing(self._places.topics(folder)) as topics:
            evidence = Evidence(
                self._workload.oracle,
                Keys((folder / "keys" / "bus.key").read_bytes()),
                topics,
                self._tables,
                self._workload.desks,
                self._workload.pushers,
                [part.log for part in self._site.parts.values()],
                self._metrics,
            )
            outcome.findings = [check(evidence) for check in CHECKERS]
            outcome.delays = delays(evidence)
            outcome.recoveries = recoveries(evidence, outcome.strikes, self._probe)
        outcome.findings += [
            views,
            self._chain(),
            self._ends(stopped + unsettled, outcome),
            self._slow(outcome),
            self._outlived(outcome),
            self._unlogged(outcome),
            self._fetches(),
            self._growth(),
        ]
        outcome.said = self._workload.oracle.count()
        outcome.most = self._watch.most()
        outcome.answers = self._workload.answers()
        outcome.refused = [after for desk in self._workload.desks for after in desk.refused_after]

    def _chain(self) -> Finding:
        verified = self._site.command("audit", "verify", "--json", check=False)
        wrong = [f"`exchange audit verify` ended with {verified.returncode}: {verified.stdout.strip()[-500:]}"]
        return Finding("chain", 1, "audit log verified", wrong if verified.returncode else [])

    def _ends(self, others: list[str], outcome: Outcome) -> Finding:
        wrong = [f"{end.part} ended by itself with {end.status}" for end in self._site.ends if not end.wanted]
        wrong += [each for strike in outcome.strikes for each in strike.wrong]
        broken = [(each.at, each.until + 1) for each in outcome.strikes if each.fault == "rejects-away"]
        odd = [odd for pusher in self._workload.pushers for odd in pusher.odd]
        wrong += [told for at, told in odd if not any(begin <= at <= end for begin, end in broken)]
        return Finding("ends", len(self._site.ends), "ends of processes, all of them ours", wrong + others)

    def _slow(self, outcome: Outcome) -> Finding:
        times = [each for each in outcome.recoveries if each.seconds is not None]
        wrong = [
            f"{each.target} served again after {each.seconds:.1f} s"
            for each in times
            if each.seconds is not None and each.seconds > self._plan.within
        ]
        return Finding("recovery", len(times), f"recoveries within {self._plan.within:g} s", wrong)

    def _outlived(self, outcome: Outcome) -> Finding:
        """While the broker or the issuer is away views are served."""
        served = [at for desk in self._workload.desks for at in desk.served_at]
        wrong, count = [], 0
        for strike in outcome.strikes:
            if strike.fault in AWAY:
                views, gap = gaps(served, strike)
                count += views
                wrong += [f"no view for {gap:.0f} s during {strike.fault}"] if gap > GAP else []
        return Finding("outlived", count, "views while the broker or the issuer was away", wrong)

    def _unlogged(self, outcome: Outcome) -> Finding:
        """While the audit log is locked no view is served: of those that were asked for when it surely was."""
        locked = [strike for strike in outcome.strikes if strike.fault == UNLOGGED]
        served = [at for desk in self._workload.desks for at in desk.served_at]
        shown = sum(strike.at + SURELY < at < strike.until - SURELY for strike in locked for at in served)
        return Finding("unlogged", len(locked), "times that the audit log was locked", ["a view was served"] * shown)

    def _fetches(self) -> Finding:
        """A gateway that was given the keys asks again half a minute later at the soonest, unless it began anew."""
        wrong, count = [], 0
        for name, asked in self._issuer.asked.items():
            count += len(asked.tries)
            for given, again in asked.pairs():
                anew = any(end.part == name and given <= end.at <= again for end in self._site.ends)
                if again - given < KEYS_KEPT and not anew:
                    wrong.append(f"{name} fetched the keys again after {again - given:.1f} s")
        return Finding("fetches", count, "fetches of keys, one in 30 s", wrong)

    def _growth(self) -> Finding:
        grown = self._watch.growth()
        wrong = [
            f"{name} grew by {held.mib:.0f} MiB, {held.descriptors} descriptors, {held.threads} threads"
            for name, held in grown
            if held.mib > GROWS.mib or held.descriptors > GROWS.descriptors or held.threads > GROWS.threads
        ]
        return Finding("growth", len(grown), "lives that lasted", wrong)


@contextmanager
def _beside(over: threading.Event, *work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do all of this beside the block, until `over`; what one of them raises ends the run."""
    failed: list[BaseException] = []

    def guarded(each: Callable[[threading.Event], None]) -> None:
        try:
            each(over)
        except BaseException as error:  # noqa: BLE001  it is raised again below
            failed.append(error)

    with ExitStack() as stack:
        threads = [threading.Thread(target=guarded, args=(each,)) for each in work]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(over.set)
        yield
    if failed:
        raise failed[0]
