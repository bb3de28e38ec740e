"""Administration of accounts by admins, and the rule that one admin always remains."""

import asyncio
import base64
import hashlib

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.library import logged
from testkit.users import PASSWORD, Person, an_admin, log_in, sign_up


async def change(client: httpx.AsyncClient, admin: Person, user_id: int, patch: object) -> httpx.Response:
    return await client.patch(f"/users/{user_id}", json=patch, headers=admin.headers)


async def test_accounts_and_token_validations_include_roles(client: httpx.AsyncClient, database: Engine) -> None:
    root = await an_admin(client, database)
    assert (await client.get("/me", headers=root.headers)).json()["roles"] == ["user", "admin"]
    answer = await client.post("/validate-token", json={"token": root.token})
    assert answer.json()["roles"] == ["user", "admin"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *(("GET", "/users", None), ("GET", "/users/1", None), ("GET", "/users/99", None)),
        ("PATCH", "/users/1", {"is_active": False}),
        *(("DELETE", "/users/1", None), ("DELETE", "/users/99", None)),
        ("POST", "/users", {"username": "grace", "password": PASSWORD}),
        *(("POST", f"/users/{user_id}/password", {"new_password": PASSWORD}) for user_id in (1, 99)),
        *(("GET", "/users/1/sessions", None), ("DELETE", "/users/1/sessions", None)),
        ("DELETE", "/users/1/sessions/1", None),
    ],
)
async def test_only_admins_have_access(client: httpx.AsyncClient, method: str, path: str, body: object) -> None:
    ada = await sign_up(client)
    answer = await client.request(method, path, json=body, headers=ada.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await client.request(method, path, json=body)).status_code == 401


async def test_accounts_are_paged_and_filtered(client: httpx.AsyncClient, database: Engine) -> None:
    root = await an_admin(client, database)
    for name in ("ada", "Adele", "a_b", "axb", "grace"):
        await client.post("/register", json={"username": name, "password": PASSWORD})
    await change(client, root, 3, {"is_active": False})

    async def names(query: str) -> list[str]:
        seen: list[str] = []
        url: str | None = f"/users?{query}"
        while url:
            answer = await client.get(url, headers=root.headers)
            assert answer.status_code == 200, answer.text
            seen += [user["username"] for user in answer.json()]
            url = answer.links["next"]["url"] if "link" in answer.headers else None
        return seen

    all_names = ["chief", "ada", "Adele", "a_b", "axb", "grace"]
    assert await names("") == await names("limit=2") == await names("role=user") == all_names
    assert await names("q=AD") == await names("q=ad&limit=1") == ["ada", "Adele"]
    assert await names("q=_") == ["a_b"]
    assert await names("q=%25") == []
    assert await names("is_active=false") == await names("is_active=0&q=&role=&cursor=") == ["Adele"]
    assert await names("is_active=true&q=ad") == ["ada"]
    assert await names("role=admin") == ["chief"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "cursor=x",
        "cursor=%00",
        "q=%00",
        "is_active=2",
        "role=owner",
        "skip=1",
        "role=user&role=admin",
    ],
)
async def test_invalid_query_parameters_are_named(client: httpx.AsyncClient, database: Engine, query: str) -> None:
    root = await an_admin(client, database)
    answer = await client.get(f"/users?{query}", headers=root.headers)
    assert answer.status_code == 422
    assert [error["parameter"].partition(".")[0] for error in answer.json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "content", [b"[" * 3000, b"true", b"1.5", b"-1", b'"1"', b"9" * 20, b"9" * 5000, b"\xff", b"{", b""]
)
async def test_a_forged_cursor_is_invalid(client: httpx.AsyncClient, database: Engine, content: bytes) -> None:
    root = await an_admin(client, database)
    forged = base64.urlsafe_b64encode(hashlib.sha256(b"cursor" + content).digest()[:6] + content).rstrip(b"=").decode()
    answer = await client.get(f"/users?cursor={forged}", headers=root.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"parameter": "cursor", "detail": "Invalid cursor; start again without one"}]


async def test_disabling_an_account_revokes_its_sessions_permanently(
    client: httpx.AsyncClient, database: Engine
) -> None:
    root, ada = await an_admin(client, database), await sign_up(client)
    answer = await change(client, root, ada.user_id, {"is_active": False})
    assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.post("/refresh", json={"refresh_token": ada.refresh_token})).status_code == 401
    await change(client, root, ada.user_id, {"is_active": True})
    # Enabling the account does not restore its sessions.
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    await log_in(client, ada.user_id, "ada")


async def test_an_admin_can_promote_and_demote_others(client: httpx.AsyncClient, database: Engine) -> None:
    root, ada = await an_admin(client, database), await sign_up(client)
    answer = await change(client, root, ada.user_id, {"roles": ["user", "admin"]})
    assert answer.json()["roles"] == ["user", "admin"]
    assert (await client.get("/users", headers=ada.headers)).status_code == 200
    await change(client, root, ada.user_id, {"roles": ["user"]})
    assert (await client.get("/users", headers=ada.headers)).status_code == 403


async def test_nothing_sent_changes_nothing(client: httpx.AsyncClient, database: Engine) -> None:
    root, ada = await an_admin(client, database), await sign_up(client)
    before = (await client.get(f"/users/{ada.user_id}", headers=root.headers)).json()
    assert (await change(client, root, ada.user_id, {})).json() == before
    assert (await change(client, root, ada.user_id, {"is_active": True, "roles": ["user"]})).json() == before
    assert (await client.get("/me", headers=ada.headers)).status_code == 200


@pytest.mark.parametrize(
    "patch",
    [
        {"is_active": None},
        {"is_active": 0},
        {"is_active": "false"},
        {"roles": None},
        {"roles": []},
        {"roles": ["admin"]},
        {"roles": ["user", "owner"]},
        {"roles": ["user", "user"]},
        {"username": None},
        {"username": "no spaces"},
        {"password": PASSWORD},
        [],
    ],
)
async def test_an_invalid_update_is_rejected(client: httpx.AsyncClient, database: Engine, patch: object) -> None:
    root, ada = await an_admin(client, database), await sign_up(client)
    assert (await change(client, root, ada.user_id, patch)).status_code == 422


@pytest.mark.parametrize("patch", [{"is_active": False}, {"roles": ["user"]}, {"is_active": False, "roles": ["user"]}])
async def test_the_last_active_admin_cannot_be_disabled_demoted_or_deleted(
    client: httpx.AsyncClient, database: Engine, patch: dict[str, object]
) -> None:
    root, other = await an_admin(client, database), await an_admin(client, database, "other")
    assert (await change(client, root, other.user_id, {"is_active": False})).status_code == 200
    answer = await change(client, root, root.user_id, patch)
    assert (answer.status_code, answer.json()["code"]) == (409, "last-admin")
    for method, path in (("DELETE", "/me"), ("POST", "/me/delete")):
        deletion = await client.request(method, path, json={"current_password": PASSWORD}, headers=root.headers)
        assert (deletion.status_code, deletion.json()["code"]) == (409, "last-admin")
    assert (await client.get("/users", headers=root.headers)).status_code == 200


async def test_two_admins_removing_each_other_leave_one(client: httpx.AsyncClient, database: Engine) -> None:
    root, other = await an_admin(client, database), await an_admin(client, database, "other")
    answers = await asyncio.gather(
        change(client, root, other.user_id, {"roles": ["user"]}),
        change(client, other, root.user_id, {"is_active": False}),
    )
    # The second admin had already lost the role or the session.
    first, second = sorted(answer.status_code for answer in answers)
    assert first == 200
    assert second in (401, 403)
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM users WHERE is_admin AND is_active")).scalar_one() == 1


async def test_disabling_an_account_during_its_login_leaves_no_session(
    client: httpx.AsyncClient, database: Engine
) -> None:
    root, ada = await an_admin(client, database), await sign_up(client)
    answers = await asyncio.gather(
        client.post("/login", json={"username": "ada", "password": PASSWORD}),
        change(client, root, ada.user_id, {"is_active": False}),
    )
    if answers[0].status_code == 200:
        validation = await client.post("/validate-token", json={"token": answers[0].json()["access_token"]})
        assert validation.json()["valid"] is False
    else:
        assert answers[0].status_code == 401


async def test_the_audit_log_has_a_line_per_event_and_no_secrets(client: httpx.AsyncClient, database: Engine) -> None:
    with logged() as log:
        root, ada = await an_admin(client, database), await sign_up(client)
        await client.post("/login", json={"username": "ada", "password": "a wrong password"})
        await client.post(
            "/me/password", json={"current_password": PASSWORD, "new_password": "a new password"}, headers=ada.headers
        )
        await change(client, root, ada.user_id, {"roles": ["user", "admin"]})
        await change(client, root, ada.user_id, {"is_active": False, "roles": ["user"]})
        await client.post("/logout", headers=root.headers)
    lines = [line for line in log.lines if line.get("audit")]
    events = [(line["message"], line["account_id"]) for line in lines]
    assert events == [
        ("account opened", root.user_id),
        ("logged in", root.user_id),
        ("account opened", ada.user_id),
        ("logged in", ada.user_id),
        ("login refused", ada.user_id),
        ("password changed", ada.user_id),
        ("account changed", ada.user_id),
        ("account changed", ada.user_id),
        ("logged out", root.user_id),
    ]
    assert all(line["request_id"] for line in lines)
    for secret in (PASSWORD, "a wrong password", "a new password", ada.token, ada.refresh_token):
        assert secret not in log.text
