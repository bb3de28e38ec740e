"""A service on the command line: serve in the foreground, migrate, write a migration, print its documents."""

import argparse
import json
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import uvicorn
from fastapi import FastAPI

from chassis import logs
from chassis.database.migrations import MigrationRefused, Migrations
from chassis.errors import DomainError, Invalid
from chassis.settings import ServiceSettings, as_markdown, fail, load

S = TypeVar("S", bound=ServiceSettings)

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept; longer than any client of ours keeps one, so that none is cut in use."""

GRACEFUL_SHUTDOWN = 8
"""Seconds that requests in progress have to end, once the service is told to stop; then they are cut off."""


@dataclass(frozen=True)
class Command(Generic[S]):
    """A command that only one of the services has; it prints its results, and its log goes to standard error."""

    name: str
    help: str
    run: Callable[[S, argparse.Namespace], None]
    """Raises a DomainError for what cannot be done, which ends the process with status 1 and its sentence."""
    arguments: Callable[[argparse.ArgumentParser], object] = lambda _: None
    """Adds the arguments that the command takes."""


def run_command(
    settings_class: type[S],
    migrations_of: Callable[[S], Migrations],
    worker_factory: str,
    document: Callable[[], FastAPI],
    prepare: Callable[[S], object] = lambda _: None,
    own: Sequence[Command[S]] = (),
) -> None:
    """Do what the command line asks for; without a command, serve.

    :param worker_factory: the function that makes the application in each worker, as "package.module:function"
    :param prepare: what has to be done once, before any worker; an OSError ends the start with one line
    :param document: makes an application whose OpenAPI document is the same on every machine
    :param own: the commands that this service has beside those of both
    """
    parser = argparse.ArgumentParser(prog=f"python -m {settings_class.service.replace('-', '_')}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    commands.add_parser("serve", help="migrate, then serve in the foreground (the default)")
    commands.add_parser("migrate", help="bring the database up to date")
    revision = commands.add_parser("revision", help="write a migration for what changed in the models")
    revision.add_argument("message", help="what it does, in a few words")
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser("settings", help="print the settings and their defaults, as Markdown")
    for command in own:
        added = commands.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(added)
    arguments = parser.parse_args()
    chosen = next((command for command in own if command.name == arguments.command), None)

    if arguments.command == "openapi":
        print(json.dumps(document().openapi(), indent=2, ensure_ascii=False))
    elif arguments.command == "settings":
        print(as_markdown(settings_class))
    else:
        settings = load(settings_class)
        # What a command of a service prints is its result, and may be read by another program.
        logs.configure(settings.service, settings.log_level, settings.log_format, sys.stderr if chosen else sys.stdout)
        migrations = migrations_of(settings)
        if arguments.command == "migrate":
            _migrate(migrations)
        elif arguments.command == "revision":
            _migrate(migrations)
            print(migrations.write_revision(arguments.message))
        else:
            if not chosen:
                _require_address(settings.host, settings.port)
            if settings.migrate_on_start:
                _migrate(migrations)
            if chosen:
                _run(chosen, settings, arguments)
                return
            try:
                prepare(settings)
            except OSError as error:
                fail(f"{error.filename}: {error.strerror}")
            _serve(settings, worker_factory)


def _migrate(migrations: Migrations) -> None:
    try:
        changed = migrations.upgrade()
    except MigrationRefused as error:
        fail(str(error))
    logs.get("chassis.server").info(
        "database migrated" if changed else "database is up to date", revision=migrations.head
    )


def _run(command: Command[S], settings: S, arguments: argparse.Namespace) -> None:
    try:
        command.run(settings, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        print(f"{command.name}: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    except DomainError as error:
        mistakes = error.errors if isinstance(error, Invalid) else ()
        for line in [mistake.detail for mistake in mistakes] or [error.detail]:
            print(f"{command.name}: {line}", file=sys.stderr)
        raise SystemExit(1) from None


def _require_address(host: str, port: int) -> None:
    """End the start with one line where nothing can listen here; the server would say it after it has started."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if sys.platform != "win32":
                # As the server does: connections that ended a moment ago are no reason to wait.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        fail(f"nothing can listen at {host}:{port} (HOST, PORT): {error.strerror}")


def _serve(settings: ServiceSettings, worker_factory: str) -> None:
    uvicorn.run(
        worker_factory,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        log_config=None,  # chassis.logs has done it.
        server_header=False,
        # Whom to believe about the client's address is not to be guessed.
        proxy_headers=False,
    )
