"""What is taken back is gone for the product service too, with the very next call: sessions, accounts, roles."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import httpx
import pytest

from testkit.databases import POSTGRESQL, SQLITE
from testkit.processes import Account, Services, problem
from tests.streams import Stream, create

LATER_THAN_THE_GRACE = {
    SQLITE: "strftime('%Y-%m-%d %H:%M:%f', refreshed_at, '-11 seconds')",
    POSTGRESQL: "refreshed_at - interval '11 seconds'",
}


@dataclass(frozen=True)
class Situation:
    """Somebody with two sessions, and an admin."""

    users: httpx.Client
    somebody: Account
    elsewhere: Account
    """The same account with the token of its other session."""
    admin: Account


Revoke = Callable[[Situation], httpx.Response]
"""Ends the session of `somebody`."""


def log_out(at: Situation) -> httpx.Response:
    return at.users.post("/logout", headers=at.somebody.bearer)


def log_out_everywhere(at: Situation) -> httpx.Response:
    return at.users.post("/logout-all", headers=at.elsewhere.bearer)


def end_the_session(at: Situation) -> httpx.Response:
    sessions = at.users.get("/sessions", headers=at.elsewhere.bearer).json()
    (other,) = [session for session in sessions if not session["current"]]
    return at.users.delete(f"/sessions/{other['id']}", headers=at.elsewhere.bearer)


def change_the_password(at: Situation) -> httpx.Response:
    change = {"current_password": at.somebody.password, "new_password": "a password of the time after"}
    return at.users.post("/me/password", json=change, headers=at.elsewhere.bearer)


def disable(at: Situation) -> httpx.Response:
    return at.users.patch(f"/users/{at.somebody.id}", json={"is_active": False}, headers=at.admin.bearer)


def delete_the_account(at: Situation) -> httpx.Response:
    proof = {"current_password": at.somebody.password}
    return at.users.request("DELETE", "/me", json=proof, headers=at.elsewhere.bearer)


@pytest.fixture
def users(services_on_both: Services) -> Iterator[httpx.Client]:
    with services_on_both.users.client() as client:
        yield client


@pytest.fixture
def products(services_on_both: Services) -> Iterator[httpx.Client]:
    with services_on_both.products.client() as client:
        yield client


@pytest.fixture(scope="module")
def admin(services_on_both: Services) -> Account:
    return made_admin(services_on_both)


@pytest.fixture
def situation(services_on_both: Services, users: httpx.Client, admin: Account) -> Situation:
    somebody = services_on_both.sign_up()
    token = services_on_both.log_in(somebody.username, somebody.password)
    return Situation(users, somebody, replace(somebody, token=token), admin)


def made_admin(services: Services) -> Account:
    """Somebody new with all rights, whom no call of the API makes."""
    somebody = services.sign_up()
    services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=somebody.id)
    return somebody


def call_with(products: httpx.Client, token: str) -> httpx.Response:
    """A protected call that succeeds wherever the token is good."""
    return products.post(
        "/products",
        json={"name": "Lamp", "price": "19.99", "quantity": 3},
        headers={"Authorization": f"Bearer {token}"},
    )


def assert_refused(answer: httpx.Response) -> None:
    """Assert that it says: the token was good for nothing, get another one."""
    problem(answer, 401, "invalid-token")
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "revoke", [log_out, log_out_everywhere, end_the_session, change_the_password, disable, delete_the_account]
)
def test_after_a_revocation_the_very_next_protected_call_is_refused_and_reads_go_on(
    products: httpx.Client, situation: Situation, revoke: Revoke
) -> None:
    somebody = situation.somebody
    before = call_with(products, somebody.token)
    assert before.status_code == 201

    revoked = revoke(situation)
    assert revoked.status_code in (200, 204), revoked.text
    assert_refused(call_with(products, somebody.token))

    # The product is there, for everybody, and nobody looks at a token where none is needed.
    address = before.headers["location"]
    for headers in ({}, somebody.bearer):
        assert products.get(address, headers=headers).json() == before.json()
        assert products.get("/products", headers=headers).status_code == 200
    # The refusal stays, although another account has been let in between.
    assert call_with(products, situation.admin.token).status_code == 201
    assert_refused(call_with(products, somebody.token))


@pytest.mark.parametrize("revoke", [log_out, end_the_session, change_the_password])
def test_what_ends_one_session_leaves_the_other_one_of_the_account(
    products: httpx.Client, situation: Situation, revoke: Revoke
) -> None:
    assert revoke(situation).status_code == 204
    assert_refused(call_with(products, situation.somebody.token))
    assert call_with(products, situation.elsewhere.token).status_code == 201


def test_a_refresh_token_used_again_after_the_grace_ends_the_session_for_the_product_service_too(
    services_on_both: Services, backend: str, products: httpx.Client, situation: Situation
) -> None:
    users, somebody = situation.users, situation.somebody
    credentials = {"username": somebody.username, "password": somebody.password}
    granted = users.post("/login", json=credentials).json()
    used = {"refresh_token": granted["refresh_token"]}
    tokens = [granted["access_token"]]
    for _ in ("refreshed", "repeated within the grace"):
        renewed = users.post("/refresh", json=used)
        assert renewed.status_code == 200
        tokens.append(renewed.json()["access_token"])
    for token in tokens:
        assert call_with(products, token).status_code == 201

    services_on_both.users.sql(
        f"UPDATE sessions SET refreshed_at = {LATER_THAN_THE_GRACE[backend]} WHERE user_id = :id", id=somebody.id
    )
    problem(users.post("/refresh", json=used), 401, "session-revoked")
    for token in tokens:
        assert_refused(call_with(products, token))
    # Another session of the same account has nothing to do with it.
    assert call_with(products, somebody.token).status_code == 201


def test_an_admin_may_change_what_others_own_until_the_demotion_and_not_with_the_next_call(
    services_on_both: Services, users: httpx.Client, products: httpx.Client, admin: Account
) -> None:
    owner, stranger, deputy = services_on_both.sign_up(), services_on_both.sign_up(), made_admin(services_on_both)
    addresses = [f"/products/{services_on_both.create_product(owner)['id']}" for _ in range(2)]

    def change(account: Account, address: str, quantity: int) -> httpx.Response:
        return products.put(address, json={"quantity": quantity}, headers=account.bearer)

    def assert_not_allowed(account: Account, address: str) -> None:
        problem(change(account, address, 0), 403, "not-the-owner")
        problem(products.delete(address, headers=account.bearer), 403, "not-the-owner")

    for address in addresses:
        assert_not_allowed(stranger, address)
        changed = change(deputy, address, 7)
        assert (changed.status_code, changed.json()["quantity"], changed.json()["owner_id"]) == (200, 7, owner.id)
    assert products.delete(addresses[0], headers=deputy.bearer).status_code == 204
    problem(products.get(addresses[0]), 404, "product-not-found")

    demoted = users.patch(f"/users/{deputy.id}", json={"roles": ["user"]}, headers=admin.bearer)
    assert (demoted.status_code, demoted.json()["roles"]) == (200, ["user"])
    assert_not_allowed(deputy, addresses[1])
    # The session goes on; it is only worth less.
    assert call_with(products, deputy.token).status_code == 201
    assert change(owner, addresses[1], 8).json()["quantity"] == 8


def test_what_a_deleted_account_owned_stays_readable_and_is_for_admins_to_remove(
    services_on_both: Services, products: httpx.Client, situation: Situation
) -> None:
    product = services_on_both.create_product(situation.somebody)
    address = f"/products/{product['id']}"
    assert delete_the_account(situation).status_code == 204
    assert products.get(address).json() == product
    assert products.delete(address, headers=situation.admin.bearer).status_code == 204


def test_every_call_that_begins_after_the_answer_to_a_logout_is_refused(services_on_both: Services) -> None:
    somebody = services_on_both.sign_up()
    began: dict[str, float] = {}
    refusals: list[httpx.Response] = []

    def note(client: httpx.Client, name: str) -> httpx.Response:
        began[name] = time.monotonic()
        answer = create(client, name)
        if answer.status_code == 401:
            refusals.append(answer)
        return answer

    with (
        services_on_both.users.client() as users,
        Stream(services_on_both.products, note, prefix="race", headers=somebody.bearer) as calls,
    ):
        calls.flows(20)
        assert users.post("/logout", headers=somebody.bearer).status_code == 204
        over = time.monotonic()
        calls.flows(40, status=401)

    late = {name for name, moment in began.items() if moment > over}
    assert len(late) > 30
    assert {calls.answers[name] for name in late} == {401}
    # Those that were in flight may have gone either way, but no third one.
    assert set(calls.counts) == {201, 401}
    for answer in refusals:
        assert_refused(answer)
