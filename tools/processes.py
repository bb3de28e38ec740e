"""Programs and services as processes: start, stop, signals, ports, readiness."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

from tools.console import CommandError, say
from tools.services import ROOT, SERVICES, Service

if sys.platform == "win32":
    STOP_SIGNAL, OWN_GROUP = signal.CTRL_BREAK_EVENT, subprocess.CREATE_NEW_PROCESS_GROUP
else:
    STOP_SIGNAL, OWN_GROUP = signal.SIGTERM, 0
READY_WITHIN = 60.0
STOP_WITHIN = 10.0
_LABEL_WIDTH = max(len(service.label) for service in SERVICES.values())


class Interrupted(KeyboardInterrupt):
    """A signal asked the launcher to stop; the argument is its number."""


def run(command: Sequence[str], folder: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program and wait for its end; its output is shown unless the options redirect it."""
    options = {"encoding": "utf-8", "errors": "replace", "check": False, **options}
    return subprocess.run(command, cwd=folder, **options)  # noqa: S603 - every command is written in this package.


def become(command: Sequence[str], folder: Path = ROOT) -> NoReturn:
    """Replace this process by a program, so that signals to this process id reach the program."""
    if sys.platform == "win32":
        # Windows can't replace a process. There Ctrl-C reaches both, and the program handles it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(run(command, folder).returncode)
    os.chdir(folder)
    os.execv(command[0], list(command))  # noqa: S606 - there must be no shell in between.


class ServiceGroup:
    """Services that run and stop together, each in a session of its own.

    Ctrl-C on a terminal therefore reaches only this process, which passes it on once. The signal handler only records
    the signal and `watch` acts on it, so that a signal can neither be lost between the start of a child and its entry
    in `children` nor interrupt the stopping.
    """

    def __init__(self) -> None:
        self.children: list[tuple[Service, subprocess.Popen[str], threading.Thread]] = []
        self.signal: int | None = None

    def __enter__(self) -> Self:
        on_signal(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _record(self, number: int, _: FrameType | None) -> None:
        self.signal = number

    def start(self, service: Service, command: Sequence[str], environment: Mapping[str, str]) -> None:
        process = subprocess.Popen(  # noqa: S603 - every command is written in this package.
            command,
            cwd=ROOT / service.folder,
            env={**environment, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Windows ignores this and uses the next option instead.
            creationflags=OWN_GROUP,
        )
        output = threading.Thread(target=self._show, args=(service, process), daemon=True)
        self.children.append((service, process, output))
        output.start()

    @staticmethod
    def _show(service: Service, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            say(f"{service.label:{_LABEL_WIDTH}} | {line.rstrip()}")

    def watch(self, until: Callable[[], bool] = lambda: False, within: float = math.inf) -> bool:
        """Wait until the condition holds; return False if it does not hold within the given seconds.

        Raises `Interrupted` after a signal and `CommandError` when a service has stopped by itself.
        """
        deadline = time.monotonic() + within
        while not until():
            if time.monotonic() > deadline:
                return False
            if self.signal is not None:
                raise Interrupted(self.signal)
            for service, process, output in self.children:
                if process.poll() is not None:
                    output.join(1)  # Show its last lines before the error.
                    raise CommandError(f"The {service.folder} stopped by itself (status {process.returncode}).")
            time.sleep(0.05)
        return True

    def stop(self) -> None:
        """Ask all services at once to stop, each of them once; kill those that do not stop in time."""
        say("Stopping ...")
        for _, process, _ in self.children:
            process.send_signal(STOP_SIGNAL)
        deadline = time.monotonic() + STOP_WITHIN
        for service, process, output in self.children:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                say(f"The {service.folder} did not stop within {STOP_WITHIN:.0f} s. Killing it.")
                process.kill()
            if sys.platform != "win32":
                # A service that did not stop by itself may have left workers behind; they are in its session.
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.join(1)


def on_signal(handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle every signal that asks to stop, except those that the caller ignores, as nohup does."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def is_ready(port: int) -> bool:
    import http.client  # It takes a quarter of the start, and most commands don't need it.

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def require_free(port: int, service: Service) -> None:
    """Raise a `CommandError` if a service can't listen on this port."""
    with socket.socket() as listener:
        if sys.platform != "win32":  # Here the option permits ports of closed connections; on Windows it differs.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            line = f"The {service.folder} can't use port {port} ({error.strerror})"
            raise CommandError(f"{line}: choose another with {service.port_option}.") from None
