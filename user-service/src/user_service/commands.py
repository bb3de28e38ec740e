"""What an operator does on the command line: `python -m user_service create-admin root`.

A password is asked for without echo, or read from standard input where that is no terminal. It is never an argument,
which others on the machine could see.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from getpass import getpass
from typing import TypeVar

from pydantic import ValidationError

from chassis.database.purge import purge
from chassis.errors import FieldError, Invalid
from chassis.process.server import Command
from chassis.validation import error_message
from user_service.errors import UserNotFound
from user_service.main import Services
from user_service.schemas import Registration
from user_service.services.administration import AccountUpdate
from user_service.settings import Settings

T = TypeVar("T")


def _username(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("username", help="the name of the account")


def _create_admin(settings: Settings, arguments: argparse.Namespace) -> None:
    asked = _registration(arguments.username)
    user = _with_services(settings, lambda of: of.accounts.open(asked.username, asked.password, is_admin=True))
    print(f"{user.username} is an admin, with the id {user.id}.")


def _set_password(settings: Settings, arguments: argparse.Namespace) -> None:
    asked = _registration(arguments.username)
    _with_services(settings, lambda of: of.accounts.set_password(asked.username, asked.password))
    print(f"{asked.username} has a new password; all sessions of the account are over.")


def _disable(settings: Settings, arguments: argparse.Namespace) -> None:
    change = AccountUpdate(is_active=False)
    user = _with_services(settings, lambda of: of.administration.change_as_operator(_name(arguments), change))
    print(f"{user.username} is disabled; all sessions of the account are over.")


def _enable(settings: Settings, arguments: argparse.Namespace) -> None:
    change = AccountUpdate(is_active=True)
    user = _with_services(settings, lambda of: of.administration.change_as_operator(_name(arguments), change))
    print(f"{user.username} may log in again.")


def _sessions(settings: Settings, arguments: argparse.Namespace) -> None:
    sessions = _with_services(settings, lambda of: of.administration.sessions_of(_name(arguments)))
    line = "{:>8}  {:20}  {:20}  {:20}  {:39}  {}".format
    print(line("id", "created", "last used", "expires", "address", "user agent"))
    for each in sessions:
        times = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (each.created_at, each.last_used_at, each.expires_at))
        print(line(each.id, *times, each.ip or "-", each.user_agent or "-"))


def _revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    _with_services(settings, lambda of: of.administration.revoke_sessions_of(_name(arguments)))
    print(f"All sessions of {arguments.username} are over.")


def _prune(settings: Settings, _: argparse.Namespace) -> None:
    print(f"Expired sessions removed: {_with_services(settings, lambda of: purge(of.sessions.purge))}.")


COMMANDS = [
    Command("create-admin", "open an account that is an admin", _create_admin, _username),
    Command("set-password", "give an account a new password, and end its sessions", _set_password, _username),
    Command("disable", "let nobody log in to an account, and end its sessions", _disable, _username),
    Command("enable", "let an account that was disabled log in again", _enable, _username),
    Command("sessions", "list the sessions of an account that go on, at most the newest 100", _sessions, _username),
    Command("revoke", "end all sessions of an account", _revoke, _username),
    Command("prune", "remove expired sessions, as the service does by itself from time to time", _prune),
]


def _with_services(settings: Settings, use: Callable[[Services], Awaitable[T]]) -> T:
    async def run() -> T:
        services = Services(settings)
        try:
            return await use(services)
        finally:
            await services.close()

    return asyncio.run(run())


def _name(arguments: argparse.Namespace) -> str:
    """The name of an account; raises UserNotFound for what can be none, and which no database might take."""
    username: str = arguments.username
    if not username.isascii():
        raise UserNotFound
    return username


def _registration(username: str) -> Registration:
    """The name with a password that is asked for; raises Invalid for what `POST /register` would refuse as well."""
    try:
        return Registration(username=username, password=_ask_password())
    except ValidationError as error:
        raise Invalid(
            [
                FieldError(
                    f"/{mistake['loc'][0]}",
                    f"The {mistake['loc'][0]} is not valid: {error_message(mistake['type'], mistake['msg'])}.",
                )
                for mistake in error.errors()
            ]
        ) from None


def _ask_password() -> str:
    try:
        if not sys.stdin.isatty():
            # Some editors begin a file with a mark that nobody would type.
            return sys.stdin.buffer.readline().decode("utf-8-sig").rstrip("\r\n")
        password = getpass("Password: ")
        if getpass("The same again: ") != password:
            raise Invalid([FieldError("/password", "These were two different passwords; nothing was changed.")])
    except EOFError:
        raise Invalid([FieldError("/password", "No password was given.")]) from None
    except UnicodeError:
        raise Invalid([FieldError("/password", "The password is not UTF-8 text.")]) from None
    return password
