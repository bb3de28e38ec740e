"""Random concurrent requests about a few accounts, with every request recorded.

Each actor is a thread with its own connection to each service. The actors share what they know of an account. That may
be outdated when it is used, which only affects what they try: `histories` decides what is correct.
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
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import count
from threading import Event, Lock
from typing import Any, Self
from urllib.parse import urlencode

from testkit.processes import Endpoint, Services
from tests.gateways.replicas import ReplicatedServices
from tests.proof.histories import AS_ADMIN, REVOCATIONS, SUCCESS, TIMEOUT, Kind, Operation

ACTORS = 8
ACCOUNTS = 4  # Fewer than actors, so that several actors use one account.
SESSIONS = 3  # The approximate maximum per account.
EXPIRY_MARGIN = 2.0
"""Seconds by which a token may expire earlier than the response says: in the token, times are whole seconds."""
PAUSE = 0.5  # Seconds that a client waits after a 503 or a missing response.
MOST_READ = 200  # Products that are read at the end.
REGISTERED_WITHIN = 90.0  # Seconds in which a registration is tried again after that.

CALLS = (Kind.CREATE_PRODUCT, Kind.CHANGE_PRODUCT, Kind.CHANGE_STOCK, Kind.READ_ACCOUNT)  # They revoke nothing.
_PRODUCT_SERVICE_KINDS = (Kind.CREATE_PRODUCT, Kind.CHANGE_PRODUCT, Kind.CHANGE_STOCK, Kind.READ_PRODUCT)


@dataclass(eq=False)
class Account:
    number: int
    id: int
    username: str
    password: int = 0
    is_active: bool = True
    is_uncertain: bool = False
    """Whether it is unknown if a revocation took effect. The actors leave it, and only try its tokens at the end."""
    live: list["Session"] = field(default_factory=list)
    """The sessions that are not known to be revoked."""
    revoked: deque["Session"] = field(default_factory=lambda: deque(maxlen=8))
    """The sessions revoked last."""
    products: list[int] = field(default_factory=list)

    def password_text(self, number: int) -> str:
        return f"{self.username}, password {number}"

    def note_revoked(self, sessions: Sequence["Session"]) -> None:
        for each in sessions:
            with suppress(ValueError):  # Another actor noted it first.
                self.live.remove(each)
                self.revoked.append(each)


@dataclass(eq=False)
class Session:
    """A session, as a client that has logged in knows it."""

    name: str
    account: Account
    refresh_token: str | None
    """None if it is unknown whether it was replaced. To use it again later would revoke the session."""
    access_tokens: list[tuple[str, float]]
    """Each with the time when it expires; a refresh does not invalidate earlier ones."""
    refreshing: Lock = field(default_factory=Lock)
    """Held during a refresh: sending the same refresh token twice may revoke the session."""


class Population:
    """The accounts that the actors share, an admin, and the history of all requests."""

    def __init__(self, services: Services | ReplicatedServices) -> None:
        """Register the account of the admin."""
        self.services = services
        self.tag = secrets.token_hex(4)
        """Distinguishes the names of accounts from those of other populations."""
        self.history: list[Operation] = []
        self.sessions: list[Session] = []
        """All sessions that were ever created."""
        self.accounts: list[Account] = []
        self.replaced: list[Account] = []
        self.account_numbers = count()
        self.session_numbers = count(1)
        with Client(self) as client:
            account = client.register()
            services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=account.id)
            admin = client.log_in(account)
        if admin is None:
            raise RuntimeError("a new account can't log in")
        self.admin = admin

    def replace(self, account: Account, client: "Client") -> None:
        """Let the actors use a new account instead of this one."""
        new = client.register()
        with suppress(ValueError):  # Another actor was first.
            self.accounts[self.accounts.index(account)] = new
            self.replaced.append(account)


class Client:
    """Sends one request after the other, on one connection to each service, and records them in the history."""

    def __init__(self, population: Population, products: Endpoint | None = None) -> None:
        """
        :param products: a product service other than that of the population
        """
        self._population = population
        services = (population.services.users, products or population.services.products)
        self._users, self._products = (HTTPConnection("127.0.0.1", each.port, timeout=TIMEOUT) for each in services)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._users.close()
        self._products.close()

    def register(self) -> Account:
        """Register an account; raises RuntimeError if that fails."""
        deadline = time.monotonic() + REGISTERED_WITHIN
        while True:
            # A new name each time: the account may exist although there was no response.
            number = next(self._population.account_numbers)
            account = Account(number, 0, f"user-{self._population.tag}-{number}")
            credentials = {"username": account.username, "password": account.password_text(0)}
            status, answer = self._send(Kind.REGISTER, account, "POST", "/register", credentials)
            if status == SUCCESS[Kind.REGISTER]:
                account.id = answer["id"]
                return account
            if not _is_unknown(status) or time.monotonic() > deadline:
                raise RuntimeError(f"the registration failed: {status}")

    def log_in(self, account: Account) -> Session | None:
        """Log in; None if the login is rejected."""
        number = account.password
        name = f"{account.number}.{next(self._population.session_numbers)}"
        credentials = {"username": account.username, "password": account.password_text(number)}
        # The list of sessions shows the user agent, so the session can be found by its name.
        agent = {"User-Agent": name}
        started = time.monotonic()
        status, answer = self._send(
            Kind.LOG_IN, account, "POST", "/login", credentials, agent, session=name, password=number
        )
        if status != SUCCESS[Kind.LOG_IN]:
            if account.password == number:
                account.is_active = False  # Probably; enabling it without need does no harm.
            return None
        session = Session(name, account, answer["refresh_token"], [_access_token(answer, started)])
        account.live.append(session)
        self._population.sessions.append(session)
        return session

    def refresh(self, session: Session) -> int | None:
        """Get the session's next tokens.

        :return: the status; None without a response, or if the refresh token is unknown
        """
        with session.refreshing:
            if session.refresh_token is None:
                return None
            body = {"refresh_token": session.refresh_token}
            started = time.monotonic()
            status, answer = self._send(Kind.REFRESH, session.account, "POST", "/refresh", body, session=session.name)
            if status == SUCCESS[Kind.REFRESH]:
                session.refresh_token = answer["refresh_token"]
                session.access_tokens.append(_access_token(answer, started))
            elif _is_unknown(status):
                session.refresh_token = None
        return status

    def call(self, session: Session, kind: Kind = Kind.CREATE_PRODUCT, token: int = -1) -> int | None:
        """Make one of the CALLS.

        :param token: the index of one of the session's access tokens
        :return: the status
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
        status, answer = self._send_as(session, kind, account, *requests[kind], token=token)
        if kind is Kind.CREATE_PRODUCT and status == SUCCESS[kind]:
            account.products.append(answer["id"])
        return status

    def read_product(self, account: Account, product: int) -> None:
        """Read a product of an account, which is public."""
        self._send(Kind.READ_PRODUCT, account, "GET", f"/products/{product}")

    def revoke(self, kind: Kind, by: Session, target: Session) -> list[Session] | None:
        """Try one of the REVOCATIONS on the account of `by`.

        :param by: the session whose token is sent, unless the admin's is; for REVOKE_TOKEN, the one to revoke
        :param target: the session for REVOKE_SESSION to revoke
        :return: the known sessions that were revoked; None if the request was rejected
        """
        account, number, live = by.account, by.account.password, list(by.account.live)
        proof = {"current_password": account.password_text(number)}
        change = {**proof, "new_password": account.password_text(number + 1)}
        requests: dict[Kind, tuple[str, str, dict[str, Any] | None]] = {
            Kind.LOG_OUT: ("POST", "/logout", None),
            Kind.LOG_OUT_EVERYWHERE: ("POST", "/logout-all", None),
            Kind.REVOKE_AS_ADMIN: ("DELETE", f"/users/{account.id}/sessions", None),
            Kind.CHANGE_PASSWORD: ("POST", "/me/password", change),
            Kind.DELETE_ACCOUNT: ("DELETE", "/me", proof),
            Kind.DELETE_AS_ADMIN: ("DELETE", f"/users/{account.id}", None),
            Kind.DISABLE: ("PATCH", f"/users/{account.id}", {"is_active": False}),
        }
        fields: dict[str, Any] = {}
        if kind is Kind.CHANGE_PASSWORD:
            fields["password"] = number
        if kind is Kind.REVOKE_SESSION:
            fields["target"] = target.name
            listed = self._list_sessions(by)
            if target.name not in listed:
                return None
            requests[kind] = ("DELETE", f"/sessions/{listed[target.name]}", None)
        if kind is Kind.REVOKE_TOKEN:
            form = {"token": by.access_tokens[-1][0]}
            status, _ = self._send(kind, account, "POST", "/revoke", form=form, target=by.name)
        else:
            sender = self._population.admin if kind in AS_ADMIN else by
            status, _ = self._send_as(sender, kind, account, *requests[kind], **fields)
        if status != SUCCESS[kind]:
            account.is_uncertain = account.is_uncertain or _is_unknown(status)
            return None
        if kind is Kind.CHANGE_PASSWORD:
            account.password = number + 1
            return [each for each in live if each is not by]
        if kind is Kind.DISABLE:
            account.is_active = False
        return {Kind.LOG_OUT: [by], Kind.REVOKE_TOKEN: [by], Kind.REVOKE_SESSION: [target]}.get(kind, live)

    def enable(self, account: Account) -> int | None:
        """Have the admin enable an account.

        :return: the status
        """
        path, body = f"/users/{account.id}", {"is_active": True}
        status, _ = self._send_as(self._population.admin, Kind.ENABLE, account, "PATCH", path, body)
        account.is_active = True
        return status

    def _list_sessions(self, session: Session) -> dict[str, int]:
        """The ids of an account's sessions, by name; empty if the request is rejected."""
        status, answer = self._send_as(session, Kind.LIST_SESSIONS, session.account, "GET", "/sessions")
        return {each["user_agent"]: each["id"] for each in answer} if status == SUCCESS[Kind.LIST_SESSIONS] else {}

    def _send_as(
        self,
        session: Session,
        kind: Kind,
        account: Account,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        token: int = -1,
        **fields: Any,
    ) -> tuple[int | None, Any]:
        access_token, valid_until = session.access_tokens[token]
        headers = {"Authorization": f"Bearer {access_token}"}
        fields = {"session": session.name, "valid_until": valid_until, **fields}
        return self._send(kind, account, method, path, body, headers, **fields)

    def _send(
        self,
        kind: Kind,
        account: Account,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        form: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> tuple[int | None, Any]:
        """Send a request, and record it in the history.

        :param form: the fields of a form, in place of a body in JSON
        :param fields: further fields of the operation
        :return: the status and the decoded body of the response; None for both without a response
        """
        connection = self._products if kind in _PRODUCT_SERVICE_KINDS else self._users
        content = None
        headers = dict(headers or {})
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body), "application/json"
        elif form is not None:
            content, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
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
        operation = Operation(kind, account.number, start, end, status, **fields)
        self._population.history.append(operation)
        if operation.is_unavailable:
            time.sleep(PAUSE)
        return status, answer


def _is_unknown(status: int | None) -> bool:
    """Whether the request may have taken effect without success."""
    return status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _access_token(answer: Mapping[str, Any], sent: float) -> tuple[str, float]:
    return answer["access_token"], sent + answer["expires_in"] - EXPIRY_MARGIN


# The actors


def step(client: Client, population: Population, rng: random.Random) -> None:
    """An actor's next step: one request, or a revocation followed by a call with each revoked session."""
    account = rng.choice(population.accounts)
    live, revoked = list(account.live), list(account.revoked)
    if account.is_uncertain:
        population.replace(account, client)
    elif revoked and rng.random() < 0.1:
        client.call(rng.choice(revoked), rng.choice(CALLS), token=rng.choice((0, -1)))
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
        revoked_now = client.revoke(kind, rng.choice(live), rng.choice(live))
        if revoked_now is None:
            return
        # At once, mostly on the other connection, and before the other actors know: they still use these tokens.
        for session in revoked_now:
            client.call(session, rng.choice(CALLS))
        account.note_revoked(revoked_now)
        if kind in (Kind.DELETE_ACCOUNT, Kind.DELETE_AS_ADMIN):
            population.replace(account, client)


def act(population: Population, operations: int, seed: int, stop: Event) -> None:
    """Run the actors until there are this many operations; then read products, and try every token once more."""

    def actor(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        with Client(population) as client:
            while len(population.history) < operations and not stop.is_set():
                step(client, population, rng)

    def finish(number: int) -> None:
        with Client(population) as client:
            for account, product in sample[number::ACTORS]:
                if not stop.is_set():
                    client.read_product(account, product)
            for session in population.sessions[number::ACTORS]:
                for token in range(len(session.access_tokens)):
                    if not stop.is_set():
                        client.call(session, token=token)

    with Client(population) as client:
        population.accounts = [client.register() for _ in range(ACCOUNTS)]
    with ThreadPoolExecutor(ACTORS) as threads:
        list(threads.map(actor, range(ACTORS)))
        created = [(each, one) for each in (*population.replaced, *population.accounts) for one in each.products]
        sample = random.Random(seed).sample(created, min(len(created), MOST_READ))
        list(threads.map(finish, range(ACTORS)))


def idle(population: Population, products: Endpoint, pauses: Sequence[float], stop: Event) -> None:
    """Make a protected call, and another one after each of the pauses.

    :param products: a product service, just started, without other clients, so its connections are idle meanwhile
    """
    products.wait_ready()
    with Client(population, products) as client:
        session = client.log_in(client.register())
        if session is None:
            raise RuntimeError("a new account can't log in")
        client.call(session)
        for pause in pauses:
            client.close()  # Otherwise this connection would be idle too, not only those between the services.
            if stop.wait(pause):
                return
            client.call(session)
