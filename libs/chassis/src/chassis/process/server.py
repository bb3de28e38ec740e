"""The command line of a service: serve, migrate, write migrations, and print documents.

It imports the application only to print its document: that takes most of the time and memory of a service. Each worker
imports it itself.
"""

import argparse
import errno
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chassis import logs, metrics
from chassis.database.migrations import Migrations
from chassis.database.refusals import DatabaseRefused, MigrationRefused
from chassis.errors import DomainError, Invalid
from chassis.process.configuration import as_markdown, fail, load
from chassis.process.startup import importing
from chassis.settings import ServiceSettings

if TYPE_CHECKING:
    import uvicorn

S = TypeVar("S", bound=ServiceSettings)

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than our clients keep one, so none is closed while in use."""

BACKLOG = 100
"""Connections that the service accepts at once, and that the system queues for it.

asyncio accepts so many in a row before any other can be closed for them, so it is well below the number of file
handles.
"""

GRACEFUL_SHUTDOWN = 8
"""Seconds that running requests have to finish when the service stops; then they are cancelled."""


@dataclass(frozen=True)
class Command(Generic[S]):
    """A command of one service. It prints its result to standard output, and logs to standard error."""

    name: str
    help: str
    run: Callable[[S, argparse.Namespace], None]
    """Runs on a database that is migrated. A DomainError ends the process with status 1 and its message."""
    arguments: Callable[[argparse.ArgumentParser], object] = lambda _: None
    """Adds the arguments of the command."""
    creates_database: bool = False
    """Whether it also runs without a migrated database."""


def run_command(
    settings_class: type[S],
    migrations_of: Callable[[S], Migrations],
    worker_factory: str,
    document_factory: str,
    prepare: Callable[[S], object] = lambda _: None,
    extra_commands: str | None = None,
) -> None:
    """Run the command of the command line; the default is to serve.

    A name is "package.module:object". Its module is imported only if it is needed.

    :param worker_factory: the name of the function that creates the application in each worker
    :param document_factory: of one that creates an application whose OpenAPI document is the same on every machine
    :param prepare: runs once, before the workers start; an OSError ends the process with one line
    :param extra_commands: the name of a sequence of `Command`s of the service's own
    """
    parser = argparse.ArgumentParser(prog=f"python -m {settings_class.service.replace('-', '_')}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    serve = commands.add_parser("serve", help="migrate the database and serve in the foreground (the default)")
    serve.add_argument(
        "--reload", metavar="DIR", action="append", default=[], help="restart when a Python file in this folder changes"
    )
    migrate = commands.add_parser("migrate", help="migrate the database to the latest revision")
    migrate.add_argument("--dry-run", action="store_true", help="report whether that would work, and change nothing")
    revision = commands.add_parser("revision", help="write a migration for changes in the models")
    revision.add_argument("message", help="a short description of the migration")
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser("settings", help="print the settings and their defaults, as Markdown")
    commands.add_parser("check-settings", help="print what is invalid, unsafe or risky about the present settings")
    own_commands: Sequence[Command[S]] = ()
    if extra_commands and sys.argv[1:] and sys.argv[1] not in commands.choices:
        with importing():
            own_commands = resolve_name(extra_commands)
    for command in own_commands:
        subparser = commands.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(subparser)
    arguments = parser.parse_args()
    chosen = next((command for command in own_commands if command.name == arguments.command), None)

    if arguments.command == "openapi":
        print(json.dumps(resolve_name(document_factory)().openapi(), indent=2, ensure_ascii=False))
    elif arguments.command == "settings":
        print(as_markdown(settings_class))
    elif arguments.command == "check-settings":
        for reason in load(settings_class).risky():
            print(f"warning: {reason}")
        print("The settings are valid.")
    else:
        settings = load(settings_class)
        # The output of an extra command is its result, which another program may read.
        logs.configure(settings.service, settings.log_level, settings.log_format, sys.stderr if chosen else sys.stdout)
        migrations = migrations_of(settings)
        if arguments.command == "migrate":
            _migrate(migrations, dry_run=arguments.dry_run)
        elif arguments.command == "revision":
            _migrate(migrations)
            with _exit_if_refused():
                print(migrations.write_revision(arguments.message))
        elif chosen:
            _run(chosen, settings, arguments, migrations)
        else:
            _require_free_address(settings.host, settings.port)
            if settings.metrics_port is not None:
                _require_free_address(settings.metrics_host, settings.metrics_port, "METRICS_")
            if settings.migrate_on_start:
                _migrate(migrations)
            if settings.environment == "production":
                for reason in settings.risky():
                    logs.get("chassis.server").warning(reason)
            try:
                prepare(settings)
            except OSError as error:
                fail(f"{error.filename} can't be used ({error.strerror}): change its permissions, or set DATA_DIR")
            _serve(settings, worker_factory, arguments.reload if arguments.command == "serve" else [])


def _migrate(migrations: Migrations, *, dry_run: bool = False) -> None:
    with _exit_if_refused():
        changed = migrations.upgrade(dry_run=dry_run)
    result = "database can be migrated" if dry_run else "database migrated"
    logs.get("chassis.server").info(result if changed else "database is up to date", revision=migrations.head)


@contextmanager
def _exit_if_refused() -> Iterator[None]:
    try:
        yield
    except MigrationRefused as error:
        fail(*str(error).splitlines())


def _run(command: Command[S], settings: S, arguments: argparse.Namespace, migrations: Migrations) -> None:
    hint = (
        ". Use the settings of the service, such as DATA_DIR or DATABASE_URL; "
        "start it or run `migrate` to create or migrate its database."
    )
    try:
        if not command.creates_database:
            # A command with the wrong settings must not create a database beside the one of the service.
            migrations.require_current()
        hint = ""
        command.run(settings, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except MigrationRefused as error:
        if isinstance(error, DatabaseRefused):
            hint = ""
        for line in str(error).splitlines():
            print(logs.for_terminal(f"{command.name}: {line}{hint}"), file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        print(f"{command.name}: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    except DomainError as error:
        field_errors = error.errors if isinstance(error, Invalid) else ()
        for line in [each.detail for each in field_errors] or [error.detail]:
            print(logs.for_terminal(f"{command.name}: {line}"), file=sys.stderr)
        raise SystemExit(1) from None


def _require_free_address(host: str, port: int, prefix: str = "") -> None:
    """Exit with one line if the address can't be used; the server would notice only after its startup.

    :param prefix: of the names of the two settings
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if sys.platform != "win32":
                # Like the server: ignore connections in TIME_WAIT.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"port {port} of {host} is in use: stop the program that uses it, or set {prefix}PORT")
        fail(f"can't listen on {host}:{port} ({prefix}HOST, {prefix}PORT): {error.strerror}")


def _serve(settings: ServiceSettings, worker_factory: str, reload: Sequence[str]) -> None:
    # uvicorn raises the signal again once it has stopped, and would end with the status of a process that was killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with importing():
        # Other commands need no server.
        import uvicorn

        from chassis.process.protocol import Protocol, within_file_handles

    if reload:
        logs.get("chassis.server").info("restarting when a file changes", folders=" ".join(reload))
    protocol = partial(
        Protocol,
        header_timeout=settings.header_timeout,
        max_connections=within_file_handles(settings.max_connections),
    )
    options: dict[str, Any] = {
        "factory": True,
        "http": protocol,
        "ws": "none",
        # Otherwise the log lines of a request could have the ids of an earlier one of its connection.
        "reset_contextvars": True,
        "backlog": BACKLOG,
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "reload": bool(reload),
        "reload_dirs": list(reload),
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": GRACEFUL_SHUTDOWN,
        "log_config": None,  # chassis.logs has configured it.
        "server_header": False,
        # X-Forwarded-For is trusted only from TRUSTED_PROXIES.
        "proxy_headers": False,
    }
    with _serving_metrics(settings, by_workers=settings.workers > 1 or bool(reload)):
        if settings.workers > 1 and not reload:
            _supervise(uvicorn.Config(worker_factory, **options))
        else:
            uvicorn.run(worker_factory, **options)


def _supervise(config: "uvicorn.Config") -> None:
    """Serve with several workers; exit with uvicorn's status of a failed start, which `uvicorn.run` keeps to itself."""
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    supervisor = Multiprocess(config, sockets=[config.bind_socket()])
    supervisor.run()
    if any(each.exitcode == STARTUP_FAILURE for each in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


def _serving_metrics(settings: ServiceSettings, *, by_workers: bool) -> AbstractContextManager[None]:
    if settings.metrics_port is None:
        return nullcontext()
    from chassis.database.backup import last_finished

    version = resolve_name(f"{settings.service.replace('-', '_')}:__version__")
    last_backup = partial(last_finished, settings.database_url)
    host, port = settings.metrics_host, settings.metrics_port
    logs.get("chassis.server").info("serving metrics", host=host, port=port)
    return metrics.serving(host, port, settings.service, version, last_backup, by_workers=by_workers)
