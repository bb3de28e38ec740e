"""The checker, on histories written by hand: it finds what is wrong, and nothing else."""

from typing import Any

import pytest

from tests.proof.histories import AS_ADMIN, REVOCATIONS, SUCCESS, Fault, Kind, Operation, Outage, check

ADMIN, ONE, OTHER = "0.1", "1.2", "1.3"
"""Sessions: the admin's, and two of account 1."""


def request(kind: Kind, start: float, end: float, status: int | None = 0, **fields: Any) -> Operation:
    """A request about account 1, with the token of session ONE; by default it succeeds."""
    defaults: dict[str, Any] = {"account": 1, "session": ONE, "status": SUCCESS[kind] if status == 0 else status}
    return Operation(kind, start=start, end=end, **{**defaults, **fields})


def login(session: str = ONE, start: float = 0.0, end: float = 1.0, password: int = 0) -> Operation:
    return request(Kind.LOG_IN, start, end, session=session, password=password, account=int(session[0]))


def call(start: float, end: float, status: int | None = 201, **fields: Any) -> Operation:
    return request(Kind.CREATE_PRODUCT, start, end, status, **fields)


def revocation(kind: Kind, start: float, end: float, status: int | None = 0, **fields: Any) -> Operation:
    """A revocation of session ONE."""
    sender = {Kind.LOG_OUT: ONE, Kind.REVOKE_TOKEN: None, **dict.fromkeys(AS_ADMIN, ADMIN)}.get(kind, OTHER)
    more: dict[str, Any] = {"password": 0} if kind is Kind.CHANGE_PASSWORD else {}
    if kind in (Kind.REVOKE_SESSION, Kind.REVOKE_TOKEN):
        more = {"target": ONE}
    return request(kind, start, end, status, **{"session": sender, **more, **fields})


def faults(*history: Operation, outage: Outage | None = None) -> list[tuple[Fault, Operation]]:
    """What is wrong with the history; the admin and the other session logged in long before."""
    logins = [login(ADMIN, -9, -8), login(OTHER, -9, -8)]
    outages = [outage] if outage else []
    found = check([*logins, *history], outages).counterexamples
    # The order of the list does not matter.
    assert check([*reversed(history), *logins], outages).counterexamples == found
    return [(each.fault, each.operation) for each in found]


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_request_that_starts_after_a_revocation_must_be_rejected(kind: Kind) -> None:
    before = [login(), call(2, 3), revocation(kind, 4, 5)]
    late = call(5.1, 6)
    assert faults(*before, late) == [(Fault.ACCEPTED, late)]
    assert faults(*before, call(5.1, 6, 401)) == []


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [201, 401])
def test_a_request_that_overlaps_with_a_revocation_may_go_either_way(kind: Kind, status: int) -> None:
    for start, end in ((3, 4.5), (4.2, 4.8), (4.5, 6), (3, 6)):
        assert faults(login(), revocation(kind, 4, 5), call(start, end, status)) == []


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_request_that_ends_before_any_revocation_must_not_be_rejected(kind: Kind) -> None:
    early = call(2, 3, 401)
    assert faults(login(), early, revocation(kind, 4, 5)) == [(Fault.REJECTED, early)]


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_revocation_does_not_concern_a_later_login(kind: Kind) -> None:
    if kind in (Kind.DELETE_ACCOUNT, Kind.DELETE_AS_ADMIN):
        return  # A deleted account has no later login.
    enabled = [request(Kind.ENABLE, 6, 7, session=ADMIN)] if kind is Kind.DISABLE else []
    new: dict[str, Any] = {"session": "1.4"}
    later = login("1.4", 8, 9, password=1)
    refused = call(10, 11, 401, **new)
    before = [login(), revocation(kind, 4, 5), *enabled, later]
    assert faults(*before, call(10, 11, **new)) == []
    assert faults(*before, refused) == [(Fault.REJECTED, refused)]


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [401, 404])
def test_a_rejected_revocation_has_no_effect(kind: Kind, status: int) -> None:
    if status == 404 and kind not in (Kind.REVOKE_SESSION, *AS_ADMIN):
        return
    refused = call(6, 7, 401)
    # The rejection itself may be a fault, if its token is valid; that is another matter.
    assert (Fault.REJECTED, refused) in faults(login(), revocation(kind, 4, 5, status), refused)
    assert Fault.ACCEPTED not in [fault for fault, _ in faults(login(), revocation(kind, 4, 5, status), call(6, 7))]


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [None, 503])
def test_a_failed_revocation_may_have_taken_effect(kind: Kind, status: int | None) -> None:
    failed = revocation(kind, 4, 5, status)
    for answer in (201, 401):
        assert faults(login(), failed, call(6, 7, answer)) == [(Fault.UNEXPECTED, failed)]


@pytest.mark.parametrize("kind", [Kind.LOG_OUT, Kind.REVOKE_SESSION, Kind.REVOKE_TOKEN, Kind.CHANGE_PASSWORD])
def test_other_sessions_of_the_account_stay_valid(kind: Kind) -> None:
    asks = revocation(kind, 4, 5)
    other: dict[str, Any] = {"session": OTHER}
    refused = call(6, 7, 401, **other)
    assert faults(login(), asks, call(6, 7, **other)) == []
    assert faults(login(), asks, refused) == [(Fault.REJECTED, refused)]


@pytest.mark.parametrize("kind", sorted({Kind.LOG_OUT_EVERYWHERE, Kind.DELETE_ACCOUNT, *AS_ADMIN} - {Kind.ENABLE}))
def test_sessions_of_other_accounts_stay_valid(kind: Kind) -> None:
    elsewhere: dict[str, Any] = {"account": 2, "session": "2.9"}
    refused = call(6, 7, 401, **elsewhere)
    before = [login(), request(Kind.LOG_IN, 0, 1, password=0, **elsewhere), revocation(kind, 4, 5)]
    assert faults(*before, call(6, 7, **elsewhere)) == []
    assert faults(*before, refused) == [(Fault.REJECTED, refused)]


def test_a_login_that_overlaps_with_a_logout_everywhere_may_be_revoked() -> None:
    before = [login(start=4.5, end=5.5), revocation(Kind.LOG_OUT_EVERYWHERE, 4, 5)]
    assert faults(*before, call(6, 7), call(8, 9)) == []
    assert faults(*before, call(6, 7), call(8, 9, 401), call(10, 11, 401)) == []
    revived = call(8, 9)
    assert faults(*before, call(6, 7, 401), revived) == [(Fault.ACCEPTED, revived)]
    assert faults(*before, call(6, 8.5, 401), revived) == []


def test_the_password_tells_whether_a_login_came_before_the_change() -> None:
    change = revocation(Kind.CHANGE_PASSWORD, 4, 5)
    late, refused = call(6, 7), call(6, 7, 401)
    assert faults(login(start=4.5, end=5.5), change, late) == [(Fault.ACCEPTED, late)]
    assert faults(login(start=4.5, end=5.5), change, refused) == []
    assert faults(login(start=4.5, end=5.5, password=1), change, late) == []


def test_enabling_an_account_restores_no_session() -> None:
    disabled, enabled = revocation(Kind.DISABLE, 4, 5), request(Kind.ENABLE, 8, 9, session=ADMIN)
    let_in = login(start=6, end=7)
    for attempt in (login(), login(start=4.5, end=5.5), let_in):
        impossible = [(Fault.LET_IN, let_in)] if attempt is let_in else []
        for late in (call(7.2, 7.8), call(10, 11)):
            assert faults(attempt, disabled, enabled, late) == [*impossible, (Fault.ACCEPTED, late)]
    # This login may have come after the account was enabled.
    assert faults(login(start=4.5, end=8.5), disabled, enabled, call(10, 11)) == []


def test_only_an_expired_token_may_be_rejected() -> None:
    refused = call(2, 3, 401, valid_until=4.0)
    assert faults(login(), call(2, 5, 401, valid_until=4.0)) == []
    assert faults(login(), refused) == [(Fault.REJECTED, refused)]


@pytest.mark.parametrize("kind", sorted({*Kind} - {Kind.REGISTER, Kind.LOG_IN, Kind.READ_PRODUCT, Kind.REVOKE_TOKEN}))
def test_every_kind_of_request_with_a_token_is_checked(kind: Kind) -> None:
    more: dict[str, Any] = {"target": OTHER} if kind is Kind.REVOKE_SESSION else {}
    if kind is Kind.CHANGE_PASSWORD:
        more = {"password": 0}
    late, early = request(kind, 6, 7, **more), request(kind, 2, 3, 401, **more)
    assert (Fault.ACCEPTED, late) in faults(login(), revocation(Kind.LOG_OUT, 4, 5), late)
    assert faults(login(), early) == [(Fault.REJECTED, early)]


@pytest.mark.parametrize("status", [None, 400, 409, 429, 500, 503])
def test_an_unexpected_response_is_a_fault_before_and_after_a_revocation(status: int | None) -> None:
    for moment in (2, 6):
        odd = call(moment, moment + 1, status)
        assert faults(login(), revocation(Kind.LOG_OUT, 4, 5), odd) == [(Fault.UNEXPECTED, odd)]
    odd = request(Kind.REGISTER, 2, 3, status or 401, session=None)
    assert faults(odd) == [(Fault.UNEXPECTED, odd)]


FORBIDDING = [Kind.DELETE_ACCOUNT, Kind.DELETE_AS_ADMIN, Kind.DISABLE, Kind.CHANGE_PASSWORD]


def attempt(start: float, end: float, status: int = 401, password: int = 0) -> Operation:
    """A login that is rejected, by default."""
    return request(Kind.LOG_IN, start, end, status, session="1.9", password=password)


@pytest.mark.parametrize("kind", FORBIDDING)
def test_no_login_is_accepted_after_the_account_or_its_password_became_invalid(kind: Kind) -> None:
    forbidding, late = revocation(kind, 4, 5), attempt(6, 7, 200)
    assert faults(forbidding, late) == [(Fault.LET_IN, late)]
    assert faults(forbidding, attempt(6, 7)) == []
    for status in (200, 401):
        for start, end in ((3, 4.5), (4.2, 4.8), (4.5, 6), (3, 6)):
            assert faults(forbidding, attempt(start, end, status)) == []
    refused = revocation(kind, 4, 5, 401, valid_until=0)
    assert faults(refused, late) == []


@pytest.mark.parametrize("password", [0, 1])
def test_no_login_is_rejected_without_a_reason(password: int) -> None:
    refused = attempt(6, 7, password=password)
    change = [revocation(Kind.CHANGE_PASSWORD, 4, 5)] if password else []
    assert faults(*change, refused) == [(Fault.KEPT_OUT, refused)]
    assert faults(*change, refused, revocation(Kind.LOG_OUT_EVERYWHERE, 5.5, 5.7)) == [(Fault.KEPT_OUT, refused)]
    for kind in FORBIDDING:
        forbidding = revocation(kind, 6.5, 8, **({"password": password} if kind is Kind.CHANGE_PASSWORD else {}))
        assert faults(*change, refused, forbidding) == []


def test_a_login_with_a_password_that_may_not_be_set_yet_may_be_rejected() -> None:
    assert faults(attempt(6, 7, password=1)) == []
    assert faults(revocation(Kind.CHANGE_PASSWORD, 4, 6.5), attempt(6, 7, password=1)) == []


def test_an_enabled_account_allows_logins() -> None:
    disabled, enabled = revocation(Kind.DISABLE, 2, 3), request(Kind.ENABLE, 4, 5, session=ADMIN)
    refused = attempt(6, 7)
    assert faults(disabled, enabled, refused) == [(Fault.KEPT_OUT, refused)]
    assert faults(disabled, enabled, attempt(6, 7, 200)) == []
    again = revocation(Kind.DISABLE, 4.5, 5.5)
    for status in (200, 401):
        assert faults(disabled, enabled, attempt(4.5, 7, status)) == []
        assert faults(disabled, enabled, again, attempt(6, 7, status)) == []


OUTAGE = Outage(10, 20)


@pytest.mark.parametrize("kind", FORBIDDING)
def test_a_failed_change_of_the_account_allows_either_result_of_a_login(kind: Kind) -> None:
    for status in (200, 401):
        assert faults(revocation(kind, 12, 13, 503), attempt(30, 31, status), outage=OUTAGE) == []


def test_a_failed_disabling_may_take_effect_after_the_account_is_enabled() -> None:
    failed, enabled = revocation(Kind.DISABLE, 12, 13, 503), request(Kind.ENABLE, 14, 15, session=ADMIN)
    assert faults(failed, enabled, attempt(16, 17), outage=OUTAGE) == []


def test_a_lost_product_is_a_fault() -> None:
    lost = request(Kind.READ_PRODUCT, 30, 31, 404, session=None)
    assert faults(lost, outage=OUTAGE) == [(Fault.UNEXPECTED, lost)]
    assert faults(request(Kind.READ_PRODUCT, 30, 31, session=None), outage=OUTAGE) == []


@pytest.mark.parametrize("status", [None, 503])
def test_an_outage_does_not_explain_a_request_that_outlasts_the_timeout_of_clients(status: int | None) -> None:
    outlasting = call(19.9, 50.1, status)
    assert faults(login(), call(19.9, 49.9, status), outage=OUTAGE) == []
    assert faults(login(), outlasting, outage=OUTAGE) == [(Fault.UNEXPECTED, outlasting)]


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_failed_revocation_without_effect_by_the_end_of_the_outage_has_none_later(kind: Kind) -> None:
    failed, refused = revocation(kind, 12, 13, None), call(30, 31, 401)
    assert faults(login(), failed, call(21, 22), refused, outage=OUTAGE) == [(Fault.REJECTED, refused)]
    # These accepted requests don't show it: the revocation may have taken effect after them.
    assert faults(login(), failed, call(19, 22), refused, outage=OUTAGE) == []
    overlapping = revocation(kind, 19, 25, None)
    assert faults(login(), overlapping, call(21, 22), refused, outage=OUTAGE) == []


@pytest.mark.parametrize("status", [None, 503])
def test_an_outage_explains_a_503_and_a_missing_response_of_requests_that_overlap_with_it(status: int | None) -> None:
    for start, end in ((12, 13), (9, 11), (19, 21), (9, 21)):
        protected, register = call(start, end, status), request(Kind.REGISTER, start, end, status, session=None)
        assert faults(login(), protected, register, outage=OUTAGE) == []
        assert check([login(), protected, register], [OUTAGE]).unavailable == 2


@pytest.mark.parametrize("status", [None, 503])
def test_a_503_or_a_missing_response_outside_an_outage_is_a_fault(status: int | None) -> None:
    for start in (8, 21):
        protected = call(start, start + 1, status)
        register = request(Kind.REGISTER, start, start + 1, status, session=None)
        assert faults(login(), protected, outage=OUTAGE) == [(Fault.UNEXPECTED, protected)]
        assert faults(register, outage=OUTAGE) == [(Fault.UNEXPECTED, register)]


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 502, 504])
def test_an_outage_explains_no_other_response(status: int) -> None:
    odd = call(12, 13, status)
    assert faults(login(), odd, outage=OUTAGE) == [(Fault.UNEXPECTED, odd)]


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_an_outage_excuses_no_wrong_outcome(kind: Kind) -> None:
    for start in (6, 12, 21):
        late = call(start, start + 1)
        assert faults(login(), revocation(kind, 4, 5), late, outage=OUTAGE) == [(Fault.ACCEPTED, late)]
        early = call(start, start + 1, 401)
        assert faults(login(), early, revocation(kind, 24, 25), outage=OUTAGE) == [(Fault.REJECTED, early)]
    during = revocation(kind, 12, 13)
    late = call(14, 15)
    assert faults(login(), during, late, outage=OUTAGE) == [(Fault.ACCEPTED, late)]


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("status", [None, 503])
def test_a_revocation_that_fails_in_an_outage_may_have_taken_effect(kind: Kind, status: int | None) -> None:
    failed = revocation(kind, 12, 13, status)
    for answer in (201, 401):
        assert faults(login(), failed, call(14, 15, answer), outage=OUTAGE) == []
    revived = call(16, 17)
    assert faults(login(), failed, call(14, 15, 401), revived, outage=OUTAGE) == [(Fault.ACCEPTED, revived)]


def test_the_verdict_counts_everything() -> None:
    late = [call(6, 7, 401), request(Kind.REFRESH, 8, 9, 401)]
    history = [login(), call(2, 3), call(3.9, 4.2), revocation(Kind.LOG_OUT, 4, 5), *late, call(9, 10, 503)]
    verdict = check(history)
    assert (sum(verdict.operations.values()), verdict.protected) == (7, 6)
    # The logout itself was sent with the token that it revoked.
    assert (verdict.accepted, verdict.either_way, dict(verdict.rejected)) == (1, 2, {Kind.LOG_OUT: 2})
    assert dict(verdict.revocations) == {Kind.LOG_OUT: 1}
    assert (verdict.count(Fault.UNEXPECTED, 503), verdict.count(Fault.UNEXPECTED, 500)) == (1, 0)
    assert (verdict.count(Fault.UNEXPECTED), verdict.count(Fault.ACCEPTED)) == (1, 0)


def test_a_counterexample_shows_the_last_accepted_request() -> None:
    filled, logout = call(2, 3), revocation(Kind.LOG_OUT, 4, 5)
    (found,) = check([login(), call(1, 2), filled, logout, call(6, 7)]).counterexamples
    assert list(found.before) == [login(), filled, logout]


def test_an_unexpected_response_is_shown_with_the_request_before_it() -> None:
    before = call(2, 3)
    (found,) = check([login(), before, call(80, 81, 503)]).counterexamples
    assert list(found.before) == [before]


def test_a_counterexample_is_printed_in_chronological_order() -> None:
    disabled, enabled = revocation(Kind.DISABLE, 4, 5), request(Kind.ENABLE, 5.5, 6, session=ADMIN)
    history = [login(ADMIN, -9, -8), login(), call(1, 2), call(3, 4.5), disabled, enabled]
    (found,) = check([*history, call(7, 7.25), call(7.5, 8, 401)]).counterexamples
    assert str(found) == (
        "A request to create a product was accepted after its session was revoked:\n"
        "       start         end ms  status  request\n"
        "       0.000    1000.000        200  log in, account 1, creates session 1.2\n"
        "    3000.000    4500.000        201  create a product, account 1, with the token of session 1.2\n"
        "    4000.000    5000.000        200  disable the account, account 1, with the token of session 0.1\n"
        "    5500.000    6000.000        200  enable the account, account 1, with the token of session 0.1\n"
        "    7000.000    7250.000        201  create a product, account 1, with the token of session 1.2  <-- this one"
    )
