"""`exchange client` changes one entry of clients.toml and what is in force, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import threading
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from exchange.agreements import editing
from exchange.cli import client, policy
from exchange.cli.administration import bundle_in_force, open_audit
from exchange.clock import system_clock
from exchange.errors import (
    AuditUnavailable,
    Conflict,
    ExchangeError,
    NotFound,
    PolicyRefused,
    SettingWrong,
    StoreUnavailable,
)
from exchange.files import Unfit, replace
from exchange.settings import Settings
from exchange.store import Store
from exchange.wiring import open_store
from gateway.issuer import load_clients
from tests.support.site import Site

ISSUER = "https://issuer.exchange.invalid"
ADD = ("add", "tax-night", "--department", "tax", "--purpose", "tax-assessment", "--name", "Nachtschicht 夜班")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "load", Settings.load)  # without setting up this process's logs


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Site.made(tmp_path_factory.mktemp("site")).folder


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Site:
    shutil.copytree(template, tmp_path / "site")
    return Site(tmp_path / "site")


def listed(site: Site) -> Path:
    return site.folder / "policies" / "clients.toml"


def run(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(client.app, [*arguments, "-c", str(site.config)])


def answer(site: Site, *arguments: str) -> dict[str, Any]:
    told = run(site, *arguments, "--json")
    assert told.exit_code == 0, told.output or told.exception
    found: dict[str, Any] = json.loads(told.output)
    return found


def in_force(site: Site) -> tuple[str, set[str]]:
    store = open_store(site.settings(), system_clock)
    try:
        bundle = bundle_in_force(store)
    finally:
        store.close()
    assert bundle is not None
    return bundle.version, {client_id for _, client_id in bundle.clients}


def noted(site: Site) -> list[dict[str, Any]]:
    with open_audit(site.settings()) as audit, audit.reading() as connection:
        entries = [json.loads(stored.entry) for stored in audit.walk_entries(connection)]
    return [entry for entry in entries if entry["act"] == "policy apply"]


def test_a_client_is_added_applied_and_noted_and_nothing_else_is_touched(site: Site) -> None:
    before = listed(site).read_bytes()
    mode = listed(site).stat().st_mode
    told = answer(site, *ADD)
    after = listed(site).read_bytes()
    assert after.startswith(before)
    assert listed(site).stat().st_mode == mode
    assert tomllib.loads(after.decode())["clients"][-1] == {
        "issuer": ISSUER,
        "client_id": "tax-night",
        "name": "Nachtschicht 夜班",
        "department": "tax",
        "scopes": ["view"],
        "purposes": ["tax-assessment"],
    }
    version, known = in_force(site)
    assert told["policy"] == version
    assert "tax-night" in known
    assert noted(site)[-1]["details"]["adds"]["client_id"] == "tax-night"
    assert policy.read_policies(site.settings())[1].version == version
    assert {file.name for file in listed(site).parent.iterdir() if file.name.startswith(".")} == set()


def test_one_of_the_built_in_issuer_gets_a_secret_of_its_own(site: Site) -> None:
    told = answer(site, *ADD)
    secret = site.folder / "keys" / "clients" / "tax-night"
    assert told["made"] == [str(secret), str(site.folder / "dev-clients.toml")]
    assert secret.stat().st_mode & 0o777 == 0o600
    known = load_clients(site.folder / "dev-clients.toml")
    assert known["tax-night"].knows(secret.read_text("ascii"))
    assert known["tax-desk"].secret is not None


def test_a_struck_client_stays_with_its_day_and_is_out(site: Site) -> None:
    before = listed(site).read_text("utf-8")
    told = answer(site, "strike", "tax-desk")
    day = told["client"]["struck"]
    after = listed(site).read_text("utf-8")
    gone = [line for line in after.splitlines() if line not in before.splitlines()]
    assert gone == [f"struck = {day}"]
    assert [line for line in after.splitlines() if line not in gone] == before.splitlines()
    assert "tax-desk" not in in_force(site)[1]
    assert noted(site)[-1]["details"]["strikes"] == {"client_id": "tax-desk"}
    shown = answer(site, "list", "--department", "tax")["clients"]
    assert [(one["client_id"], one.get("struck")) for one in shown if one["client_id"] == "tax-desk"] == [
        ("tax-desk", day)
    ]
    assert f"struck {day}" in run(site, "list").output
    again = run(site, "strike", "tax-desk")
    assert isinstance(again.exception, Conflict)
    assert isinstance(run(site, "add", "tax-desk", "--department", "tax").exception, Conflict)


def test_a_dry_run_says_what_would_come_of_it_and_writes_nothing(site: Site) -> None:
    before, stands = listed(site).read_bytes(), in_force(site)
    told = answer(site, *ADD, "--dry-run")
    assert (listed(site).read_bytes(), in_force(site)) == (before, stands)
    assert not told["applied"]
    assert '+client_id = "tax-night"' in told["diff"]
    assert not (site.folder / "keys" / "clients" / "tax-night").exists()
    assert told["policy"] == answer(site, *ADD)["policy"]
    assert "-" not in {line[:1] for line in answer(site, "strike", "tax-desk", "--dry-run")["diff"][2:]}
    assert "nothing was written" in run(site, "strike", "tax-desk", "--dry-run").output


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("add", "x", "--department", "taxx"), NotFound, "no department taxx (do you mean tax?)"),
        (("add", "x", "--department", "Tax", "--new-department"), PolicyRefused, "department"),
        (("add", "tax-desk", "--department", "tax"), Conflict, "stands in clients.toml already"),
        (("add", "x", "--department", "tax", "--purpose", "curiosity"), NotFound, "curiosity"),
        (("add", "x", "--department", "tax", "--scope", "admin"), NotFound, "admin"),
        (("add", "a b", "--department", "tax"), SettingWrong, "letters, digits"),
        (("add", "x", "--department", "tax", "--sender-constrained", "mls"), PolicyRefused, "sender_constrained"),
        (("strike", "nobody"), NotFound, "no client nobody"),
        (("strike", "tax-desk", "--issuer", "https://elsewhere.example"), NotFound, "of https://elsewhere.example"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    site: Site, arguments: tuple[str, ...], error: type[ExchangeError], says: str
) -> None:
    unchanged(site, arguments, error, says)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda text: text + "[[clients]]\nissuer = ", "is not TOML"),
        (lambda text: text.replace('scopes = ["view"]', 'scope = ["view"]', 1), "entry 1"),
        (lambda text: text + '\n[clerk]\nname = "x"\n', "unknown key clerk"),
        (lambda text: text.replace('name = "', 'struck = "soon"\nname = "', 1), "struck"),
    ],
)
def test_a_malformed_file_is_named_and_left_alone(site: Site, broken: Any, says: str) -> None:
    listed(site).write_text(broken(listed(site).read_text("utf-8")), "utf-8")
    for arguments in (ADD, ("strike", "tax-desk")):
        unchanged(site, arguments, PolicyRefused, says)
    assert says in str(run(site, "list").exception)


def unchanged(site: Site, arguments: tuple[str, ...], error: type[ExchangeError], says: str) -> None:
    before, stands, entries = listed(site).read_bytes(), in_force(site), len(noted(site))
    told = run(site, *arguments)
    assert isinstance(told.exception, error), told.exception
    assert says in str(told.exception)
    assert (listed(site).read_bytes(), in_force(site), len(noted(site))) == (before, stands, entries)


def test_other_changes_are_not_applied_by_the_way(site: Site) -> None:
    (site.folder / "policies" / "civil" / "agreements.toml").write_text("")
    unchanged(site, ADD, PolicyRefused, "other changes")
    told = answer(site, *ADD, "--sender-constrained", "dpop", "--with-other-changes")
    assert told["client"]["sender_constrained"] == "dpop"
    assert told["policy"] == in_force(site)[0]


@pytest.mark.parametrize(
    ("where", "error"), [("note", AuditUnavailable("away")), ("open_broker", StoreUnavailable("away"))]
)
def test_what_fails_before_the_bundle_leaves_the_file(
    site: Site, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(policy, where, fails)
        unchanged(site, ADD, type(error), "away")  # type: ignore[arg-type]
    assert answer(site, *ADD)["applied"]


def test_what_fails_at_the_bundle_leaves_a_struck_client_struck(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written first: whoever applies next does not let the client in again."""

    def fails(*_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("exchange.store.Store.save_bundle", fails)
        assert isinstance(run(site, "strike", "tax-desk").exception, StoreUnavailable)
    assert "tax-desk" in in_force(site)[1]
    policy.apply_policies(site.settings())
    assert "tax-desk" not in in_force(site)[1]


def test_a_file_that_changed_meanwhile_is_not_overwritten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = listed(site).read_text("utf-8") + "# by somebody else\n"
    monkeypatch.setattr(policy, "note", lambda *_, **__: listed(site).write_text(changed, "utf-8"))
    assert isinstance(run(site, *ADD).exception, Conflict)
    assert listed(site).read_text("utf-8") == changed
    assert "tax-night" not in in_force(site)[1]


def test_a_file_that_cannot_be_written_stays_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listed(site).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert isinstance(run(site, *ADD).exception, SettingWrong | ExchangeError)
    assert listed(site).read_bytes() == before
    assert {file.name for file in listed(site).parent.iterdir() if file.name.startswith(".")} == set()


def test_a_mounted_file_is_changed_where_it_is(site: Site) -> None:
    real = listed(site).rename(listed(site).with_name("..data"))
    listed(site).symlink_to("..data")
    answer(site, *ADD)
    assert listed(site).is_symlink()
    assert "tax-night" in real.read_text("utf-8")


_WORD = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
_COMMENT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@given(st.lists(st.tuples(_WORD, _WORD, _COMMENT), min_size=1, max_size=4, unique_by=lambda one: one[:2]), st.data())
def test_editing_keeps_every_other_byte(found: list[tuple[str, str, str]], data: st.DataObject) -> None:
    text = "# The clients.\n\n" + "".join(
        f"# {comment}\n[[clients]]  # {comment}\nissuer = {quoted(issuer)}\n\n  client_id = {quoted(one)} #{comment}\n"
        for issuer, one, comment in found
    )
    issuer, one, _ = data.draw(st.sampled_from(found))
    day = system_clock().date()
    after = editing.struck(text, one, issuer, day)
    lines, added = text.splitlines(keepends=True), f"struck = {day}\n"
    kept = after.splitlines(keepends=True)
    kept.remove(added)
    assert kept == lines
    entry = {"issuer": "https://another.example", "client_id": one, "scopes": ["view"], "purposes": []}
    assert editing.added(after, entry).startswith(after)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_day_stands_with_its_entry_and_not_below_the_next_ones_comment(end: str) -> None:
    lines = [
        "# All of them.", "[[clients]]", 'issuer = "x"', 'client_id = "a"', "purposes = [", "    # none yet", "]", "",
        "# About b.", "", "[[clients]]", 'issuer = "x"', 'client_id = "b"', "",
    ]  # fmt: skip
    after = editing.struck(end.join(lines), "a", None, date(2026, 1, 2))
    assert after == end.join([*lines[:7], "struck = 2026-01-02", *lines[7:]])
    assert editing.struck(end.join(lines), "b", None, date(2026, 1, 2)).endswith(
        f'client_id = "b"{end}struck = 2026-01-02{end}'
    )


# --- two at the same moment -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 2])
def test_an_apply_that_read_the_files_before_a_strike_does_not_undo_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """`exchange up` applies too: it has read the files, and then a client is struck."""
    read, calls = policy.read_policies, [0]

    def and_then_struck(*arguments: Any) -> Any:
        found = read(*arguments)
        calls[0] += 1
        if calls[0] == after:
            assert run(site, "strike", "tax-desk").exit_code == 0
        return found

    monkeypatch.setattr(policy, "read_policies", and_then_struck)
    site.apply()
    assert "tax-desk" not in in_force(site)[1]
    monkeypatch.undo()
    site.apply()
    assert "tax-desk" not in in_force(site)[1]


def test_a_strike_and_an_apply_that_comes_before_its_bundle(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = Store.save_bundle, [0]

    def and_before_that_an_apply(self: Store, *arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 1:
            site.apply()
        save(self, *arguments)

    monkeypatch.setattr(Store, "save_bundle", and_before_that_an_apply)
    assert run(site, "strike", "tax-desk").exit_code == 0
    assert "tax-desk" not in in_force(site)[1]


def test_who_is_overtaken_again_and_again_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*_: Any) -> None:
        raise Conflict("other policies were applied meanwhile")

    monkeypatch.setattr(Store, "save_bundle", overtaken)
    refused = run(site, *ADD)
    assert isinstance(refused.exception, Conflict)
    assert "again" in str(refused.exception)


def test_of_two_that_edit_at_once_the_second_is_told(tmp_path: Path) -> None:
    file = tmp_path / "clients.toml"
    for _ in range(50):
        file.write_bytes(b"before")
        told: list[bool] = []
        begin = threading.Barrier(2)

        def edit(after: bytes, told: list[bool] = told, begin: threading.Barrier = begin) -> None:
            begin.wait()
            try:
                replace(file, b"before", after)
                told.append(True)
            except Unfit:
                told.append(False)

        editors = [threading.Thread(target=edit, args=(text,)) for text in (b"one", b"two")]
        for each in editors:
            each.start()
        for each in editors:
            each.join()
        assert sorted(told) == [False, True]
