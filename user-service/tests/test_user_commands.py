"""Operator commands of the user service."""

import argparse
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, make_url, text

from chassis.errors import DomainError, Invalid
from testkit import preloaded
from testkit.applications import running
from testkit.users import KEY, PASSWORD, MakeSettings, log_in, sign_up
from user_service.commands import COMMANDS
from user_service.errors import LastAdmin, UsernameTaken, UserNotFound
from user_service.main import create_app
from user_service.settings import Settings

OTHER = "another good password"

Command = Callable[..., str]


@pytest.fixture
def command(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command in this process on the database of the test, and returns its standard output."""
    settings = make_settings()

    def run(name: str, username: str = "", *, password: str = "") -> str:
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{password}\n".encode(errors="surrogateescape")))
        )
        [chosen] = [each for each in COMMANDS if each.name == name]
        capsys.readouterr()
        # In a thread, because a command runs its own event loop, and the test may have one too.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(chosen.run, settings, argparse.Namespace(username=username)).result()
        return capsys.readouterr().out

    return run


def environment(database_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return {**kept, "DATABASE_URL": database_url, "SECRET_KEY": KEY.decode(), "BCRYPT_COST": "4"}


def test_create_admin_works_on_a_migrated_database_only(empty_url: str, tmp_path: Path) -> None:
    def run(*words: str, password: str = "") -> subprocess.CompletedProcess[str]:
        return preloaded.run("user_service", words, tmp_path, environment(empty_url), f"{password}\n")

    refused = run("create-admin", "root", password=PASSWORD)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("create-admin: ")
    assert str(make_url(empty_url).database) in refused.stderr
    assert run("migrate").returncode == 0
    created = run("create-admin", "root", password=PASSWORD)
    assert (created.returncode, created.stdout) == (0, "Created admin root with id 1.\n")
    # Log lines go to standard error.
    assert "account opened" in created.stderr
    assert PASSWORD not in created.stderr

    rejected = run("create-admin", "Root", password=PASSWORD)
    assert (rejected.returncode, rejected.stdout) == (1, "")
    assert rejected.stderr.splitlines()[-1] == ("create-admin: This username is taken. Usernames are case-insensitive.")
    assert "Traceback" not in rejected.stderr
    assert run("create-admin").returncode == 2


async def test_an_admin_created_on_the_command_line_can_disable_accounts(
    command: Command, make_settings: MakeSettings
) -> None:
    command("create-admin", "root", password=PASSWORD)
    async with running(create_app(make_settings())) as client:
        root, ada = await log_in(client, 1, "root"), await sign_up(client, "ada")
        answer = await client.patch("/users/2", json={"is_active": False}, headers=root.headers)
        assert (answer.status_code, answer.json()["is_active"]) == (200, False)
        assert (await client.get("/me", headers=ada.headers)).status_code == 401


async def test_promote_makes_an_existing_account_an_admin(
    command: Command, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await sign_up(client, "ada")
    assert (await client.get("/users", headers=ada.headers)).status_code == 403
    assert command("promote", "ADA") == "ada is an admin.\n"
    # Also for the tokens that the account has.
    assert (await client.get("/users", headers=ada.headers)).status_code == 200
    assert command("promote", "ada") == "ada is an admin.\n"
    assert caplog.text.count("account changed") == 1


async def test_set_password_revokes_all_sessions(command: Command, client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    assert command("set-password", "ADA", password=OTHER) == "Changed the password of ADA and revoked all sessions.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
    await log_in(client, ada.user_id, "ada", OTHER)


async def test_a_byte_order_mark_is_not_part_of_the_password(command: Command, client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    command("set-password", "ada", password=f"\ufeff{OTHER}")
    await log_in(client, ada.user_id, "ada", OTHER)


async def test_an_account_can_be_disabled_and_enabled(command: Command, client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    assert command("disable", "ada") == "Disabled ada and revoked all sessions.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
    assert command("enable", "ada") == "Enabled ada.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    await log_in(client, ada.user_id, "ada")


async def test_sessions_can_be_listed_and_revoked(command: Command, client: httpx.AsyncClient) -> None:
    ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
    await client.post(
        "/login", json={"username": "ada", "password": PASSWORD}, headers={"User-Agent": "a phone \u001b[31m"}
    )
    head, newest, oldest = command("sessions", "ada").splitlines()
    assert head.split() == ["id", "created", "last", "used", "expires", "address", "user", "agent"]
    assert newest.split()[0] == "3"
    assert newest.endswith("127.0.0.1                                a phone [31m")
    assert oldest.split()[0] == "1"
    assert command("revoke", "ada") == "Revoked all sessions of ada.\n"
    assert command("sessions", "ada").splitlines() == [head]
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.get("/me", headers=grace.headers)).status_code == 200


async def test_stored_control_characters_are_listed_as_escapes(
    command: Command, client: httpx.AsyncClient, database: Engine
) -> None:
    await sign_up(client)
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET ip = :text, user_agent = :text"), {"text": "a\x1b[31m\nb"})
    _, line = command("sessions", "ada").splitlines()
    assert line.count("a\\x1b[31m\\nb") == 2


async def test_prune_deletes_expired_sessions(command: Command, client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    for _ in range(3):
        await log_in(client, ada.user_id, "ada")
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET expires_at = created_at WHERE id > 2"))
    assert command("prune") == "Deleted expired sessions and networks: 2.\n"
    assert command("prune") == "Deleted expired sessions and networks: 0.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 200


@pytest.mark.parametrize(
    ("name", "username", "password", "error_class", "sentence"),
    [
        ("create-admin", "ada", PASSWORD, UsernameTaken, "This username is taken"),
        (
            "create-admin",
            "a b",
            PASSWORD,
            Invalid,
            "The username is not valid: Usernames have 3 to 50 letters (A to Z, a to z), digits",
        ),
        ("create-admin", "eve", "", Invalid, "The password is not valid: Must not be empty"),
        ("create-admin", "eve", "\udce4" * 12, Invalid, "The password is not UTF-8 text."),
        ("disable", "\udcff", "", UserNotFound, "The account does not exist."),
        ("enable", "\udcff", "", UserNotFound, "The account does not exist."),
        ("sessions", "\udcff", "", UserNotFound, "The account does not exist."),
        ("revoke", "\udcff", "", UserNotFound, "The account does not exist."),
        ("create-admin", "eve", "short", Invalid, "The password must have at least 8 characters"),
        ("create-admin", "eve", "password123", Invalid, "The password is one of the 10,000 most common ones"),
        ("create-admin", "eve", "a\tb" * 8, Invalid, "The password is not valid"),
        ("set-password", "nobody", PASSWORD, UserNotFound, "The account does not exist."),
        ("set-password", "ada", "short", Invalid, "The password must have at least 8 characters"),
        ("promote", "nobody", "", UserNotFound, "The account does not exist."),
        ("promote", "\udcff", "", UserNotFound, "The account does not exist."),
        ("disable", "nobody", "", UserNotFound, "The account does not exist."),
        ("enable", "nobody", "", UserNotFound, "The account does not exist."),
        ("sessions", "nobody", "", UserNotFound, "The account does not exist."),
        ("revoke", "nobody", "", UserNotFound, "The account does not exist."),
    ],
)
async def test_errors_are_reported_in_a_sentence(
    command: Command,
    client: httpx.AsyncClient,
    name: str,
    username: str,
    password: str,
    error_class: type[DomainError],
    sentence: str,
) -> None:
    await sign_up(client, "ada")
    with pytest.raises(error_class) as raised:
        command(name, username, password=password)
    error = raised.value
    assert (error.errors[0].detail if isinstance(error, Invalid) else error.detail).startswith(sentence)


def test_the_last_admin_cannot_be_disabled(command: Command) -> None:
    command("create-admin", "root", password=PASSWORD)
    with pytest.raises(LastAdmin):
        command("disable", "root")


@pytest.mark.sqlite
@pytest.mark.parametrize(("again", "status"), [(PASSWORD, 0), (OTHER, 1)])
def test_a_terminal_prompts_twice_for_the_password_without_echo(
    database_url: str, tmp_path: Path, again: str, status: int
) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "user_service", "create-admin", "root"],
        cwd=tmp_path,
        env=environment(database_url),
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    shown = b""

    def wait_for(prompt: bytes) -> None:
        nonlocal shown
        while prompt not in shown:
            shown += os.read(terminal, 1024)

    wait_for(b"Password: ")
    os.write(terminal, PASSWORD.encode() + b"\n")
    wait_for(b"Repeat the password: ")
    os.write(terminal, again.encode() + b"\n")
    try:
        while read := os.read(terminal, 1024):
            shown += read
    except OSError:
        # Linux raises an error when the other end is closed.
        pass
    os.close(terminal)
    assert process.wait(60) == status
    assert PASSWORD.encode() not in shown
    assert (b"Created admin root" in shown) == (status == 0)
    assert (b"passwords do not match" in shown) == (status == 1)
