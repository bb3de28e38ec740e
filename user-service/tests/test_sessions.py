"""Sessions: refresh, revocation and the caller's own account."""

import asyncio
import string
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from passlib.hash import bcrypt
from sqlalchemy import Engine, select, text, update

from testkit.users import KEY, PASSWORD, Person, log_in, sign_up
from user_service.models import Session
from user_service.security.refresh_tokens import MalformedRefreshToken, RefreshToken
from user_service.services.sessions import GRACE

DELETIONS = [("DELETE", "/me"), ("POST", "/me/delete")]


async def refresh(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await client.post("/refresh", json={"refresh_token": refresh_token})


async def is_valid(client: httpx.AsyncClient, access_token: str) -> bool:
    return bool((await client.post("/validate-token", json={"token": access_token})).json()["valid"])


def count(database: Engine, table: str = "sessions") -> int:
    with database.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def age(database: Engine, time: timedelta) -> None:
    """Make the stored sessions older by this much."""
    with database.begin() as connection:
        for row in connection.execute(select(Session.id, Session.refreshed_at, Session.expires_at)).all():
            refreshed_at = row.refreshed_at - time if row.refreshed_at else None
            older = {"refreshed_at": refreshed_at, "expires_at": row.expires_at - time}
            connection.execute(update(Session).where(Session.id == row.id).values(older))


class TestRefresh:
    async def test_a_refresh_returns_new_tokens_like_a_login(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await refresh(client, ada.refresh_token)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
        assert body["refresh_token"] != ada.refresh_token
        assert await is_valid(client, body["access_token"])

    async def test_the_old_access_token_stays_valid(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        await refresh(client, ada.refresh_token)
        assert await is_valid(client, ada.token)

    async def test_a_chain_of_refreshes_extends_one_session(self, client: httpx.AsyncClient, database: Engine) -> None:
        token = (await sign_up(client)).refresh_token
        seen = {token}
        for _ in range(5):
            token = (await refresh(client, token)).json()["refresh_token"]
            seen.add(token)
        assert len(seen) == 6
        assert count(database) == 1

    async def test_a_replaced_token_returns_the_same_successor_within_the_grace_period(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        first = (await refresh(client, ada.refresh_token)).json()
        age(database, GRACE - timedelta(seconds=5))
        again = (await refresh(client, ada.refresh_token)).json()
        assert again["refresh_token"] == first["refresh_token"]
        assert again["access_token"] != first["access_token"]
        assert await is_valid(client, again["access_token"])

    async def test_concurrent_refreshes_get_the_same_successor(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answers = await asyncio.gather(*(refresh(client, ada.refresh_token) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        [successor] = {answer.json()["refresh_token"] for answer in answers}
        assert (await refresh(client, successor)).status_code == 200

    async def test_reuse_after_the_grace_period_revokes_the_session(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        successor = (await refresh(client, ada.refresh_token)).json()
        age(database, GRACE + timedelta(seconds=1))
        answer = await refresh(client, ada.refresh_token)
        assert (answer.status_code, answer.json()["code"]) == (401, "session-revoked")
        assert count(database) == 0
        assert not await is_valid(client, ada.token)
        assert not await is_valid(client, successor["access_token"])
        assert (await refresh(client, successor["refresh_token"])).status_code == 401

    async def test_an_older_token_revokes_the_session(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        second = (await refresh(client, ada.refresh_token)).json()["refresh_token"]
        await refresh(client, second)
        assert (await refresh(client, ada.refresh_token)).status_code == 401
        assert count(database) == 0

    async def test_reuse_is_logged_without_the_token(
        self, client: httpx.AsyncClient, database: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        ada = await sign_up(client)
        await refresh(client, ada.refresh_token)
        age(database, timedelta(minutes=1))
        await refresh(client, ada.refresh_token)
        assert "refresh token reused" in caplog.text
        assert ada.refresh_token not in caplog.text

    @pytest.mark.parametrize(
        "forgery", ["guess", "another family", "another session", "truncated", "empty", "not base64"]
    )
    async def test_a_forged_token_revokes_nothing(
        self, client: httpx.AsyncClient, database: Engine, forgery: str
    ) -> None:
        ada = await sign_up(client)
        await refresh(client, ada.refresh_token)
        age(database, timedelta(minutes=1))
        token = RefreshToken.parse(ada.refresh_token)
        forged = {
            "guess": RefreshToken.generate(token.session_id).format(),
            "another family": replace(token, family=bytes(16)).format(),
            "another session": replace(token, session_id=token.session_id + 1).format(),
            "truncated": ada.refresh_token[:-1],
            "empty": "",
            "not base64": "?" * 75,
        }[forgery]
        answer = await refresh(client, forged)
        assert (answer.status_code, answer.json()["code"]) == (401, "session-revoked")
        assert count(database) == 1
        # The original token was replaced long ago, so using it unchanged does revoke the session.
        await refresh(client, ada.refresh_token)
        assert count(database) == 0

    @pytest.mark.parametrize("number", [0, 2**63 - 1, 2**63, 2**64 - 1])
    async def test_a_session_id_out_of_range_is_rejected(self, client: httpx.AsyncClient, number: int) -> None:
        assert (await refresh(client, RefreshToken.generate(number).format())).status_code == 401

    async def test_a_session_expires_without_a_refresh(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        age(database, timedelta(days=30))
        assert (await refresh(client, ada.refresh_token)).status_code == 401
        assert not await is_valid(client, ada.token)

    async def test_a_refresh_extends_the_session(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        age(database, timedelta(days=29))
        successor = (await refresh(client, ada.refresh_token)).json()["refresh_token"]
        age(database, timedelta(days=29))
        assert (await refresh(client, successor)).status_code == 200

    async def test_a_disabled_account_cannot_refresh(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        with database.begin() as connection:
            connection.execute(text("UPDATE users SET is_active = false"))
        assert (await refresh(client, ada.refresh_token)).status_code == 401

    @pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": 1}, {"refresh_token": "x" * 101}])
    async def test_an_invalid_body_is_rejected(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        assert (await client.post("/refresh", json=body)).status_code == 422

    async def test_only_hashes_are_stored(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        successor = (await refresh(client, ada.refresh_token)).json()["refresh_token"]
        with database.connect() as connection:
            stored = str(connection.execute(text("SELECT * FROM sessions")).one())
        for token in (ada.refresh_token, successor):
            assert token not in stored
            assert RefreshToken.parse(token).secret.hex() not in stored
            assert RefreshToken.parse(token).family.hex() not in stored
            assert RefreshToken.parse(token).hash in stored


class TestRevocation:
    async def test_logout_revokes_the_access_token_immediately(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        other = await log_in(client, ada.user_id, "ada")
        assert (await client.post("/logout", headers=ada.headers)).status_code == 204
        assert not await is_valid(client, ada.token)
        assert (await client.get("/me", headers=ada.headers)).status_code == 401
        assert (await refresh(client, ada.refresh_token)).status_code == 401
        assert await is_valid(client, other.token)

    async def test_logout_all_revokes_only_sessions_of_the_account(self, client: httpx.AsyncClient) -> None:
        ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
        another = await log_in(client, ada.user_id, "ada")
        assert (await client.post("/logout-all", headers=ada.headers)).status_code == 204
        assert [await is_valid(client, each.token) for each in (ada, another, grace)] == [False, False, True]

    async def test_sessions_can_be_listed_and_revoked_individually(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        phone = await client.post(
            "/login", json={"username": "ada", "password": PASSWORD}, headers={"User-Agent": "a\tphone" + "!" * 300}
        )
        listed = (await client.get("/sessions", headers=ada.headers)).json()
        assert [session["current"] for session in listed] == [True, False]
        assert listed[1]["user_agent"] == ("aphone" + "!" * 300)[:255]
        assert {"id", "created_at", "last_used_at", "expires_at", "user_agent", "ip", "current"} == set(listed[0])
        revoked = await client.delete(f"/sessions/{listed[1]['id']}", headers=ada.headers)
        assert revoked.status_code == 204
        assert not await is_valid(client, phone.json()["access_token"])
        assert [each["id"] for each in (await client.get("/sessions", headers=ada.headers)).json()] == [listed[0]["id"]]

    async def test_a_refresh_updates_last_used_at(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        [before] = (await client.get("/sessions", headers=ada.headers)).json()
        await refresh(client, ada.refresh_token)
        [after] = (await client.get("/sessions", headers=ada.headers)).json()
        assert after["last_used_at"] > before["last_used_at"]
        assert after["created_at"] == before["created_at"]

    async def test_a_session_of_another_account_is_not_found(self, client: httpx.AsyncClient) -> None:
        ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
        [session] = (await client.get("/sessions", headers=grace.headers)).json()
        answer = await client.delete(f"/sessions/{session['id']}", headers=ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "session-not-found")
        assert await is_valid(client, grace.token)

    async def test_a_concurrent_logout_and_refresh_leave_no_session(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        answers = await asyncio.gather(
            refresh(client, ada.refresh_token),
            client.post("/logout", headers=ada.headers),
            refresh(client, ada.refresh_token),
        )
        assert answers[1].status_code == 204
        assert count(database) == 0
        for answer in (answers[0], answers[2]):
            if answer.status_code == 200:
                assert not await is_valid(client, answer.json()["access_token"])

    @pytest.mark.parametrize(("method", "path"), [("POST", "/logout"), ("POST", "/logout-all"), ("GET", "/sessions")])
    async def test_session_endpoints_require_a_token(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        assert (await client.request(method, path)).status_code == 401


class TestOwnAccount:
    async def change(self, client: httpx.AsyncClient, person: Person, current: str, new: str) -> httpx.Response:
        body = {"current_password": current, "new_password": new}
        return await client.post("/me/password", json=body, headers=person.headers)

    async def test_changing_the_password_revokes_every_other_session(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        other = await log_in(client, ada.user_id, "ada")
        assert (await self.change(client, ada, PASSWORD, "a new password")).status_code == 204
        assert [await is_valid(client, each.token) for each in (ada, other)] == [True, False]
        assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
        await log_in(client, ada.user_id, "ada", "a new password")

    async def test_a_wrong_current_password_is_a_403(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await self.change(client, ada, "wrong", "a new password")
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong-password")
        assert await is_valid(client, ada.token)

    async def test_the_new_password_is_validated_like_the_first(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await self.change(client, ada, PASSWORD, "short")
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/new_password"]

    async def test_a_concurrent_login_that_replaces_the_hash_does_not_fail_the_change(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        outdated = {"stored": bcrypt.using(rounds=4).hash(PASSWORD)}
        with database.begin() as connection:
            connection.execute(text("UPDATE users SET password_hash = :stored"), outdated)
        answers = await asyncio.gather(
            client.post("/login", json={"username": "ada", "password": PASSWORD}),
            self.change(client, ada, PASSWORD, "a new password"),
        )
        assert answers[1].status_code == 204
        # The login came first or too late. Either way, only the new password works now.
        assert answers[0].status_code in (200, 401)
        await log_in(client, ada.user_id, "ada", "a new password")

    async def test_one_of_two_concurrent_changes_wins(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answers = await asyncio.gather(
            self.change(client, ada, PASSWORD, "the first one"), self.change(client, ada, PASSWORD, "the second one")
        )
        assert sorted(answer.status_code for answer in answers) == [204, 403]

    async def test_no_validation_after_a_change_accepts_another_session(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        others = [await log_in(client, ada.user_id, "ada") for _ in range(3)]

        async def validate_until(change: asyncio.Task[httpx.Response]) -> None:
            while not change.done():
                await asyncio.gather(*(is_valid(client, each.token) for each in others))
            assert not any([await is_valid(client, each.token) for each in others])

        change = asyncio.create_task(self.change(client, ada, PASSWORD, "a new password"))
        await asyncio.gather(*(validate_until(change) for _ in range(4)))
        assert change.result().status_code == 204
        assert await is_valid(client, ada.token)

    @pytest.mark.parametrize(("method", "path"), DELETIONS)
    async def test_deleting_an_account_revokes_its_sessions_and_frees_its_username(
        self, client: httpx.AsyncClient, database: Engine, method: str, path: str
    ) -> None:
        ada = await sign_up(client)
        other = await log_in(client, ada.user_id, "ada")
        proof = {"current_password": PASSWORD}
        answer = await client.request(method, path, json=proof, headers=ada.headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert [await is_valid(client, each.token) for each in (ada, other)] == [False, False]
        assert (count(database), count(database, "users")) == (0, 0)
        again = await sign_up(client, "ada")
        assert again.user_id > ada.user_id
        assert not await is_valid(client, ada.token)

    @pytest.mark.parametrize(("method", "path"), DELETIONS)
    async def test_deletion_requires_the_password(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        ada = await sign_up(client)
        answer = await client.request(method, path, json={}, headers=ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
        answer = await client.request(method, path, json={"current_password": "wrong"}, headers=ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong-password")
        assert await is_valid(client, ada.token)


def test_formatting_and_parsing_a_refresh_token_round_trips() -> None:
    token = RefreshToken.generate(7)
    assert RefreshToken.parse(token.format()) == token
    assert len(token.secret) == 32
    assert len(token.format()) == 75


def test_a_refresh_token_has_one_encoding() -> None:
    text = RefreshToken.generate(7).format()
    # The last character has two unused bits, so other characters could encode the same bytes.
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    twin = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    for other in (twin, text + "=", text + "A", text[:-1], " " + text):
        with pytest.raises(MalformedRefreshToken):
            RefreshToken.parse(other)


def test_a_successor_is_deterministic_and_requires_the_key() -> None:
    token, other = RefreshToken.generate(7), KEY[::-1]
    [successor] = token.successors([KEY])
    assert token.successors([KEY, other]) == [successor, *token.successors([other])]
    assert successor not in token.successors([other])
    assert (successor.session_id, successor.family) == (token.session_id, token.family)
