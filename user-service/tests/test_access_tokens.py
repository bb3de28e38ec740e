"""The tokens themselves, and each claim of them; what the service makes of them is in test_validation.py."""

import base64
import json
import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jwt

from testkit.users import KEY
from user_service.security.access_tokens import TokenRefused, Tokens, key_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TOKENS = Tokens([KEY], timedelta(minutes=15))
CLAIMS = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti", "sid")
HEADER = {"typ": "at+jwt", "kid": key_id(KEY)}


def claims(changes: Mapping[str, Any]) -> dict[str, Any]:
    issued = int(datetime.now(UTC).timestamp()) - 60
    good = {
        "iss": "user-service",
        "sub": "7",
        "aud": "services",
        "iat": issued,
        "nbf": issued,
        "exp": issued + 900,
        "jti": "a-token",
        "sid": 5,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def signed(
    changes: Mapping[str, Any] | None = None,
    *,
    key: bytes = KEY,
    algorithm: str = "HS256",
    header: dict[str, Any] = HEADER,
) -> str:
    token: str = jwt.encode(claims(changes or {}), key, algorithm, headers=header)
    return token


def test_what_is_issued_is_read_again() -> None:
    now = datetime.now(UTC)
    read = TOKENS.read(TOKENS.issue(7, 5, now), now)
    assert (read.user_id, read.session_id) == (7, 5)
    assert timedelta(minutes=14, seconds=59) <= read.expires_at - now <= timedelta(minutes=15)


def test_a_token_has_the_header_and_the_claims_of_an_access_token() -> None:
    token = TOKENS.issue(7, 5, NOW)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt", "kid": key_id(KEY)}
    body = jwt.get_unverified_claims(token)
    assert set(body) == {"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "sid"}
    assert (body["sub"], body["iat"], body["exp"] - body["iat"]) == ("7", int(NOW.timestamp()), 900)


def test_no_two_tokens_are_the_same() -> None:
    assert len({TOKENS.issue(7, 5, NOW) for _ in range(100)}) == 100


def test_the_helper_of_these_tests_makes_tokens_that_are_accepted() -> None:
    assert TOKENS.read(signed(), datetime.now(UTC)).user_id == 7


def test_a_token_is_good_until_the_second_it_expires_and_no_longer() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    token = TOKENS.issue(7, 5, now)
    assert TOKENS.read(token, now + timedelta(minutes=15, microseconds=-1)).user_id == 7
    with pytest.raises(TokenRefused, match="expired"):
        TOKENS.read(token, now + timedelta(minutes=15))


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_required(claim: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(signed({claim: ...}), datetime.now(UTC))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody-else"},
        {"aud": "another-audience"},
        {"aud": ["another-audience"]},
        {"nbf": 4_000_000_000},
        {"exp": "4000000000"},
        {"exp": 4_000_000_000.5},
        {"exp": True},
        {"exp": 10**30},
        {"sub": "0"},
        {"sub": "-7"},
        {"sub": "7.0"},
        {"sub": "\u0667"},
        {"sub": "7\n"},
        {"sub": "9" * 20},
        {"sub": ""},
        {"sid": "5"},
        {"sid": True},
        {"sid": 5.0},
        {"sid": 0},
        {"sid": -1},
        {"sid": 2**63},
    ],
    ids=str,
)
def test_a_claim_with_another_value_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(signed(changes), datetime.now(UTC))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"typ": "JWT", "kid": key_id(KEY)},
        {"typ": "at+jwt"},
        {"typ": "at+jwt", "kid": "another"},
        {"typ": "at+jwt", "kid": None},
        {"typ": ["at+jwt"], "kid": key_id(KEY)},
    ],
    ids=str,
)
def test_a_token_of_another_type_or_key_id_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(signed(header=header), datetime.now(UTC))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_only_one_algorithm_is_accepted_even_with_the_right_key(algorithm: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(signed(algorithm=algorithm), datetime.now(UTC))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
def test_an_unsigned_token_is_refused(algorithm: str | None) -> None:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    token = f"{part({'alg': algorithm, **HEADER})}.{part(claims({}))}."
    with pytest.raises(TokenRefused):
        TOKENS.read(token, datetime.now(UTC))


def test_a_token_signed_with_another_key_is_refused() -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(signed(key=KEY + b"!"), datetime.now(UTC))


def test_each_changed_character_of_a_token_is_noticed() -> None:
    now = datetime.now(UTC)
    token = TOKENS.issue(7, 5, now)
    for at, character in enumerate(token[:-1]):
        changed = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        with pytest.raises(TokenRefused):
            TOKENS.read(changed, now)


def test_the_last_character_of_each_part_can_be_written_in_one_way_only() -> None:
    now = datetime.now(UTC)
    token = TOKENS.issue(7, 5, now)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    good = [last for last in alphabet if is_good(token[:-1] + last, now)]
    assert good == [token[-1]]


def is_good(token: str, now: datetime) -> bool:
    try:
        TOKENS.read(token, now)
    except TokenRefused:
        return False
    return True


@pytest.mark.parametrize("spelling", ["{}=", "{}==", " {}", "{}\n", "{} ", "{}.", ".{}"])
def test_another_spelling_of_a_token_is_refused(spelling: str) -> None:
    now = datetime.now(UTC)
    with pytest.raises(TokenRefused):
        TOKENS.read(spelling.format(TOKENS.issue(7, 5, now)), now)


def test_each_truncated_token_is_refused() -> None:
    now = datetime.now(UTC)
    token = TOKENS.issue(7, 5, now)
    for length in range(len(token)):
        with pytest.raises(TokenRefused):
            TOKENS.read(token[:length], now)


@given(st.text())
def test_no_text_makes_anything_but_a_refusal(text: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(text, NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(header=_JSON, payload=_JSON, signature=st.binary())
def test_no_well_formed_parts_make_anything_but_a_refusal(header: object, payload: object, signature: bytes) -> None:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    token = f"{part(json.dumps(header).encode())}.{part(json.dumps(payload).encode())}.{part(signature)}"
    with pytest.raises(TokenRefused):
        TOKENS.read(token, NOW)


@given(header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "jwk", "x5c", "zip"]), _JSON))
def test_no_header_makes_anything_but_a_refusal(header: dict[str, object]) -> None:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    with pytest.raises(TokenRefused):
        TOKENS.read(f"{part({**HEADER, 'alg': 'HS256', **header})}.{part(claims({}))}.{part('signature')}", NOW)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(CLAIMS, _JSON)))
def test_no_claims_that_we_signed_ourselves_make_anything_but_a_refusal(changes: dict[str, object]) -> None:
    token = signed({"iss": "somebody-else", **changes})
    with pytest.raises(TokenRefused):
        TOKENS.read(token, NOW)


def test_the_key_id_is_stable_short_and_not_the_key() -> None:
    assert key_id(KEY) == key_id(bytes(KEY))
    assert key_id(KEY) != key_id(KEY + b"!")
    assert len(key_id(KEY)) == 16
    assert key_id(KEY).encode() not in KEY
