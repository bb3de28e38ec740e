"""Operator commands: `python -m user_service create-admin root`.

Passwords are prompted for without echo, or read from standard input if that is not a terminal. They are never
arguments, because other users of the machine can see those.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from getpass import getpass
from typing import TypeVar

from pydantic import ValidationError

from chassis import logs
from chassis.database.purge import purge
from chassis.errors import FieldError, Invalid
from chassis.process.backups import backup_commands
from chassis.process.server import Command
from chassis.validation import error_message
from user_service.composition import Services, migrations
from user_service.errors import UserNotFound
from user_service.schemas import Registration
from user_service.services.administration import AccountUpdate
from user_service.settings import Settings

T = TypeVar("T")


def _add_username(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("username", help="username of the account")


def _create_admin(settings: Settings, arguments: argparse.Namespace) -> None:
    registration = _registration(arguments.username)
    user = _with_services(settings, lambda services: services.accounts.create(registration, is_admin=True))
    print(f"Created admin {user.username} with id {user.id}.")


def _set_password(settings: Settings, arguments: argparse.Namespace) -> None:
    registration = _registration(arguments.username)
    _with_services(
        settings, lambda services: services.accounts.set_password(registration.username, registration.password)
    )
    print(f"Changed the password of {registration.username} and revoked all sessions.")


def _promote(settings: Settings, arguments: argparse.Namespace) -> None:
    update = AccountUpdate(is_admin=True)
    user = _with_services(
        settings, lambda services: services.administration.change_as_operator(_ascii_username(arguments), update)
    )
    print(f"{user.username} is an admin.")


def _disable(settings: Settings, arguments: argparse.Namespace) -> None:
    update = AccountUpdate(is_active=False)
    user = _with_services(
        settings, lambda services: services.administration.change_as_operator(_ascii_username(arguments), update)
    )
    print(f"Disabled {user.username} and revoked all sessions.")


def _enable(settings: Settings, arguments: argparse.Namespace) -> None:
    update = AccountUpdate(is_active=True)
    user = _with_services(
        settings, lambda services: services.administration.change_as_operator(_ascii_username(arguments), update)
    )
    print(f"Enabled {user.username}.")


def _sessions(settings: Settings, arguments: argparse.Namespace) -> None:
    sessions = _with_services(
        settings, lambda services: services.administration.list_sessions(_ascii_username(arguments))
    )
    line = "{:>8}  {:20}  {:20}  {:20}  {:39}  {}".format
    print(line("id", "created", "last used", "expires", "address", "user agent"))
    for each in sessions:
        times = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (each.created_at, each.last_used_at, each.expires_at))
        print(line(each.id, *times, *(logs.for_terminal(text or "-") for text in (each.ip, each.user_agent))))


def _revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    _with_services(settings, lambda services: services.administration.revoke_sessions(_ascii_username(arguments)))
    print(f"Revoked all sessions of {arguments.username}.")


def _prune(settings: Settings, _: argparse.Namespace) -> None:
    deleted = _with_services(settings, lambda services: purge(services.sessions.purge))
    print(f"Deleted expired sessions and networks: {deleted}.")


COMMANDS = [
    Command("create-admin", "create an admin account", _create_admin, _add_username),
    Command("promote", "make an existing account an admin", _promote, _add_username),
    Command("set-password", "set an account's password and revoke its sessions", _set_password, _add_username),
    Command("disable", "disable an account and revoke its sessions", _disable, _add_username),
    Command("enable", "enable a disabled account", _enable, _add_username),
    Command("sessions", "list an account's active sessions, newest first, at most 100", _sessions, _add_username),
    Command("revoke", "revoke all sessions of an account", _revoke, _add_username),
    Command("prune", "delete expired sessions and networks, as the service does periodically", _prune),
    *backup_commands(migrations, revoked=["sessions"]),
]


def _with_services(settings: Settings, operation: Callable[[Services], Awaitable[T]]) -> T:
    async def run() -> T:
        services = Services(settings)
        try:
            return await operation(services)
        finally:
            await services.close()

    return asyncio.run(run())


def _ascii_username(arguments: argparse.Namespace) -> str:
    """The username; raises UserNotFound if it isn't ASCII. No account has such a name, and drivers may fail on it."""
    username: str = arguments.username
    if not username.isascii():
        raise UserNotFound
    return username


def _registration(username: str) -> Registration:
    """The username and a password from the operator; raises Invalid if `POST /register` would reject either."""
    try:
        return Registration(username=username, password=_ask_password())
    except ValidationError as error:
        raise Invalid(
            [
                FieldError(
                    f"/{problem['loc'][0]}",
                    f"The {problem['loc'][0]} is not valid: {error_message(problem)}.",
                )
                for problem in error.errors()
            ]
        ) from None


def _ask_password() -> str:
    try:
        if not sys.stdin.isatty():
            # Some editors start a file with a byte order mark, which is not part of the password.
            return sys.stdin.buffer.readline().decode("utf-8-sig").rstrip("\r\n")
        password = getpass("Password: ")
        if getpass("Repeat the password: ") != password:
            raise Invalid([FieldError("/password", "The passwords do not match. Nothing was changed.")])
    except EOFError:
        raise Invalid([FieldError("/password", "The password is missing.")]) from None
    except UnicodeError:
        raise Invalid([FieldError("/password", "The password is not UTF-8 text.")]) from None
    return password
