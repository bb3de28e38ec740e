"""What an attack is measured by: what a service uses, and how fast a bystander's requests succeed meanwhile."""

import math
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from testkit.processes import Service, Services, eventually
from testkit.usage import cpu_seconds, memory
from tests.attack import wire

LEAST_RATE = 15.0
"""Percent of its rate before the attack that a bystander must keep."""

_FORKS = multiprocessing.get_context("forkserver")


class ServiceEnded(Exception):
    """The attack has ended the process of a service."""


@dataclass(frozen=True)
class Figure:
    """A number that was measured, and its bounds."""

    name: str
    value: float
    unit: str = ""
    most: float = math.inf
    least: float = -math.inf

    @property
    def holds(self) -> bool:
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        limits = {"least": self.least, "most": self.most}
        bounds = ", ".join(f"at {which} {_short(limit)}" for which, limit in limits.items() if math.isfinite(limit))
        words = [self.name, _short(self.value), self.unit, f"({bounds})" if bounds else ""]
        return " ".join(filter(None, [*words, "" if self.holds else "<-- broken"]))


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


@dataclass(frozen=True)
class Result:
    """The result of an attack."""

    figures: list[Figure]
    statuses: Counter[int | None] = field(default_factory=Counter)
    """The responses to the attack; None for requests without a response."""

    @property
    def holds(self) -> bool:
        return all(figure.holds for figure in self.figures)


class Bystander:
    """A client that sends one request after the other, on new connections, while the block runs.

    It is a process of its own, so that it does not wait for the threads of the attack.
    """

    def __init__(self, service: Service, message: bytes) -> None:
        self._succeeded: Any = _FORKS.RawValue("q", 0)
        arguments = (service.port, message, self._succeeded)
        self._process = _FORKS.Process(target=_repeat, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        eventually(lambda: self.count > 0, what="the bystander's first request succeeds")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    @property
    def count(self) -> int:
        """The number of its requests that succeeded so far."""
        return int(self._succeeded.value)

    def rate(self, seconds: float) -> float:
        """Successful requests per second, during the next seconds."""
        started, count = time.monotonic(), self.count
        time.sleep(seconds)
        return (self.count - count) / (time.monotonic() - started)


def _repeat(port: int, message: bytes, succeeded: Any) -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # Otherwise, it would outlive an attack that was killed.
        status = wire.status_of(port, message, within=2)
        if status is not None and status < 300:
            succeeded.value += 1
        else:
            time.sleep(0.02)


def cpu_until_idle(service: Service, most: float) -> float:
    """The seconds of CPU time that the service uses until it is idle, or until they are more than `most`."""
    started = used = cpu_seconds(service.pid)
    while used - started <= most:
        time.sleep(1)
        before, used = used, cpu_seconds(service.pid)
        if used - before < 0.03:
            break
    return used - started


@dataclass
class Usage:
    """What an attack has cost; complete when the block of `Target.attacked` has ended."""

    bystander: Bystander
    cpu: float = 0.0
    """Seconds of CPU time of the service, without those for the bystander."""
    memory: float = 0.0
    """The peak of the service's memory above what it had before, in MiB."""
    log: float = 0.0
    """What the service has logged, in KiB."""
    rate: float = 0.0
    """The rate of the bystander, in percent of its rate before."""

    def figures(self, *, cpu: float = math.inf, mebibytes: float = math.inf) -> list[Figure]:
        return [
            Figure("CPU", self.cpu, "s", most=cpu),
            Figure("memory", self.memory, "MiB", most=mebibytes),
            Figure("bystander", self.rate, "% of before", least=LEAST_RATE),
        ]


@dataclass(frozen=True)
class Target:
    """Both services, ready for an attack."""

    services: Services
    seconds: float
    """How long an attack lasts."""
    is_short: bool

    def write(self) -> bytes:
        """A protected write of a new account."""
        product = {"name": "Lamp", "price": "19.99", "quantity": 3}
        return wire.post("/products", product, self.services.sign_up().bearer)

    @contextmanager
    def attacked(self, service: Service, of_bystander: bytes | None = None) -> Iterator[Usage]:
        """Measure the service while the block attacks it. Raises ServiceEnded.

        :param of_bystander: what the bystander sends to the product service; a protected write by default
        """
        with Bystander(self.services.products, of_bystander or self.write()) as bystander:
            cpu, count = cpu_seconds(service.pid), bystander.count
            rate = bystander.rate(self.seconds / 4)
            cpu_of_bystander = (cpu_seconds(service.pid) - cpu) / max(1, bystander.count - count)
            usage = Usage(bystander)
            cpu, idle, log = cpu_seconds(service.pid), memory(service.pid), service.log_file.stat().st_size
            count, started = bystander.count, time.monotonic()
            yield usage
            succeeded, seconds = bystander.count - count, time.monotonic() - started
            if not service.is_running:
                raise ServiceEnded(f"{service.name} {service.reason_of_end()}")
            usage.cpu = max(0.0, cpu_seconds(service.pid) - cpu - cpu_of_bystander * succeeded)
            usage.memory = (memory(service.pid, "VmHWM") - idle) / 2**20
            usage.log = (service.log_file.stat().st_size - log) / 1024
            usage.rate = 100 * succeeded / seconds / rate

    def until_the_end(self, call: Callable[[], int | None], pause: float = 0.5) -> Counter[int | None]:
        """Repeat a call for the seconds of the attack; the statuses that it returned."""
        statuses: Counter[int | None] = Counter()
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            statuses[call()] += 1
            time.sleep(pause)
        return statuses
