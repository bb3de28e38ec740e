"""Seeds the running services with two accounts and a few dozen products, through their public API.

    python -m product_service.demo.seed --users-url http://localhost:8001 --products-url http://localhost:8002

With `--products 100000`, it also writes a large catalogue directly to the database in the settings of the product
service. Running it again is safe: existing accounts and products are left unchanged.
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
from chassis.process.configuration import load
from product_service.demo import large_catalogue
from product_service.settings import Settings

CATALOGUE = Path(__file__).with_name("seed.json")
"""The products by the username of their owner, each a body of `POST /products`."""
PASSWORD = "correct horse battery staple"  # noqa: S105 - for demo accounts; printed when done
TIMEOUT = 10  # seconds


class SeedError(Exception):
    """A service is unreachable or returned an unexpected response; the message is one line for the user."""


def main() -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m product_service.demo.seed", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--users-url", metavar="URL", default="http://localhost:8001", help="base URL of the user service"
    )
    parser.add_argument(
        "--products-url", metavar="URL", default="http://localhost:8002", help="base URL of the product service"
    )
    parser.add_argument("--products", metavar="N", type=int, default=0, help="also write N products to the database")
    arguments = parser.parse_args()
    owners = []
    catalogue: dict[str, list[dict[str, Any]]] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    try:
        with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            for owner, products in catalogue.items():
                token = sign_in(client, arguments.users_url.rstrip("/"), owner)
                owners.append(account_of(client, arguments.users_url.rstrip("/"), token))
                counts = create(client, arguments.products_url.rstrip("/"), token, products)
                print(f"{owner}: {counts['created']} products created, {counts['existing']} already exist")
        if arguments.products > 0:
            store_many(owners, arguments.products)
    except SeedError as error:
        print(f"seed: {error}", file=sys.stderr)
        return 1
    print(f'Log in as {" or ".join(catalogue)}, with the password "{PASSWORD}".')
    return 0


def sign_in(client: httpx.Client, users_url: str, username: str) -> str:
    """Log in, registering the account first if it does not exist. Returns an access token."""
    credentials = {"username": username, "password": PASSWORD}
    post(client, f"{users_url}/register", credentials, unless="username-taken")
    login = post(client, f"{users_url}/login", credentials, unless="invalid-credentials")
    if login is None:
        raise SeedError(f'The account "{username}" already exists with a different password.')
    return str(login["access_token"])


def account_of(client: httpx.Client, users_url: str, token: str) -> int:
    """The id of the account that the token belongs to."""
    try:
        response = client.get(f"{users_url}/me", headers={"Authorization": f"Bearer {token}"})
        return int(response.raise_for_status().json()["id"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise SeedError(f"{users_url}/me did not return the account of the token: {type(error).__name__}") from None


def store_many(owners: Sequence[int], count: int) -> None:
    """Write a large catalogue to the database in the settings, and print the progress."""
    settings = load(Settings)
    started = time.monotonic()

    def print_progress(done: int) -> None:
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
        stored = asyncio.run(large_catalogue.fill(database, owners, count, print_progress))
    except (DatabaseUnavailable, DatabaseBusy, OutcomeUnknown) as error:
        raise SeedError(error.detail) from None
    finally:
        database.close()
    print(f"{stored:,} products stored, {count - stored:,} already exist")


def create(client: httpx.Client, products_url: str, token: str, products: list[dict[str, Any]]) -> Counter[str]:
    """Create the products that do not exist yet. Counts those created and those existing."""
    counts: Counter[str] = Counter()
    for product in products:
        created = post(client, f"{products_url}/products", product, unless="sku-taken", token=token)
        counts["existing" if created is None else "created"] += 1
    return counts


def post(
    client: httpx.Client, url: str, body: dict[str, Any], *, unless: str, token: str | None = None
) -> dict[str, Any] | None:
    """POST the body and return the response body; None if it is a problem with the code `unless`."""
    try:
        response = client.post(url, json=body, headers={"Authorization": f"Bearer {token}"} if token else None)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise SeedError(f"{url} is unreachable: {str(error) or type(error).__name__}") from None
    try:
        result = response.json()
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise SeedError(f"{url} returned {response.status_code} with an unexpected body.")
    if result.get("code") == unless:
        return None
    if not response.is_success:
        details = [str(result[name]) for name in ("detail", "errors") if name in result]
        raise SeedError(f"{url} returned {response.status_code}: {' '.join(details)}")
    return result


if __name__ == "__main__":
    sys.exit(main())
