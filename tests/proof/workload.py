"""Random requests of many at once around a few accounts, with every request written down.

Each actor is a thread with a connection of its own to either service. The actors share what they know of an account. It
may be out of date by the time it is used, which only decides what is tried: what is right is for `histories` to say.
"""

import json
import random
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count
from threading import Event, Lock
from typing import Any, Self

from testkit.processes import Endpoint, Services
from tests.proof.histories import REVOCATIONS, SUCCESS, Kind, Operation

ACTORS = 8
ACCOUNTS = 4  # Fewer than actors, so that these meet.
SESSIONS = 3  # Of an account, at most about so many at a time.
EXPIRY_MARGIN = 2.0
"""Seconds by which a token may expire before an answer says so: in the token a moment is a whole second."""

CALLS = (Kind.CREATE_PRODUCT, Kind.CHANGE_PRODUCT, Kind.CHANGE_STOCK, Kind.READ_ACCOUNT)
"""Protected requests that end nothing."""
_AT_THE_PRODUCT_SERVICE = (Kind.CREATE_PRODUCT, Kind.CHANGE_PRODUCT, Kind.CHANGE_STOCK)


@dataclass(eq=False)
class Account:
    number: int
    id: int
    username: str
    password: int = 0
    is_active: bool = True
    live: list["Session"] = field(default_factory=list)
    """The sessions that nobody is known to have ended."""
    over: deque["Session"] = field(default_factory=lambda: deque(maxlen=8))
    """The last ones that were ended."""
    products: list[int] = field(default_factory=list)

    def password_text(self, number: int) -> str:
        return f"{self.username} has the password {number}"

    def note_end(self, sessions: Sequence["Session"]) -> None:
        for each in sessions:
            with suppress(ValueError):  # Another actor has noted it already.
                self.live.remove(each)
                self.over.append(each)


@dataclass(eq=False)
class Session:
    """What somebody has who has logged in."""

    name: str
    account: Account
    refresh_token: str
    access_tokens: list[tuple[str, float]]
    """Each with the moment at which it expires; those from before a refresh are as good as the last one."""
    refreshing: Lock = field(default_factory=Lock)
    """Held during a refresh: to send the same refresh token twice may end the session."""


class Population:
    """The accounts that the actors share, an admin, and the history of all that they do."""

    def __init__(self, services: Services) -> None:
        """Open the account of the admin."""
        self.services = services
        self.tag = secrets.token_hex(4)
        """Keeps the names of accounts apart from those of other populations of the same services."""
        self.history: list[Operation] = []
        self.sessions: list[Session] = []
        """All that there ever were."""
        self.accounts: list[Account] = []
        self.account_numbers = count()
        self.session_numbers = count(1)
        with Client(self) as client:
            account = client.register()
            services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=account.id)
            admin = client.log_in(account)
        if admin is None:
            raise RuntimeError("a new account cannot log in")
        self.admin = admin


class Client:
    """Makes one request after the other, on a connection to each service, and writes them into the history."""

    def __init__(self, population: Population, products: Endpoint | None = None) -> None:
        """
        :param products: another product service than the one of the population
        """
        self._of = population
        services = (population.services.users, products or population.services.products)
        self._users, self._products = (HTTPConnection("127.0.0.1", each.port, timeout=30) for each in services)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next request opens them anew."""
        self._users.close()
        self._products.close()

    def register(self) -> Account:
        """A new account; raises RuntimeError where there is none."""
        number = next(self._of.account_numbers)
        account = Account(number, 0, f"somebody-{self._of.tag}-{number}")
        credentials = {"username": account.username, "password": account.password_text(0)}
        status, answer = self._ask(Kind.REGISTER, account, "POST", "/register", credentials)
        if status != SUCCESS[Kind.REGISTER]:
            raise RuntimeError(f"an account cannot be opened: {status}")
        account.id = answer["id"]
        return account

    def log_in(self, account: Account) -> Session | None:
        """A new session of the account, or None where the answer is no."""
        number = account.password
        name = f"{account.number}.{next(self._of.session_numbers)}"
        credentials = {"username": account.username, "password": account.password_text(number)}
        # The list of sessions shows the user agent: there the session is found by its name.
        agent = {"User-Agent": name}
        started = time.monotonic()
        status, answer = self._ask(
            Kind.LOG_IN, account, "POST", "/login", credentials, agent, session=name, password=number
        )
        if status != SUCCESS[Kind.LOG_IN]:
            if account.password == number:
                account.is_active = False  # So it seems; to enable it once too often does no harm.
            return None
        session = Session(name, account, answer["refresh_token"], [_access_token(answer, started)])
        account.live.append(session)
        self._of.sessions.append(session)
        return session

    def refresh(self, session: Session) -> int | None:
        """Get the session's next tokens; the status."""
        with session.refreshing:
            body = {"refresh_token": session.refresh_token}
            started = time.monotonic()
            status, answer = self._ask(Kind.REFRESH, session.account, "POST", "/refresh", body, session=session.name)
            if status == SUCCESS[Kind.REFRESH]:
                session.refresh_token = answer["refresh_token"]
                session.access_tokens.append(_access_token(answer, started))
        return status

    def call(self, session: Session, kind: Kind = Kind.CREATE_PRODUCT, token: int = -1) -> int | None:
        """Make one of the CALLS; the status.

        :param token: which of the session's access tokens, as an index
        """
        account = session.account
        if not account.products and kind is not Kind.READ_ACCOUNT:
            kind = Kind.CREATE_PRODUCT
        product = f"/products/{account.products[-1]}" if account.products else ""
        requests: dict[Kind, tuple[str, str, dict[str, Any] | None]] = {
            Kind.CREATE_PRODUCT: ("POST", "/products", {"name": "Lamp", "price": "19.99", "quantity": 3}),
            Kind.CHANGE_PRODUCT: ("PATCH", product, {"price": "24.50"}),
            Kind.CHANGE_STOCK: ("POST", f"{product}/stock", {"delta": 1, "reason": "delivered"}),
            Kind.READ_ACCOUNT: ("GET", "/me", None),
        }
        status, answer = self._ask_as(session, kind, account, *requests[kind], token=token)
        if kind is Kind.CREATE_PRODUCT and status == SUCCESS[kind]:
            account.products.append(answer["id"])
        return status

    def revoke(self, kind: Kind, by: Session, target: Session) -> list[Session] | None:
        """Try one of the REVOCATIONS on the account of `by`; the known sessions that it has ended, None if refused.

        :param by: whose token is sent, unless it is that of the admin
        :param target: the session that END_SESSION is to end
        """
        account, number, live = by.account, by.account.password, list(by.account.live)
        proof = {"current_password": account.password_text(number)}
        change = {**proof, "new_password": account.password_text(number + 1)}
        requests: dict[Kind, tuple[str, str, dict[str, Any] | None]] = {
            Kind.LOG_OUT: ("POST", "/logout", None),
            Kind.LOG_OUT_EVERYWHERE: ("POST", "/logout-all", None),
            Kind.CHANGE_PASSWORD: ("POST", "/me/password", change),
            Kind.DELETE_ACCOUNT: ("DELETE", "/me", proof),
            Kind.DISABLE: ("PATCH", f"/users/{account.id}", {"is_active": False}),
        }
        noted: dict[str, Any] = {}
        if kind is Kind.CHANGE_PASSWORD:
            noted["password"] = number
        if kind is Kind.END_SESSION:
            noted["target"] = target.name
            listed = self._list_sessions(by)
            if target.name not in listed:
                return None
            requests[kind] = ("DELETE", f"/sessions/{listed[target.name]}", None)
        asks = self._of.admin if kind is Kind.DISABLE else by
        status, _ = self._ask_as(asks, kind, account, *requests[kind], **noted)
        if status != SUCCESS[kind]:
            return None
        if kind is Kind.CHANGE_PASSWORD:
            account.password = number + 1
            return [each for each in live if each is not by]
        if kind is Kind.DISABLE:
            account.is_active = False
        return {Kind.LOG_OUT: [by], Kind.END_SESSION: [target]}.get(kind, live)

    def enable(self, account: Account) -> int | None:
        """Have the admin enable an account; the status."""
        path, body = f"/users/{account.id}", {"is_active": True}
        status, _ = self._ask_as(self._of.admin, Kind.ENABLE, account, "PATCH", path, body)
        account.is_active = True
        return status

    def _list_sessions(self, of: Session) -> dict[str, int]:
        """The ids of the sessions of an account by their names; none where the answer is no."""
        status, answer = self._ask_as(of, Kind.LIST_SESSIONS, of.account, "GET", "/sessions")
        return {each["user_agent"]: each["id"] for each in answer} if status == SUCCESS[Kind.LIST_SESSIONS] else {}

    def _ask_as(
        self,
        session: Session,
        kind: Kind,
        account: Account,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        token: int = -1,
        **noted: Any,
    ) -> tuple[int | None, Any]:
        access_token, good_until = session.access_tokens[token]
        headers = {"Authorization": f"Bearer {access_token}"}
        noted = {"session": session.name, "good_until": good_until, **noted}
        return self._ask(kind, account, method, path, body, headers, **noted)

    def _ask(
        self,
        kind: Kind,
        account: Account,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **noted: Any,
    ) -> tuple[int | None, Any]:
        """The status and the decoded body of the answer; None for both where no answer comes.

        :param noted: further fields of the operation
        """
        connection = self._products if kind in _AT_THE_PRODUCT_SERVICE else self._users
        content = None if body is None else json.dumps(body).encode()
        headers = {**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}
        status: int | None = None
        answer = None
        start = time.monotonic()
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            text = response.read()
            end = time.monotonic()
            status, answer = response.status, json.loads(text) if text else None
        except (OSError, HTTPException):
            end = time.monotonic()
            connection.close()
        self._of.history.append(Operation(kind, account.number, start, end, status, **noted))
        return status, answer


def _access_token(answer: Mapping[str, Any], asked: float) -> tuple[str, float]:
    return answer["access_token"], asked + answer["expires_in"] - EXPIRY_MARGIN


# The actors


def step(client: Client, population: Population, rng: random.Random) -> None:
    """What an actor does next: one request, or a revocation and at once a call with each token that it ended."""
    account = rng.choice(population.accounts)
    live, over = list(account.live), list(account.over)
    if over and rng.random() < 0.1:
        client.call(rng.choice(over), rng.choice(CALLS), token=rng.choice((0, -1)))
    elif not account.is_active:
        client.enable(account) if rng.random() < 0.5 else client.log_in(account)
    elif not live or (len(live) < SESSIONS and rng.random() < 0.5):
        client.log_in(account)
    elif rng.random() < 0.08:
        client.refresh(rng.choice(live))
    elif rng.random() < 0.88:
        client.call(rng.choice(live), rng.choice(CALLS), token=rng.choice((0, -1)))
    else:
        kind = rng.choice(REVOCATIONS)
        ended = client.revoke(kind, rng.choice(live), rng.choice(live))
        if ended is None:
            return
        # At once, mostly on the other connection, and before the other actors are told, who go on with these tokens.
        for session in ended:
            client.call(session, rng.choice(CALLS))
        account.note_end(ended)
        if kind is Kind.DELETE_ACCOUNT:
            population.accounts[population.accounts.index(account)] = client.register()


def act(population: Population, operations: int, seed: int, stop: Event) -> None:
    """Let the actors go on until there are so many operations; at the end ask once more with every token there was."""

    def actor(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        with Client(population) as client:
            while len(population.history) < operations and not stop.is_set():
                step(client, population, rng)

    def last_look(sessions: Sequence[Session]) -> None:
        with Client(population) as client:
            for session in sessions:
                for token in range(len(session.access_tokens)):
                    if not stop.is_set():
                        client.call(session, token=token)

    with Client(population) as client:
        population.accounts = [client.register() for _ in range(ACCOUNTS)]
    with ThreadPoolExecutor(ACTORS) as threads:
        list(threads.map(actor, range(ACTORS)))
        list(threads.map(last_look, [population.sessions[number::ACTORS] for number in range(ACTORS)]))


def idle(population: Population, products: Endpoint, pauses: Sequence[float], stop: Event) -> None:
    """Make a protected call, and after each of the pauses another one.

    :param products: a product service, just started, that nobody else calls: its connections rest as this client does
    """
    products.wait_ready()
    with Client(population, products) as client:
        session = client.log_in(client.register())
        if session is None:
            raise RuntimeError("a new account cannot log in")
        client.call(session)
        for pause in pauses:
            client.close()  # Otherwise it would be this connection that has rested, and not the services' own.
            if stop.wait(pause):
                return
            client.call(session)
