"""Invalid access tokens, and tokens of disabled or deleted accounts, in both services."""

import base64
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from testkit.processes import Account, Services, problem
from user_service.security.access_tokens import Tokens, key_id

DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}
CLAIMS = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti")


@pytest.fixture(scope="module")
def owner(services: Services) -> Account:
    return services.sign_up()


@pytest.fixture(scope="module")
def key(services: Services, owner: Account) -> bytes:
    return (services.users.data / "secret-key").read_bytes()


@pytest.fixture
def users(services: Services) -> Iterator[httpx.Client]:
    with services.users.client() as client:
        yield client


@pytest.fixture
def products(services: Services) -> Iterator[httpx.Client]:
    with services.products.client() as client:
        yield client


def execute(database: Path, statement: str, *parameters: object) -> None:
    """Change the database of a running service directly."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute(statement, parameters)
        connection.commit()


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def sign(header: Any, claims: Any, key: bytes) -> str:
    """A token with any header and claims; a library would refuse to make most of them."""
    text = ".".join(
        encoded(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)
    )
    return f"{text}.{encoded(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def session_id(owner: Account) -> int:
    """The session id in the owner's token."""
    claims = owner.token.split(".")[1]
    return int(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sid"])


def genuine(owner: Account, key: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a valid token."""
    now = int(time.time())
    header = {"alg": "HS256", "typ": "at+jwt", "kid": key_id(key)}
    claims = {
        "iss": "user-service",
        "sub": str(owner.id),
        "aud": "services",
        "iat": now,
        "nbf": now,
        "exp": now + 900,
        "jti": "a",
        "sid": session_id(owner),
    }
    return header, claims


def invalid_tokens(owner: Account, key: bytes) -> dict[str, str]:
    """Invalid tokens, by what is wrong with them."""
    header, claims = genuine(owner, key)
    now = claims["iat"]
    own_header, own_claims, signature = owner.token.split(".")
    unsigned = {**header, "alg": "none"}
    tokens = {
        "expired": Tokens([key], timedelta(minutes=15)).issue(
            owner.id, session_id(owner), datetime.now(UTC) - timedelta(minutes=16)
        ),
        "expiring now": sign(header, {**claims, "exp": now}, key),
        "expired before it was issued": sign(header, {**claims, "exp": 0}, key),
        "unsigned": f"{encoded(json.dumps(unsigned).encode())}.{own_claims}.",
        "unsigned, with a signature": f"{encoded(json.dumps(unsigned).encode())}.{own_claims}.{signature}",
        "unsigned, in another spelling": sign({**header, "alg": "nOnE"}, claims, b""),
        "signed with another key": sign(header, claims, b"x" * 64),
        "signed with another key and its key id": Tokens([b"x" * 64], timedelta(minutes=1)).issue(
            owner.id, session_id(owner), datetime.now(UTC)
        ),
        "signed with the empty key": sign(header, claims, b""),
        "signed with the key id": sign(header, claims, key_id(key).encode()),
        "another algorithm": sign({**header, "alg": "HS512"}, claims, key),
        "an asymmetric algorithm": sign({**header, "alg": "RS256"}, claims, key),
        "a key in the header": sign({**header, "jwk": {"kty": "oct", "k": "eA"}}, claims, b"x"),
        "an unknown kid": sign({**header, "kid": "0" * 16}, claims, key),
        "a kid that is a path": sign({**header, "kid": "../../secret-key"}, claims, key),
        "no kid": sign({"alg": "HS256", "typ": "at+jwt"}, claims, key),
        "a plain JWT": sign({**header, "typ": "JWT"}, claims, key),
        "a refresh token": sign({**header, "typ": "rt+jwt"}, claims, key),
        "a type that is not a string": sign({**header, "typ": ["at+jwt"]}, claims, key),
        "another audience": sign(header, {**claims, "aud": "shop"}, key),
        "an audience that is a number": sign(header, {**claims, "aud": 1}, key),
        "another issuer": sign(header, {**claims, "iss": "product-service"}, key),
        "not valid yet": sign(header, {**claims, "nbf": now + 600}, key),
        "times that are strings": sign(header, {**claims, "exp": str(now + 900)}, key),
        "an expiry with a fraction": sign(header, {**claims, "exp": now + 600.5}, key),
        "an expiry beyond year 9999": sign(header, {**claims, "exp": 10**30}, key),
        "an expiry that is true": sign(header, {**claims, "exp": True}, key),
        "an infinite expiry": sign(header, json.dumps(claims).replace(str(now + 900), "1e999").encode(), key),
        "an expiry that is NaN": sign(header, json.dumps(claims).replace(str(now + 900), "NaN").encode(), key),
        "of an unknown account": sign(header, {**claims, "sub": "999999999"}, key),
        "a subject that is a number": sign(header, {**claims, "sub": owner.id}, key),
        "a subject with a sign": sign(header, {**claims, "sub": f"+{owner.id}"}, key),
        "a subject with leading zeros": sign(header, {**claims, "sub": f"0{owner.id}"}, key),
        "a subject with a line break": sign(header, {**claims, "sub": f"{owner.id}\n"}, key),
        "a subject in other digits": sign(header, {**claims, "sub": "\u0661"}, key),
        "a subject beyond 64 bits": sign(header, {**claims, "sub": str(2**63)}, key),
        "a subject of 5,000 digits": sign(header, {**claims, "sub": "9" * 5000}, key),
        "claims that are a list": sign(header, [1], key),
        "claims that are not JSON": sign(header, b"\xff\xfe", key),
        "a header that is a list": sign([1], claims, key),
        "a header that is not UTF-8": sign(b'{"alg": "\xff"}', claims, key),
        "deeply nested claims": sign(header, b"[" * 5000, key),
        "truncated by one character": owner.token[:-1],
        "without its signature": f"{own_header}.{own_claims}.",
        "without its last part": f"{own_header}.{own_claims}",
        "only its header": own_header,
        "one part too many": f"{owner.token}.{signature}",
        "twice": f"{owner.token}{owner.token}",
        "only dots": "..",
        "not base64": "a.b.c",
        "huge": sign(header, {**claims, "jti": "x" * 8000}, b"x" * 64),
        "a word": "token",
    }
    for claim in CLAIMS:
        others = {name: value for name, value in claims.items() if name != claim}
        tokens[f"without {claim}"] = sign(header, others, key)
        tokens[f"with {claim} null"] = sign(header, {**claims, claim: None}, key)
    return tokens


def assert_rejected_everywhere(users: httpx.Client, products: httpx.Client, token: str, what: str = "") -> str:
    """Assert that both services reject the token.

    :return: the message of /validate-token
    """
    validated = users.post("/validate-token", json={"token": token})
    assert validated.status_code == 200, what
    answer: dict[str, Any] = validated.json()
    assert set(answer) == {"valid", "message"}, what
    assert answer["valid"] is False, what
    for client, method, path in ((users, "GET", "/me"), (products, "POST", "/products")):
        rejected = client.request(
            method,
            path,
            json=DRAFT if method == "POST" else None,
            headers={b"Authorization": f"Bearer {token}".encode()},
        )
        assert rejected.status_code == 401, what
        problem(rejected, 401)
        assert rejected.headers["www-authenticate"].startswith("Bearer")
    return str(answer["message"])


def test_the_token_that_the_invalid_ones_derive_from_is_valid(
    services: Services, users: httpx.Client, products: httpx.Client, owner: Account, key: bytes
) -> None:
    """Otherwise the others might be rejected for another reason."""
    header, claims = genuine(owner, key)
    for token in (sign(header, claims, key), owner.token):
        answer = users.post("/validate-token", json={"token": token}).json()
        assert answer["valid"] is True
        assert (answer["user_id"], answer["username"], answer["roles"]) == (owner.id, owner.username, ["user"])
        assert answer["expires_at"].endswith("Z")
        headers = {"Authorization": f"bEARER  {token}"}
        assert products.post("/products", json=DRAFT, headers=headers).status_code == 201


def test_both_services_reject_every_invalid_token(
    users: httpx.Client, products: httpx.Client, owner: Account, key: bytes
) -> None:
    before = products.get("/products?limit=100").json()
    messages = {
        what: assert_rejected_everywhere(users, products, token, what)
        for what, token in invalid_tokens(owner, key).items()
    }
    expired = {what for what, message in messages.items() if message == "The token has expired."}
    assert expired >= {"expired", "expiring now", "expired before it was issued"}
    # The last one is expired as well, if true is read as the number 1.
    assert expired <= {"expired", "expiring now", "expired before it was issued", "an expiry that is true"}
    assert len(messages) > 60
    assert products.get("/products?limit=100").json() == before


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "\U0001f511.\U0001f511.\U0001f511", "a b", "ä.ö.ü", "\n", "x" * 16_000]
)
def test_any_text_can_be_validated(users: httpx.Client, text: str) -> None:
    answer = users.post("/validate-token", json={"token": text})
    assert answer.status_code == 200
    assert answer.json().keys() == {"valid", "message"}
    assert answer.json()["valid"] is False


def test_a_malformed_token_is_rejected_without_a_validation(
    services: Services, users: httpx.Client, products: httpx.Client, owner: Account
) -> None:
    problem(users.post("/validate-token", json={"token": "x" * 16 * 1024}), 413, "body-too-large")
    for token in ("x" * 8193, "a,b", '"abc"', "abc=def"):
        rejected = products.post("/products", json=DRAFT, headers={"Authorization": f"Bearer {token}"})
        problem(rejected, 401, "invalid-token")
        request_id = rejected.headers["x-request-id"]
        services.products.wait_for_log_line("request", request_id=request_id)
        assert not [
            line
            for line in services.products.log_lines
            if line.items() >= {"message": "called user-service", "request_id": request_id}.items()
        ]


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Basic YTpi", b"Token abc", b"Bearer a b", b"bearer\tabc", b"Bearer, abc"]
)
def test_a_header_without_a_bearer_token_counts_as_missing(
    users: httpx.Client, products: httpx.Client, header: bytes
) -> None:
    for answer in (
        users.get("/me", headers={b"Authorization": header}),
        products.post("/products", json=DRAFT, headers={b"Authorization": header}),
    ):
        problem(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_disabling_and_enabling_an_account_takes_effect_at_once(
    services: Services, users: httpx.Client, products: httpx.Client
) -> None:
    account = services.sign_up()
    url = f"/products/{services.create_product(account)['id']}"
    credentials = {"username": account.username, "password": account.password}

    execute(services.users.database, "UPDATE users SET is_active = 0 WHERE id = ?", account.id)
    problem(products.put(url, json={"quantity": 1}, headers=account.bearer), 401, "invalid-token")
    assert_rejected_everywhere(users, products, account.token)
    disabled = problem(users.post("/login", json=credentials), 401, "invalid-credentials")
    unknown = problem(users.post("/login", json={**credentials, "username": "nobody"}), 401, "invalid-credentials")
    assert {**disabled, "request_id": ""} == {**unknown, "request_id": ""}

    execute(services.users.database, "UPDATE users SET is_active = 1 WHERE id = ?", account.id)
    assert products.put(url, json={"quantity": 1}, headers=account.bearer).status_code == 200


def test_new_rows_inherit_nothing_from_deleted_ones(
    services: Services, users: httpx.Client, products: httpx.Client
) -> None:
    old = services.sign_up()
    kept = services.create_product(old, description="of the deleted account")
    last = services.create_product(old, description="deleted", sku="reused-sku", category="old")
    execute(services.products.database, "DELETE FROM products WHERE id = ?", last["id"])
    execute(services.users.database, "DELETE FROM users WHERE id = ?", old.id)

    # Before another account could get the same id.
    assert_rejected_everywhere(users, products, old.token)
    new = services.sign_up(username=old.username)
    assert new.id > old.id
    assert_rejected_everywhere(users, products, old.token)

    fresh = services.create_product(new, sku="reused-sku")
    assert fresh["id"] > last["id"]
    assert (fresh["owner_id"], fresh["version"]) == (new.id, 1)
    assert (fresh["description"], fresh["category"]) == (None, None)
    problem(products.get(f"/products/{last['id']}"), 404, "product-not-found")
    problem(products.put(f"/products/{kept['id']}", json={"quantity": 1}, headers=new.bearer), 403, "not-the-owner")
    problem(products.put(f"/products/{fresh['id']}", json={"quantity": 1}, headers=old.bearer), 401, "invalid-token")


def test_ids_are_not_reused_in_emptied_tables(services: Services) -> None:
    old = services.sign_up()
    last = services.create_product(old)
    execute(services.users.database, "DELETE FROM users")
    execute(services.products.database, "DELETE FROM products")
    new = services.sign_up()
    assert new.id == old.id + 1
    assert services.create_product(new)["id"] == last["id"] + 1
