"""Changing the signing key under two replicas on one database, each restarted while the other one answers.

The procedure: (a) both sign with the old key; (b) the new one is added to SECRET_KEYS_ACCEPTED; (c) the two change
places; (d) after the end of the last token that the old key has signed, the old one is removed. It is walked through
once, without waiting for that end, and the tests look at what happened on the way. Keys are no matter of the database,
so that this is on the one that replicas share in production.
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
    """One of the two, and the step that it is at."""

    def __init__(self, service: Service, step: Step) -> None:
        self.service = service
        self.step = step
        service.environment.update(step.settings)

    def begin_restart(self, step: Step) -> None:
        """Stop it, and start it with the keys of this step; do not wait for it."""
        self.service.stop()
        self.service.environment.update(step.settings)
        self.service.start()
        self.step = step


@dataclass(frozen=True)
class Verdict:
    """What a replica said of an access token."""

    issued_at: Step
    judged_at: Step
    valid: bool


@dataclass(frozen=True)
class Refresh:
    """What came of refreshing."""

    at: Step
    answer: httpx.Response


@dataclass
class Walk:
    """Both replicas on the way, the tokens that they have issued, and what they said of them."""

    replicas: tuple[Replica, Replica]
    access_tokens: list[tuple[Step, str]] = field(default_factory=list)
    unused: list[tuple[Step, str]] = field(default_factory=list)
    """Refresh tokens of a session each, which nobody has used on the way."""
    tabs: list[str] = field(default_factory=list)
    """The refresh token of one session, as each of two tabs knows it."""
    verdicts: list[Verdict] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)

    def begin(self) -> None:
        """Open the account, and the session of the two tabs."""
        with self.replicas[0].service.client() as client:
            assert client.post("/register", json=CREDENTIALS).status_code == 201
            self.tabs = [client.post("/login", json=CREDENTIALS).json()["refresh_token"]] * 2

    def look(self, *up: Replica) -> None:
        """Get tokens of those replicas that are up, have each of them judge all there are, and refresh."""
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
        # The second tab sends again what the first one has just used. Had it got another successor than the first
        # one, it would be thrown out the next time, for its token would be neither the newest nor the one before.
        for tab, (step, client) in enumerate(clients):
            answer = client.post("/refresh", json={"refresh_token": self.tabs[tab]})
            self.refreshes.append(Refresh(step, answer))
            if answer.status_code == 200:
                self.tabs[tab] = answer.json()["refresh_token"]


@pytest.fixture(scope="module")
def walk(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The whole procedure; at its end both replicas run, without the old key."""
    folder = tmp_path_factory.mktemp("replicas")
    with databases.made() as new_database, ExitStack() as cleanup:
        address = new_database(None)
        one, two = (Service("user-service", folder / name, DATABASE_URL=address) for name in ("one", "two"))
        for service in (one, two):
            cleanup.callback(service.close)
        # To spare a restart, the second one begins where the first one will be after its first restart.
        walk = Walk((Replica(one, BEFORE), Replica(two, ADDED)))
        for replica in walk.replicas:
            replica.service.start()
        for replica in walk.replicas:
            replica.service.wait_ready()
        walk.begin()
        walk.look(*walk.replicas)
        first, second = walk.replicas
        for replica, other, step in (
            (first, second, ADDED),
            (second, first, SWITCHED),
            (first, second, SWITCHED),
            (first, second, REMOVED),
            (second, first, REMOVED),
        ):
            replica.begin_restart(step)
            walk.look(other)
            replica.service.wait_ready()
            walk.look(first, second)
        yield walk


def test_no_token_is_refused_before_its_key_is_removed(walk: Walk) -> None:
    judged = [
        verdict
        for verdict in walk.verdicts
        if verdict.judged_at is not REMOVED or verdict.issued_at.signs == REMOVED.signs
    ]
    assert [verdict for verdict in judged if not verdict.valid] == []
    # A replica at any step has judged tokens of one at the step before, and of one at the step after.
    met = {(verdict.issued_at.name, verdict.judged_at.name) for verdict in judged}
    assert met >= {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "c"), ("a", "c"), ("d", "d")}


def test_what_the_old_key_has_signed_is_refused_once_it_is_removed(walk: Walk) -> None:
    judged = [verdict for verdict in walk.verdicts if verdict.judged_at is REMOVED and verdict.issued_at.signs == OLD]
    assert [verdict for verdict in judged if verdict.valid] == []
    assert {verdict.issued_at for verdict in judged} == {BEFORE, ADDED}


def test_a_session_is_refreshed_through_all_steps_and_by_both_replicas_with_the_same_successor(walk: Walk) -> None:
    failed = [(refresh.at.name, refresh.answer.text) for refresh in walk.refreshes if refresh.answer.status_code != 200]
    assert failed == []
    assert {refresh.at for refresh in walk.refreshes} == {BEFORE, ADDED, SWITCHED, REMOVED}


def test_a_refresh_token_of_any_step_is_good_after_the_old_key_is_removed_with_the_same_successor_at_either_replica(
    walk: Walk,
) -> None:
    with ExitStack() as cleanup:
        clients = [cleanup.enter_context(replica.service.client()) for replica in walk.replicas]
        answers = [
            (step, [client.post("/refresh", json={"refresh_token": token}) for client in clients])
            for step, token in walk.unused
        ]
    assert {step for step, _ in answers} == {BEFORE, ADDED, SWITCHED, REMOVED}
    assert {step.name for step, both in answers for answer in both if answer.status_code != 200} == set()
    for _, both in answers:
        first, repeated = (answer.json()["refresh_token"] for answer in both)
        assert first == repeated
