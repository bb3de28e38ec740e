"""Revoked sessions, disabled accounts and removed roles take effect in the product service with the next call."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import httpx
import pytest

from testkit.databases import POSTGRESQL, SQLITE
from testkit.processes import Account, Services, problem
from tests.streams import Stream, create

AFTER_THE_GRACE_PERIOD = {
    SQLITE: "strftime('%Y-%m-%d %H:%M:%f', refreshed_at, '-11 seconds')",
    POSTGRESQL: "refreshed_at - interval '11 seconds'",
}


@dataclass(frozen=True)
class Situation:
    """An account with two sessions, and an admin."""

    users: httpx.Client
    account: Account
    """With the token of the session to be revoked."""
    other_session: Account
    """The same account with the token of its other session."""
    admin: Account


Revoke = Callable[[Situation], httpx.Response]
"""Revokes the session of `account`."""


def log_out(at: Situation) -> httpx.Response:
    return at.users.post("/logout", headers=at.account.bearer)


def log_out_everywhere(at: Situation) -> httpx.Response:
    return at.users.post("/logout-all", headers=at.other_session.bearer)


def revoke_the_session(at: Situation) -> httpx.Response:
    sessions = at.users.get("/sessions", headers=at.other_session.bearer).json()
    (other,) = [session for session in sessions if not session["current"]]
    return at.users.delete(f"/sessions/{other['id']}", headers=at.other_session.bearer)


def change_the_password(at: Situation) -> httpx.Response:
    change = {"current_password": at.account.password, "new_password": "another long password"}
    return at.users.post("/me/password", json=change, headers=at.other_session.bearer)


def revoke_the_token(at: Situation) -> httpx.Response:
    return at.users.post("/revoke", data={"token": at.account.token})


def revoke_the_session_as_an_admin(at: Situation) -> httpx.Response:
    path = f"/users/{at.account.id}/sessions"
    first = min(each["id"] for each in at.users.get(path, headers=at.admin.bearer).json())
    return at.users.delete(f"{path}/{first}", headers=at.admin.bearer)


def revoke_all_sessions_as_an_admin(at: Situation) -> httpx.Response:
    return at.users.delete(f"/users/{at.account.id}/sessions", headers=at.admin.bearer)


def set_the_password_as_an_admin(at: Situation) -> httpx.Response:
    path, change = f"/users/{at.account.id}/password", {"new_password": "another long password"}
    return at.users.post(path, json=change, headers=at.admin.bearer)


def delete_the_account_as_an_admin(at: Situation) -> httpx.Response:
    return at.users.delete(f"/users/{at.account.id}", headers=at.admin.bearer)


def disable(at: Situation) -> httpx.Response:
    return at.users.patch(f"/users/{at.account.id}", json={"is_active": False}, headers=at.admin.bearer)


def delete_the_account(at: Situation) -> httpx.Response:
    proof = {"current_password": at.account.password}
    return at.users.request("DELETE", "/me", json=proof, headers=at.other_session.bearer)


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
    return new_admin(services_on_both)


@pytest.fixture
def situation(services_on_both: Services, users: httpx.Client, admin: Account) -> Situation:
    account = services_on_both.sign_up()
    token = services_on_both.log_in(account.username, account.password)
    return Situation(users, account, replace(account, token=token), admin)


def new_admin(services: Services) -> Account:
    """A new admin, which no API call can create."""
    account = services.sign_up()
    services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=account.id)
    return account


def call_with(products: httpx.Client, token: str) -> httpx.Response:
    """A protected call that succeeds with any valid token."""
    return products.post(
        "/products",
        json={"name": "Lamp", "price": "19.99", "quantity": 3},
        headers={"Authorization": f"Bearer {token}"},
    )


def assert_rejected(answer: httpx.Response) -> None:
    """Assert that the response is the 401 for an invalid token."""
    problem(answer, 401, "invalid-token")
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


OF_ONE_SESSION = (log_out, revoke_the_session, revoke_the_token, revoke_the_session_as_an_admin)
OF_THE_OTHER_SESSIONS = (change_the_password,)
OF_ALL_SESSIONS = (
    *(log_out_everywhere, revoke_all_sessions_as_an_admin, set_the_password_as_an_admin),
    *(disable, delete_the_account, delete_the_account_as_an_admin),
)


@pytest.mark.parametrize("revoke", [*OF_ONE_SESSION, *OF_THE_OTHER_SESSIONS, *OF_ALL_SESSIONS])
def test_after_a_revocation_the_next_call_is_rejected_and_reads_work(
    products: httpx.Client, situation: Situation, revoke: Revoke
) -> None:
    account = situation.account
    before = call_with(products, account.token)
    assert before.status_code == 201

    revoked = revoke(situation)
    assert revoked.status_code in (200, 204), revoked.text
    assert_rejected(call_with(products, account.token))

    # The product is still public, and reads ignore the token.
    url = before.headers["location"]
    for headers in ({}, account.bearer):
        assert products.get(url, headers=headers).json() == before.json()
        assert products.get("/products", headers=headers).status_code == 200
    # The token stays invalid after a call of another account succeeded.
    assert call_with(products, situation.admin.token).status_code == 201
    assert_rejected(call_with(products, account.token))


@pytest.mark.parametrize("revoke", [*OF_ONE_SESSION, *OF_THE_OTHER_SESSIONS])
def test_revoking_one_session_leaves_the_other_one_of_the_account(
    products: httpx.Client, situation: Situation, revoke: Revoke
) -> None:
    assert revoke(situation).status_code in (200, 204)
    assert_rejected(call_with(products, situation.account.token))
    assert call_with(products, situation.other_session.token).status_code == 201


@pytest.mark.parametrize("revoke", OF_ALL_SESSIONS)
def test_revoking_all_sessions_leaves_none(products: httpx.Client, situation: Situation, revoke: Revoke) -> None:
    assert revoke(situation).status_code in (200, 204)
    for each in (situation.account, situation.other_session):
        assert_rejected(call_with(products, each.token))


def test_reusing_a_refresh_token_revokes_the_session(
    services_on_both: Services, backend: str, products: httpx.Client, situation: Situation
) -> None:
    users, account = situation.users, situation.account
    credentials = {"username": account.username, "password": account.password}
    granted = users.post("/login", json=credentials).json()
    used = {"refresh_token": granted["refresh_token"]}
    tokens = [granted["access_token"]]
    for _ in ("refreshed", "repeated within the grace period"):
        renewed = users.post("/refresh", json=used)
        assert renewed.status_code == 200
        tokens.append(renewed.json()["access_token"])
    for token in tokens:
        assert call_with(products, token).status_code == 201

    services_on_both.users.sql(
        f"UPDATE sessions SET refreshed_at = {AFTER_THE_GRACE_PERIOD[backend]} WHERE user_id = :id", id=account.id
    )
    problem(users.post("/refresh", json=used), 401, "session-revoked")
    for token in tokens:
        assert_rejected(call_with(products, token))
    # The other session of the account is still valid.
    assert call_with(products, account.token).status_code == 201


def test_a_demoted_admin_loses_the_rights_with_the_next_call(
    services_on_both: Services, users: httpx.Client, products: httpx.Client, admin: Account
) -> None:
    owner, stranger, deputy = services_on_both.sign_up(), services_on_both.sign_up(), new_admin(services_on_both)
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
    # The session is still valid, with fewer rights.
    assert call_with(products, deputy.token).status_code == 201
    assert change(owner, addresses[1], 8).json()["quantity"] == 8


def test_products_of_a_deleted_account_stay_and_admins_can_delete_them(
    services_on_both: Services, products: httpx.Client, situation: Situation
) -> None:
    product = services_on_both.create_product(situation.account)
    address = f"/products/{product['id']}"
    assert delete_the_account(situation).status_code == 204
    assert products.get(address).json() == product
    assert products.delete(address, headers=situation.admin.bearer).status_code == 204


def test_every_call_that_starts_after_a_logout_is_rejected(services_on_both: Services) -> None:
    account = services_on_both.sign_up()
    began: dict[str, float] = {}
    rejections: list[httpx.Response] = []

    def create_and_note(client: httpx.Client, name: str) -> httpx.Response:
        began[name] = time.monotonic()
        answer = create(client, name)
        if answer.status_code == 401:
            rejections.append(answer)
        return answer

    with (
        services_on_both.users.client() as users,
        Stream(services_on_both.products, create_and_note, prefix="race", headers=account.bearer) as calls,
    ):
        calls.flows(20)
        assert users.post("/logout", headers=account.bearer).status_code == 204
        revoked = time.monotonic()
        calls.flows(40, status=401)

    late = {name for name, moment in began.items() if moment > revoked}
    assert len(late) > 30
    assert {calls.answers[name] for name in late} == {401}
    # Calls in flight during the logout may have succeeded or been rejected, nothing else.
    assert set(calls.counts) == {201, 401}
    for answer in rejections:
        assert_rejected(answer)
