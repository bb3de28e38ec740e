"""Clients that know what the services have acknowledged, and compare it with what they find later.

Each has an account and products of its own. It repeats what had no response or a 503 until it succeeds: with `If-Match`
or an idempotency key, a second attempt never changes anything twice.
"""

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from http import HTTPStatus
from threading import Event
from typing import Any

import httpx

from testkit.processes import Services

PAUSE = 0.03
"""Seconds between two requests of a client."""
RETRY_PAUSE = 0.2
ANSWERED_WITHIN = 120.0
"""Seconds after which a request that was repeated all the time counts as failed."""
MOST_PRODUCTS = 40
PASSWORD = "correct horse battery staple"

MIX = {"browse": 20, "search": 8, "read": 20, "create": 8, "change": 14, "stock": 8, "remove": 6, "me": 8}
MIX |= {"refresh": 4, "log_in_again": 2, "register": 1}
"""How often a client does what, relative to each other."""


class NotAnswered(Exception):
    """A request got no response but 503 for too long."""


class Shopper:
    def __init__(self, services: Services, number: int, seed: int) -> None:
        """Register an account, and log in."""
        self._random = random.Random(f"{seed} {number}")
        self._users, self._products = services.users.client(), services.products.client()
        self.username = f"shopper-{number}-{secrets.token_hex(4)}"
        self.stored: dict[int, tuple[str, int]] = {}
        """The tag and the quantity of each product, as acknowledged last."""
        self.registered = [self.username]
        self.revoked: deque[str] = deque(maxlen=20)
        """The access tokens that were revoked last."""
        self.counts: Counter[str] = Counter()
        """Responses by status."""
        self.problems: list[str] = []
        """What was lost, and responses that nothing explains."""
        self._settle(self._users, "POST", "/register", {201}, json=self._credentials(self.username))
        self._log_in()

    def run(self, stop: Event) -> None:
        """Send requests until the event is set."""
        while not stop.wait(PAUSE):
            getattr(self, f"_{self._random.choices([*MIX], [*MIX.values()])[0]}")()

    def check(self) -> None:
        """Compare what the services have with what they acknowledged."""
        self._refresh()
        found: dict[int, tuple[str, int]] = {}
        url: str | None = f"/products?limit=100&owner_id={self._id}"
        while url:
            page = self._settle(self._products, "GET", url, {200})[0]
            found |= {each["id"]: (f'"{each["version"]}"', each["quantity"]) for each in page.json()}
            url = page.links.get("next", {}).get("url")
        self.problems += differences(self.stored, found)
        for token in self.revoked:
            self._settle(self._users, "GET", "/me", {401}, headers={"Authorization": f"Bearer {token}"})
        for username in self.registered:
            self._settle(self._users, "POST", "/login", {200}, json=self._credentials(username))

    def close(self) -> None:
        self._users.close()
        self._products.close()

    # What it does

    def _browse(self) -> None:
        page = self._once(self._products, "GET", "/products?limit=20")
        url = page.links.get("next", {}).get("url") if page else None
        if url:
            self._once(self._products, "GET", url)

    def _search(self) -> None:
        word = self._random.choice(["lamp", "la", "soak", "nothing like it"])
        self._once(self._products, "GET", f"/products?q={word}&sort=-price&limit=20")

    def _read(self) -> None:
        if not self.stored:
            return
        product = self._random.choice([*self.stored])
        answer = self._once(self._products, "GET", f"/products/{product}")
        if answer and (answer.headers["etag"], answer.json()["quantity"]) != self.stored[product]:
            self.problems.append(f"product {product} is {answer.text}, not {self.stored[product]}")

    def _create(self) -> None:
        if len(self.stored) >= MOST_PRODUCTS:
            self._remove()
            return
        draft = {"name": f"Soak lamp {self._random.randrange(100)}", "price": "19.99", "quantity": 3}
        answer, _ = self._protected("POST", "/products", {201}, json=draft, headers=_idempotent())
        self._note(answer)

    def _change(self) -> None:
        if not self.stored:
            return
        product, (tag, quantity) = self._random.choice([*self.stored.items()])
        wanted = quantity % 1000 + 1
        path = f"/products/{product}"
        body = {"quantity": wanted}
        answer, repeated = self._protected("PATCH", path, {200, 412}, json=body, headers={"If-Match": tag})
        if answer.status_code == HTTPStatus.PRECONDITION_FAILED:
            answer, _ = self._settle(self._products, "GET", path, {200})
            if not repeated or answer.json()["quantity"] != wanted:
                self.problems.append(f"product {product} with the tag {tag} was not as acknowledged: {answer.text}")
        self._note(answer)

    def _stock(self) -> None:
        if self.stored:
            product = self._random.choice([*self.stored])
            body = {"delta": 1, "reason": "delivered"}
            path = f"/products/{product}/stock"
            answer, _ = self._protected("POST", path, {200}, json=body, headers=_idempotent())
            if answer.json()["quantity"] != self.stored[product][1] + 1:
                self.problems.append(f"one more than {self.stored[product]} of product {product} is {answer.text}")
            self._note(answer)

    def _remove(self) -> None:
        if self.stored:
            product, (tag, _) = next(iter(self.stored.items()))
            headers = {"If-Match": tag}
            answer, repeated = self._protected("DELETE", f"/products/{product}", {204, 404}, headers=headers)
            if answer.status_code == HTTPStatus.NOT_FOUND and not repeated:
                self.problems.append(f"product {product} is lost: a 404")
            del self.stored[product]

    def _me(self) -> None:
        self._once(self._users, "GET", "/me", headers=self._bearer)

    def _refresh(self) -> None:
        body = {"refresh_token": self._refresh_token}
        answer, repeated = self._settle(self._users, "POST", "/refresh", {200, 401}, json=body)
        if answer.status_code == HTTPStatus.OK:
            self._take(answer)
        else:
            # Repeated more than a few seconds later, it is the reuse of an old token, which revokes the session.
            if not repeated:
                self.problems.append("a session is lost: its refresh token is rejected")
            self._log_in()

    def _log_in_again(self) -> None:
        answer, repeated = self._settle(self._users, "POST", "/logout", {204, 401}, headers=self._bearer)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and not repeated:
            self.problems.append("a session is lost: its access token is rejected")
        self.revoked.append(self._bearer["Authorization"].removeprefix("Bearer "))
        self._log_in()

    def _register(self) -> None:
        username = f"{self.username}-{len(self.registered)}"
        body = self._credentials(username)
        answer, repeated = self._settle(self._users, "POST", "/register", {201, 409}, json=body)
        if answer.status_code == HTTPStatus.CONFLICT and not repeated:
            self.problems.append(f"{username} was taken")
        self.registered.append(username)

    # How it sends

    def _log_in(self) -> None:
        answer, _ = self._settle(self._users, "POST", "/login", {200}, json=self._credentials(self.username))
        self._take(answer)
        me, _ = self._settle(self._users, "GET", "/me", {200}, headers=self._bearer)
        self._id = me.json()["id"]

    def _take(self, answer: httpx.Response) -> None:
        tokens = answer.json()
        self._bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        self._refresh_token: str = tokens["refresh_token"]

    def _note(self, answer: httpx.Response) -> None:
        product = answer.json()
        self.stored[product["id"]] = (answer.headers["etag"], product["quantity"])

    def _credentials(self, username: str) -> dict[str, str]:
        return {"username": username, "password": PASSWORD}

    def _protected(
        self, method: str, path: str, expected: set[int], headers: dict[str, str], **content: Any
    ) -> tuple[httpx.Response, bool]:
        return self._settle(self._products, method, path, expected, headers={**self._bearer, **headers}, **content)

    def _settle(
        self, client: httpx.Client, method: str, path: str, expected: set[int], **content: Any
    ) -> tuple[httpx.Response, bool]:
        """Repeat a request until its response is no 503; returns it, and whether the request was repeated."""
        deadline = time.monotonic() + ANSWERED_WITHIN
        repeated = False
        while True:
            answer = self._send(lambda: client.request(method, path, **content))
            if answer is not None:
                if answer.status_code not in expected:
                    raise NotAnswered(f"{method} {path}: {answer.status_code} {answer.text}")
                return answer, repeated
            if time.monotonic() > deadline:
                raise NotAnswered(f"{method} {path} had no response but 503 for {ANSWERED_WITHIN:.0f} s")
            repeated = True
            time.sleep(RETRY_PAUSE)

    def _once(self, client: httpx.Client, method: str, path: str, **content: Any) -> httpx.Response | None:
        """Send a request that changes nothing; None without a response, or for a 503."""
        answer = self._send(lambda: client.request(method, path, **content))
        if answer is not None and answer.status_code != HTTPStatus.OK:
            self.problems.append(f"{method} {path}: {answer.status_code} {answer.text}")
            return None
        return answer

    def _send(self, request: Callable[[], httpx.Response]) -> httpx.Response | None:
        try:
            answer = request()
        except httpx.TransportError:
            self.counts["no response"] += 1
            return None
        self.counts[str(answer.status_code)] += 1
        return None if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE else answer


def differences(acknowledged: dict[int, tuple[str, int]], found: dict[int, tuple[str, int]]) -> list[str]:
    """What is wrong with the products that were found, each with its tag and its quantity."""
    lost = [f"product {each} is lost" for each in acknowledged if each not in found]
    extra = [f"product {each} was deleted, or never created" for each in found if each not in acknowledged]
    other = [
        f"product {each} is {found[each]}, not {wanted}"
        for each, wanted in acknowledged.items()
        if each in found and found[each] != wanted
    ]
    return [*lost, *extra, *other]


def _idempotent() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(16)}
