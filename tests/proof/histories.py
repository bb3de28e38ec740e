"""Histories of requests, and what is wrong with a history: the oracle of the proof, which sends nothing itself.

All moments of a history are of one clock. A request took effect at some moment between its start and its end, nobody
knows when. Of two that overlap either may have been first; of two that do not, the earlier one was. What is demanded
here holds whatever the order of those that overlap was:

- a request that started after the end of a revocation of its session is refused with 401;
- neither is any other one that started after such a refusal: a session that is over stays so;
- a request that ended before the start of any revocation of its session, with a token that had not expired, is not;
- every answer is one that its kind of request has in normal running: a 503 is not, nor is no answer at all.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus


class Kind(StrEnum):
    """What a request asks for."""

    REGISTER = "register"
    LOG_IN = "log in"
    REFRESH = "refresh"
    CREATE_PRODUCT = "create a product"
    CHANGE_PRODUCT = "change a product"
    CHANGE_STOCK = "change the stock"
    READ_ACCOUNT = "read the account"
    LIST_SESSIONS = "list the sessions"
    LOG_OUT = "log out"
    LOG_OUT_EVERYWHERE = "log out everywhere"
    END_SESSION = "end a session"
    CHANGE_PASSWORD = "change the password"
    DELETE_ACCOUNT = "delete the account"
    DISABLE = "disable the account"
    ENABLE = "enable the account"


REVOCATIONS = (
    *(Kind.LOG_OUT, Kind.LOG_OUT_EVERYWHERE, Kind.END_SESSION),
    *(Kind.CHANGE_PASSWORD, Kind.DISABLE, Kind.DELETE_ACCOUNT),
)
SUCCESS = {
    **dict.fromkeys(Kind, 200),
    **dict.fromkeys((Kind.REGISTER, Kind.CREATE_PRODUCT), 201),
    **dict.fromkeys(set(REVOCATIONS) - {Kind.DISABLE}, 204),
}
_REFUSALS = {
    Kind.REGISTER: set[int](),
    Kind.END_SESSION: {401, 404},  # 404: the other session was over already.
    Kind.CHANGE_PASSWORD: {401, 403},  # 403: another session has changed it.
    Kind.DELETE_ACCOUNT: {401, 403},
    Kind.DISABLE: {401, 404},  # 404: the account was deleted.
    Kind.ENABLE: {401, 404},
}


@dataclass(frozen=True)
class Operation:
    """One request, with all that the checker has to know of it."""

    kind: Kind
    account: int
    """The account that it is about, as the history numbers them."""
    start: float
    """Taken before the first byte was sent; seconds, as all moments here."""
    end: float
    """Taken after the last byte of the answer was read."""
    status: int | None
    """Of the answer; None where none came."""
    session: str | None = None
    """The session whose access or refresh token was sent; of a login the one that it opened."""
    target: str | None = None
    """The session to be ended, by END_SESSION."""
    password: int | None = None
    """Of LOG_IN the password that was sent, of CHANGE_PASSWORD the one to be replaced: an account's first is 0."""
    good_until: float = math.inf
    """When the token expires, or a little before."""

    @property
    def is_done(self) -> bool:
        return self.status == SUCCESS[self.kind]

    @property
    def is_expected(self) -> bool:
        """Whether a request of this kind may be answered so while all is well."""
        return self.is_done or self.status in _REFUSALS.get(self.kind, {401})

    @property
    def may_be_done(self) -> bool:
        """Whether it may have had its effect: a failure, or the lack of an answer, does not tell."""
        return self.is_done or self.status is None or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def is_protected(self) -> bool:
        """Whether it was sent with the token of a session, so that it is to be refused once the session is over."""
        return self.session is not None and self.kind is not Kind.LOG_IN


class Fault(StrEnum):
    """What is wrong with an operation."""

    LET_IN = "was let in after its session had been ended"
    REFUSED = "was refused although nothing had ended its session"
    UNEXPECTED = "was answered as nothing is in normal running"


@dataclass(frozen=True)
class Counterexample:
    """An operation that could not have been answered so, and those before it that show why, in order of their start."""

    fault: Fault
    operation: Operation
    before: Sequence[Operation] = ()

    def __str__(self) -> str:
        """Lines for a person: times in milliseconds since the first of the operations, no token."""
        story = [*self.before, self.operation]
        lines = [
            f"A request to {self.operation.kind} {self.fault}:",
            f"{'start':>12}{'end':>12} ms  status  request",
        ]
        for each in story:
            moments = "".join(f"{(moment - story[0].start) * 1e3:12.3f}" for moment in (each.start, each.end))
            mark = "  <-- this one" if each is self.operation else ""
            lines.append(f"{moments}     {each.status or 'none':>6}  {_described(each)}{mark}")
        return "\n".join(lines)


@dataclass
class Verdict:
    """What a history has shown."""

    counterexamples: list[Counterexample] = field(default_factory=list)
    operations: Counter[Kind] = field(default_factory=Counter)
    protected: int = 0
    revocations: Counter[Kind] = field(default_factory=Counter)
    """Those that succeeded."""
    let_in: int = 0
    """Protected requests that had to be let in, and were."""
    refused: Counter[Kind] = field(default_factory=Counter)
    """Protected requests that had to be refused, and were, by the kind of revocation; those with several count once."""
    either_way: int = 0
    """Protected requests that may have been first or second to a revocation of their session."""

    def count(self, fault: Fault, *statuses: int | None) -> int:
        """How many counterexamples there are of this fault; with statuses, those with one of them."""
        found = [each.operation.status for each in self.counterexamples if each.fault is fault]
        return sum(not statuses or status in statuses for status in found)


def check(history: Iterable[Operation]) -> Verdict:
    """Look at every operation of a history, which may come in any order."""
    operations = sorted(history, key=lambda each: each.start)
    verdict = Verdict()
    logins: dict[str | None, Operation] = {}
    sessions: defaultdict[str | None, list[Operation]] = defaultdict(list)
    changes: defaultdict[int, list[Operation]] = defaultdict(list)
    """What may have ended sessions of an account, and what has enabled it again."""
    for each in operations:
        verdict.operations[each.kind] += 1
        if each.kind is Kind.LOG_IN and each.is_done:
            logins[each.session] = each
        if each.is_protected:
            sessions[each.session].append(each)
        if each.kind in REVOCATIONS:
            verdict.revocations[each.kind] += each.is_done
        if each.kind in (*REVOCATIONS, Kind.ENABLE) and each.may_be_done:
            changes[each.account].append(each)
        if not each.is_expected and not each.is_protected:
            verdict.counterexamples.append(Counterexample(Fault.UNEXPECTED, each))
    for session, protected in sessions.items():
        if session not in logins:
            raise ValueError(f"a history has to tell of the login to session {session}")
        _check_session(logins[session], protected, changes[logins[session].account], verdict)
    verdict.counterexamples.sort(key=lambda each: each.operation.start)
    return verdict


def _check_session(
    login: Operation, protected: Sequence[Operation], changes: Sequence[Operation], verdict: Verdict
) -> None:
    """Look at all requests with the token of one session, which come in the order of their starts."""
    revocations = [each for each in changes if each.kind in REVOCATIONS and _is_about(login, each)]
    sure = [each for each in revocations if each.is_done and _was_before(login, each, changes)]
    revoked = min(sure, key=lambda each: each.end, default=None)
    perhaps = min((each.start for each in revocations if login.start < each.end), default=math.inf)
    over = revoked
    """By its end the session was over."""
    let_in: list[Operation] = []
    for previous, each in zip([login, *protected], protected, strict=False):
        verdict.protected += 1
        if not each.is_expected:
            verdict.counterexamples.append(Counterexample(Fault.UNEXPECTED, each, [previous]))
            continue
        is_refused = each.status == HTTPStatus.UNAUTHORIZED
        if over is not None and over.end < each.start:
            if not is_refused:
                before = {login, *let_in[-1:], over, *(c for c in changes if _enabled_between(over, c, each))}
                story = sorted(before, key=lambda each: each.start)
                verdict.counterexamples.append(Counterexample(Fault.LET_IN, each, story))
            elif revoked is not None and revoked.end < each.start:
                verdict.refused[revoked.kind] += 1
            else:
                verdict.either_way += 1
            continue
        if perhaps < each.end:
            verdict.either_way += 1
            if is_refused and (over is None or each.end < over.end):
                over = each
        elif not is_refused:
            verdict.let_in += 1
        elif each.end < each.good_until:
            verdict.counterexamples.append(Counterexample(Fault.REFUSED, each, [login, *let_in[-1:]]))
        if not is_refused and each.kind not in REVOCATIONS:
            let_in.append(each)


def _is_about(login: Operation, revocation: Operation) -> bool:
    """Whether it ends the session of this login, if that one was before."""
    match revocation.kind:
        case Kind.LOG_OUT:
            return revocation.session == login.session
        case Kind.END_SESSION:
            return revocation.target == login.session
        case Kind.CHANGE_PASSWORD:
            return revocation.session != login.session  # Whoever changes the password stays logged in.
        case _:
            return True


def _was_before(login: Operation, revocation: Operation, changes: Sequence[Operation]) -> bool:
    """Whether the login was before the revocation for sure, by the times or by what else is known."""
    if login.end < revocation.start:
        return True
    match revocation.kind:
        case Kind.LOG_OUT | Kind.END_SESSION | Kind.DELETE_ACCOUNT:
            return True  # Only a session that is there can be ended, and nobody logs in to a deleted account.
        case Kind.CHANGE_PASSWORD:
            return _password(login) <= _password(revocation)  # Nobody logs in with a password that was replaced.
        case Kind.DISABLE:
            # Nobody logs in to a disabled account before somebody has enabled it.
            enablings = (each for each in changes if each.kind is Kind.ENABLE)
            return not any(each.end > revocation.start and each.start < login.end for each in enablings)
        case _:
            return False


def _password(operation: Operation) -> int:
    if operation.password is None:
        raise ValueError(f"a history has to tell which password it was: {operation}")
    return operation.password


def _enabled_between(over: Operation, change: Operation, operation: Operation) -> bool:
    return change.kind is Kind.ENABLE and over.start < change.end and change.start < operation.end


def _described(operation: Operation) -> str:
    words = f"{operation.kind}, account {operation.account}"
    if operation.target is not None:
        words += f", session {operation.target}"
    if operation.session is not None:
        words += f", {'opens' if operation.kind is Kind.LOG_IN else 'with the token of'} session {operation.session}"
    return words
