"""What admins do to the accounts of others: create, rename, set a password, delete, list and revoke sessions."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.users import PASSWORD, Person, an_admin, log_in, sign_up

NEW_PASSWORD = "a new horse, a new battery"


@pytest.fixture
async def root(client: httpx.AsyncClient, database: Engine) -> Person:
    return await an_admin(client, database)


@pytest.fixture
async def ada(client: httpx.AsyncClient) -> Person:
    return await sign_up(client)


async def send(client: httpx.AsyncClient, admin: Person, method: str, path: str, body: object = None) -> httpx.Response:
    return await client.request(method, path, json=body, headers=admin.headers)


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    records = [each.msg for each in caplog.records if isinstance(each.msg, dict) and each.name == "audit.user_service"]
    return [{name: value for name, value in line.items() if name not in ("time", "level")} for line in records]


async def is_active(client: httpx.AsyncClient, person: Person) -> bool:
    return (await client.get("/me", headers=person.headers)).status_code == 200


async def test_an_admin_can_create_an_account(
    client: httpx.AsyncClient, root: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    account = {"username": "grace", "password": PASSWORD}
    answer = await send(client, root, "POST", "/users", account)
    created = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/users/{created['id']}")
    assert (created["username"], created["roles"], created["is_active"]) == ("grace", ["user"], True)
    (line,) = audit_lines(caplog)
    assert (line["event"], line["account_id"], line["by"]) == ("account opened", created["id"], root.user_id)
    await log_in(client, created["id"], "grace")
    again = await send(client, root, "POST", "/users", {**account, "username": "GRACE"})
    assert (again.status_code, again.json()["code"]) == (409, "username-taken")
    assert (await send(client, root, "POST", "/users", {**account, "password": "short"})).status_code == 422


async def test_an_admin_can_rename_an_account(
    client: httpx.AsyncClient, root: Person, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    answer = await send(client, root, "PATCH", f"/users/{ada.user_id}", {"username": "Countess"})
    assert (answer.status_code, answer.json()["username"]) == (200, "Countess")
    assert answer.json()["updated_at"] > answer.json()["created_at"]
    (line,) = audit_lines(caplog)
    assert (line["event"], line["account_id"], line["by"]) == ("account renamed", ada.user_id, root.user_id)
    assert (line["username"], line["previous_username"]) == ("Countess", "ada")
    # The sessions stay, and validations return the new name.
    validation = await client.post("/validate-token", json={"token": ada.token})
    assert validation.json()["username"] == "Countess"
    await log_in(client, ada.user_id, "COUNTESS")
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
    # The old name is available.
    await sign_up(client, "ada")


async def test_a_name_in_use_is_a_conflict_and_changes_nothing(
    client: httpx.AsyncClient, root: Person, ada: Person
) -> None:
    for name in ("chief", "CHIEF"):
        answer = await send(client, root, "PATCH", f"/users/{ada.user_id}", {"username": name, "is_active": False})
        assert (answer.status_code, answer.json()["code"]) == (409, "username-taken")
    assert (await client.get("/me", headers=ada.headers)).json()["username"] == "ada"
    # The case of one's own name can change.
    answer = await send(client, root, "PATCH", f"/users/{ada.user_id}", {"username": "ADA"})
    assert (answer.status_code, answer.json()["username"]) == (200, "ADA")


async def test_concurrent_renames_to_one_name_rename_one_account(client: httpx.AsyncClient, root: Person) -> None:
    people = [await sign_up(client, f"user-{number}") for number in range(4)]
    answers = await asyncio.gather(
        *(send(client, root, "PATCH", f"/users/{each.user_id}", {"username": "one-name"}) for each in people)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


async def test_an_admin_can_set_a_password_which_revokes_all_sessions(
    client: httpx.AsyncClient, root: Person, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    path = f"/users/{ada.user_id}/password"
    assert (await send(client, root, "POST", path, {"new_password": "short"})).status_code == 422
    assert (await send(client, root, "POST", path, {"password": NEW_PASSWORD})).status_code == 422
    assert await is_active(client, ada)
    answer = await send(client, root, "POST", path, {"new_password": NEW_PASSWORD})
    assert (answer.status_code, answer.content) == (204, b"")
    (line,) = audit_lines(caplog)
    assert (line["event"], line["account_id"], line["by"]) == ("password changed", ada.user_id, root.user_id)
    assert NEW_PASSWORD not in caplog.text
    assert not await is_active(client, ada)
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
    await log_in(client, ada.user_id, "ada", NEW_PASSWORD)


async def test_an_admin_can_delete_an_account(
    client: httpx.AsyncClient, root: Person, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    answer = await send(client, root, "DELETE", f"/users/{ada.user_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    (line,) = audit_lines(caplog)
    assert (line["event"], line["account_id"], line["by"]) == ("account deleted", ada.user_id, root.user_id)
    assert not await is_active(client, ada)
    assert (await send(client, root, "GET", f"/users/{ada.user_id}")).status_code == 404
    assert (await sign_up(client, "ada")).user_id > ada.user_id


async def test_an_admins_token_alone_neither_deletes_its_account_nor_sets_its_password(
    client: httpx.AsyncClient, database: Engine, root: Person
) -> None:
    await an_admin(client, database, "other")
    for method, path, body in (
        ("DELETE", f"/users/{root.user_id}", None),
        ("POST", f"/users/{root.user_id}/password", {"new_password": NEW_PASSWORD}),
    ):
        answer = await send(client, root, method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "own-account")
    assert await is_active(client, root)


async def test_the_last_admin_cannot_delete_itself(client: httpx.AsyncClient, root: Person) -> None:
    answer = await send(client, root, "DELETE", f"/users/{root.user_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "last-admin")


async def test_two_admins_deleting_each_other_leave_one(
    client: httpx.AsyncClient, database: Engine, root: Person
) -> None:
    other = await an_admin(client, database, "other")
    answers = await asyncio.gather(
        send(client, root, "DELETE", f"/users/{other.user_id}"),
        send(client, other, "DELETE", f"/users/{root.user_id}"),
    )
    first, second = sorted(answer.status_code for answer in answers)
    assert first == 204
    assert second in (401, 403)
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM users WHERE is_admin AND is_active")).scalar_one() == 1


async def test_an_admin_can_list_and_revoke_the_sessions_of_an_account(
    client: httpx.AsyncClient, root: Person, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    phone = await log_in(client, ada.user_id, "ada")
    path = f"/users/{ada.user_id}/sessions"
    first = await send(client, root, "GET", f"{path}?limit=1")
    second = await send(client, root, "GET", first.links["next"]["url"])
    (newest,), (oldest,) = first.json(), second.json()
    assert "next" not in second.links
    assert newest["id"] > oldest["id"]
    assert not newest["current"]
    own = (await send(client, root, "GET", f"/users/{root.user_id}/sessions")).json()
    assert [session["current"] for session in own] == [True]

    caplog.clear()
    assert (await send(client, root, "DELETE", f"{path}/{newest['id']}")).status_code == 204
    assert (await is_active(client, phone), await is_active(client, ada)) == (False, True)
    for session_id in (newest["id"], own[0]["id"], 10**6):
        answer = await send(client, root, "DELETE", f"{path}/{session_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "session-not-found")
    assert (await send(client, root, "DELETE", path)).status_code == 204
    assert (await is_active(client, ada), await is_active(client, root)) == (False, True)
    lines = [(line["event"], line["account_id"], line["by"]) for line in audit_lines(caplog)]
    assert lines == [(event, ada.user_id, root.user_id) for event in ("session revoked", "sessions revoked")]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "", None),
        ("POST", "/password", {"new_password": NEW_PASSWORD}),
        ("GET", "/sessions", None),
        ("DELETE", "/sessions", None),
        ("DELETE", "/sessions/1", None),
        ("PATCH", "", {"username": "grace"}),
    ],
)
async def test_an_unknown_account_is_not_found(
    client: httpx.AsyncClient, root: Person, method: str, path: str, body: object
) -> None:
    answer = await send(client, root, method, f"/users/1000{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (404, "user-not-found")
