"""policies/ becomes one bundle, or every reason why not."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.agreements import Bundle
from exchange.agreements import masks as mask_module
from exchange.agreements.masks import MASKS, MaskName, both
from exchange.contracts import load_catalogue
from exchange.decisions import load_bundle, without_effect
from exchange.errors import PolicyRefused, PolicyUnavailable
from tests.support.policies import CITY, CLIENTS, PURPOSES, ROOT, ZONE, agreement, write


def load(folder: Path, zone: str = ZONE, **files: str) -> Bundle:
    """Load a folder whose civil registry grants what `agreements` says."""
    agreements = files.pop("agreements", None)
    return load_bundle(write(folder, agreements={"civil": agreements} if agreements else {}, **files), CITY, zone)


def refusal(folder: Path, **files: str) -> list[str]:
    with pytest.raises(PolicyRefused) as refused:
        load(folder, **files)
    return refused.value.detail.splitlines()


def the(bundle: Bundle) -> object:
    (found,) = bundle.agreements.values()
    return found


class TestBundle:
    def test_of_the_projects_own_policies(self) -> None:
        bundle = load_bundle(ROOT / "policies", load_catalogue(ROOT / "schemas"), ZONE)
        assert bundle.clients
        assert bundle.agreements

    def test_its_version_is_the_hash_of_its_bytes_and_it_needs_no_files(self, tmp_path: Path) -> None:
        condition = '[["birth_date", "<", 2000-01-01], ["serial", "in", [1, 9007199254740993]]]'
        bundle = load(tmp_path, agreements=agreement(condition=condition))
        assert bundle.version == hashlib.sha256(bundle.to_bytes()).hexdigest()
        again = Bundle.from_bytes(bundle.to_bytes(), bundle.version)
        assert again == bundle
        assert (again.clients, again.purposes, again.agreements) == (
            bundle.clients,
            bundle.purposes,
            bundle.agreements,
        )
        assert (again.terms, again.guardrails, again.schema) == (bundle.terms, bundle.guardrails, bundle.schema)

    def test_one_content_has_one_version_whatever_the_order(self, tmp_path: Path) -> None:
        one, two = agreement(id='"a-1"'), agreement(id='"a-2"', purpose='"child-protection"')
        first = load(tmp_path / "first", agreements=one + two)
        clients = "\n[[clients]]".join(["", *reversed(CLIENTS.split("\n[[clients]]")[1:])])
        second = load(tmp_path / "second", agreements=two + one, clients=clients)
        assert first.version == second.version

    @pytest.mark.parametrize("word", ["fields", "until", "sensitive", "level", "scopes", "zone"])
    def test_any_change_is_another_version(self, tmp_path: Path, word: str) -> None:
        bundle = load(tmp_path, agreements=agreement())
        body = bundle.to_bytes()
        changed = body.replace(f'"{word}":'.encode(), f'"{word}": '.encode(), 1)
        assert changed != body
        with pytest.raises(PolicyUnavailable):
            Bundle.from_bytes(changed, bundle.version)

    def test_bytes_that_are_no_bundle_are_refused_even_under_their_own_hash(self, tmp_path: Path) -> None:
        content = json.loads(load(tmp_path, agreements=agreement()).to_bytes())
        wrong = []
        for change in (
            lambda body: body.update(format=2),
            lambda body: body.update(more=1),
            lambda body: body.pop("clients"),
            lambda body: body["clients"].append(body["clients"][0]),
            lambda body: body["terms"][0]["fields"]["id"].update(level="2"),
            lambda body: body["terms"][0]["fields"]["id"].update(level=5),
            lambda body: body["terms"][0]["fields"]["id"].update(level=True),
            lambda body: body["agreements"][0]["fields"].update(name="half"),
            lambda body: body["agreements"][0].update(until="2026-06-30T16:00:00"),
        ):
            body = json.loads(json.dumps(content))
            change(body)
            wrong.append(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
        wrong += [b"", b"[]", b"{", json.dumps(content).encode()]
        for one in wrong:
            with pytest.raises(PolicyUnavailable):
                Bundle.from_bytes(one, hashlib.sha256(one).hexdigest())


class TestFiles:
    def test_every_reason_is_given_with_file_and_entry(self, tmp_path: Path) -> None:
        reasons = refusal(
            tmp_path,
            clients=CLIENTS.replace('"view"]', '"look"]'),
            purposes=PURPOSES.replace('"civil.person"', '"civil.persons"'),
            agreements=agreement(consumer="7") + agreement("age = 'plain'", id='"a-2"'),
        )
        assert [reason.split(": ")[:2] for reason in reasons] == [
            ["purposes.toml", "child-protection"],
            ["clients.toml", "entry 1 (tax-desk)"],
            ["civil/agreements.toml", "entry 1 (a-1)"],
            ["civil/agreements.toml", "entry 2 (a-2)"],
        ]

    @pytest.mark.parametrize("file", ["clients.toml", "purposes.toml"])
    def test_both_lists_are_needed(self, tmp_path: Path, file: str) -> None:
        folder = write(tmp_path)
        (folder / file).unlink()
        with pytest.raises(PolicyRefused, match=f"{file}: does not exist"):
            load_bundle(folder, CITY, ZONE)

    def test_a_file_that_nobody_reads_is_refused(self, tmp_path: Path) -> None:
        folder = write(tmp_path, agreements={"civil": ""})
        (folder / "client.toml").write_text("")
        (folder / "civil" / "agreement.toml").write_text("")
        (folder / "fire").mkdir()
        (folder / "guardrails" / "notes.txt").write_text("")
        for passed in (folder / "README.md", folder / ".git"):
            passed.write_text("")
        with pytest.raises(PolicyRefused) as refused:
            load_bundle(folder, CITY, ZONE)
        assert [line.split(":")[0] for line in refused.value.detail.splitlines()] == [
            "client.toml",
            "fire",
            "civil/agreement.toml",
            "guardrails/notes.txt",
        ]

    def test_a_key_that_stands_twice_is_refused(self, tmp_path: Path) -> None:
        twice = agreement() + 'name = "redact"\n'
        assert refusal(tmp_path, agreements=twice) == [
            "civil/agreements.toml: is not TOML: Cannot overwrite a value (at line 12, column 16)"
        ]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"\xff", "is not UTF-8"),
            (b"#" * (1024 * 1024 + 1), "is larger than"),
            (b"a = " + b"[" * 20_000, "nested too deeply"),
            (b"clients = 3", "in double brackets"),
            (b"[[client]]", "unknown key client"),
        ],
    )
    def test_bytes_that_are_not_what_they_should_be(self, tmp_path: Path, content: bytes, reason: str) -> None:
        folder = write(tmp_path)
        (folder / "clients.toml").write_bytes(content)
        with pytest.raises(PolicyRefused, match=reason):
            load_bundle(folder, CITY, ZONE)

    def test_no_symbolic_link_leads_out(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        write(outside, agreements={"civil": agreement()})
        folder = write(tmp_path / "policies", agreements={"civil": ""})
        (folder / "civil" / "agreements.toml").unlink()
        (folder / "civil" / "agreements.toml").symlink_to(outside / "civil" / "agreements.toml")
        (folder / "clients.toml").unlink()
        (folder / "clients.toml").symlink_to(folder / "clients.toml")
        (folder / "market").symlink_to(outside / "civil")
        (folder / "guardrails").rename(tmp_path / "guardrails")
        (folder / "guardrails").symlink_to(tmp_path / "guardrails")
        with pytest.raises(PolicyRefused) as refused:
            load_bundle(folder, CITY, ZONE)
        detail = refused.value.detail
        assert "civil/agreements.toml: is a symbolic link that leads out" in detail
        assert "market: is a symbolic link that leads out" in detail
        assert "guardrails: is a symbolic link that leads out" in detail
        assert "clients.toml: cannot be read" in detail

    def test_links_inside_the_folder_are_how_configuration_is_mounted(self, tmp_path: Path) -> None:
        folder = write(tmp_path, agreements={"civil": agreement()})
        (folder / "civil" / "..data").mkdir()
        (folder / "civil" / "agreements.toml").rename(folder / "civil" / "..data" / "agreements.toml")
        (folder / "civil" / "agreements.toml").symlink_to("..data/agreements.toml")
        assert load_bundle(folder, CITY, ZONE).agreements

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        folder = write(tmp_path)
        (folder / "purposes.toml").unlink()
        os.mkfifo(folder / "purposes.toml")
        with pytest.raises(PolicyRefused, match="not a regular file"):
            load_bundle(folder, CITY, ZONE)

    def test_the_zone_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(PolicyRefused, match="Asia/Peking"):
            load(tmp_path, zone="Asia/Peking")


class TestClientsAndPurposes:
    def test_a_client_stands_there_once(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, clients=CLIENTS + CLIENTS[: CLIENTS.index("[[clients]]", 20)]) == [
            "clients.toml: entry 3 (tax-desk): this issuer and client_id stand here twice"
        ]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"tax-assessment"]', '"tax-asessment"]'),
            ('scopes = ["view"]', 'scope = ["view"]'),
            ('issuer = "https://id.example"', 'issuer = ""'),
            ('issuer = "https://id.example"', 'issuer = "https://id.example "'),
            ('department = "tax"', 'department = "Tax"'),
            ('name = "Tax assessment desk"', "name = 1"),
        ],
    )
    def test_what_is_wrong_with_a_client(self, tmp_path: Path, old: str, new: str) -> None:
        assert all(
            line.startswith("clients.toml: entry 1") for line in refusal(tmp_path, clients=CLIENTS.replace(old, new, 1))
        )

    @pytest.mark.parametrize(
        "name",
        ["Tax-Assessment", '"tax-assessment\\u00a0"', '"tax-\\u0430ssessment"', '""', "tax_assessment", '"a\\n"'],
    )
    def test_a_purpose_has_one_spelling(self, tmp_path: Path, name: str) -> None:
        text = PURPOSES.replace("[tax-assessment]", f"[{name}]")
        assert any("small letters" in line for line in refusal(tmp_path, purposes=text))

    def test_a_purpose_needs_its_legal_basis_and_both_titles(self, tmp_path: Path) -> None:
        text = PURPOSES.replace('legal_basis = "税收征收管理法 第五条"', 'legal_basis = " "').replace(
            ', en = "Tax assessment"', ""
        )
        lines = refusal(tmp_path, purposes=text)
        assert any(line.startswith("purposes.toml: tax-assessment: legal_basis") for line in lines)
        assert any(line.startswith("purposes.toml: tax-assessment: title.en") for line in lines)


class TestAgreements:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"contract": '"civil.persons"'}, "there is no contract civil.persons"),
            ({"major": "2"}, "there is no contract civil.person with major 2"),
            ({"contract": '"market.penalty"'}, "market.penalty belongs to market; civil cannot grant it"),
            ({"purpose": '"marketing"'}, "purpose marketing does not stand"),
            ({"fields": 'nickname = "plain"'}, "has no field nickname"),
            ({"fields": 'name = "half"'}, "fields.name"),
            ({"fields": 'name = "year_only"'}, "mask year_only does not fit name, which is of type string"),
            ({"fields": 'birth_date = "last4"'}, "mask last4 does not fit birth_date"),
            ({"fields": 'children = "initial"'}, "mask initial does not fit children"),
            ({"fields": ""}, "fields"),
            ({"quota": "0"}, "quota"),
            ({"quota": "1.5"}, "quota"),
            ({"quota": "true"}, "quota"),
            ({"until": ""}, "until"),
            ({"until": "2025-12-31"}, "it ends before it begins"),
            ({"until": "9999-12-31"}, "too far away"),
            ({"until": "2026-06-30T12:00:00"}, "times with a zone"),
            ({"until": "2026-06-30T12:00:00.5Z"}, "whole seconds"),
            ({"until": '"2026-06-30"'}, "until"),
            ({"until": "1782777600"}, "until"),
            ({"approved_by": ""}, "approved_by"),
            ({"id": '"A 1"'}, "id"),
            ({"masks": "{}"}, "masks"),
            ({"major": "true"}, "major"),
            ({"condition": '[["district", "like", "e%"]]'}, "condition 1: op"),
            ({"condition": '[["district", "="]]'}, "condition.0"),
            ({"condition": '[["quarter", "=", "east"]]'}, "has no field quarter"),
            ({"condition": '[["district", "=", 1]]'}, "is compared with text"),
            ({"condition": '[["district", "in", "east"]]'}, "takes a list"),
            ({"condition": '[["district", "in", []]]'}, "not empty"),
            ({"condition": '[["children", "=", "1"]]'}, "a whole number of 32 bits"),
            ({"condition": '[["children", "=", 2147483648]]'}, "a whole number of 32 bits"),
            ({"condition": '[["children", "=", true]]'}, "a whole number of 32 bits"),
            ({"condition": '[["serial", "=", 1.0]]'}, "a whole number of 64 bits"),
            ({"condition": '[["income", "<", 1.5]]'}, "text such as"),
            ({"condition": '[["income", "<", "1e9"]]'}, "text such as"),
            ({"condition": '[["income", "<", "1.505"]]'}, "no record could match"),
            ({"condition": '[["birth_date", "<", 2000-01-01T00:00:00Z]]'}, "a day such as"),
            ({"condition": '[["moved_at", "<", 2000-01-01]]'}, "a time with a zone"),
            ({"condition": '[["status", "=", "gone"]]'}, "no record could match"),
            ({"condition": '[["status", "<", "moved"]]'}, "have no order"),
            ({"condition": '[["religion", "=", "x"]]'}, "no record could match"),
        ],
    )
    def test_what_is_wrong_with_an_agreement(self, tmp_path: Path, changes: dict[str, str], reason: str) -> None:
        lines = refusal(tmp_path, agreements=agreement(**changes))
        assert any(reason in line and line.startswith("civil/agreements.toml: entry 1") for line in lines), lines

    def test_an_id_is_one_agreement_in_the_whole_city(self, tmp_path: Path) -> None:
        other = agreement('number = "plain"', contract='"market.penalty"')
        with pytest.raises(PolicyRefused, match=r"the id stands in civil/agreements\.toml too"):
            load_bundle(write(tmp_path, agreements={"civil": agreement(), "market": other}), CITY, ZONE)

    @pytest.mark.parametrize(
        ("changes", "overlaps"),
        [
            ({"from": "2026-06-30", "until": "2026-12-31"}, True),
            ({"from": "2026-07-01", "until": "2026-12-31"}, False),
            ({"from": "2025-01-01", "until": "2025-12-31"}, False),
            ({"from": "2025-01-01", "until": "2027-12-31"}, True),
            ({"from": "2026-06-30T15:59:59Z", "until": "2026-12-31"}, True),
            ({"from": "2026-06-30T16:00:00Z", "until": "2026-12-31"}, False),
            ({"purpose": '"child-protection"'}, False),
            ({"consumer": '"housing"'}, False),
        ],
    )
    def test_times_of_one_consumer_contract_and_purpose_do_not_overlap(
        self, tmp_path: Path, changes: dict[str, str], overlaps: bool
    ) -> None:
        text = agreement() + agreement(id='"a-2"', **changes)
        if overlaps:
            assert any("overlaps" in line for line in refusal(tmp_path, agreements=text))
        else:
            assert len(load(tmp_path, agreements=text).agreements) == 2

    def test_one_long_agreement_overlaps_all_that_follow(self, tmp_path: Path) -> None:
        text = "".join(
            agreement(id=f'"a-{number}"', **{"from": start, "until": end})
            for number, (start, end) in enumerate(
                [("2026-01-01", "2026-12-31"), ("2026-02-01", "2026-02-28"), ("2026-03-01", "2026-03-31")]
            )
        )
        assert len(refusal(tmp_path, agreements=text)) == 2

    @pytest.mark.parametrize(
        ("zone", "from_", "until"),
        [
            ("Asia/Shanghai", "2025-12-31T16:00:00Z", "2026-06-30T16:00:00Z"),
            ("UTC", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
            ("America/New_York", "2026-01-01T05:00:00Z", "2026-07-01T04:00:00Z"),  # summer time has begun between
        ],
    )
    def test_a_last_day_counts_in_full_in_the_declared_zone(
        self, tmp_path: Path, zone: str, from_: str, until: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TZ", "Pacific/Auckland")  # the zone of the machine says nothing
        found = the(load(tmp_path, zone=zone, agreements=agreement()))
        assert (found.from_, found.until) == (datetime.fromisoformat(from_), datetime.fromisoformat(until))

    def test_a_single_day_and_exact_times(self, tmp_path: Path) -> None:
        day = the(load(tmp_path / "day", agreements=agreement(**{"from": "2026-06-30", "until": "2026-06-30"})))
        assert (day.until - day.from_).total_seconds() == 86_400
        exact = the(load(tmp_path / "exact", agreements=agreement(until="2026-06-30T12:00:00+08:00")))
        assert exact.until == datetime(2026, 6, 30, 4, tzinfo=UTC)

    def test_grants_without_effect_are_named_not_refused(self, tmp_path: Path) -> None:
        text = agreement('phone = "plain"\nreligion = "plain"\nname = "plain"')
        text += agreement('note = "plain"', id='"a-2"', contract='"civil.case_file"', consumer='"housing"')
        assert without_effect(load(tmp_path, agreements=text)) == [
            "a-1: phone is level 3, and tax-assessment does not list the contract",
            "a-1: religion is level 4",
            "a-2: civil.case_file is withheld",
            "a-2: no client of housing may view for tax-assessment",
        ]


class TestMasks:
    @pytest.mark.parametrize(
        ("mask", "value", "shown"),
        [
            ("last4", "110101190001010014", "****0014"),
            ("last4", "1234567", "****"),
            ("last4", "12345678", "****5678"),
            ("last4", 12345678, "****5678"),
            ("last4", " 阿甲·乙丙丁戊己庚 ", "****丁戊己庚"),
            ("last4", "", "****"),
            ("last4", None, None),
            ("last4", True, "***"),
            ("last4", ["12345678"], "***"),
            ("year_only", "1990-12-31", "1990"),
            ("year_only", "1990-12-31T16:00:00.000Z", "1990"),
            ("year_only", "31.12.1990", "***"),
            ("year_only", "1990-12-31x", "***"),
            ("year_only", 1990, "***"),
            ("year_only", None, None),
            ("initial", "王小明", "王**"),
            ("initial", " Émile", "É**"),
            ("initial", "e\u0301a", "é**"),
            ("initial", "王", "**"),
            ("initial", "", "**"),
            ("initial", 5, "***"),
            ("redact", "x", "***"),
            ("redact", None, "***"),
            ("redact", {"a": [1]}, "***"),
        ],
    )
    def test_what_is_shown(self, mask: MaskName, value: object, shown: object) -> None:
        assert mask_module.apply(mask, value) == shown

    def test_two_masks_that_differ_redact(self) -> None:
        names: list[MaskName | None] = [None, *MASKS]
        for one in names:
            for other in names:
                expected = one or other if one is None or other is None or one == other else "redact"
                assert both(one, other) == expected
