import asyncio
import gzip
from typing import Any

import httpx
import pytest
from passlib.hash import bcrypt, bcrypt_sha256
from sqlalchemy import Engine, text

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings, sign_up
from user_service.main import create_app

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_a_form_login_returns_a_bearer_token(client: httpx.AsyncClient) -> None:
    await sign_up(client, "ada")
    answer = await client.post("/login", data={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.pop("access_token").count(".") == 2
    assert len(body.pop("refresh_token")) == 75
    assert body == {"token_type": "bearer", "expires_in": 900}


async def test_a_json_login_works_like_a_form_login(client: httpx.AsyncClient) -> None:
    await sign_up(client, "ada")
    answer = await client.post("/login", json={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"


async def test_other_fields_of_the_password_grant_are_ignored(client: httpx.AsyncClient) -> None:
    await sign_up(client, "ada")
    grant = {"grant_type": "password", "scope": "everything", "client_id": "frontend", "client_secret": "none"}
    answer = await client.post("/login", data={"username": "ada", "password": PASSWORD, **grant})
    assert answer.status_code == 200


async def test_usernames_are_case_insensitive(client: httpx.AsyncClient) -> None:
    await sign_up(client, "Ada")
    assert (await client.post("/login", data={"username": "aDA", "password": PASSWORD})).status_code == 200


async def test_non_ascii_letters_do_not_fold_to_ascii(client: httpx.AsyncClient) -> None:
    await sign_up(client, "skunk")
    assert (await client.post("/login", json={"username": "\u017f\u212aunk", "password": PASSWORD})).status_code == 401


async def test_composed_and_decomposed_characters_are_the_same_password(client: httpx.AsyncClient) -> None:
    await client.post("/register", json={"username": "ada", "password": "gar\u00e7on \u00e9l\u00e8ve"})
    login = await client.post("/login", json={"username": "ada", "password": "garc\u0327on e\u0301le\u0300ve"})
    assert login.status_code == 200


async def test_all_spaces_in_a_password_are_equivalent(client: httpx.AsyncClient) -> None:
    await client.post("/register", json={"username": "ada", "password": "four words\u00a0and\u2003spaces"})
    login = await client.post("/login", json={"username": "ada", "password": "four\u3000words and spaces"})
    assert login.status_code == 200


async def test_passwords_that_differ_after_72_bytes_are_different(client: httpx.AsyncClient) -> None:
    await client.post("/register", json={"username": "ada", "password": "x" * 72 + "a"})
    assert (await client.post("/login", json={"username": "ada", "password": "x" * 72 + "b"})).status_code == 401


@pytest.mark.parametrize("scheme", [bcrypt.using(rounds=4), bcrypt_sha256.using(rounds=5)], ids=["scheme", "cost"])
async def test_a_login_replaces_an_outdated_hash(client: httpx.AsyncClient, database: Engine, scheme: Any) -> None:
    await sign_up(client, "ada")
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET password_hash = :stored"), {"stored": scheme.hash(PASSWORD)})
    assert (await client.post("/login", json={"username": "ada", "password": "wrong"})).status_code == 401
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 200
    with database.connect() as connection:
        replaced = connection.execute(text("SELECT password_hash FROM users")).scalar_one()
    assert replaced.startswith("$bcrypt-sha256$v=2,t=2b,r=4$")
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 200


async def test_concurrent_logins_succeed_while_the_hash_is_replaced(
    client: httpx.AsyncClient, database: Engine
) -> None:
    await sign_up(client, "ada")
    outdated = {"stored": bcrypt.using(rounds=4).hash(PASSWORD)}
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET password_hash = :stored"), outdated)
    login = {"username": "ada", "password": PASSWORD}
    answers = await asyncio.gather(*(client.post("/login", json=login) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_login_with_a_malformed_hash_fails(client: httpx.AsyncClient, database: Engine) -> None:
    await sign_up(client, "ada")
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET password_hash = 'lost'"))
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401


async def test_the_token_lifetime_is_configurable(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(access_token_expire_minutes=2))) as client:
        await sign_up(client, "ada")
        answer = await client.post("/login", json={"username": "ada", "password": PASSWORD})
    assert answer.json()["expires_in"] == 120


async def test_unknown_username_wrong_password_and_disabled_account_get_the_same_response(
    client: httpx.AsyncClient, database: Engine
) -> None:
    await sign_up(client, "ada")
    await sign_up(client, "grace")
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET is_active = :no WHERE username = 'grace'"), {"no": False})
    answers = [
        await client.post("/login", json={"username": "nobody", "password": PASSWORD}),
        await client.post("/login", json={"username": "ada", "password": PASSWORD.upper()}),
        await client.post("/login", json={"username": "grace", "password": PASSWORD}),
        await client.post("/login", json={"username": "a name with spaces", "password": "short"}),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    problems = [{**answer.json(), "request_id": None} for answer in answers]
    assert all(problem == problems[0] for problem in problems)
    assert problems[0]["code"] == "invalid-credentials"


@pytest.mark.parametrize("username", [" ada", "ada ", "\u00a0ADA\u3000"])
async def test_spaces_around_the_username_are_ignored(client: httpx.AsyncClient, username: str) -> None:
    await sign_up(client, "ada")
    body = {"username": username, "password": PASSWORD}
    assert (await client.post("/login", json=body)).status_code == 200
    assert (await client.post("/login", data=body)).status_code == 200


async def test_a_blank_username_is_an_unknown_one(client: httpx.AsyncClient) -> None:
    assert (await client.post("/login", json={"username": "  ", "password": PASSWORD})).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "ada"},
        {"password": PASSWORD},
        {"username": "ada", "password": "x" * 257},
        {"username": "ada\x00", "password": PASSWORD},
    ],
)
async def test_invalid_credentials_get_the_same_errors_in_both_formats(
    client: httpx.AsyncClient, body: dict[str, str]
) -> None:
    as_json = await client.post("/login", json=body)
    as_form = await client.post("/login", data=body, headers=FORM)
    assert (as_json.status_code, as_form.status_code) == (422, 400)
    assert as_json.json()["errors"] == as_form.json()["errors"]


@pytest.mark.parametrize("change", [{"remember": "me"}, {"username": ""}, {"password": ""}, {"grant_type": ""}])
async def test_unknown_and_empty_fields_of_json_are_rejected(client: httpx.AsyncClient, change: dict[str, str]) -> None:
    answer = await client.post("/login", json={"username": "ada", "password": PASSWORD, **change})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{name}" for name in change]


@pytest.mark.parametrize("password", [1, 1.5, True, None, [], {}])
async def test_a_password_must_be_a_string(client: httpx.AsyncClient, password: object) -> None:
    answer = await client.post("/login", json={"username": "ada", "password": password})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/password"]


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("text/plain", b"username=ada&password=x", 415),
        ("application/json", b"{", 400),
        ("application/json", b'{"username": "ada", "password": "\\ud800"}', 400),
    ],
)
async def test_undecodable_bodies_are_rejected(
    client: httpx.AsyncClient, content_type: str, content: bytes, status: int
) -> None:
    answer = await client.post("/login", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_compressed_body_is_a_415_with_accept_encoding(client: httpx.AsyncClient) -> None:
    content = gzip.compress(b'{"username": "ada", "password": "a password"}')
    for path in ("/login", "/register"):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await client.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
        assert "Content-Encoding" in answer.json()["detail"]
