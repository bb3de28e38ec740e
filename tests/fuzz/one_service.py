"""Runs schemathesis against one service: `python -m tests.fuzz.one_service`, with the arguments of schemathesis.

`FUZZ` in the environment is JSON: the name of the service, where the user service and its database are, and the file to
write the numbers of responses to.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from schemathesis.cli import schemathesis as command_line
from sqlalchemy import NullPool, create_engine, text

from testkit.processes import Account

TASK = json.loads(os.environ["FUZZ"])
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
PASSWORD = "correct horse battery staple"  # as in the examples of the documents
HARD_TO_GUESS = "k7#Qz9!v"

FOUR_DECIMALS = ("CLF", "UYW")
"""Currencies in which every price is valid that the schema allows."""

responses: Counter[tuple[str, int]] = Counter()
"""Responses by operation and status."""


class Admin:
    """The account of the requests: an admin, replaced by another one when a request has changed it."""

    def __init__(self) -> None:
        self._users = httpx.Client(base_url=TASK["users"], trust_env=False, timeout=60)
        self._engine = create_engine(TASK["users_database"], poolclass=NullPool)
        self._number = 0
        self._account: Account | None = None
        self.may_be_changed = True

    @property
    def account(self) -> Account:
        if self._account is None or (self.may_be_changed and not self._is_valid(self._account)):
            self._account = self._sign_up()
        self.may_be_changed = False
        return self._account

    def _is_valid(self, account: Account) -> bool:
        """Whether the session is valid, the account is an admin, and the password is as it was."""
        me = self._users.get("/me", headers=account.bearer)
        return (
            me.status_code == httpx.codes.OK
            and "admin" in me.json()["roles"]
            and self._log_in(account.username).status_code == httpx.codes.OK
        )

    def _sign_up(self) -> Account:
        self._number += 1
        credentials = {"username": f"{TASK['service']}-{self._number}", "password": PASSWORD}
        registered = self._users.post("/register", json=credentials).raise_for_status().json()
        with self._engine.begin() as connection:
            connection.execute(text("UPDATE users SET is_admin = true WHERE id = :id"), {"id": registered["id"]})
        token = self._log_in(credentials["username"]).raise_for_status().json()["access_token"]
        return Account(registered["id"], credentials["username"], PASSWORD, token)

    def new_refresh_token(self) -> str:
        """The refresh token of another session."""
        token: str = self._log_in(self.account.username).raise_for_status().json()["refresh_token"]
        return token

    def _log_in(self, username: str) -> httpx.Response:
        return self._users.post("/login", json={"username": username, "password": PASSWORD})


admin = Admin()


@schemathesis.auth(refresh_interval=None)
class AdminToken:
    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> str:
        return admin.account.token

    def set(self, case: schemathesis.Case[Any], token: str, context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {token}"


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def filter_query(context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:
    """Skip parameters that are not sent, or sent empty, which counts as absent: the request may be valid without."""
    values = (query or {}).values()
    return not any(
        all(each in ("", None) for each in value) if isinstance(value, list) else value in ({}, "", None)
        for value in values
    )


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Replace in a valid request what a schema can't describe, so that more requests succeed."""
    if case.meta is None or case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    if case.query:
        case.query.pop("cursor", None)
        if "max_price" in case.query:
            case.query.pop("min_price", None)
        if "currency" in case.query:
            case.query["currency"] = FOUR_DECIMALS
    if isinstance(case.body, dict):
        # To JSON Schema, 3.0 is an integer. The services refuse it.
        case.body.update({name: _as_integer(value) for name, value in case.body.items()})
        if "current_password" in case.body:
            case.body["current_password"] = PASSWORD
        for name in ("password", "new_password"):
            password = case.body.get(name)
            if isinstance(password, str) and password != PASSWORD:
                # As long as it was, with the same characters from the ninth on.
                case.body[name] = HARD_TO_GUESS[: len(password)] + password[len(HARD_TO_GUESS) :]
        if "refresh_token" in case.body:
            case.body["refresh_token"] = admin.new_refresh_token()
        if not case.body.keys().isdisjoint(("price", "currency")):
            case.body["currency"] = FOUR_DECIMALS[len(str(case.body)) % 2]
    for name in case.headers or ():
        if name == "Idempotency-Key":
            case.headers[name] = f"fuzz-{responses.total()}"
        elif name in ("If-Match", "If-None-Match") and case.headers[name] == "0":
            # The coverage phase takes this for a text with the pattern of the header.
            case.headers[name] = '"1"'


@schemathesis.hook
def after_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response
) -> None:
    responses[f"{case.operation.method.upper()} {case.operation.path}", response.status_code] += 1
    admin.may_be_changed |= TASK["service"] == "user-service" and case.method not in SAFE


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_it_is(context: Any, value: Any) -> bytes:
    return str(value).encode()


try:
    command_line()
finally:
    rows = [[operation, status, number] for (operation, status), number in sorted(responses.items())]
    Path(TASK["responses"]).write_text(json.dumps(rows), encoding="utf-8")
