"""The checker alone, on histories written by hand: what is wrong is found, and nothing else is."""

from typing import Any

import pytest

from tests.proof.histories import REVOCATIONS, SUCCESS, Fault, Kind, Operation, check

ADMIN, ONE, OTHER = "0.1", "1.2", "1.3"
"""Sessions: the admin's, and two of account 1."""


def asked(kind: Kind, start: float, end: float, status: int | None = 0, **fields: Any) -> Operation:
    """A request about account 1, with the token of session ONE; it succeeds if nothing else is said."""
    known: dict[str, Any] = {"account": 1, "session": ONE, "status": SUCCESS[kind] if status == 0 else status}
    return Operation(kind, start=start, end=end, **{**known, **fields})


def logged_in(session: str = ONE, start: float = 0.0, end: float = 1.0, password: int = 0) -> Operation:
    return asked(Kind.LOG_IN, start, end, session=session, password=password, account=int(session[0]))


def called(start: float, end: float, status: int | None = 201, **fields: Any) -> Operation:
    return asked(Kind.CREATE_PRODUCT, start, end, status, **fields)


def revoked(kind: Kind, start: float, end: float, status: int | None = 0, **fields: Any) -> Operation:
    """A revocation that ends session ONE."""
    by = {Kind.LOG_OUT: ONE, Kind.DISABLE: ADMIN}.get(kind, OTHER)
    more: dict[str, Any] = {"password": 0} if kind is Kind.CHANGE_PASSWORD else {}
    if kind is Kind.END_SESSION:
        more = {"target": ONE}
    return asked(kind, start, end, status, **{"session": by, **more, **fields})


def faults(*history: Operation) -> list[tuple[Fault, Operation]]:
    """What is wrong with it; the admin and the other session have logged in long before."""
    logins = [logged_in(ADMIN, -9, -8), logged_in(OTHER, -9, -8)]
    found = check([*logins, *history]).counterexamples
    # In another order it is the same history.
    assert check([*reversed(history), *logins]).counterexamples == found
    return [(each.fault, each.operation) for each in found]


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_request_that_starts_after_a_revocation_has_to_be_refused(kind: Kind) -> None:
    before = [logged_in(), called(2, 3), revoked(kind, 4, 5)]
    late = called(5.1, 6)
    assert faults(*before, late) == [(Fault.LET_IN, late)]
    assert faults(*before, called(5.1, 6, 401)) == []


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [201, 401])
def test_a_request_that_overlaps_with_a_revocation_may_go_either_way(kind: Kind, status: int) -> None:
    for start, end in ((3, 4.5), (4.2, 4.8), (4.5, 6), (3, 6)):
        assert faults(logged_in(), revoked(kind, 4, 5), called(start, end, status)) == []


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_request_that_ends_before_any_revocation_must_not_be_refused(kind: Kind) -> None:
    early = called(2, 3, 401)
    assert faults(logged_in(), early, revoked(kind, 4, 5)) == [(Fault.REFUSED, early)]


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_login_after_a_revocation_opens_a_session_that_it_does_not_concern(kind: Kind) -> None:
    if kind is Kind.DELETE_ACCOUNT:
        return  # There is nobody left to log in.
    enabled = [asked(Kind.ENABLE, 6, 7, session=ADMIN)] if kind is Kind.DISABLE else []
    new: dict[str, Any] = {"session": "1.4"}
    login = logged_in("1.4", 8, 9, password=1)
    refused = called(10, 11, 401, **new)
    before = [logged_in(), revoked(kind, 4, 5), *enabled, login]
    assert faults(*before, called(10, 11, **new)) == []
    assert faults(*before, refused) == [(Fault.REFUSED, refused)]


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [401, 404])
def test_a_revocation_that_was_refused_has_no_effect(kind: Kind, status: int) -> None:
    if status == 404 and kind not in (Kind.END_SESSION, Kind.DISABLE):
        return
    refused = called(6, 7, 401)
    # It may itself be one too many, if its token is good; that is another matter.
    assert (Fault.REFUSED, refused) in faults(logged_in(), revoked(kind, 4, 5, status), refused)
    assert Fault.LET_IN not in [fault for fault, _ in faults(logged_in(), revoked(kind, 4, 5, status), called(6, 7))]


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [None, 503])
def test_a_revocation_without_a_verdict_may_have_had_its_effect(kind: Kind, status: int | None) -> None:
    failed = revoked(kind, 4, 5, status)
    for answer in (201, 401):
        assert faults(logged_in(), failed, called(6, 7, answer)) == [(Fault.UNEXPECTED, failed)]


@pytest.mark.parametrize("kind", [Kind.LOG_OUT, Kind.END_SESSION, Kind.CHANGE_PASSWORD])
def test_what_ends_some_sessions_leaves_the_others(kind: Kind) -> None:
    asks = revoked(kind, 4, 5)
    other: dict[str, Any] = {"session": OTHER}
    refused = called(6, 7, 401, **other)
    assert faults(logged_in(), asks, called(6, 7, **other)) == []
    assert faults(logged_in(), asks, refused) == [(Fault.REFUSED, refused)]


@pytest.mark.parametrize("kind", [Kind.LOG_OUT_EVERYWHERE, Kind.DISABLE, Kind.DELETE_ACCOUNT])
def test_what_ends_all_sessions_of_an_account_leaves_those_of_others(kind: Kind) -> None:
    elsewhere: dict[str, Any] = {"account": 2, "session": "2.9"}
    refused = called(6, 7, 401, **elsewhere)
    before = [logged_in(), asked(Kind.LOG_IN, 0, 1, password=0, **elsewhere), revoked(kind, 4, 5)]
    assert faults(*before, called(6, 7, **elsewhere)) == []
    assert faults(*before, refused) == [(Fault.REFUSED, refused)]


def test_whether_a_login_that_overlaps_with_a_logout_everywhere_is_concerned_is_open_until_it_is_refused() -> None:
    before = [logged_in(start=4.5, end=5.5), revoked(Kind.LOG_OUT_EVERYWHERE, 4, 5)]
    assert faults(*before, called(6, 7), called(8, 9)) == []
    assert faults(*before, called(6, 7), called(8, 9, 401), called(10, 11, 401)) == []
    revived = called(8, 9)
    assert faults(*before, called(6, 7, 401), revived) == [(Fault.LET_IN, revived)]
    assert faults(*before, called(6, 8.5, 401), revived) == []


def test_a_login_with_the_replaced_password_was_before_the_change_and_one_with_the_new_one_after_it() -> None:
    change = revoked(Kind.CHANGE_PASSWORD, 4, 5)
    late, refused = called(6, 7), called(6, 7, 401)
    assert faults(logged_in(start=4.5, end=5.5), change, late) == [(Fault.LET_IN, late)]
    assert faults(logged_in(start=4.5, end=5.5), change, refused) == []
    assert faults(logged_in(start=4.5, end=5.5, password=1), change, late) == []


def test_a_login_while_the_account_is_disabled_opens_nothing_and_enabling_brings_nothing_back() -> None:
    disabled, enabled = revoked(Kind.DISABLE, 4, 5), asked(Kind.ENABLE, 8, 9, session=ADMIN)
    for login in (logged_in(), logged_in(start=4.5, end=5.5), logged_in(start=6, end=7)):
        for late in (called(7.2, 7.8), called(10, 11)):
            assert faults(login, disabled, enabled, late) == [(Fault.LET_IN, late)]
    # This one may have been after the account was enabled.
    assert faults(logged_in(start=4.5, end=8.5), disabled, enabled, called(10, 11)) == []


def test_a_token_that_has_expired_may_be_refused_and_one_that_has_not_may_not() -> None:
    refused = called(2, 3, 401, good_until=4.0)
    assert faults(logged_in(), called(2, 5, 401, good_until=4.0)) == []
    assert faults(logged_in(), refused) == [(Fault.REFUSED, refused)]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.REGISTER, Kind.LOG_IN)])
def test_every_request_with_a_token_is_looked_at_refreshes_and_revocations_too(kind: Kind) -> None:
    more: dict[str, Any] = {"target": OTHER} if kind is Kind.END_SESSION else {}
    if kind is Kind.CHANGE_PASSWORD:
        more = {"password": 0}
    late, early = asked(kind, 6, 7, **more), asked(kind, 2, 3, 401, **more)
    assert (Fault.LET_IN, late) in faults(logged_in(), revoked(Kind.LOG_OUT, 4, 5), late)
    assert faults(logged_in(), early) == [(Fault.REFUSED, early)]


@pytest.mark.parametrize("status", [None, 400, 409, 429, 500, 503])
def test_an_answer_that_nothing_explains_is_found_whatever_was_revoked(status: int | None) -> None:
    for moment in (2, 6):
        odd = called(moment, moment + 1, status)
        assert faults(logged_in(), revoked(Kind.LOG_OUT, 4, 5), odd) == [(Fault.UNEXPECTED, odd)]
    odd = asked(Kind.REGISTER, 2, 3, status or 401, session=None)
    assert faults(odd) == [(Fault.UNEXPECTED, odd)]


def test_everything_is_counted() -> None:
    late = [called(6, 7, 401), asked(Kind.REFRESH, 8, 9, 401)]
    history = [logged_in(), called(2, 3), called(3.9, 4.2), revoked(Kind.LOG_OUT, 4, 5), *late, called(9, 10, 503)]
    verdict = check(history)
    assert (sum(verdict.operations.values()), verdict.protected) == (7, 6)
    # The logout itself was sent with a token that it ended.
    assert (verdict.let_in, verdict.either_way, dict(verdict.refused)) == (1, 2, {Kind.LOG_OUT: 2})
    assert dict(verdict.revocations) == {Kind.LOG_OUT: 1}
    assert (verdict.count(Fault.UNEXPECTED, 503), verdict.count(Fault.UNEXPECTED, 500)) == (1, 0)
    assert (verdict.count(Fault.UNEXPECTED), verdict.count(Fault.LET_IN)) == (1, 0)


def test_a_counterexample_shows_what_was_let_in_last_before_the_session_ended_itself() -> None:
    filled, logout = called(2, 3), revoked(Kind.LOG_OUT, 4, 5)
    (found,) = check([logged_in(), called(1, 2), filled, logout, called(6, 7)]).counterexamples
    assert list(found.before) == [logged_in(), filled, logout]


def test_an_answer_that_nothing_explains_shows_how_long_the_session_had_rested() -> None:
    before = called(2, 3)
    (found,) = check([logged_in(), before, called(80, 81, 503)]).counterexamples
    assert list(found.before) == [before]


def test_a_counterexample_tells_its_story_in_the_order_of_time() -> None:
    disabled, enabled = revoked(Kind.DISABLE, 4, 5), asked(Kind.ENABLE, 5.5, 6, session=ADMIN)
    history = [logged_in(ADMIN, -9, -8), logged_in(), called(1, 2), called(3, 4.5), disabled, enabled]
    (found,) = check([*history, called(7, 7.25), called(7.5, 8, 401)]).counterexamples
    assert str(found) == (
        "A request to create a product was let in after its session had been ended:\n"
        "       start         end ms  status  request\n"
        "       0.000    1000.000        200  log in, account 1, opens session 1.2\n"
        "    3000.000    4500.000        201  create a product, account 1, with the token of session 1.2\n"
        "    4000.000    5000.000        200  disable the account, account 1, with the token of session 0.1\n"
        "    5500.000    6000.000        200  enable the account, account 1, with the token of session 0.1\n"
        "    7000.000    7250.000        201  create a product, account 1, with the token of session 1.2  <-- this one"
    )
