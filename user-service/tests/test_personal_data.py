"""What an account can export, and what a deletion leaves behind."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.applications import running
from testkit.library import logged
from testkit.users import PASSWORD, MakeSettings, an_admin, log_in, sign_up
from user_service.main import create_app
from user_service.services import sessions as sessions_service

FIRST_NAME, SECOND_NAME, USER_AGENT = b"the-first-name", b"the-second-name", b"the phone of the deleted account"


async def test_an_export_has_the_account_and_its_sessions_and_no_hash(
    client: httpx.AsyncClient, database: Engine
) -> None:
    ada, grace = await sign_up(client), await sign_up(client, "grace")
    phone = await log_in(client, ada.user_id, "ada")
    await client.post("/refresh", json={"refresh_token": phone.refresh_token}, headers={"User-Agent": "a phone"})
    with logged() as log:
        answer = await client.get("/me/export", headers=phone.headers)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    export = answer.json()
    assert set(export) == {"exported_at", "account", "sessions", "networks"}
    assert [each["network"] for each in export["networks"]] == ["127.0.0.1"]
    assert export["account"] == (await client.get("/me", headers=ada.headers)).json()
    listed = (await client.get("/sessions", headers=phone.headers)).json()
    newest, oldest = ({**session, "refresh_user_agent": None, "refresh_ip": None} for session in listed)
    assert export["sessions"] == [{**newest, "refresh_user_agent": "a phone", "refresh_ip": "127.0.0.1"}, oldest]
    with database.connect() as connection:
        hashes = [str(value) for row in connection.execute(text("SELECT * FROM sessions")) for value in row][6:]
        hashes += connection.execute(text("SELECT password_hash FROM users")).scalars()
    assert not [value for value in hashes if len(value) >= 60 and value in answer.text]
    assert grace.username not in answer.text
    (line,) = [line for line in log.lines if line.get("audit")]
    assert (line["message"], line["account_id"], line["ip"]) == ("account exported", ada.user_id, "127.0.0.1")


async def test_an_export_has_every_column_of_the_account_and_its_sessions_but_hashes_and_keys(
    client: httpx.AsyncClient, database: Engine
) -> None:
    """A new column with personal data belongs into the export."""
    ada = await sign_up(client)
    export = (await client.get("/me/export", headers=ada.headers)).json()
    with database.connect() as connection:
        users = set(connection.execute(text("SELECT * FROM users")).keys())
        sessions = set(connection.execute(text("SELECT * FROM sessions")).keys())
        networks = set(connection.execute(text("SELECT * FROM known_networks")).keys())
    assert users - set(export["account"]) == {"username_key", "password_hash", "is_admin"}  # is_admin: see roles.
    assert networks - set(export["networks"][0]) == {"id", "user_id"}
    hashes = {"family_hash", "refresh_hash", "previous_hash"}
    assert sessions - set(export["sessions"][0]) == {"user_id", "refreshed_at", *hashes}  # refreshed_at: last_used_at.


async def test_an_export_has_a_limit(
    client: httpx.AsyncClient, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await sign_up(client)
    await log_in(client, ada.user_id, "ada")
    monkeypatch.setattr(sessions_service, "MAX_EXPORTED_SESSIONS", 1)
    (session,) = (await client.get("/me/export", headers=ada.headers)).json()["sessions"]
    assert not session["current"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}])
async def test_an_export_needs_a_token(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.get("/me/export", headers=headers)).status_code == 401


@pytest.mark.sqlite
async def test_a_deleted_account_is_not_in_the_bytes_of_the_file(make_settings: MakeSettings, database: Engine) -> None:
    settings = make_settings()
    path = Path(str(database.url.database))
    async with running(create_app(settings)) as client:
        root = await an_admin(client, database)
        for number in range(20):
            await sign_up(client, f"neighbour-{number}")
        ada = await sign_up(client, FIRST_NAME.decode())
        client.headers["user-agent"] = USER_AGENT.decode()
        await log_in(client, ada.user_id, ada.username)
        rename = {"username": SECOND_NAME.decode()}
        assert (await client.patch(f"/users/{ada.user_id}", json=rename, headers=root.headers)).status_code == 200
        assert found(path, database) == [SECOND_NAME, USER_AGENT]
        deletion = {"current_password": PASSWORD}
        assert (await client.post("/me/delete", json=deletion, headers=ada.headers)).status_code == 204
        assert found(path, database) == []


def found(path: Path, database: Engine) -> list[bytes]:
    """What the files of the database have of the account, after a checkpoint."""
    with database.connect() as connection:
        busy, *_ = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        assert not busy
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert b"neighbour-7" in content
    return [each for each in (FIRST_NAME, SECOND_NAME, USER_AGENT) if each in content]
