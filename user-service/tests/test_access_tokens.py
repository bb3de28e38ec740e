"""Access tokens and their claims; test_validation.py tests the endpoint."""

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
from user_service.security.access_tokens import TokenRejected, Tokens, key_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TOKENS = Tokens([KEY], timedelta(minutes=15))
CLAIMS = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti", "sid")
HEADER = {"typ": "at+jwt", "kid": key_id(KEY)}


def claims(changes: Mapping[str, Any]) -> dict[str, Any]:
    issued = int(datetime.now(UTC).timestamp()) - 60
    valid = {
        "iss": "user-service",
        "sub": "7",
        "aud": "services",
        "iat": issued,
        "nbf": issued,
        "exp": issued + 900,
        "jti": "a-token",
        "sid": 5,
    }
    return {name: value for name, value in {**valid, **changes}.items() if value is not ...}


def signed(
    changes: Mapping[str, Any] | None = None,
    *,
    key: bytes = KEY,
    algorithm: str = "HS256",
    header: dict[str, Any] = HEADER,
) -> str:
    token: str = jwt.encode(claims(changes or {}), key, algorithm, headers=header)
    return token


def test_an_issued_token_is_valid() -> None:
    now = datetime.now(UTC)
    read = TOKENS.verify(TOKENS.issue(7, 5, now), now)
    assert (read.user_id, read.session_id) == (7, 5)
    assert timedelta(minutes=14, seconds=59) <= read.expires_at - now <= timedelta(minutes=15)


def test_a_token_has_the_header_and_claims_of_rfc_9068() -> None:
    token = TOKENS.issue(7, 5, NOW)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "at+jwt", "kid": key_id(KEY)}
    body = jwt.get_unverified_claims(token)
    assert set(body) == {"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "sid"}
    assert (body["sub"], body["iat"], body["exp"] - body["iat"]) == ("7", int(NOW.timestamp()), 900)


def test_every_token_is_unique() -> None:
    assert len({TOKENS.issue(7, 5, NOW) for _ in range(100)}) == 100


def test_the_signed_helper_makes_valid_tokens() -> None:
    assert TOKENS.verify(signed(), datetime.now(UTC)).user_id == 7


def test_a_token_is_valid_until_the_second_it_expires() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    token = TOKENS.issue(7, 5, now)
    assert TOKENS.verify(token, now + timedelta(minutes=15, microseconds=-1)).user_id == 7
    with pytest.raises(TokenRejected, match="expired"):
        TOKENS.verify(token, now + timedelta(minutes=15))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_may_be_in_the_future_by_the_leeway(claim: str) -> None:
    tokens = Tokens([KEY], timedelta(minutes=15), leeway=timedelta(seconds=5))
    token = signed({"iat": 1_000, "nbf": 1_000, "exp": 2_000, claim: 1_100})
    assert tokens.verify(token, datetime.fromtimestamp(1_095, UTC)).user_id == 7
    with pytest.raises(TokenRejected, match="not valid yet"):
        tokens.verify(token, datetime.fromtimestamp(1_094.5, UTC))
    # There is no leeway for the expiry.
    with pytest.raises(TokenRejected, match="expired"):
        tokens.verify(token, datetime.fromtimestamp(2_000, UTC))


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_is_required(claim: str) -> None:
    with pytest.raises(TokenRejected):
        TOKENS.verify(signed({claim: ...}), datetime.now(UTC))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "another-service"},
        {"aud": "another-audience"},
        {"aud": ["another-audience"]},
        {"nbf": 4_000_000_000},
        {"nbf": 10**30},
        {"nbf": "1000"},
        {"iat": 4_000_000_000},
        {"iat": 1_000.5},
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
def test_a_wrong_claim_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenRejected):
        TOKENS.verify(signed(changes), datetime.now(UTC))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"typ": "JWT", "kid": key_id(KEY)},
        {"typ": "at+jwt"},
        {"typ": "at+jwt", "kid": "another"},
        {"typ": "at+jwt", "kid": None},
        {"typ": ["at+jwt"], "kid": key_id(KEY)},
        {**HEADER, "crit": ["foo"], "foo": 1},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "crit": []},
        {**HEADER, "crit": None},
        {**HEADER, "b64": False},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "crit": ["b64"], "b64": True},
    ],
    ids=str,
)
def test_a_wrong_type_or_key_id_or_an_unknown_extension_is_rejected(header: dict[str, Any]) -> None:
    with pytest.raises(TokenRejected):
        TOKENS.verify(signed(header=header), datetime.now(UTC))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_rejected_even_with_the_right_key(algorithm: str) -> None:
    with pytest.raises(TokenRejected):
        TOKENS.verify(signed(algorithm=algorithm), datetime.now(UTC))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
def test_an_unsigned_token_is_rejected(algorithm: str | None) -> None:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    token = f"{part({'alg': algorithm, **HEADER})}.{part(claims({}))}."
    with pytest.raises(TokenRejected):
        TOKENS.verify(token, datetime.now(UTC))


def test_a_token_signed_with_another_key_is_rejected() -> None:
    with pytest.raises(TokenRejected):
        TOKENS.verify(signed(key=KEY + b"!"), datetime.now(UTC))


def test_changing_any_character_invalidates_a_token() -> None:
    now = datetime.now(UTC)
    token = TOKENS.issue(7, 5, now)
    for at, character in enumerate(token[:-1]):
        changed = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        with pytest.raises(TokenRejected):
            TOKENS.verify(changed, now)


def test_a_token_has_one_encoding() -> None:
    now = datetime.now(UTC)
    token = TOKENS.issue(7, 5, now)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    valid = [last for last in alphabet if is_valid(token[:-1] + last, now)]
    assert valid == [token[-1]]


def is_valid(token: str, now: datetime) -> bool:
    try:
        TOKENS.verify(token, now)
    except TokenRejected:
        return False
    return True


@pytest.mark.parametrize("variant", ["{}=", "{}==", " {}", "{}\n", "{} ", "{}.", ".{}"])
def test_padding_and_whitespace_are_rejected(variant: str) -> None:
    now = datetime.now(UTC)
    with pytest.raises(TokenRejected):
        TOKENS.verify(variant.format(TOKENS.issue(7, 5, now)), now)


def test_truncated_tokens_are_rejected() -> None:
    now = datetime.now(UTC)
    token = TOKENS.issue(7, 5, now)
    for length in range(len(token)):
        with pytest.raises(TokenRejected):
            TOKENS.verify(token[:length], now)


@given(st.text())
def test_any_text_is_rejected_cleanly(text: str) -> None:
    with pytest.raises(TokenRejected):
        TOKENS.verify(text, NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(header=_JSON, payload=_JSON, signature=st.binary())
def test_any_well_formed_parts_are_rejected_cleanly(header: object, payload: object, signature: bytes) -> None:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    token = f"{part(json.dumps(header).encode())}.{part(json.dumps(payload).encode())}.{part(signature)}"
    with pytest.raises(TokenRejected):
        TOKENS.verify(token, NOW)


@given(header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "jwk", "x5c", "zip"]), _JSON))
def test_any_header_is_rejected_cleanly(header: dict[str, object]) -> None:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    with pytest.raises(TokenRejected):
        TOKENS.verify(f"{part({**HEADER, 'alg': 'HS256', **header})}.{part(claims({}))}.{part('signature')}", NOW)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(CLAIMS, _JSON)))
def test_any_signed_claims_are_rejected_cleanly(changes: dict[str, object]) -> None:
    token = signed({"iss": "another-service", **changes})
    with pytest.raises(TokenRejected):
        TOKENS.verify(token, NOW)


def test_the_key_id_is_stable_and_short_and_hides_the_key() -> None:
    assert key_id(KEY) == key_id(bytes(KEY))
    assert key_id(KEY) != key_id(KEY + b"!")
    assert len(key_id(KEY)) == 16
    assert key_id(KEY).encode() not in KEY
