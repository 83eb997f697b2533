"""Identifiers by GB 11643 and GB 32100, and the keys that stand for them."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from datetime import date

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric, uscc

from exchange.errors import InvalidIdentifier, Rejected, SettingWrong
from exchange.subjects import SCHEMES, KeyMaker, Subject, holds_identifier, holds_split_identifier, parse, split_key

SPREADSHEET = "number damaged by a spreadsheet; export the column as text"
GOOD = "110101190001010014"
FIRM = "91110000MA0000000H"


def refusal(scheme: str, text: str) -> str:
    with pytest.raises(InvalidIdentifier) as caught:
        parse(scheme, text)
    digits = "".join(filter(str.isalnum, text))
    assert len(digits) < 5 or digits not in str(caught.value)
    return caught.value.reason


def citizen(area: str, born: str, sequence: str) -> str:
    head = area + born + sequence
    weights = [2 ** (17 - place) % 11 for place in range(17)]
    total = sum(int(digit) * weight for digit, weight in zip(head, weights, strict=True))
    return head + "10X98765432"[total % 11]


# --- citizens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [GOOD, f" {GOOD}\t", "11010119000101009X", "11010119000101009x", "110101191201010013"])
def test_a_valid_number_is_a_subject_in_normal_form(text: str) -> None:
    assert parse("cn.ric", text) == Subject("cn.ric", text.strip(" \t").upper())


@pytest.mark.parametrize("area", ["810000", "820000", "830000", "911156", "110103", "513701", "429005"])
def test_residents_of_abolished_counties_of_81_82_83_and_foreign_residents_are_people(area: str) -> None:
    number = citizen(area, "19000101", "001")
    assert parse("cn.ric", number).identifier == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1.10101E+17", SPREADSHEET),
        ("1.10101190001010E+17", SPREADSHEET),
        ("1,10101e17", SPREADSHEET),
        ("110101190001010000", SPREADSHEET),
        ("110101190001010000.0", SPREADSHEET),
        ('="110101190001010014"', 'a formula (="...") around the number; export the column as text'),
        ("'110101190001010022", "a quotation mark around the number; export the column as text"),
        ("110101000101001", "15 digits: an old number; ask for the present one of 18"),
        ("110101191201010", "15 digits: an old number; ask for the present one of 18"),
        (f"{GOOD}\u200b", "character U+200B at position 19"),
        (f"\u00a0{GOOD}", "character U+00A0 at position 1"),
        (f"\u3000{GOOD}", "character U+3000 at position 1"),
        (f"{GOOD} \u3000", "character U+3000 at position 20"),
        (f"{GOOD}\ufeff", "character U+FEFF at position 19"),
        (f"\u202d{GOOD}\u202c", "character U+202D at position 1"),
        (f"{GOOD}\n", "character U+000A at position 19"),
        ("110101 190001010014", "character U+0020 at position 7"),
        ("１１０１０１１９０００１０１００１４", "a full-width character at position 1"),
        ("甲乙", "a character other than an ASCII digit or letter at position 1"),
        ("11010119000101000X", "the check character is wrong (GB 11643)"),
        ("1101011900010100", "18 characters expected, 16 found"),
        ("11010119000101A014", "a letter where GB 11643 has a digit"),
        ("", "the identifier is empty"),
        (" \t ", "the identifier is empty"),
    ],
)
def test_a_reason_says_what_is_wrong_and_where_but_never_the_value(text: str, reason: str) -> None:
    assert refusal("cn.ric", text) == reason


def test_a_day_that_does_not_exist_is_refused() -> None:
    assert refusal("cn.ric", citizen("110101", "19000230", "001")) == "digits 7 to 14 are no date (GB 11643)"
    assert refusal("cn.ric", citizen("110101", "00000101", "001")) == "digits 7 to 14 are no date (GB 11643)"


@given(st.dates(date(1900, 1, 1), date(2025, 12, 31)), st.integers(0, 999))
def test_whatever_stdnum_accepts_we_accept(born: date, sequence: int) -> None:
    number = citizen("110101", f"{born:%Y%m%d}", f"{sequence:03d}")
    assert ric.is_valid(number)
    assert parse("cn.ric", number.lower()).identifier == number


@given(st.from_regex(r"11010119[0-9]{9}", fullmatch=True))
def test_the_check_character_is_that_of_stdnum(head: str) -> None:
    for character in "0123456789X":
        ours = SCHEMES["cn.ric"].check(head + character) != "the check character is wrong (GB 11643)"
        right = ric.calc_check_digit(head + character) == character
        assert ours == right or (head + character).endswith("000")


# --- enterprises ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [FIRM, FIRM.lower(), "91110000MA00000240", "91110000600037341L"])
def test_a_valid_credit_code_is_a_subject_in_normal_form(text: str) -> None:
    assert parse("cn.uscc", text) == Subject("cn.uscc", text.upper())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("９１１１００００ＭＡ０００００００Ｈ", "a full-width character at position 1"),
        ("9111O000MA0000000H", "letter O at position 5, which GB 32100 leaves out"),
        ("91110000MA000000IH", "letter I at position 17, which GB 32100 leaves out"),
        ("91110000MA0000000J", "the check character is wrong (GB 32100)"),
        ("G1011010801041490J", "the check character is wrong (GB 32100)"),
        ("320211110299012", "15 digits: an old registration number; ask for the credit code of 18"),
        ("3202111102990", "13 digits: an old registration number; ask for the credit code of 18"),
        ("13830295-X", "character U+002D at position 9"),
        ("9.11100006E+17", SPREADSHEET),
        ("911100006000373000", SPREADSHEET),
    ],
)
def test_a_firm_is_refused_with_a_reason(text: str, reason: str) -> None:
    assert refusal("cn.uscc", text) == reason


@given(st.text(alphabet="0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=17, max_size=17))
def test_exactly_one_check_character_fits_that_of_stdnum(head: str) -> None:
    fitting = [last for last in "0123456789ABCDEFGHJKLMNPQRTUWXY" if SCHEMES["cn.uscc"].check(head + last) is None]
    assert fitting == [uscc.calc_check_digit(head)]


# --- both -------------------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(SCHEMES)), st.text(max_size=25))
def test_any_text_is_a_subject_in_normal_form_or_refused(scheme: str, text: str) -> None:
    try:
        subject = parse(scheme, text)
    except InvalidIdentifier:
        return
    assert parse(scheme, subject.identifier) == subject


def test_a_scheme_that_does_not_exist_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="unknown scheme"):
        parse("cn.passport", GOOD)


def test_the_text_of_a_subject_never_shows_the_identifier() -> None:
    subject = parse("cn.ric", GOOD)
    assert GOOD not in f"{subject} {subject!r} {[subject]}"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (GOOD, True),
        (f"case/{GOOD}", True),
        ("2026-11010119000101009x.1", True),
        (FIRM.lower(), True),
        ("2026-000123", False),
        ("110101190001010015", False),
        ("", False),
    ],
)
def test_an_identifier_inside_a_text_is_found(text: str, holds: bool) -> None:
    assert holds_identifier(text) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (f"{GOOD[:6]}-{GOOD[6:14]}-{GOOD[14:]}", True),
        ("/".join(GOOD), True),
        (f"case.{GOOD[:9]}_{GOOD[9:]}", True),
        (f"2026-{GOOD[:9]}.{GOOD[9:]}", True),
        (f"{FIRM[:2]}-{FIRM[2:8]}-{FIRM[8:].lower()}", True),
        (f"2026/{FIRM[:9]}/{FIRM[9:]}/1", True),
        (f"1{FIRM[:9]}/{FIRM[9:]}", False),  # a window that is not of whole parts says nothing
        ("2026/TA/20261125/0012345", False),
        ("110101-19000101-0015", False),
        ("", False),
    ],
)
def test_an_identifier_that_separators_split_is_found(text: str, holds: bool) -> None:
    assert holds_split_identifier(text, "-._/") is holds


# --- keys -------------------------------------------------------------------------------------------------------------

SECRET = b"0123456789abcdef0123456789abcdef"
KEYS = KeyMaker("k1", SECRET)


def blake(text: bytes, person: bytes) -> str:
    digest = hashlib.blake2b(text, digest_size=16, key=SECRET, person=person).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_a_subject_key_is_the_keyed_hash_of_scheme_and_identifier() -> None:
    subject = parse("cn.ric", GOOD)
    assert KEYS.subject(subject) == f"k1.{blake(f'cn.ric:{GOOD}'.encode(), b'subject')}"
    assert KEYS.message_key(subject, "civil.person", ()) == KEYS.subject(subject).encode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_record_key_hash_is_over_the_canonical_json_array(values: list[str]) -> None:
    array = rfc8785.dumps(["market.penalty", *values])
    assert KEYS.record("market.penalty", values) == blake(array, b"record")


def test_a_message_key_has_subject_and_record() -> None:
    key = KEYS.message_key(parse("cn.uscc", FIRM), "market.penalty", ["2026-17"])
    subject, record = split_key(key)
    assert key == f"{subject}.{record}".encode()
    assert subject == KEYS.subject(parse("cn.uscc", FIRM))
    assert record == KEYS.record("market.penalty", ["2026-17"])


def test_a_number_valid_in_two_schemes_is_two_subjects() -> None:
    assert KEYS.subject(Subject("cn.ric", GOOD)) != KEYS.subject(Subject("cn.uscc", GOOD))


def test_blanks_around_a_secret_do_not_matter_but_its_length_does() -> None:
    subject = parse("cn.ric", GOOD)
    assert KeyMaker("k1", SECRET + b"\n").subject(subject) == KEYS.subject(subject)
    assert KeyMaker("k1", b"another secret, long enough").subject(subject) != KEYS.subject(subject)
    for secret in (b"", b"short", b"x" * 65):
        with pytest.raises(SettingWrong):
            KeyMaker("k1", secret)
    assert SECRET.decode() not in repr(KEYS)


@pytest.mark.parametrize("kid", ["", "K1", "k.1", "123456789", "k1\n"])
def test_a_key_id_is_small_letters_and_digits(kid: str) -> None:
    with pytest.raises(SettingWrong):
        KeyMaker(kid, SECRET)


HASH = "A" * 21 + "Q"


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"k1",
        HASH.encode(),
        f"k1.{HASH}x".encode(),
        f"k1.{HASH[:-1]}B".encode(),  # the same bytes in another spelling
        f"k1.{HASH}\n".encode(),
        f"k1.{HASH}.".encode(),
        f"k1.{HASH}.{HASH}.{HASH}".encode(),
        f"K1.{HASH}".encode(),
        GOOD.encode(),
        b"\xff" * 25,
    ],
)
def test_a_key_that_no_key_maker_makes_is_rejected(key: bytes) -> None:
    with pytest.raises(Rejected, match="not a subject key"):
        split_key(key)
    assert split_key(f"k1.{HASH}.{HASH}".encode()) == (f"k1.{HASH}", HASH)
