"""What processes use."""

from collections.abc import Iterator
from contextlib import suppress

import psutil

from testkit.processes import Service, Services


def cpu_of(services: Services) -> float:
    """The CPU seconds so far."""
    return sum(sum(each.cpu_times()[:2]) for each in _processes(services))


def cpu_of_tree(pid: int) -> float:
    """The CPU seconds so far of a process and of those below it, also of those that have ended."""
    process = psutil.Process(pid)
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # It has just ended.
            # The last two are those of its children that have ended.
            total += sum(each.cpu_times()[:4])
    return total


def pid_of_server(service: Service) -> int:
    """The first process of the PostgreSQL server of a service, on this machine."""
    [[worker]] = service.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
    server = psutil.Process(worker).parent()
    assert server is not None
    return server.pid


def memory_of(services: Services) -> int:
    """The bytes that the processes share with no others."""
    return sum(each.memory_full_info().uss for each in _processes(services))


def _processes(services: Services) -> Iterator[psutil.Process]:
    for service in (services.users, services.products):
        process = psutil.Process(service.pid)
        yield from (process, *process.children(recursive=True))
