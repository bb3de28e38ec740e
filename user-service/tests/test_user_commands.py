"""What an operator does on the command line of the user service."""

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
from sqlalchemy import Engine, text

from chassis.errors import DomainError, Invalid
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
    """Runs a command in this process, on the database of the test, and returns what it prints."""
    settings = make_settings()

    def run(name: str, username: str = "", *, password: str = "") -> str:
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{password}\n".encode(errors="surrogateescape")))
        )
        [chosen] = [each for each in COMMANDS if each.name == name]
        capsys.readouterr()
        # In a thread, because a command brings its own event loop, and a test may have one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(chosen.run, settings, argparse.Namespace(username=username)).result()
        return capsys.readouterr().out

    return run


def environment(database_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return {**kept, "DATABASE_URL": database_url, "SECRET_KEY": KEY.decode(), "BCRYPT_COST": "4"}


def test_the_first_admin_is_made_on_an_empty_database(empty_url: str, tmp_path: Path) -> None:
    def run(*words: str, password: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "user_service", *words],
            cwd=tmp_path,
            env=environment(empty_url),
            input=f"{password}\n",
            capture_output=True,
            text=True,
        )

    made = run("create-admin", "root", password=PASSWORD)
    assert (made.returncode, made.stdout) == (0, "root is an admin, with the id 1.\n")
    # The log is beside the result, not in it.
    assert "database migrated" in made.stderr
    assert "account opened" in made.stderr
    assert PASSWORD not in made.stderr

    refused = run("create-admin", "Root", password=PASSWORD)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1] == (
        "create-admin: This username is taken; names that differ only in case are the same."
    )
    assert "Traceback" not in refused.stderr
    assert run("create-admin").returncode == 2


async def test_an_admin_from_the_command_line_disables_an_account(
    command: Command, make_settings: MakeSettings
) -> None:
    command("create-admin", "root", password=PASSWORD)
    async with running(create_app(make_settings())) as client:
        root, ada = await log_in(client, 1, "root"), await sign_up(client, "ada")
        answer = await client.patch("/users/2", json={"is_active": False}, headers=root.headers)
        assert (answer.status_code, answer.json()["is_active"]) == (200, False)
        assert (await client.get("/me", headers=ada.headers)).status_code == 401


async def test_a_new_password_ends_all_sessions(command: Command, client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    assert command("set-password", "ADA", password=OTHER).startswith("ADA has a new password")
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
    await log_in(client, ada.user_id, "ada", OTHER)


async def test_the_mark_at_the_beginning_of_a_file_is_no_part_of_the_password(
    command: Command, client: httpx.AsyncClient
) -> None:
    ada = await sign_up(client)
    command("set-password", "ada", password=f"\ufeff{OTHER}")
    await log_in(client, ada.user_id, "ada", OTHER)


async def test_an_account_is_disabled_and_enabled(command: Command, client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    assert command("disable", "ada") == "ada is disabled; all sessions of the account are over.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 401
    assert command("enable", "ada") == "ada may log in again.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    await log_in(client, ada.user_id, "ada")


async def test_sessions_are_listed_and_revoked(command: Command, client: httpx.AsyncClient) -> None:
    ada, grace = await sign_up(client, "ada"), await sign_up(client, "grace")
    await client.post(
        "/login", json={"username": "ada", "password": PASSWORD}, headers={"User-Agent": "a phone \u001b[31m"}
    )
    head, newest, oldest = command("sessions", "ada").splitlines()
    assert head.split() == ["id", "created", "last", "used", "expires", "address", "user", "agent"]
    assert newest.split()[0] == "3"
    assert newest.endswith("127.0.0.1                                a phone [31m")
    assert oldest.split()[0] == "1"
    assert command("revoke", "ada") == "All sessions of ada are over.\n"
    assert command("sessions", "ada").splitlines() == [head]
    assert (await client.get("/me", headers=ada.headers)).status_code == 401
    assert (await client.get("/me", headers=grace.headers)).status_code == 200


async def test_expired_sessions_are_removed(command: Command, client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    for _ in range(3):
        await log_in(client, ada.user_id, "ada")
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET expires_at = created_at WHERE id > 2"))
    assert command("prune") == "Expired sessions removed: 2.\n"
    assert command("prune") == "Expired sessions removed: 0.\n"
    assert (await client.get("/me", headers=ada.headers)).status_code == 200


@pytest.mark.parametrize(
    ("name", "username", "password", "refusal", "sentence"),
    [
        ("create-admin", "ada", PASSWORD, UsernameTaken, "This username is taken"),
        ("create-admin", "a b", PASSWORD, Invalid, "The username is not valid: String should match pattern"),
        ("create-admin", "eve", "", Invalid, "The password is not valid: Text should have at least 1 characters"),
        ("create-admin", "eve", "\udce4" * 12, Invalid, "The password is not UTF-8 text."),
        ("disable", "\udcff", "", UserNotFound, "There is no such account."),
        ("enable", "\udcff", "", UserNotFound, "There is no such account."),
        ("sessions", "\udcff", "", UserNotFound, "There is no such account."),
        ("revoke", "\udcff", "", UserNotFound, "There is no such account."),
        ("create-admin", "eve", "short", Invalid, "The password needs at least 8 characters"),
        ("create-admin", "eve", "password123", Invalid, "This is one of the 10,000 most common passwords"),
        ("create-admin", "eve", "a\tb" * 8, Invalid, "The password is not valid"),
        ("set-password", "nobody", PASSWORD, UserNotFound, "There is no such account."),
        ("set-password", "ada", "short", Invalid, "The password needs at least 8 characters"),
        ("disable", "nobody", "", UserNotFound, "There is no such account."),
        ("enable", "nobody", "", UserNotFound, "There is no such account."),
        ("sessions", "nobody", "", UserNotFound, "There is no such account."),
        ("revoke", "nobody", "", UserNotFound, "There is no such account."),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(
    command: Command,
    client: httpx.AsyncClient,
    name: str,
    username: str,
    password: str,
    refusal: type[DomainError],
    sentence: str,
) -> None:
    await sign_up(client, "ada")
    with pytest.raises(refusal) as refused:
        command(name, username, password=password)
    error = refused.value
    assert (error.errors[0].detail if isinstance(error, Invalid) else error.detail).startswith(sentence)


def test_the_last_admin_is_not_disabled_here_either(command: Command) -> None:
    command("create-admin", "root", password=PASSWORD)
    with pytest.raises(LastAdmin):
        command("disable", "root")


@pytest.mark.sqlite
@pytest.mark.parametrize(("again", "status"), [(PASSWORD, 0), (OTHER, 1)])
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(
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
    wait_for(b"The same again: ")
    os.write(terminal, again.encode() + b"\n")
    try:
        while read := os.read(terminal, 1024):
            shown += read
    except OSError:
        # Linux says so that the other end is closed.
        pass
    os.close(terminal)
    assert process.wait(10) == status
    assert PASSWORD.encode() not in shown
    assert (b"root is an admin" in shown) == (status == 0)
    assert (b"two different passwords" in shown) == (status == 1)
