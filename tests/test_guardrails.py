"""The Cedar guardrails: each sentence has its cases, each case needs its policy, what bites in Cedar is held off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exchange.agreements.files import Reasons
from exchange.decisions import load_bundle
from exchange.decisions.cedar import MAX_TEXT, Engine, parse
from exchange.decisions.guardrails import FORBIDS, PERMITS, Guarded, failing, read
from exchange.errors import PolicyRefused
from tests.support.policies import CITY, GUARDRAILS, ZONE, write

CLIENT = {
    "issuer": "i",
    "client_id": "desk",
    "department": "civil",
    "scopes": ["view"],
    "purposes": ["check"],
}
CONTRACT = {"name": "civil.person", "major": 1, "owner": "civil", "kind": "citizen", "sharing": "conditional"}
CONTEXT: dict[str, Any] = {"purpose": {"id": "check", "sensitive": []}, "level": 1, "case": False, "now": 0}


@pytest.fixture(scope="module")
def guarded() -> Guarded:
    reasons = Reasons(GUARDRAILS)
    found = read(GUARDRAILS, reasons)
    reasons.refuse_if_any()
    return found


def policy(name: str, body: str, annotations: str | None = None) -> str:
    return (annotations or f'@id("{name}") @doc("A sentence.")') + " " + body


FORBID = "forbid (principal, action, resource)"


class TestTheSet:
    def test_every_case_comes_out_as_it_says(self, guarded: Guarded) -> None:
        assert failing(guarded, Engine(guarded.guardrails.values(), guarded.schema)) == []

    @pytest.mark.parametrize("name", [*PERMITS, *FORBIDS])
    def test_each_guardrail_is_needed_by_a_case_of_its_own(self, guarded: Guarded, name: str) -> None:
        without = {other: one for other, one in guarded.guardrails.items() if other != name}
        engine = Engine(without.values(), guarded.schema)
        assert any(
            file == f"{name}.cases.toml" and reason.startswith("case") for file, reason in failing(guarded, engine)
        )

    @pytest.mark.parametrize("name", [*PERMITS, *FORBIDS])
    def test_each_guardrail_must_be_there(self, tmp_path: Path, name: str) -> None:
        folder = write(tmp_path)
        for file in (folder / "guardrails").glob(f"{name}.c*"):
            file.unlink()
        with pytest.raises(PolicyRefused, match=f"`{name}` is missing"):
            load_bundle(folder, CITY, ZONE)

    def test_a_city_adds_forbids_with_cases(self, tmp_path: Path) -> None:
        folder = write(tmp_path)
        rule = policy("no-press", FORBID + ' when { principal.department == "press" };')
        (folder / "guardrails" / "no-press.cedar").write_text(rule)
        with pytest.raises(PolicyRefused, match=r"guardrails/no-press\.cases\.toml: at least one ALLOW case is needed"):
            load_bundle(folder, CITY, ZONE)
        allow = (GUARDRAILS / "own.cases.toml").read_text().split("\n[[cases]]")[0]
        cases = folder / "guardrails" / "no-press.cases.toml"
        cases.write_text(allow + "\n" + allow.replace("ALLOW", "DENY").replace('"civil"', '"tax"'))
        with pytest.raises(PolicyRefused, match="came out ALLOW by own"):
            load_bundle(folder, CITY, ZONE)
        cases.write_text(allow + "\n" + allow.replace("ALLOW", "DENY").replace('"civil"', '"press"'))
        bundle = load_bundle(folder, CITY, ZONE)
        assert "no-press" in {guardrail.id for guardrail in bundle.guardrails}

    def test_a_city_adds_no_permit(self, tmp_path: Path) -> None:
        folder = write(tmp_path)
        (folder / "guardrails" / "all.cedar").write_text(policy("all", "permit (principal, action, resource);"))
        with pytest.raises(PolicyRefused, match="`all` is a permit"):
            load_bundle(folder, CITY, ZONE)

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ('expect = "DENY"', 'expect = "ALLOW"', "expected ALLOW, came out DENY"),
            ('department = "civil"', "department = 1", "is not a request of the schema"),
            ("level = 2, case = false", "level = 2.0, case = false", "errs"),
            ('expect = "DENY"', 'expects = "DENY"', "case 2"),
            ("[[cases]]", "[[case]]", "unknown key case"),
        ],
    )
    def test_a_case_that_does_not_hold_stops_everything(self, tmp_path: Path, old: str, new: str, reason: str) -> None:
        folder = write(tmp_path)
        file = folder / "guardrails" / "own.cases.toml"
        file.write_text(file.read_text().replace(old, new))
        with pytest.raises(PolicyRefused, match=reason):
            load_bundle(folder, CITY, ZONE)


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "holds one policy, this one 0"),
            (policy("x", FORBID + ";") + policy("y", FORBID + ";"), "this one 2"),
            (policy("x", FORBID + ";", '@doc("A sentence.")'), 'needs @id("x")'),
            (policy("y", FORBID + ";"), 'needs @id("x")'),
            (policy("x", FORBID + ";", '@id("x")'), "needs @doc"),
            (policy("x", FORBID + ";", '@id("x") @doc(" ")'), "needs @doc"),
            (policy("x", FORBID + ";", '@id("x") @doc'), "needs @doc"),
            (policy("x", FORBID + ";", '@id("x") @id("y") @doc("z")'), "duplicate annotation"),
            (policy("x", FORBID + ";", '@id("x") @doc("z") @masks("last4")'), "unknown annotation @masks"),
            (policy("x", FORBID + ";", '@id("x") @doc("z") @mask("last4")'), "on permits only"),
            (
                policy("x", "permit (principal, action, resource);", '@id("x") @doc("z") @mask("half")'),
                "@mask is one of",
            ),
            (policy("x", "permit (principal, action, resource);", '@id("x") @doc("z") @mask'), "@mask is one of"),
            (policy("x", "permit (principal == ?principal, action, resource);"), "templates are not used"),
            ("not cedar", "unexpected token"),
            (policy("x", FORBID + " when { " + "(" * 5_000 + "true" + ")" * 5_000 + " };"), "larger|nested"),
            (policy("x", FORBID + " when { " + "(" * 1_500 + "true" + ")" * 1_500 + " };"), "nested more than"),
            (policy("x", FORBID + " when { true" + " && true" * 100 + " };"), None),
            ("//" + " " * MAX_TEXT + policy("x", FORBID + ";"), "larger than"),
        ],
    )
    def test_what_is_refused(self, text: str, reason: str | None) -> None:
        if reason is None:
            assert parse(text, "x").effect == "forbid"
            return
        with pytest.raises(ValueError, match=reason.replace("(", r"\(").replace(")", r"\)")):
            parse(text, "x")

    def test_a_permit_can_carry_a_mask(self) -> None:
        found = parse(policy("x", "permit (principal, action, resource);", '@id("x") @doc("z") @mask("last4")'), "x")
        assert (found.id, found.effect, found.says, found.mask) == ("x", "permit", "z", "last4")


class TestWhatBites:
    """What policy engines let through: rules that are skipped, and values that quietly compare as unequal."""

    @pytest.mark.parametrize(
        "condition",
        [
            'context.purpose in ["marketing"]',
            'context.purpose.id >= "a"',
            'context.level == "4"',
            'context.agreement.id == "a"',
            'principal.nothing == "a"',
            'principal == User::"a"',
        ],
    )
    def test_a_forbid_that_could_err_is_refused_at_loading(self, guarded: Guarded, condition: str) -> None:
        rule = parse(policy("x", f"{FORBID} when {{ {condition} }};"), "x")
        with pytest.raises(ValueError, match="x: "):
            Engine([*guarded.guardrails.values(), rule], guarded.schema)

    def test_a_forbid_that_errs_all_the_same_denies(self, guarded: Guarded) -> None:
        rule = parse(policy("x", FORBID + " when { context.now + 9223372036854775807 == 0 };"), "x")
        engine = Engine([*guarded.guardrails.values(), rule], guarded.schema)
        fine, overflow = engine.ask(CLIENT, CONTRACT, [CONTEXT, CONTEXT | {"now": 1}])
        assert fine.allowed
        assert not overflow.allowed
        assert overflow.errors

    @pytest.mark.parametrize("level", ["4", "1", 4.0, None, True, [4], {}, 2**63])
    def test_a_level_of_another_type_is_an_error(self, guarded: Guarded, level: Any) -> None:
        engine = Engine(guarded.guardrails.values(), guarded.schema)
        (verdict,) = engine.ask(CLIENT, CONTRACT, [CONTEXT | {"level": level}])
        assert not verdict.allowed
        assert verdict.errors

    @pytest.mark.parametrize(
        "change", [{"case": 1}, {"now": "0"}, {"purpose": "check"}, {"more": 1}, {"agreement": {}}]
    )
    def test_a_context_that_is_not_of_the_schema_is_an_error(self, guarded: Guarded, change: dict[str, Any]) -> None:
        engine = Engine(guarded.guardrails.values(), guarded.schema)
        fine, verdict = engine.ask(CLIENT, CONTRACT, [CONTEXT, CONTEXT | change])
        assert fine.allowed
        assert not verdict.allowed
        assert verdict.errors

    @pytest.mark.parametrize("name", list(CONTEXT))
    def test_so_is_one_that_lacks_something(self, guarded: Guarded, name: str) -> None:
        engine = Engine(guarded.guardrails.values(), guarded.schema)
        (verdict,) = engine.ask(CLIENT, CONTRACT, [{key: value for key, value in CONTEXT.items() if key != name}])
        assert not verdict.allowed
        assert verdict.errors

    @pytest.mark.parametrize("name", list(CLIENT))
    @pytest.mark.parametrize("value", [None, 1, {"a": 1}])
    def test_and_entities_are_checked_too(self, guarded: Guarded, name: str, value: Any) -> None:
        engine = Engine(guarded.guardrails.values(), guarded.schema)
        with pytest.raises(ValueError, match="entit"):
            engine.ask(CLIENT | {name: value}, CONTRACT, [CONTEXT])
