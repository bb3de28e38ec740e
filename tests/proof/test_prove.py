"""The proof on a small scale: sequences against a model, concurrent actors, and a broken service that is detected."""

import os
from pathlib import Path
from threading import Event

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from testkit import preloaded
from testkit.differences import SETTINGS
from testkit.processes import Services
from tests.proof.histories import REVOCATIONS, Kind, check
from tests.proof.workload import CALLS, Account, Client, Population, Session, act, idle


@pytest.fixture
def population(services_on_both: Services) -> Population:
    return Population(services_on_both)


class Sequences(RuleBasedStateMachine):
    """Sequential requests about two accounts; the model is the set of valid sessions."""

    sessions = Bundle[Session]("sessions")

    def __init__(self, population: Population) -> None:
        super().__init__()
        self.client = Client(population)
        self.all: list[Session] = []
        self.valid: set[Session] = set()
        self.disabled: set[Account] = set()

    @initialize(target=sessions)
    def two_accounts_with_two_sessions_each(self) -> MultipleResults[Session]:
        self.accounts = [self.client.register() for _ in range(2)]
        return multiple(*[self._log_in(account) for account in self.accounts * 2])

    @rule(target=sessions, number=strategies.integers(0, 1))
    def log_in(self, number: int) -> MultipleResults[Session] | Session:
        if self.accounts[number] in self.disabled:
            assert self.client.log_in(self.accounts[number]) is None
            return multiple()
        return self._log_in(self.accounts[number])

    @rule(session=sessions)
    def refresh(self, session: Session) -> None:
        assert self.client.refresh(session) == (200 if session in self.valid else 401)

    @rule(session=sessions, kind=strategies.sampled_from(CALLS), token=strategies.sampled_from((0, -1)))
    def call(self, session: Session, kind: Kind, token: int) -> None:
        assert self.client.call(session, kind, token) in ((200, 201) if session in self.valid else (401,))

    @rule(by=sessions)
    def log_out(self, by: Session) -> None:
        self._revoke(Kind.LOG_OUT, by, {by})

    @rule(by=sessions)
    def log_out_everywhere(self, by: Session) -> None:
        self._revoke(Kind.LOG_OUT_EVERYWHERE, by, self._valid_of(by.account))

    @rule(by=sessions, number=strategies.integers(0, 9))
    def revoke_a_session(self, by: Session, number: int) -> None:
        of_the_account = [each for each in self.all if each.account is by.account]
        other = of_the_account[number % len(of_the_account)]
        self._revoke(Kind.REVOKE_SESSION, by, {other}, allowed=other in self._valid_of(by.account), target=other)

    @rule(by=sessions)
    def revoke_a_token(self, by: Session) -> None:
        self._revoke(Kind.REVOKE_TOKEN, by, {by}, always=True)

    @rule(session=sessions)
    def revoke_as_an_admin(self, session: Session) -> None:
        if session.account in self.accounts:
            self._revoke(Kind.REVOKE_AS_ADMIN, session, self._valid_of(session.account), always=True)

    @rule(by=sessions)
    def change_the_password(self, by: Session) -> None:
        self._revoke(Kind.CHANGE_PASSWORD, by, self._valid_of(by.account) - {by})

    @rule(by=sessions)
    def delete_the_account(self, by: Session) -> None:
        if self._revoke(Kind.DELETE_ACCOUNT, by, self._valid_of(by.account)):
            self.accounts[self.accounts.index(by.account)] = self.client.register()

    @rule(session=sessions)
    def delete_as_an_admin(self, session: Session) -> None:
        if session.account in self.accounts:
            self._revoke(Kind.DELETE_AS_ADMIN, session, self._valid_of(session.account), always=True)
            self.disabled.discard(session.account)
            self.accounts[self.accounts.index(session.account)] = self.client.register()

    @rule(session=sessions)
    def disable(self, session: Session) -> None:
        if session.account in self.accounts:
            self._revoke(Kind.DISABLE, session, self._valid_of(session.account), always=True)
            self.disabled.add(session.account)

    @precondition(lambda self: self.disabled)
    @rule()
    def enable(self) -> None:
        assert self.client.enable(self.disabled.pop()) == 200

    def _log_in(self, account: Account) -> Session:
        session = self.client.log_in(account)
        assert session is not None
        self.all.append(session)
        self.valid.add(session)
        return session

    def _valid_of(self, account: Account) -> set[Session]:
        return {session for session in self.valid if session.account is account}

    def _revoke(
        self,
        kind: Kind,
        by: Session,
        revokes: set[Session],
        *,
        allowed: bool = True,
        target: Session | None = None,
        always: bool = False,
    ) -> bool:
        """Whether it succeeded, which must be as the model says; the revoked sessions are rejected at once.

        :param always: whether it succeeds without a valid session
        """
        succeeded = self.client.revoke(kind, by, target or by) is not None
        assert succeeded == (always or (allowed and by in self.valid))
        if succeeded:
            self.valid -= revokes
            for session in revokes:
                assert self.client.call(session) == 401
        return succeeded

    def teardown(self) -> None:
        with self.client:
            for session in self.all:
                assert self.client.call(session) == (201 if session in self.valid else 401)


def test_a_session_is_valid_exactly_until_it_is_revoked(population: Population) -> None:
    run_state_machine_as_test(
        lambda: Sequences(population),  # type: ignore[arg-type] # It accepts a factory, as documented.
        settings=settings(SETTINGS, max_examples=12, stateful_step_count=40),
    )
    verdict = check(population.history)
    assert verdict.counterexamples == []
    # Nothing overlapped; the checker is uncertain only about revocations of the sender's own session.
    assert verdict.either_way <= sum(verdict.revocations.values())
    assert {kind for kind in REVOCATIONS if not verdict.rejected[kind]} == set()


def test_no_request_is_accepted_after_a_revocation_under_concurrency(population: Population) -> None:
    act(population, 300, seed=1, stop=Event())
    verdict = check(population.history)
    assert [str(each) for each in verdict.counterexamples] == []
    assert verdict.accepted > 50
    assert sum(verdict.rejected.values()) > 50
    assert verdict.either_way > 5
    assert verdict.operations[Kind.READ_PRODUCT] > 20


def test_an_idle_client_makes_a_call_before_and_after_each_pause(population: Population) -> None:
    pauses = (0.3, 0.1)
    idle(population, population.services.products, pauses, Event())
    calls = [each for each in population.history if each.kind is Kind.CREATE_PRODUCT]
    assert [each.status for each in calls] == [201, 201, 201]
    for before, after, pause in zip(calls, calls[1:], pauses, strict=False):
        assert after.start - before.end >= pause


def test_a_cache_is_detected_and_the_report_contains_no_token(tmp_path: Path) -> None:
    options = ["--break", "cache", "--database", "sqlite", "--operations", "200"]
    ran = preloaded.run("tests.proof.prove", options, tmp_path, os.environ)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.splitlines()[-1].startswith("The fault was found: ")
    assert " was accepted after its session was revoked:\n" in ran.stdout
    assert "  <-- this one" in ran.stdout
    assert "eyJ" not in ran.stdout
