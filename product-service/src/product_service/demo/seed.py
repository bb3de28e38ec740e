"""Gives the running services two accounts and a few dozen products, through their public API.

    python -m product_service.demo.seed --users-url http://localhost:8001 --products-url http://localhost:8002

With `--products 100000` it adds a large catalogue, which it writes into the database that the settings of the product
service name. Running it twice is safe: an account or a product that is there already stays as it is.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from chassis.database.transactions import Database
from chassis.errors import DatabaseBusy, DatabaseUnavailable, OutcomeUnknown
from chassis.settings import load
from product_service.demo import large_catalogue
from product_service.settings import Settings

CATALOGUE = Path(__file__).with_name("seed.json")
"""The products by the name of their owner, each as `POST /products` takes it."""
PASSWORD = "correct horse battery staple"  # noqa: S105 - of accounts to play with, and printed for who wants to
TIMEOUT = 10  # seconds


class Refused(Exception):
    """A service that does not answer, or not as it should; the message is one line for the person who asked."""


def main() -> int:
    """Do what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m product_service.demo.seed", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--users-url", metavar="URL", default="http://localhost:8001", help="of the user service")
    parser.add_argument("--products-url", metavar="URL", default="http://localhost:8002", help="of the product service")
    parser.add_argument(
        "--products", metavar="N", type=int, default=0, help="so many more, written into this service's own database"
    )
    arguments = parser.parse_args()
    owners = []
    catalogue: dict[str, list[dict[str, Any]]] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    try:
        with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            for owner, products in catalogue.items():
                token = sign_in(client, arguments.users_url.rstrip("/"), owner)
                owners.append(account_of(client, arguments.users_url.rstrip("/"), token))
                counted = create(client, arguments.products_url.rstrip("/"), token, products)
                print(f"{owner}: {counted['created']} products created, {counted['there already']} there already")
        if arguments.products > 0:
            store_many(owners, arguments.products)
    except Refused as refusal:
        print(f"seed: {refusal}", file=sys.stderr)
        return 1
    print(f'Log in as {" or ".join(catalogue)}, with the password "{PASSWORD}".')
    return 0


def sign_in(client: httpx.Client, users_url: str, username: str) -> str:
    """A token for the account of this name, which is opened where there is none."""
    credentials = {"username": username, "password": PASSWORD}
    post(client, f"{users_url}/register", credentials, unless="username-taken")
    login = post(client, f"{users_url}/login", credentials, unless="invalid-credentials")
    if login is None:
        raise Refused(f'There is an account "{username}" already, and its password is another one.')
    return str(login["access_token"])


def account_of(client: httpx.Client, users_url: str, token: str) -> int:
    """The id of the account that the token stands for."""
    try:
        account = client.get(f"{users_url}/me", headers={"Authorization": f"Bearer {token}"})
        return int(account.raise_for_status().json()["id"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise Refused(f"{users_url}/me did not say whose the token is: {type(error).__name__}") from None


def store_many(owners: Sequence[int], count: int) -> None:
    """Put a large catalogue into the database that the settings name, and say how far it is."""
    settings = load(Settings)
    started = time.monotonic()

    def tell(done: int) -> None:
        if done % 10_000 == 0 or done == count:
            print(f"{done:,} of {count:,} products, {time.monotonic() - started:.0f} s", flush=True)

    database = Database(
        settings.database_url,
        lambda session: session,
        pool_size=2,
        pool_timeout=settings.database_pool_timeout,
        timeout=60,
    )
    try:
        stored = asyncio.run(large_catalogue.fill(database, owners, count, tell))
    except (DatabaseUnavailable, DatabaseBusy, OutcomeUnknown) as error:
        raise Refused(error.detail) from None
    finally:
        database.close()
    print(f"{stored:,} products stored, {count - stored:,} there already")


def create(client: httpx.Client, products_url: str, token: str, products: list[dict[str, Any]]) -> Counter[str]:
    """Create what is not there yet, and count."""
    counted: Counter[str] = Counter()
    for product in products:
        created = post(client, f"{products_url}/products", product, unless="sku-taken", token=token)
        counted["there already" if created is None else "created"] += 1
    return counted


def post(
    client: httpx.Client, url: str, body: dict[str, Any], *, unless: str, token: str | None = None
) -> dict[str, Any] | None:
    """What the service answers to the body; None where it is a problem with the code `unless`."""
    try:
        answer = client.post(url, json=body, headers={"Authorization": f"Bearer {token}"} if token else None)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Refused(f"{url} cannot be reached: {str(error) or type(error).__name__}") from None
    try:
        answered = answer.json()
    except ValueError:
        answered = None
    if not isinstance(answered, dict):
        raise Refused(f"{url} answered {answer.status_code}, and nothing that a service of ours would say.")
    if answered.get("code") == unless:
        return None
    if not answer.is_success:
        said = [str(answered[name]) for name in ("detail", "errors") if name in answered]
        raise Refused(f"{url} answered {answer.status_code}: {' '.join(said)}")
    return answered


if __name__ == "__main__":
    sys.exit(main())
