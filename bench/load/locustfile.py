"""The mix of requests of mix.json for Locust; k6.js sends the same. See docs/load-tests.md.

It runs in an environment of its own, without the packages of the services.
"""

import itertools
import json
import os
import random
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, between, task

USERS, PRODUCTS = os.environ["LOAD_USER_SERVICE"], os.environ["LOAD_PRODUCT_SERVICE"]
ACCOUNTS, PREFIX = int(os.environ["LOAD_ACCOUNTS"]), os.environ["LOAD_ACCOUNT_PREFIX"]
MIX: dict[str, int] = json.loads(Path(__file__).with_name("mix.json").read_text(encoding="utf-8"))
WORDS = ("lamp", "la", "mp 1", "nothing like it")
LONGEST_WAIT = 60.0
"""Seconds. A limit whose Retry-After is longer is an error."""
REFRESH_BEFORE = 60.0
"""Seconds before an access token expires."""

_numbers = itertools.count()


class Shopper(FastHttpUser):
    """A client with an account and a session of its own, so that no two of them change the same product."""

    host = PRODUCTS
    wait_time = between(0.1, 0.3)

    def on_start(self) -> None:
        number = next(_numbers)
        if number >= ACCOUNTS:
            raise RuntimeError(f"there are accounts for {ACCOUNTS} users only")
        self.username = f"{PREFIX}{number}"
        self._log_in()

    @task(MIX["browse"])
    def browse(self) -> None:
        first = self._send("GET", f"{PRODUCTS}/products?limit=20", name="GET /products")
        _, found, rest = (first.headers.get("Link") or "").rpartition("<")
        path, is_next, _ = rest.partition('>; rel="next"')
        if found and is_next:
            self._send("GET", f"{PRODUCTS}{path}", name="GET /products?cursor")

    @task(MIX["search"])
    def search(self) -> None:
        word = random.choice(WORDS).replace(" ", "+")
        self._send("GET", f"{PRODUCTS}/products?q={word}&sort=price&limit=20", name="GET /products?q")

    @task(MIX["read"])
    def read(self) -> None:
        page = self._send("GET", f"{PRODUCTS}/products?limit=20", name="GET /products")
        product = random.choice(page.json() or [None])
        if product:
            # Another client may have deleted it meanwhile.
            path = f"{PRODUCTS}/products/{product['id']}"
            self._send("GET", path, (HTTPStatus.OK, HTTPStatus.NOT_FOUND), name="GET /products/{id}")

    @task(MIX["edit"])
    def edit(self) -> None:
        """Create a product, change it twice with its tag, and delete it."""
        draft = {"name": "Lamp of a load test", "price": "19.99", "quantity": 3}
        created = self._send_as_self("POST", "/products", (HTTPStatus.CREATED,), "POST /products", json=draft)
        path, tag = f"/products/{created.json()['id']}", created.headers["ETag"]
        for price in ("18.99", "17.99"):
            headers, name = {"If-Match": tag}, "PATCH /products/{id}"
            changed = self._send_as_self("PATCH", path, (HTTPStatus.OK,), name, headers, json={"price": price})
            tag = changed.headers["ETag"]
        self._send_as_self("DELETE", path, (HTTPStatus.NO_CONTENT,), "DELETE /products/{id}", {"If-Match": tag})

    @task(MIX["refresh"])
    def refresh(self) -> None:
        body = {"refresh_token": self.refresh_token}
        self._take(self._send("POST", f"{USERS}/refresh", name="POST /refresh", json=body))

    @task(MIX["log_in_again"])
    def log_in_again(self) -> None:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        self._send("POST", f"{USERS}/logout", (HTTPStatus.NO_CONTENT,), name="POST /logout", headers=headers)
        self._log_in()

    def _log_in(self) -> None:
        credentials = {"username": self.username, "password": os.environ["LOAD_PASSWORD"]}
        self._take(self._send("POST", f"{USERS}/login", name="POST /login", json=credentials))

    def _take(self, answer: Any) -> None:
        tokens = answer.json()
        self.access_token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]
        self.expires = time.monotonic() + tokens["expires_in"] - REFRESH_BEFORE

    def _send_as_self(
        self,
        method: str,
        path: str,
        expected: tuple[int, ...],
        name: str,
        headers: dict[str, str] | None = None,
        **content: Any,
    ) -> Any:
        if time.monotonic() > self.expires:
            self.refresh()
        headers = {"Authorization": f"Bearer {self.access_token}", **(headers or {})}
        return self._send(method, f"{PRODUCTS}{path}", expected, name=name, headers=headers, **content)

    def _send(self, method: str, url: str, expected: tuple[int, ...] = (HTTPStatus.OK,), **options: Any) -> Any:
        """Send a request, and wait as long as a limit wants; any other unexpected status ends the task as a failure."""
        name = options.pop("name")
        while True:
            with self.client.request(method, url, name=name, catch_response=True, **options) as answer:
                if answer.status_code in expected:
                    answer.success()
                    return answer
                wait = float(answer.headers.get("Retry-After") or "inf") if answer.headers else float("inf")
                if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS or wait > LONGEST_WAIT:
                    answer.failure(f"{answer.status_code}: {answer.text or answer.error}")
                    raise RuntimeError(f"{name}: {answer.status_code}")
                # A line of its own in the table, which is no failure.
                answer.request_meta["name"] = f"{name} (429)"
                answer.success()
            gevent.sleep(wait)
