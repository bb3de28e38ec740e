"""What the processes of both services use."""

from collections.abc import Iterator

import psutil

from testkit.processes import Services


def cpu_of(services: Services) -> float:
    """The CPU seconds so far."""
    return sum(sum(each.cpu_times()[:2]) for each in _processes(services))


def memory_of(services: Services) -> int:
    """The bytes that the processes share with no others."""
    return sum(each.memory_full_info().uss for each in _processes(services))


def _processes(services: Services) -> Iterator[psutil.Process]:
    for service in (services.users, services.products):
        process = psutil.Process(service.pid)
        yield from (process, *process.children(recursive=True))
