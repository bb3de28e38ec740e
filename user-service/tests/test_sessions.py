"""Sessions: what a refresh token gets, and what ends."""

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
from user_service.security.refresh_tokens import NotARefreshToken, RefreshToken
from user_service.services.sessions import GRACE


async def refresh(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await client.post("/refresh", json={"refresh_token": refresh_token})


async def is_good(client: httpx.AsyncClient, access_token: str) -> bool:
    return bool((await client.post("/validate-token", json={"token": access_token})).json()["valid"])


def count(database: Engine, table: str = "sessions") -> int:
    with database.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def let_pass(database: Engine, time: timedelta) -> None:
    """Let what is stored of the sessions be older by this time."""
    with database.begin() as connection:
        for row in connection.execute(select(Session.id, Session.refreshed_at, Session.expires_at)).all():
            refreshed_at = row.refreshed_at - time if row.refreshed_at else None
            older = {"refreshed_at": refreshed_at, "expires_at": row.expires_at - time}
            connection.execute(update(Session).where(Session.id == row.id).values(older))


class TestRefresh:
    async def test_it_answers_like_a_login_and_replaces_the_token(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await refresh(client, ada.refresh_token)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
        assert body["refresh_token"] != ada.refresh_token
        assert await is_good(client, body["access_token"])

    async def test_the_old_access_token_stays_good_until_it_expires(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        await refresh(client, ada.refresh_token)
        assert await is_good(client, ada.token)

    async def test_a_chain_of_refreshes_keeps_one_session_going(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        token = (await sign_up(client)).refresh_token
        seen = {token}
        for _ in range(5):
            token = (await refresh(client, token)).json()["refresh_token"]
            seen.add(token)
        assert len(seen) == 6
        assert count(database) == 1

    async def test_the_token_just_replaced_gets_the_same_successor_for_a_while(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        first = (await refresh(client, ada.refresh_token)).json()
        let_pass(database, GRACE - timedelta(seconds=5))
        again = (await refresh(client, ada.refresh_token)).json()
        assert again["refresh_token"] == first["refresh_token"]
        assert again["access_token"] != first["access_token"]
        assert await is_good(client, again["access_token"])

    async def test_two_at_the_same_moment_get_the_same_successor(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answers = await asyncio.gather(*(refresh(client, ada.refresh_token) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        [successor] = {answer.json()["refresh_token"] for answer in answers}
        assert (await refresh(client, successor)).status_code == 200

    async def test_used_again_later_it_ends_the_session_for_everybody(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        successor = (await refresh(client, ada.refresh_token)).json()
        let_pass(database, GRACE + timedelta(seconds=1))
        answer = await refresh(client, ada.refresh_token)
        assert (answer.status_code, answer.json()["code"]) == (401, "session-revoked")
        assert count(database) == 0
        assert not await is_good(client, ada.token)
        assert not await is_good(client, successor["access_token"])
        assert (await refresh(client, successor["refresh_token"])).status_code == 401

    async def test_an_older_token_ends_the_session_at_once(self, client: httpx.AsyncClient, database: Engine) -> None:
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
        let_pass(database, timedelta(minutes=1))
        await refresh(client, ada.refresh_token)
        assert "refresh token reused" in caplog.text
        assert ada.refresh_token not in caplog.text

    @pytest.mark.parametrize("spoil", ["guess", "another family", "another session", "cut", "empty", "not base64"])
    async def test_a_token_that_was_never_issued_ends_nothing(
        self, client: httpx.AsyncClient, database: Engine, spoil: str
    ) -> None:
        ada = await sign_up(client)
        await refresh(client, ada.refresh_token)
        let_pass(database, timedelta(minutes=1))
        token = RefreshToken.read(ada.refresh_token)
        spoiled = {
            "guess": RefreshToken.draw(token.session_id).write(),
            "another family": replace(token, family=bytes(16)).write(),
            "another session": replace(token, session_id=token.session_id + 1).write(),
            "cut": ada.refresh_token[:-1],
            "empty": "",
            "not base64": "?" * 75,
        }[spoil]
        answer = await refresh(client, spoiled)
        assert (answer.status_code, answer.json()["code"]) == (401, "session-revoked")
        assert count(database) == 1
        # The spoiled one is of a token that had been replaced long ago: as it was, it does end the session.
        await refresh(client, ada.refresh_token)
        assert count(database) == 0

    @pytest.mark.parametrize("number", [0, 2**63 - 1, 2**63, 2**64 - 1])
    async def test_a_session_that_no_database_can_have_is_none(self, client: httpx.AsyncClient, number: int) -> None:
        assert (await refresh(client, RefreshToken.draw(number).write())).status_code == 401

    async def test_a_session_that_was_not_refreshed_in_time_is_over(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        let_pass(database, timedelta(days=30))
        assert (await refresh(client, ada.refresh_token)).status_code == 401
        assert not await is_good(client, ada.token)

    async def test_a_refresh_starts_its_time_anew(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        let_pass(database, timedelta(days=29))
        successor = (await refresh(client, ada.refresh_token)).json()["refresh_token"]
        let_pass(database, timedelta(days=29))
        assert (await refresh(client, successor)).status_code == 200

    async def test_a_disabled_account_gets_nothing(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        with database.begin() as connection:
            connection.execute(text("UPDATE users SET is_active = false"))
        assert (await refresh(client, ada.refresh_token)).status_code == 401

    @pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": 1}, {"refresh_token": "x" * 101}])
    async def test_another_body_is_invalid(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        assert (await client.post("/refresh", json=body)).status_code == 422

    async def test_only_hashes_are_stored(self, client: httpx.AsyncClient, database: Engine) -> None:
        ada = await sign_up(client)
        successor = (await refresh(client, ada.refresh_token)).json()["refresh_token"]
        with database.connect() as connection:
            stored = str(connection.execute(text("SELECT * FROM sessions")).one())
        for token in (ada.refresh_token, successor):
            assert token not in stored
            assert RefreshToken.read(token).secret.hex() not in stored
            assert RefreshToken.read(token).family.hex() not in stored
            assert RefreshToken.read(token).hash in stored


class TestEnd:
    async def test_after_logout_the_same_access_token_is_refused_at_once(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        other = await log_in(client, ada.user_id, "ada")
        assert (await client.post("/logout", headers=ada.headers)).status_code == 204
        assert not await is_good(client, ada.token)
        assert (await client.get("/me", headers=ada.headers)).status_code == 401
        assert (await refresh(client, ada.refresh_token)).status_code == 401
        assert await is_good(client, other.token)

    async def test_logout_all_ends_every_session_of_the_account_and_no_other(self, client: httpx.AsyncClient) -> None:
        ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
        another = await log_in(client, ada.user_id, "ada")
        assert (await client.post("/logout-all", headers=ada.headers)).status_code == 204
        assert [await is_good(client, each.token) for each in (ada, another, grace)] == [False, False, True]

    async def test_sessions_are_listed_and_ended_one_by_one(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        phone = await client.post(
            "/login", json={"username": "ada", "password": PASSWORD}, headers={"User-Agent": "a\tphone" + "!" * 300}
        )
        listed = (await client.get("/sessions", headers=ada.headers)).json()
        assert [session["current"] for session in listed] == [False, True]
        assert listed[0]["user_agent"] == ("aphone" + "!" * 300)[:255]
        assert {"id", "created_at", "last_used_at", "expires_at", "user_agent", "ip", "current"} == set(listed[0])
        ended = await client.delete(f"/sessions/{listed[0]['id']}", headers=ada.headers)
        assert ended.status_code == 204
        assert not await is_good(client, phone.json()["access_token"])
        assert [each["id"] for each in (await client.get("/sessions", headers=ada.headers)).json()] == [listed[1]["id"]]

    async def test_last_used_moves_at_a_refresh(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        [before] = (await client.get("/sessions", headers=ada.headers)).json()
        await refresh(client, ada.refresh_token)
        [after] = (await client.get("/sessions", headers=ada.headers)).json()
        assert after["last_used_at"] > before["last_used_at"]
        assert after["created_at"] == before["created_at"]

    async def test_a_session_of_somebody_else_is_not_found(self, client: httpx.AsyncClient) -> None:
        ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
        [session] = (await client.get("/sessions", headers=grace.headers)).json()
        answer = await client.delete(f"/sessions/{session['id']}", headers=ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "session-not-found")
        assert await is_good(client, grace.token)

    async def test_a_logout_and_a_refresh_at_once_leave_no_session(
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
                assert not await is_good(client, answer.json()["access_token"])

    @pytest.mark.parametrize(("method", "path"), [("POST", "/logout"), ("POST", "/logout-all"), ("GET", "/sessions")])
    async def test_all_of_it_needs_a_token(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        assert (await client.request(method, path)).status_code == 401


class TestOwnAccount:
    async def change(self, client: httpx.AsyncClient, who: Person, current: str, new: str) -> httpx.Response:
        body = {"current_password": current, "new_password": new}
        return await client.post("/me/password", json=body, headers=who.headers)

    async def test_a_new_password_ends_every_other_session(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        other = await log_in(client, ada.user_id, "ada")
        assert (await self.change(client, ada, PASSWORD, "a new password")).status_code == 204
        assert [await is_good(client, each.token) for each in (ada, other)] == [True, False]
        assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
        await log_in(client, ada.user_id, "ada", "a new password")

    async def test_a_wrong_current_password_is_no_401(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await self.change(client, ada, "wrong", "a new password")
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong-password")
        assert await is_good(client, ada.token)

    async def test_the_new_password_is_checked_like_the_first(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await self.change(client, ada, PASSWORD, "short")
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/new_password"]

    async def test_a_login_that_renews_the_hash_meanwhile_is_no_wrong_password(
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
        # The login was first, or came too late; either way only the new password is good now.
        assert answers[0].status_code in (200, 401)
        await log_in(client, ada.user_id, "ada", "a new password")

    async def test_of_two_changes_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answers = await asyncio.gather(
            self.change(client, ada, PASSWORD, "the first one"), self.change(client, ada, PASSWORD, "the second one")
        )
        assert sorted(answer.status_code for answer in answers) == [204, 403]

    async def test_no_validation_that_begins_after_a_change_finds_another_session_good(
        self, client: httpx.AsyncClient
    ) -> None:
        ada = await sign_up(client)
        others = [await log_in(client, ada.user_id, "ada") for _ in range(3)]

        async def validate_until(change: asyncio.Task[httpx.Response]) -> None:
            while not change.done():
                await asyncio.gather(*(is_good(client, each.token) for each in others))
            assert not any([await is_good(client, each.token) for each in others])

        change = asyncio.create_task(self.change(client, ada, PASSWORD, "a new password"))
        await asyncio.gather(*(validate_until(change) for _ in range(4)))
        assert change.result().status_code == 204
        assert await is_good(client, ada.token)

    async def test_a_deleted_account_is_gone_with_its_sessions_and_its_name_is_free(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client)
        other = await log_in(client, ada.user_id, "ada")
        proof = {"current_password": PASSWORD}
        answer = await client.request("DELETE", "/me", json=proof, headers=ada.headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert [await is_good(client, each.token) for each in (ada, other)] == [False, False]
        assert (count(database), count(database, "users")) == (0, 0)
        again = await sign_up(client, "ada")
        assert again.user_id > ada.user_id
        assert not await is_good(client, ada.token)

    async def test_deletion_needs_the_password(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client)
        answer = await client.request("DELETE", "/me", json={"current_password": "wrong"}, headers=ada.headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong-password")
        assert await is_good(client, ada.token)


def test_a_refresh_token_is_read_as_it_was_written() -> None:
    token = RefreshToken.draw(7)
    assert RefreshToken.read(token.write()) == token
    assert len(token.secret) == 32
    assert len(token.write()) == 75


def test_a_token_can_be_spelled_in_one_way_only() -> None:
    written = RefreshToken.draw(7).write()
    # The last character has two bits that mean nothing: another one may stand for the same bytes.
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    twin = written[:-1] + alphabet[alphabet.index(written[-1]) + 1]
    for other in (twin, written + "=", written + "A", written[:-1], " " + written):
        with pytest.raises(NotARefreshToken):
            RefreshToken.read(other)


def test_a_successor_is_always_the_same_and_cannot_be_made_without_the_key() -> None:
    token, other = RefreshToken.draw(7), KEY[::-1]
    [successor] = token.successors([KEY])
    assert token.successors([KEY, other]) == [successor, *token.successors([other])]
    assert successor not in token.successors([other])
    assert (successor.session_id, successor.family) == (token.session_id, token.family)
