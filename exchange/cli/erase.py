"""`exchange erase`: what was said of a subject until now is gone, everywhere, with proof in the audit log.

docs/erasure.md has more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from exchange import erasure
from exchange.cli.administration import bundle_in_force, note
from exchange.cli.materialise import topics_to_read
from exchange.cli.options import CONFIG, Config, Json, asked_subject, load, print_json, say
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.erasure import Eraser
from exchange.errors import BadRequest, PolicyUnavailable
from exchange.publish import Layout
from exchange.records import Erasure
from exchange.registry import StoreRegistry
from exchange.rekeying import of_contracts
from exchange.settings import Settings
from exchange.store import Store
from exchange.topics import Broker
from exchange.wiring import audit_keys, key_maker, open_broker, open_store

app = typer.Typer(no_args_is_help=True, help=__doc__)

_REFERENCE = re.compile(r"[A-Za-z0-9._/-]{1,64}")


@app.command()
def order(
    reference: Annotated[str, typer.Option(help="What the order is called in the city's files; no name of a person.")],
    config: Config = CONFIG,
    scheme: Annotated[str, typer.Option(help="The identifier's scheme, as in contracts.")] = "cn.ric",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased; nothing is.")] = False,
    json: Json = False,
) -> None:
    """Erase a subject. The identifier is asked for, or read from standard input; it never stands on the command line.

    The department must have erased it in its own system: what it says of the subject from now on is new, and stands.
    """
    settings = load(config)
    if not _REFERENCE.fullmatch(reference):
        raise BadRequest("--reference takes 1 to 64 letters, digits and . _ / -")
    subject = asked_subject(scheme)
    with _parts(settings) as (eraser, _):
        key = key_maker(settings).subject(subject)
        if dry_run:
            found = eraser.would(key)
            if json:
                print_json({"would_erase": found})
            else:
                _tell_of(found)
            return
        about = audit_keys(settings).subject(subject)
        note(settings, "erase", subject=about, details={"reference": reference})
        done = eraser.carry_out(eraser.order(key, reference))
        note(settings, "erased", subject=about, details=_counts(done))
    if json:
        print_json(asdict(done))
    else:
        _say(done)


@app.command()
def resume(config: Config = CONFIG, json: Json = False) -> None:
    """Carry out to their end all orders that are open: a command was killed, or no materialiser ran."""
    settings = load(config)
    with _parts(settings) as (eraser, broker):
        waiting = [each for each in erasure.listed(broker).values() if each.done is None]
        finished = []
        for each in waiting:
            finished.append(eraser.carry_out(each))
            note(settings, "erased", details=_counts(finished[-1]))
    if json:
        print_json({"erased": [asdict(each) for each in finished]})
        return
    for each in finished:
        _say(each)
    if not finished:
        say("no order is open")


@app.command("list")
def list_(config: Config = CONFIG, json: Json = False) -> None:
    """The orders, by subject key, with what came of each."""
    settings = load(config)
    with closing(open_broker(settings)) as broker:
        found = sorted(erasure.listed(broker).values(), key=lambda each: each.ordered)
    if json:
        print_json({"erasures": [asdict(each) for each in found]})
        return
    for each in found:
        _say(each)


@contextmanager
def _parts(settings: Settings) -> Iterator[tuple[Eraser, Broker]]:
    with closing(open_store(settings, system_clock)) as store, closing(open_broker(settings)) as broker:
        store.check()
        store.check_keyed(key_maker(settings).mark)  # under another secret nobody would be found
        yield made(settings, store, broker), broker


def made(settings: Settings, store: Store, broker: Broker) -> Eraser:
    """An eraser for what the policies in force serve; the list's topic exists then. Raises PolicyUnavailable."""
    bundle = bundle_in_force(store)
    if bundle is None:
        raise PolicyUnavailable("there are no policies yet; `exchange policy apply` applies them")
    registry = StoreRegistry(store.engine)
    served = [terms.topic for terms in bundle.served()]
    found = [registry.latest(f"{topic}-value") for topic in of_contracts(served, store)]
    broker.ensure(erasure.topic(Layout.of(settings).replication))
    contracts = [Contract.from_text(text) for _, _, text in filter(None, found)]
    return Eraser(store, broker, contracts, topics_to_read(store), key_maker(settings), system_clock)


def _counts(done: Erasure) -> dict[str, str]:
    return {"reference": done.reference, "records": str(done.records), "rejects": str(done.rejects)}


def _tell_of(found: dict[str, int]) -> None:
    for topic, count in found.items():
        say(f"{topic:40} {count:>8} records")
    if not found:
        say("nothing is known of this subject")


def _say(each: Erasure) -> None:
    state = "open" if each.done is None else f"done {each.done.isoformat(timespec='seconds')}"
    say(
        f"{each.reference:24} {each.subject_key}  ordered {each.ordered.isoformat(timespec='seconds')}  {state}"
        f"  {each.records} records, {each.rejects} rejects"
    )
