import asyncio
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings, sign_up
from user_service import schemas
from user_service.main import create_app

VALID = {"username": "ada", "password": PASSWORD}


def count(database: Engine) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM users")).scalar_one())


async def test_registration_returns_the_account_and_its_location(client: httpx.AsyncClient) -> None:
    before = datetime.now(UTC)
    answer = await client.post("/register", json=VALID)
    assert answer.status_code == 201
    account = answer.json()
    assert answer.headers["location"] == f"/users/{account['id']}"
    assert account["created_at"] == account["updated_at"]
    assert account["created_at"].endswith("Z")
    assert before <= datetime.fromisoformat(account.pop("created_at")) <= datetime.now(UTC)
    del account["updated_at"]
    assert account == {"id": 1, "username": "ada", "roles": ["user"], "is_active": True}


@pytest.mark.parametrize("other", ["ada", "Ada", "ADA"])
async def test_a_taken_username_is_rejected_in_any_case(
    client: httpx.AsyncClient, database: Engine, other: str
) -> None:
    await client.post("/register", json=VALID)
    answer = await client.post("/register", json={**VALID, "username": other})
    assert (answer.status_code, answer.json()["code"]) == (409, "username-taken")
    assert count(database) == 1


async def test_one_of_twenty_concurrent_registrations_gets_the_username(
    client: httpx.AsyncClient, database: Engine
) -> None:
    answers = await asyncio.gather(*(client.post("/register", json=VALID) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert count(database) == 1


async def test_only_a_hash_of_the_password_is_stored(client: httpx.AsyncClient, database: Engine) -> None:
    await client.post("/register", json=VALID)
    with database.connect() as connection:
        row = connection.execute(text("SELECT * FROM users")).one()
    assert row.password_hash.startswith("$bcrypt-sha256$")
    assert PASSWORD not in str(row)


@pytest.mark.parametrize("username", ["abc", "a" * 50, "A.b_c-9", "..."])
async def test_valid_usernames_are_accepted(client: httpx.AsyncClient, username: str) -> None:
    assert (await client.post("/register", json={**VALID, "username": username})).status_code == 201


@pytest.mark.parametrize(
    "username", ["", "ab", "a" * 51, "a b", "ada\n", "ada\x00", "ädä", "a/b", "ada@home", None, 7, True, ["ada"], {}]
)
async def test_invalid_usernames_are_rejected(client: httpx.AsyncClient, database: Engine, username: object) -> None:
    answer = await client.post("/register", json={**VALID, "username": username})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/username"
    assert "[A-Z" not in error["detail"]
    assert count(database) == 0


async def test_the_message_about_a_username_says_what_it_may_have(client: httpx.AsyncClient) -> None:
    answer = await client.post("/register", json={**VALID, "username": "zoë"})
    detail = "Usernames have 3 to 50 letters (A to Z, a to z), digits, dots, hyphens or underscores"
    assert answer.json()["errors"] == [{"pointer": "/username", "detail": detail}]


@pytest.mark.parametrize(
    "password", ["1234 678", "пароль из слов", "🔑 Schlüssel", " aßc \u3000 x ", "a\u2028bcdefgh", "xq" + "é" * 254]
)
async def test_passwords_can_be_any_unicode_text(client: httpx.AsyncClient, password: str) -> None:
    credentials = {"username": "ada", "password": password}
    assert (await client.post("/register", json=credentials)).status_code == 201
    assert (await client.post("/login", json=credentials)).status_code == 200
    assert (await client.post("/login", data=credentials)).status_code == 200


@pytest.mark.parametrize("password", ["", "1234567", "x" * 257, "eight\x00eight", "eight\neight", None, 12345678, True])
async def test_invalid_passwords_are_rejected_and_not_echoed(
    client: httpx.AsyncClient, database: Engine, password: object
) -> None:
    answer = await client.post("/register", json={**VALID, "password": password})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/password"]
    assert str(password) not in answer.text or not password
    assert count(database) == 0


async def test_a_common_password_is_rejected_with_a_clear_message(client: httpx.AsyncClient, database: Engine) -> None:
    answer = await client.post("/register", json={"username": "ada", "password": "Football1"})
    assert answer.status_code == 422
    error = {"pointer": "/password", "detail": "The password is one of the 10,000 most common ones"}
    assert answer.json()["errors"] == [error]
    assert count(database) == 0


@pytest.mark.parametrize("password", ["football1 ", " Football1", "\u00a0football1\u3000"])
async def test_a_common_password_with_spaces_around_it_is_rejected(client: httpx.AsyncClient, password: str) -> None:
    answer = await client.post("/register", json={"username": "ada", "password": password})
    assert "most common" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    "password",
    [
        "Ada.Lovelace",
        " ada.lovelace ",
        "ecalevol.ada",
        " " * 8,
        "a" * 8,
        "🔑" * 8,
        "x" * 256,
        "zxzxzxzxzx",
        "asdfghjkl;'",
        "zxcvbnm,./",
        "1234567890-=",
        "qwertyuiopqwertyuiop",
        "abcdefghijklmnop",
        "hgfedcba",
    ],
)
async def test_an_easily_guessed_password_is_rejected_with_a_sentence(
    client: httpx.AsyncClient, database: Engine, password: str
) -> None:
    answer = await client.post("/register", json={"username": "ada.lovelace", "password": password})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["pointer"] == "/password"
    assert error["detail"].startswith("The password is too easy to guess. It must not be the username, ")
    assert count(database) == 0


async def test_the_new_password_must_not_be_the_old_one_or_easily_guessed(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client, "ada.lovelace")
    for new, sentence in (
        (PASSWORD, "The new password is the same as the current one"),
        (PASSWORD.replace(" ", "\u00a0"), "The new password is the same as the current one"),
        ("ADA.LOVELACE", "The password is too easy to guess."),
    ):
        change = {"current_password": PASSWORD, "new_password": new}
        answer = await client.post("/me/password", json=change, headers=ada.headers)
        assert answer.status_code == 422
        [error] = answer.json()["errors"]
        assert error["pointer"] == "/new_password"
        assert error["detail"].startswith(sentence)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 422),
        ({"password_min_length": 7}, 422),
        ({"reject_common_passwords": False}, 422),
        ({"password_min_length": 7, "reject_common_passwords": False}, 201),
    ],
)
async def test_settings_permit_short_and_common_passwords(
    make_settings: MakeSettings, changes: dict[str, object], status: int
) -> None:
    async with running(create_app(make_settings(**changes))) as client:
        answer = await client.post("/register", json={"username": "ada", "password": "test123"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("password", "status"),
    [
        ("xyzabc" + "e\u0301", 422),
        ("qkzjvx" + "e\u0301" * 2, 201),
        ("qkzjvx" + "e\u0301" * 250, 201),
        ("qkzjvx" + "e\u0301" * 251, 422),
        # Normalization makes two characters of this one.
        ("qkzjvx" + "\u0958" * 125, 201),
        ("qkzjvx" + "\u0958" * 126, 422),
    ],
)
async def test_length_limits_count_normalized_characters(client: httpx.AsyncClient, password: str, status: int) -> None:
    answer = await client.post("/register", json={"username": "ada", "password": password})
    assert answer.status_code == status, answer.text


async def test_composed_and_decomposed_characters_are_the_same_password_at_full_length(
    client: httpx.AsyncClient,
) -> None:
    composed, decomposed = "qkzjvx" + "é" * 250, "qkzjvx" + "e\u0301" * 250
    assert (await client.post("/register", json={"username": "ada", "password": composed})).status_code == 201
    login = await client.post("/login", data={"username": "ada", "password": decomposed})
    assert login.status_code == 200
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    change = {"current_password": decomposed, "new_password": "jvxqkz" + "ö" * 250}
    assert (await client.post("/me/password", json=change, headers=headers)).status_code == 204


async def test_a_huge_password_is_rejected_without_being_normalized(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sorting this many combining characters would take minutes.
    monkeypatch.setattr(schemas, "normalize", lambda _: pytest.fail("was normalized"))
    answer = await client.post("/register", json={"username": "ada", "password": "a" + "\u0301\u0316" * 1024})
    assert answer.json()["errors"][0]["detail"] == "Must have at most 256 characters, not 2049"


@pytest.mark.parametrize(
    ("password", "detail"),
    [
        ("", "Must not be empty"),
        ("x" * 257, "Must have at most 256 characters, not 257"),
    ],
)
async def test_length_errors_count_characters(client: httpx.AsyncClient, password: str, detail: str) -> None:
    answer = await client.post("/register", json={"username": "ada", "password": password})
    assert answer.json()["errors"] == [{"pointer": "/password", "detail": detail}]


async def test_the_minimum_password_length_is_configurable(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(password_min_length=12))) as client:
        short = await client.post("/register", json={"username": "ada", "password": PASSWORD[:11]})
        long_enough = await client.post("/register", json={"username": "ada", "password": PASSWORD[:12]})
    detail = "The password must have at least 12 characters"
    assert short.json()["errors"] == [{"pointer": "/password", "detail": detail}]
    assert long_enough.status_code == 201


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/username", "/password"}),
        ({"username": "ada"}, {"/password"}),
        ({**VALID, "roles": ["admin"]}, {"/roles"}),
        ({**VALID, "is_active": False}, {"/is_active"}),
        ({**VALID, "id": 7}, {"/id"}),
        ([], {""}),
        (None, {""}),
        ("ada", {""}),
    ],
)
async def test_missing_and_unknown_fields_are_named(
    client: httpx.AsyncClient, database: Engine, body: object, pointers: set[str]
) -> None:
    answer = await client.post("/register", json=body)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers
    assert count(database) == 0


async def test_ids_of_deleted_accounts_are_not_reused(client: httpx.AsyncClient, database: Engine) -> None:
    await client.post("/register", json=VALID)
    second = (await client.post("/register", json={**VALID, "username": "grace"})).json()["id"]
    with database.begin() as connection:
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": second})
    third = (await client.post("/register", json={**VALID, "username": "grace"})).json()["id"]
    assert third > second
