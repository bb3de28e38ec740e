"""Situations behind a gateway: what a client does, and what has to come of it."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from testkit.processes import Account, Service, Services, eventually
from tests.gateways.gateways import APPLICATION, PRODUCTS, USERS, Gateway

ORIGIN = "https://shop.example"
CLAIMED = "203.0.113.9"
"""The address that clients claim in X-Forwarded-For."""

LIMIT = 5
"""Failed logins that an address may have."""


@dataclass(frozen=True)
class World:
    services: Services
    account: Account
    session: int
    revoked: str
    """A token of a session that was revoked."""

    @property
    def caller(self) -> dict[str, str]:
        return {
            "x-auth-user-id": str(self.account.id),
            "x-auth-username": self.account.username,
            "x-auth-roles": "user",
            "x-auth-session-id": str(self.session),
        }

    @property
    def bearer(self) -> tuple[str, str]:
        return "Authorization", f"Bearer {self.account.token}"


Look = Callable[[World, Gateway], str]


@dataclass(frozen=True)
class Situation:
    """What a client does behind a gateway, and what it sees then.

    :param expected: what has to be seen
    :param otherwise: the same for gateways that can't do it
    """

    name: str
    look: Look
    expected: str
    otherwise: dict[str, str] = field(default_factory=dict)

    def expected_of(self, gateway: str) -> str:
        return self.otherwise.get(gateway, self.expected)


def described(answer: httpx.Response) -> str:
    """The status and the headers of a response that matter to a client."""
    seen = [str(answer.status_code)]
    seen += [answer.headers["www-authenticate"]] if "www-authenticate" in answer.headers else []
    seen += ["Retry-After"] if answer.headers.get("retry-after", "").isdecimal() else []
    if answer.is_error:
        is_problem = answer.headers.get("content-type") == "application/problem+json"
        seen.append("problem" if is_problem and answer.json()["status"] == answer.status_code else "no problem")
    return ", ".join(seen)


def auth_headers(answer: httpx.Response) -> list[tuple[str, str]]:
    """The headers that the application got and that it could take for those of the gateway, in lower case."""
    sent = [(name.lower(), value) for name, value in answer.json()["headers"]]
    return sorted((name, value) for name, value in sent if re.sub("[^a-z]", "-", name).startswith("x-auth-"))


def protected(world: World, gateway: Gateway) -> str:
    return described(gateway.request("GET", APPLICATION, "/orders", [world.bearer]))


def caller(world: World, gateway: Gateway) -> str:
    answer = gateway.request("GET", APPLICATION, "/orders", [world.bearer])
    return "its headers" if auth_headers(answer) == sorted(world.caller.items()) else str(auth_headers(answer))


def spoofed(world: World, gateway: Gateway) -> str:
    names = ["User-Id", "Username", "Roles", "Session-Id"]
    spelled = [f"X{first}Auth{second}{name}" for first in "-_." for second in "-_." for name in names]
    spelled += [name.replace("-", mark) for name in spelled for mark in "_."]
    spelled += [each(name) for name in spelled for each in (str.lower, str.upper)]
    claims = [(name, "admin") for name in [*spelled, "X-Auth-Roles", "X-Auth-Roles", "X-Auth-User-Id"]]
    # In several requests: servers limit the number of headers.
    answers = [
        gateway.request("GET", APPLICATION, "/", [world.bearer, *claims[start : start + 40]])
        for start in range(0, len(claims), 40)
    ]
    reaching = {header for answer in answers for header in auth_headers(answer)} - set(world.caller.items())
    return f"{len(reaching)} arrive" + (f": {sorted(reaching)[:3]}" if reaching else "")


def no_token(_: World, gateway: Gateway) -> str:
    return described(gateway.request("GET", APPLICATION, "/orders", [("X-Auth-User-Id", "1")]))


def revoked_token(world: World, gateway: Gateway) -> str:
    return described(gateway.request("GET", APPLICATION, "/", [("Authorization", f"Bearer {world.revoked}")]))


def methods(world: World, gateway: Gateway) -> str:
    path = "/a/b%20c?limit=20&limit=x&q=%C3%A9"
    arrived = []
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        answer = gateway.request(method, APPLICATION, path, [world.bearer])
        assert (answer.status_code, answer.json()["path"]) == (200, path), answer.text
        arrived.append(answer.json()["method"])
    return " ".join(arrived)


def body(world: World, gateway: Gateway) -> str:
    content = bytes(range(256)) * 4096

    def chunks() -> Iterator[bytes]:
        yield from (content[start : start + 10_000] for start in range(0, len(content), 10_000))

    whole = hashlib.sha256(content).hexdigest()
    answers = [gateway.request("POST", APPLICATION, "/", [world.bearer], content=each) for each in (content, chunks())]
    return "whole" if all(answer.json()["sha256"] == whole for answer in answers) else str(answers)


def body_without_token(_: World, gateway: Gateway) -> str:
    return described(gateway.request("POST", APPLICATION, "/", content=b"x" * 1000))


def of_application(status: int) -> Look:
    return lambda world, gateway: described(gateway.request("GET", APPLICATION, f"/answer/{status}", [world.bearer]))


def forbidden(world: World, gateway: Gateway) -> str:
    return described(gateway.request("GET", USERS, "/users", [world.bearer]))


def too_many_logins(world: World, gateway: Gateway) -> str:
    wrong = {"username": world.account.username, "password": "wrong"}
    for attempt in range(LIMIT):
        claimed = [("X-Forwarded-For", f"203.0.113.{attempt}")]
        answer = gateway.request("POST", USERS, "/login", claimed, json=wrong)
        assert answer.status_code == httpx.codes.UNAUTHORIZED, answer.text
    return described(gateway.request("POST", USERS, "/login", [("X-Forwarded-For", "203.0.113.99")], json=wrong))


def client_address(world: World, gateway: Gateway) -> str:
    """The addresses in the logs: of questions of the gateway, and of requests to both services."""
    account = world.services.sign_up()
    headers = [*account.bearer.items(), ("X-Forwarded-For", CLAIMED), ("Forwarded", f"for={CLAIMED}")]
    users, products = world.services.users, world.services.products
    asked = {(APPLICATION, "GET", users, "/forward-auth"), (USERS, "DELETE", users, "/sessions/{session_id}")}
    asked |= {(PRODUCTS, "POST", products, "/products")}
    seen = set()
    for host, method, service, route in sorted(asked, key=lambda each: each[0]):
        path = route.replace("{session_id}", "999999")
        gateway.request(method, host, path, headers)
        # With the id of an account of its own, because other clients ask at the same time.
        line = eventually(partial(line_of, service, account, route), 20, route)
        seen.add(line["ip"])
    return "its own" if seen == {gateway.client_address} else str(seen)


def line_of(service: Service, account: Account, route: str) -> dict[str, Any] | None:
    """The line of the request of the account to this route, or to one below, in the log of the service."""
    own = [line for line in service.log_lines if line.get("user_id") == account.id]
    return next((line for line in own if str(line.get("route")).startswith(route)), None)


def request_id(world: World, gateway: Gateway) -> str:
    answer = gateway.request("GET", PRODUCTS, "/products", [("X-Request-ID", "chosen-by-the-client")])
    return answer.headers["x-request-id"]


def etags(world: World, gateway: Gateway) -> str:
    product = world.services.create_product(world.account, description="x" * 3000)
    path = f"/products/{product['id']}"
    read = gateway.request("GET", PRODUCTS, path, [("Accept-Encoding", "gzip, br, zstd")])
    tag = read.headers["etag"]
    again = gateway.request("GET", PRODUCTS, path, [("If-None-Match", tag), ("Accept-Encoding", "gzip")])
    changes = [
        gateway.request("PATCH", PRODUCTS, path, [world.bearer, ("If-Match", tag)], json={"quantity": quantity})
        for quantity in (4, 5)
    ]
    return ", ".join([tag, str(again.status_code), *(str(each.status_code) for each in changes)])


def preflight(host: str) -> Look:
    def look(_: World, gateway: Gateway) -> str:
        asked = [("Origin", ORIGIN), ("Access-Control-Request-Method", "PATCH")]
        answer = gateway.request("OPTIONS", host, "/products/1", asked)
        allowed = answer.headers.get("access-control-allow-origin")
        return f"{answer.status_code}, {'allowed' if allowed == ORIGIN else 'not allowed'}"

    return look


INTERNAL = [
    *("/validate-token", "/introspect", "/forward-auth", "/forward-auth/", "/forward-auth/x/y"),
    *("/validate-token?x=1", "/validate-token/", "/%76alidate-token", "/%69ntrospect", "/forward%2Dauth"),
    *("/forward-auth%2Fx", "/%2Fforward-auth", "//forward-auth", "//introspect", "/x/../introspect"),
    *("/x/%2e%2e/introspect", "/./forward-auth", "/forward-auth;x", "/forward-auth/..", "/VALIDATE-TOKEN"),
]


def internal_paths(world: World, gateway: Gateway) -> str:
    """The requests that reach an operation for services and gateways, by the log of the user service."""
    reached = []
    for number, path in enumerate(INTERNAL):
        for method in ("GET", "POST"):
            name = f"internal-{gateway.name}-{number}-{method}"
            headers = [("X-Request-ID", name), world.bearer]
            answer = gateway.request(method, USERS, path, headers, data={"token": world.account.token})
            if answer.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND):
                continue
            route = str(world.services.users.wait_for_log_line("request", request_id=name)["route"])
            if route.startswith(("/validate-token", "/introspect", "/forward-auth")):
                reached.append(f"{method} {path}")
    return f"{len(reached)} reached" + (f": {reached}" if reached else "")


def public_read(_: World, gateway: Gateway) -> str:
    return described(gateway.request("GET", PRODUCTS, "/products"))


def write(world: World, gateway: Gateway) -> str:
    draft = {"name": "Lamp", "price": "19.99", "quantity": 3}
    return described(gateway.request("POST", PRODUCTS, "/products", [world.bearer], json=draft))


def tls(_: World, gateway: Gateway) -> str:
    return str(gateway.tls_version())


RUNNING = [
    Situation("a client connects", tls, "TLSv1.3"),
    Situation("a valid token", protected, "200"),
    Situation("the application learns who the caller is", caller, "its headers"),
    Situation("`X-Auth-*` of the client, in all spellings", spoofed, "0 arrive"),
    Situation("no token", no_token, "401, Bearer, problem"),
    Situation("a revoked token", revoked_token, '401, Bearer error="invalid_token", problem'),
    Situation("each method, with path and query", methods, "GET POST PUT PATCH DELETE"),
    Situation("a body of 1 MiB, also in chunks", body, "whole"),
    Situation("a body without a token", body_without_token, "401, Bearer, problem"),
    Situation("403 of the application", of_application(403), "403, Retry-After, problem"),
    Situation("429 of the application", of_application(429), "429, Retry-After, problem"),
    Situation("500 of the application", of_application(500), "500, Retry-After, problem"),
    Situation("503 of the application", of_application(503), "503, Retry-After, problem"),
    Situation("403 of the user service", forbidden, "403, problem"),
    Situation("429 of the user service, for one address", too_many_logins, "429, Retry-After, problem"),
    Situation("the address of a client that claims another", client_address, "its own"),
    Situation("`X-Request-ID` of a client", request_id, "chosen-by-the-client"),
    Situation("`ETag`, `If-None-Match`, `If-Match` twice", etags, '"1", 304, 200, 412'),
    Situation("a preflight to the user service", preflight(USERS), "200, allowed"),
    Situation("a preflight to the product service", preflight(PRODUCTS), "200, allowed"),
    Situation("a preflight to the application", preflight(APPLICATION), "401, not allowed"),
    Situation("internal paths, in all spellings", internal_paths, "0 reached"),
]
NO_DATABASE = [Situation("the user service has no database", protected, "503, Retry-After, problem")]
# Traefik has no text of its own for a response.
UNAVAILABLE = {"Traefik": "503, Retry-After, no problem"}
HANGING = [
    Situation("the user service hangs", protected, "503, Retry-After, problem", UNAVAILABLE),
    Situation("a public read while it hangs", public_read, "200"),
]
DEAD = [
    Situation("the user service is dead", protected, "503, Retry-After, problem", UNAVAILABLE),
    Situation("a public read while it is dead", public_read, "200"),
    Situation("a write to the product service while it is dead", write, "503, Retry-After, problem"),
]
RESTARTED = [Situation("the user service is back", protected, "200")]
