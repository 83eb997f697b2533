"""What is hashed and signed: keys, entries, groups, receipts, checkpoints; and their second readings by other code."""

from __future__ import annotations

import json
import math
import stat
from base64 import b64decode, b64encode
from datetime import timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from exchange import merkle
from exchange.audit import checkpoints, groups
from exchange.audit.checkpoints import Checkpoint, key_id, open_checkpoint
from exchange.audit.encoding import decoded, encoded
from exchange.audit.entries import Entry, Line
from exchange.audit.groups import Group, SignedGroup, open_group
from exchange.audit.keys import AuditKeys, PublicKey, PublicKeys, Signer, generate_signing_key
from exchange.audit.receipts import Receipt, verify_receipt
from exchange.audit.writer import receipts
from exchange.errors import AuditBroken, ReceiptInvalid, SettingWrong
from exchange.subjects import KeyMaker, Subject
from tests.support.audit import KEYS, NOON, ORIGIN, SIGNER, entry

SALT = bytes(range(16))
BODY = '{"values":{"citizen.name":"张三"}}'.encode()


def lines(count: int, body: bytes = BODY) -> list[Line]:
    return [Line.of(entry(request=f"r-{index}"), body, SALT) for index in range(count)]


def signed(some: list[Line], first: int = 1, previous: bytes | None = None) -> SignedGroup:
    return groups.seal("gateway-1", first, previous, [line.leaf for line in some], SIGNER)


def receipt(place: int = 3, count: int = 7, body: bytes = BODY) -> Receipt:
    some = lines(count, body)
    return receipts(signed(some, first=11), some)[place]


def flips(data: bytes) -> list[bytes]:
    """Every copy that differs in one bit."""
    found = []
    for bit in range(len(data) * 8):
        copy = bytearray(data)
        copy[bit // 8] ^= 1 << bit % 8
        found.append(bytes(copy))
    return found


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_signing_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "signing.pem"
    made = generate_signing_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Signer.from_pem(file.read_bytes()).kid == made.kid
    assert PublicKey.from_pem(file.read_bytes()).kid == made.kid
    with pytest.raises(FileExistsError):
        generate_signing_key(file)


def test_the_kid_is_the_thumbprint_of_rfc_7638() -> None:
    # RFC 8037, appendix A.3
    key = PublicKeys.from_jwks(
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
    )
    assert [one.kid for one in key] == ["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]


@pytest.mark.parametrize(
    "document",
    [
        [], None, 7, "keys", {}, {"keys": None}, {"keys": {"kty": "OKP"}}, {"keys": []}, {"keys": [None, 7, [], "x"]},
        {"keys": [{"crv": "Ed25519", "x": "AA"}]}, {"keys": [{"kty": ["OKP"], "crv": {}}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519"}]}, {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": None}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 7}]}, {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": ["A"]}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "\u00e9"}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]},
    ],
)  # fmt: skip
def test_a_document_that_is_no_key_set_is_one_error(document: object) -> None:
    with pytest.raises(SettingWrong, match="the key set"):
        PublicKeys.from_jwks(document)


def test_former_keys_stay_published_and_verify() -> None:
    former = Signer.generate()
    keys = PublicKeys.from_jwks(json.loads(json.dumps(PublicKeys([SIGNER.public, former.public]).jwks())))
    assert all("d" not in key and key["use"] == "sig" for key in keys.jwks()["keys"])
    for signer in (SIGNER, former):
        assert keys.verify(signer.token(b"payload", "kind"), "kind") == b"payload"


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN PUBLIC KEY-----\nMCo=\n"])
def test_a_key_that_cannot_be_read_names_no_byte_of_it(pem: bytes) -> None:
    for read in (Signer.from_pem, PublicKey.from_pem):
        with pytest.raises(SettingWrong, match="cannot be read as PEM"):
            read(pem)


def test_a_token_is_the_one_that_joserfc_makes() -> None:
    header = {"alg": "Ed25519", "kid": SIGNER.kid, "typ": "exchange-audit-group"}
    for payload in (b"", b"{}", BODY, bytes(range(256))):
        reference = jws.serialize_compact(header, payload, OKPKey.import_key(SIGNER.pem()), algorithms=["Ed25519"])
        made = SIGNER.token(payload, "exchange-audit-group")
        assert made == reference.encode()
        assert KEYS._own(made, "exchange-audit-group") == KEYS._any(made, "exchange-audit-group") == payload
        for wrong in [*flips(made)[::7], made + b"=", made[:-1], made + b".", b"." + made, made.replace(b".", b"..")]:
            assert KEYS._own(wrong, "exchange-audit-group") is None
            with pytest.raises(AuditBroken):
                KEYS.verify(wrong, "exchange-audit-group")
        assert KEYS._own(made, "exchange-audit-checkpoint") is None


def test_a_token_has_one_spelling_and_one_header() -> None:
    token = SIGNER.token(b'{"a":1}', "kind")
    for wrong in flips(token):
        with pytest.raises(AuditBroken):
            KEYS.verify(wrong, "kind")
    with pytest.raises(AuditBroken, match="not other-kind"):
        KEYS.verify(token, "other-kind")
    with pytest.raises(AuditBroken, match="unknown key"):
        PublicKeys([Signer.generate().public]).verify(token, "kind")
    for garbage in (b"", b"..", b"a.b.c", b"[" * 5000 + b"..", b"\xff" * 100):
        with pytest.raises(AuditBroken):
            KEYS.verify(garbage, "kind")


def test_the_audit_secret_makes_other_keys_than_the_bus_secret() -> None:
    bus, audit, later = b"b" * 32, b"a" * 32, b"c" * 32
    person = Subject("cn.ric", "110101190001010014")
    keys = AuditKeys("a2", later, {"a1": audit})
    assert keys.subject(person).startswith("a2.")
    assert keys.subjects(person) == [KeyMaker("a2", later).subject(person), KeyMaker("a1", audit).subject(person)]
    assert KeyMaker("a2", bus).subject(person) != keys.subject(person)
    assert keys.officer("tax", "Li Si") != keys.officer("social", "Li Si")
    assert keys.officer("tax", "Li Si") == AuditKeys("a2", later).officer("tax", "Li Si")
    assert "110101190001010014" not in repr(keys) + keys.subject(person)


# --- entries ----------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT, st.lists(TEXT, max_size=3))
def test_the_fast_spelling_of_an_entry_is_that_of_rfc_8785(client: str, case: str, fields: list[str]) -> None:
    made = entry(client=client, case=case, contracts={"a.b.v1": fields, "a.a.v10": ["x"]}, policies=fields)
    assert made.to_bytes() == rfc8785.dumps(json.loads(made.to_bytes()))


def test_what_is_absent_is_not_in_the_bytes() -> None:
    assert json.loads(Entry(time=NOON, act="a", outcome="done", issuer="i", client="c", department="d").to_bytes()) == {
        "time": "2026-11-25T04:00:00.123456Z",
        "act": "a",
        "outcome": "done",
        "issuer": "i",
        "client": "c",
        "department": "d",
    }
    beijing = NOON.astimezone(timezone(timedelta(hours=8)))
    assert entry(time=beijing).to_bytes() == entry().to_bytes()


def test_numbers_have_one_form_in_every_language() -> None:
    numbers = [1.0, 1e-7, 123456789012345680000, -0.0, 9007199254740993, 110101190001010014, 2**53 - 1, True, 1.10]
    stored = entry(details={"z": 1, "numbers": numbers, "a": {"deep": [-(2**60)]}, "text": "\x00e\u0301"}).to_bytes()
    assert (
        b'"details":{"a":{"deep":["-1152921504606846976"]},"numbers":[1,1e-7,"123456789012345680000",0,'
        b'"9007199254740993","110101190001010014",9007199254740991,true,1.1],"text":"\\u0000e\xcc\x81","z":1}'
    ) in stored
    # A reader that knows only JSON and doubles writes the same bytes again.
    assert rfc8785.dumps(json.loads(stored, parse_int=float)) == stored


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", object()])
def test_what_json_cannot_hold_is_refused_before_it_is_hashed(value: Any) -> None:
    with pytest.raises(ValueError):
        entry(details={"value": value}).to_bytes()


def test_a_lone_surrogate_or_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        entry(case="\ud800").to_bytes()
    with pytest.raises(ValueError, match="at most 1048576"):
        entry(case="x" * 1_100_000).to_bytes()


# --- groups and receipts ----------------------------------------------------------------------------------------------


def test_a_group_signs_its_numbers_root_and_predecessor() -> None:
    some = lines(5)
    first = signed(some)
    second = signed(some, first=6, previous=first.hash)
    group = open_group(second.token, KEYS)
    assert group == Group("gateway-1", 6, 10, merkle.root(5, merkle.levels([line.leaf for line in some])), first.hash)
    assert first.hash == sha256(first.token).digest()
    assert json.loads(group.payload())["previous"] == encoded(first.hash)


@pytest.mark.parametrize(
    "change",
    [{"first": 0}, {"last": 300}, {"first": 6}, {"first": 1.0}, {"root": "AA"}, {"previous": "x"}, {"more": 1}],
)
def test_a_signed_payload_that_is_no_group_is_refused(change: dict[str, Any]) -> None:
    payload = {**json.loads(signed(lines(5)).group.payload()), **change}
    token = SIGNER.token(json.dumps(payload, separators=(",", ":")).encode(), groups.KIND)
    with pytest.raises(AuditBroken, match="not a group"):
        open_group(token, KEYS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 256), st.data())
def test_every_receipt_of_a_group_verifies_and_for_its_own_body_only(count: int, data: st.DataObject) -> None:
    some = lines(count)
    place = data.draw(st.integers(0, count - 1))
    made = receipts(signed(some), some)[place]
    assert verify_receipt(Receipt.decode(made.encode()), BODY, KEYS).size == count
    assert len(made.encode()) < 2_000
    with pytest.raises(ReceiptInvalid, match="not the one that was signed"):
        verify_receipt(made, BODY + b" ", KEYS)


def test_no_bit_of_a_receipt_can_be_changed() -> None:
    text = receipt().encode()
    whole = json.loads(decoded(text))
    for wrong in flips(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()):
        with pytest.raises(ReceiptInvalid):
            verify_receipt(Receipt.decode(encoded(wrong)), BODY, KEYS)


@pytest.mark.parametrize("text", ["", "é", "e30", "W10", "bnVsbA", "x" * 9_000, receipt().encode() + "="])
def test_what_is_no_receipt_says_so(text: str) -> None:
    with pytest.raises(ReceiptInvalid):
        Receipt.decode(text)


def test_a_receipt_cannot_be_moved_to_another_number_or_writer() -> None:
    made = receipt()
    for change in ({"number": made.number + 1}, {"number": 10}, {"number": 18}, {"writer": "gateway-2"}):
        moved = Receipt(**{**{name: getattr(made, name) for name in Receipt._fields}, **change})
        with pytest.raises(ReceiptInvalid):
            verify_receipt(moved, BODY, KEYS)


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.integers(0, 2**53 - 1), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_the_fast_spelling_of_receipts_and_groups_is_that_of_rfc_8785(writer: str, number: int, steps: int) -> None:
    made = Receipt(writer, number, sha256().digest(), SALT, (sha256(SALT).digest(),) * steps, b"group")
    group = Group(writer, number, number, sha256().digest(), sha256(SALT).digest() if number % 2 else None)
    for found in (decoded(made.encode()), group.payload()):
        assert found == rfc8785.dumps(json.loads(found))


def test_a_number_that_not_every_reader_keeps_is_in_no_receipt() -> None:
    whole = json.loads(decoded(receipt().encode()))
    for number in (2**53, 2**70):
        text = encoded(json.dumps(whole | {"number": number}, sort_keys=True, separators=(",", ":")).encode())
        with pytest.raises(ReceiptInvalid):
            Receipt.decode(text)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_notes_are_read_as_gos_sumdb_reads_them() -> None:
    # The example of golang.org/x/mod/sumdb/note.
    note = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    ).encode()
    name, id_, encoded = ["PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    raw = b64decode(encoded)[1:]
    key = PublicKey(Ed25519PublicKey.from_public_bytes(raw))
    assert key_id(name, key).hex() == id_
    text, [(signer, signature)] = checkpoints._split(note)
    assert signer == name
    assert key.verifies(signature[4:], text.encode())


def test_a_checkpoint_is_three_lines_and_a_signature() -> None:
    head = Checkpoint(ORIGIN, 20852163, b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="))
    note = head.sign(SIGNER)
    text, blank, signature = note.decode().partition("\n\n")
    assert text == f"{ORIGIN}\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert blank
    assert signature.startswith(f"— {ORIGIN} ")
    assert signature.endswith("\n")
    assert open_checkpoint(note, ORIGIN, KEYS) == head
    witnessed = note + "— witness.example/w x08go/ZJkuBS9UG/SffcvIAQxVBt\n".encode()
    assert open_checkpoint(witnessed, ORIGIN, KEYS) == head


def test_no_bit_of_a_checkpoint_can_be_changed() -> None:
    for wrong in flips(Checkpoint(ORIGIN, 3, merkle.EMPTY_ROOT).sign(SIGNER)):
        with pytest.raises(AuditBroken):
            open_checkpoint(wrong, ORIGIN, KEYS)


def test_a_checkpoint_is_of_this_log_and_by_a_known_key() -> None:
    head = Checkpoint(ORIGIN, 3, merkle.EMPTY_ROOT)
    with pytest.raises(AuditBroken, match="another log"):
        open_checkpoint(head.sign(SIGNER), "elsewhere.test/audit", KEYS)
    with pytest.raises(AuditBroken, match="not signed by a known key"):
        open_checkpoint(head.sign(Signer.generate()), ORIGIN, KEYS)
    text = f"{ORIGIN}\n03\n{b64encode(merkle.EMPTY_ROOT).decode()}\n".encode()
    with pytest.raises(AuditBroken, match="three lines"):
        open_checkpoint(text + b"\n" + head.sign(SIGNER).partition(b"\n\n")[2], ORIGIN, KEYS)
    for garbage in (b"", b"\n\n", b"\xff\n\n", b"a\n1\n\nno dash x\n", b"x" * 70_000):
        with pytest.raises(AuditBroken):
            open_checkpoint(garbage, ORIGIN, KEYS)


def test_an_origin_can_name_a_key() -> None:
    for origin in ("", "two words", "a+b", "line\nbreak", "x" * 201):
        with pytest.raises(SettingWrong):
            checkpoints.check_origin(origin)
