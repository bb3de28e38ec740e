"""Histories of requests, and the checker that finds what is wrong with a history; it sends no requests itself.

All times of a history come from one clock. A request took effect at an unknown moment between its start and its end. Of
two overlapping requests, either may have been first; otherwise the earlier one was. These rules hold whatever the order
of overlapping requests was:

- A request that started after the end of a revocation of its session must be rejected with 401.
- A request that started after such a rejection must be rejected too: a revoked session stays revoked.
- A request that ended before the start of any revocation of its session, with a token that has not expired, must not be
  rejected.
- A login that started after its account was deleted or disabled, or after its password was replaced, must be rejected,
  unless the account may have been enabled since.
- A login that started after its password was set must be accepted, unless one of these changes may have taken effect.
- Every response must be one that occurs in normal operation: neither a 503 nor a missing response.

All logins of a history start after the registration of the account has succeeded.

An outage, such as the failover of a database, explains the 503s and the missing responses of requests that overlap with
it and end before its end plus TIMEOUT, and nothing else. Those of a revocation leave its outcome unknown: it may have
taken effect or not. If a later request that starts after the outage is accepted, the revocation took no effect.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

TIMEOUT = 30.0
"""Seconds that a client waits for a response."""


class Kind(StrEnum):
    """The operation that a request asks for."""

    REGISTER = "register"
    LOG_IN = "log in"
    REFRESH = "refresh"
    CREATE_PRODUCT = "create a product"
    CHANGE_PRODUCT = "change a product"
    CHANGE_STOCK = "change the stock"
    READ_PRODUCT = "read a product"
    READ_ACCOUNT = "read the account"
    LIST_SESSIONS = "list the sessions"
    LOG_OUT = "log out"
    LOG_OUT_EVERYWHERE = "log out everywhere"
    REVOKE_SESSION = "revoke a session"
    REVOKE_TOKEN = "revoke a token"
    REVOKE_AS_ADMIN = "revoke all as an admin"
    CHANGE_PASSWORD = "change the password"
    DELETE_ACCOUNT = "delete the account"
    DELETE_AS_ADMIN = "delete as an admin"
    DISABLE = "disable the account"
    ENABLE = "enable the account"


REVOCATIONS = (
    *(Kind.LOG_OUT, Kind.LOG_OUT_EVERYWHERE, Kind.REVOKE_SESSION, Kind.REVOKE_TOKEN, Kind.REVOKE_AS_ADMIN),
    *(Kind.CHANGE_PASSWORD, Kind.DISABLE, Kind.DELETE_ACCOUNT, Kind.DELETE_AS_ADMIN),
)
AS_ADMIN = (Kind.DISABLE, Kind.ENABLE, Kind.REVOKE_AS_ADMIN, Kind.DELETE_AS_ADMIN)
"""The operations that the admin asks for, with a token that is never revoked."""
SUCCESS = {
    **dict.fromkeys(Kind, 200),
    **dict.fromkeys((Kind.REGISTER, Kind.CREATE_PRODUCT), 201),
    **dict.fromkeys(set(REVOCATIONS) - {Kind.DISABLE, Kind.REVOKE_TOKEN}, 204),
}
_REJECTIONS = {
    Kind.REGISTER: set[int](),
    Kind.READ_PRODUCT: set[int](),  # It is public, and no product of a history is deleted.
    Kind.REVOKE_SESSION: {401, 404},  # 404: the other session was already revoked.
    Kind.CHANGE_PASSWORD: {401, 403},  # 403: another session has changed the password.
    Kind.DELETE_ACCOUNT: {401, 403},
    Kind.REVOKE_TOKEN: set[int](),  # RFC 7009: an invalid token is a success.
    **{kind: {401, 404} for kind in AS_ADMIN},  # 404: the account was deleted.
}


@dataclass(frozen=True)
class Operation:
    """A request, with everything that the checker needs."""

    kind: Kind
    account: int
    """The account concerned, by its number in the history."""
    start: float
    """In seconds, taken before the first byte was sent."""
    end: float
    """In seconds, taken after the last byte of the response was read."""
    status: int | None
    """None without a response."""
    session: str | None = None
    """The session whose access or refresh token was sent; for a login, the session that it created."""
    target: str | None = None
    """For REVOKE_SESSION and REVOKE_TOKEN, the session to be revoked."""
    password: int | None = None
    """For LOG_IN, the number of the password sent; for CHANGE_PASSWORD, of the one replaced. The first is 0."""
    valid_until: float = math.inf
    """When the token expires, or slightly before."""

    @property
    def succeeded(self) -> bool:
        return self.status == SUCCESS[self.kind]

    @property
    def is_expected(self) -> bool:
        """Whether this status occurs in normal operation."""
        return self.succeeded or self.status in _REJECTIONS.get(self.kind, {401})

    @property
    def may_have_succeeded(self) -> bool:
        """Whether the request may have taken effect: after a 5xx, or without a response, it is unknown."""
        return self.succeeded or self.status is None or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def is_protected(self) -> bool:
        """Whether it was sent with the token of a session, and has to be rejected once the session is revoked."""
        return self.session is not None and self.kind is not Kind.LOG_IN

    @property
    def is_unavailable(self) -> bool:
        """Whether it got no response, or one that says that the service can't respond now."""
        return self.status in (None, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True)
class Outage:
    """A period in which requests may get a 503, or no response; both times in seconds, by the clock of the history."""

    start: float
    end: float

    def explains(self, operation: Operation) -> bool:
        overlaps = operation.start < self.end and self.start < operation.end
        return operation.is_unavailable and overlaps and operation.end < self.end + TIMEOUT


class Fault(StrEnum):
    """What is wrong with an operation."""

    ACCEPTED = "was accepted after its session was revoked"
    REJECTED = "was rejected although its session was not revoked"
    LET_IN = "was accepted although the account or its password was not valid"
    KEPT_OUT = "was rejected although the account and its password were valid"
    UNEXPECTED = "got a response that does not occur in normal operation"


@dataclass(frozen=True)
class Counterexample:
    """An operation with an impossible response, and the earlier ones that show why, ordered by start."""

    fault: Fault
    operation: Operation
    before: Sequence[Operation] = ()

    def __str__(self) -> str:
        """Readable lines, with times in milliseconds since the first operation, and without tokens."""
        story = [*self.before, self.operation]
        lines = [
            f"A request to {self.operation.kind} {self.fault}:",
            f"{'start':>12}{'end':>12} ms  status  request",
        ]
        for each in story:
            times = "".join(f"{(time - story[0].start) * 1e3:12.3f}" for time in (each.start, each.end))
            mark = "  <-- this one" if each is self.operation else ""
            lines.append(f"{times}     {each.status or 'none':>6}  {_described(each)}{mark}")
        return "\n".join(lines)


@dataclass
class Verdict:
    """The result of checking a history."""

    counterexamples: list[Counterexample] = field(default_factory=list)
    operations: Counter[Kind] = field(default_factory=Counter)
    protected: int = 0
    revocations: Counter[Kind] = field(default_factory=Counter)
    """Revocations that succeeded."""
    accepted: int = 0
    """Protected requests that had to be accepted, and were."""
    rejected: Counter[Kind] = field(default_factory=Counter)
    """Protected requests that had to be rejected, and were, by the kind of the first revocation."""
    either_way: int = 0
    """Protected requests that overlapped with a revocation of their session."""
    unavailable: int = 0
    """Requests without a response, or with a 503, that an outage explains."""

    def count(self, fault: Fault, *statuses: int | None) -> int:
        """The number of counterexamples with this fault, and with one of the statuses, if given."""
        found = [each.operation.status for each in self.counterexamples if each.fault is fault]
        return sum(not statuses or status in statuses for status in found)


def check(history: Iterable[Operation], outages: Sequence[Outage] = ()) -> Verdict:
    """Check every operation of a history, which may be in any order."""
    operations = sorted(history, key=lambda each: each.start)
    verdict = Verdict()
    attempts: list[Operation] = []
    logins: dict[str | None, Operation] = {}
    sessions: defaultdict[str | None, list[Operation]] = defaultdict(list)
    changes: defaultdict[int, list[Operation]] = defaultdict(list)
    """What may have revoked sessions of an account, and what enabled it again."""
    settled = max((outage.end for outage in outages), default=math.inf)
    for each in operations:
        verdict.operations[each.kind] += 1
        if each.kind is Kind.LOG_IN and each.succeeded:
            logins[each.session] = each
        if each.kind in REVOCATIONS:
            verdict.revocations[each.kind] += each.succeeded
        if each.kind in (*REVOCATIONS, Kind.ENABLE) and each.may_have_succeeded:
            changes[each.account].append(each)
        if any(outage.explains(each) for outage in outages):
            verdict.unavailable += 1
        elif each.is_protected:
            sessions[each.session].append(each)
        elif not each.is_expected:
            verdict.counterexamples.append(Counterexample(Fault.UNEXPECTED, each))
        elif each.kind is Kind.LOG_IN:
            attempts.append(each)
    for each in attempts:
        _check_login(each, changes[each.account], verdict)
    for session, protected in sessions.items():
        if session not in logins:
            raise ValueError(f"the history lacks the login of session {session}")
        _check_session(logins[session], protected, changes[logins[session].account], settled, verdict)
    verdict.counterexamples.sort(key=lambda each: each.operation.start)
    return verdict


def _check_login(login: Operation, changes: Sequence[Operation], verdict: Verdict) -> None:
    """Check a login that was accepted or rejected."""
    earlier = [each for each in changes if each.succeeded and each.end < login.start]
    if login.succeeded:
        reasons = [each for each in earlier if _forbids(each, login, changes)]
        if reasons:
            verdict.counterexamples.append(Counterexample(Fault.LET_IN, login, reasons[-1:]))
        return
    enabled = max((each.start for each in earlier if each.kind is Kind.ENABLE), default=-math.inf)
    passwords = {0, *(_password(each) + 1 for each in earlier if each.kind is Kind.CHANGE_PASSWORD)}
    reasons = [
        each
        for each in changes
        if each.start < login.end
        and _forbids(each, login)
        and not (each.kind is Kind.DISABLE and each.succeeded and each.end < enabled)
    ]
    if not reasons and _password(login) in passwords:
        verdict.counterexamples.append(Counterexample(Fault.KEPT_OUT, login, earlier[-1:]))


def _check_session(
    login: Operation, protected: Sequence[Operation], changes: Sequence[Operation], settled: float, verdict: Verdict
) -> None:
    """Check all requests with a token of one session, ordered by start.

    :param settled: the end of the last outage, when every revocation with an unknown outcome has taken effect or failed
    """
    revocations = [each for each in changes if each.kind in REVOCATIONS and _concerns(login, each)]
    certain = [each for each in revocations if each.succeeded and _was_before(login, each, changes)]
    revoked = min(certain, key=lambda each: each.end, default=None)
    possible = [each for each in revocations if login.start < each.end]
    proof = revoked
    """The session was revoked by the end of this operation."""
    accepted: list[Operation] = []
    for previous, each in zip([login, *protected], protected, strict=False):
        verdict.protected += 1
        if not each.is_expected:
            verdict.counterexamples.append(Counterexample(Fault.UNEXPECTED, each, [previous]))
            continue
        is_rejected = each.status == HTTPStatus.UNAUTHORIZED
        if proof is not None and proof.end < each.start:
            if not is_rejected:
                before = {login, *accepted[-1:], proof, *(c for c in changes if _enabled_between(proof, c, each))}
                story = sorted(before, key=lambda each: each.start)
                verdict.counterexamples.append(Counterexample(Fault.ACCEPTED, each, story))
            elif revoked is not None and revoked.end < each.start:
                verdict.rejected[revoked.kind] += 1
            else:
                verdict.either_way += 1
            continue
        if any(revocation.start < each.end for revocation in possible):
            verdict.either_way += 1
            if is_rejected and (proof is None or each.end < proof.end):
                proof = each
        elif not is_rejected:
            verdict.accepted += 1
        elif each.end < each.valid_until:
            verdict.counterexamples.append(Counterexample(Fault.REJECTED, each, [login, *accepted[-1:]]))
        if not is_rejected and each.kind not in REVOCATIONS:
            accepted.append(each)
            if each.start > settled:
                possible = [other for other in possible if other.succeeded or other.end > each.start]


def _concerns(login: Operation, revocation: Operation) -> bool:
    """Whether the revocation revokes the session of this login, if the login came first."""
    match revocation.kind:
        case Kind.LOG_OUT:
            return revocation.session == login.session
        case Kind.REVOKE_SESSION | Kind.REVOKE_TOKEN:
            return revocation.target == login.session
        case Kind.CHANGE_PASSWORD:
            return revocation.session != login.session  # The session that changes the password stays valid.
        case _:
            return True


def _was_before(login: Operation, revocation: Operation, changes: Sequence[Operation]) -> bool:
    """Whether the login certainly came before the revocation, by the times or by other facts."""
    # Only an existing session can be revoked.
    needs_session = revocation.kind in (Kind.LOG_OUT, Kind.REVOKE_SESSION, Kind.REVOKE_TOKEN)
    return login.end < revocation.start or needs_session or _forbids(revocation, login, changes)


def _forbids(change: Operation, login: Operation, changes: Sequence[Operation] = ()) -> bool:
    """Whether a login like this one is rejected from the change on, if none of `changes` has enabled the account."""
    match change.kind:
        case Kind.DELETE_ACCOUNT | Kind.DELETE_AS_ADMIN:
            return True
        case Kind.CHANGE_PASSWORD:
            return _password(login) <= _password(change)
        case Kind.DISABLE:
            return not any(_enabled_between(change, each, login) for each in changes)
        case _:
            return False


def _password(operation: Operation) -> int:
    if operation.password is None:
        raise ValueError(f"the history lacks the number of the password: {operation}")
    return operation.password


def _enabled_between(revoked: Operation, change: Operation, operation: Operation) -> bool:
    return change.kind is Kind.ENABLE and revoked.start < change.end and change.start < operation.end


def _described(operation: Operation) -> str:
    words = f"{operation.kind}, account {operation.account}"
    if operation.target is not None:
        words += f", session {operation.target}"
    if operation.session is not None:
        words += f", {'creates' if operation.kind is Kind.LOG_IN else 'with the token of'} session {operation.session}"
    return words
