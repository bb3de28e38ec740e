"""Rotation of the signing key with two replicas on one database; each restarts while the other one answers.

The steps: (a) both sign with the old key; (b) the new key is added to SECRET_KEYS_ACCEPTED; (c) the keys are swapped;
(d) the old key is removed, once the last token that it signed has expired. The fixture goes through the steps once,
without waiting for that expiry, and the tests check what happened on the way. Keys don't depend on the database, so
this runs only on PostgreSQL, which replicas share in production.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx
import pytest

from testkit.databases import Databases
from testkit.processes import Service

pytestmark = pytest.mark.postgresql

CREDENTIALS = {"username": "ada", "password": "correct horse battery staple"}
OLD, NEW = (f"the-{name}-key-{'0123456789' * 4}" for name in ("old", "new"))


@dataclass(frozen=True)
class Step:
    """The keys that a replica has during a step of the procedure."""

    name: str
    signs: str
    accepts: str = ""

    @property
    def settings(self) -> dict[str, str]:
        return {"SECRET_KEY": self.signs, "SECRET_KEYS_ACCEPTED": self.accepts}


BEFORE = Step("a", OLD)
ADDED = Step("b", OLD, NEW)
SWITCHED = Step("c", NEW, OLD)
REMOVED = Step("d", NEW)


class Replica:
    """A replica, and its current step."""

    def __init__(self, service: Service, step: Step) -> None:
        self.service = service
        self.step = step
        service.environment.update(step.settings)

    def begin_restart(self, step: Step) -> None:
        """Stop the replica, and start it with the keys of this step, without waiting until it is ready."""
        self.service.stop()
        self.service.environment.update(step.settings)
        self.service.start()
        self.step = step


@dataclass(frozen=True)
class Verdict:
    """Whether a replica accepted an access token."""

    issued_at: Step
    validated_at: Step
    valid: bool


@dataclass(frozen=True)
class Refresh:
    """The result of a refresh."""

    at: Step
    answer: httpx.Response


@dataclass
class Rotation:
    """Both replicas, the tokens that they issued, and how they validated them."""

    replicas: tuple[Replica, Replica]
    access_tokens: list[tuple[Step, str]] = field(default_factory=list)
    unused: list[tuple[Step, str]] = field(default_factory=list)
    """Refresh tokens, each of a session of its own, not used during the rotation."""
    tabs: list[str] = field(default_factory=list)
    """The refresh token of one session, as each of two tabs knows it."""
    verdicts: list[Verdict] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)

    def begin(self) -> None:
        """Register the account, and create the session of the two tabs."""
        with self.replicas[0].service.client() as client:
            assert client.post("/register", json=CREDENTIALS).status_code == 201
            self.tabs = [client.post("/login", json=CREDENTIALS).json()["refresh_token"]] * 2

    def observe(self, *up: Replica) -> None:
        """Get tokens from the running replicas, have each of them validate all tokens so far, and refresh."""
        with ExitStack() as cleanup:
            clients = [(replica.step, cleanup.enter_context(replica.service.client())) for replica in up]
            for step, client in clients:
                granted = client.post("/login", json=CREDENTIALS).json()
                self.access_tokens.append((step, granted["access_token"]))
                self.unused.append((step, granted["refresh_token"]))
            for step, client in clients:
                for issued_at, token in self.access_tokens:
                    answer = client.post("/validate-token", json={"token": token}).json()
                    self.verdicts.append(Verdict(issued_at, step, answer["valid"]))
            for first, second in ((clients[0], clients[-1]), (clients[-1], clients[0])):
                self._refresh_in_both_tabs(first, second)

    def _refresh_in_both_tabs(self, *clients: tuple[Step, httpx.Client]) -> None:
        # The second tab repeats the token that the first one has just used. If it got another successor than the first,
        # the session would be revoked the next time: its token would be neither the current nor the previous one.
        for tab, (step, client) in enumerate(clients):
            answer = client.post("/refresh", json={"refresh_token": self.tabs[tab]})
            self.refreshes.append(Refresh(step, answer))
            if answer.status_code == 200:
                self.tabs[tab] = answer.json()["refresh_token"]


@pytest.fixture(scope="module")
def rotation(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rotation]:
    """The whole rotation; at its end both replicas run without the old key."""
    folder = tmp_path_factory.mktemp("replicas")
    with databases.made() as new_database, ExitStack() as cleanup:
        address = new_database(None)
        one, two = (Service("user-service", folder / name, DATABASE_URL=address) for name in ("one", "two"))
        for service in (one, two):
            cleanup.callback(service.close)
        # To save a restart, the second replica begins where the first will be after its first restart.
        rotation = Rotation((Replica(one, BEFORE), Replica(two, ADDED)))
        for replica in rotation.replicas:
            replica.service.start()
        for replica in rotation.replicas:
            replica.service.wait_ready()
        rotation.begin()
        rotation.observe(*rotation.replicas)
        first, second = rotation.replicas
        for replica, other, step in (
            (first, second, ADDED),
            (second, first, SWITCHED),
            (first, second, SWITCHED),
            (first, second, REMOVED),
            (second, first, REMOVED),
        ):
            replica.begin_restart(step)
            rotation.observe(other)
            replica.service.wait_ready()
            rotation.observe(first, second)
        yield rotation


def test_no_token_is_rejected_before_its_key_is_removed(rotation: Rotation) -> None:
    relevant = [
        verdict
        for verdict in rotation.verdicts
        if verdict.validated_at is not REMOVED or verdict.issued_at.signs == REMOVED.signs
    ]
    assert [verdict for verdict in relevant if not verdict.valid] == []
    # A replica at each step has validated tokens of a replica one step before, and one step after.
    met = {(verdict.issued_at.name, verdict.validated_at.name) for verdict in relevant}
    assert met >= {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "c"), ("a", "c"), ("d", "d")}


def test_tokens_of_the_old_key_are_rejected_once_it_is_removed(rotation: Rotation) -> None:
    relevant = [
        verdict for verdict in rotation.verdicts if verdict.validated_at is REMOVED and verdict.issued_at.signs == OLD
    ]
    assert [verdict for verdict in relevant if verdict.valid] == []
    assert {verdict.issued_at for verdict in relevant} == {BEFORE, ADDED}


def test_both_replicas_return_the_same_successor_at_every_step(rotation: Rotation) -> None:
    failed = [
        (refresh.at.name, refresh.answer.text) for refresh in rotation.refreshes if refresh.answer.status_code != 200
    ]
    assert failed == []
    assert {refresh.at for refresh in rotation.refreshes} == {BEFORE, ADDED, SWITCHED, REMOVED}


def test_unused_refresh_tokens_of_every_step_survive_the_rotation(
    rotation: Rotation,
) -> None:
    with ExitStack() as cleanup:
        clients = [cleanup.enter_context(replica.service.client()) for replica in rotation.replicas]
        answers = [
            (step, [client.post("/refresh", json={"refresh_token": token}) for client in clients])
            for step, token in rotation.unused
        ]
    assert {step for step, _ in answers} == {BEFORE, ADDED, SWITCHED, REMOVED}
    assert {step.name for step, both in answers for answer in both if answer.status_code != 200} == set()
    for _, both in answers:
        first, repeated = (answer.json()["refresh_token"] for answer in both)
        assert first == repeated
