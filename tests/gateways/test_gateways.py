"""The configurations of deploy/gateway, in every situation: one table of what was expected and what was seen."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from testkit.processes import running_services
from tests.gateways.application import running_application
from tests.gateways.gateways import COMMANDS, Authority, Gateway, gateway
from tests.gateways.situations import (
    DEAD,
    HANGING,
    LIMIT,
    NO_DATABASE,
    ORIGIN,
    RESTARTED,
    RUNNING,
    Situation,
    World,
)

PAGE = Path(__file__).parents[2] / "docs" / "gateways.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = {
        "TRUSTED_PROXIES": "127.0.0.1",
        "ALLOWED_ORIGINS": ORIGIN,
        "RATE_LIMIT_LOGIN_ADDRESS": f"{LIMIT}/hour",
    }
    with running_services(tmp_path_factory.mktemp("services"), None, **settings) as services:
        account = services.sign_up()
        with services.users.client() as client:
            session = client.get("/sessions", headers=account.bearer).json()[0]["id"]
            revoked = services.log_in(account.username, account.password)
            client.post("/logout", headers={"Authorization": f"Bearer {revoked}"})
        yield World(services, account, session, revoked)


@pytest.fixture(scope="module")
def gateways(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """All gateways, in front of the same services and application."""
    folder = tmp_path_factory.mktemp("gateways")
    authority = Authority(folder)
    with ExitStack() as cleanup:
        upstreams = {
            "user-service:8001": world.services.users.port,
            "product-service:8002": world.services.products.port,
            "application:8003": cleanup.enter_context(running_application()),
        }
        started = []
        for number, name in enumerate(COMMANDS):
            own = folder / name
            own.mkdir()
            # Each has a client of its own address.
            address = f"127.0.1.{number + 1}"
            visitor = gateway(name, upstreams, authority, own, address)
            started.append(cleanup.enter_context(visitor))
        yield started


def looked_at(situation: Situation, world: World, gateways: Sequence[Gateway]) -> list[str]:
    """What is seen behind each gateway."""

    def look(each: Gateway) -> str:
        try:
            return situation.look(world, each)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(len(gateways)) as pool:
        return list(pool.map(look, gateways))


def test_every_gateway_in_every_situation(world: World, gateways: list[Gateway]) -> None:
    users = world.services.users
    seen: dict[str, list[str]] = {}
    wrong = []

    def look(situations: Sequence[Situation]) -> None:
        for situation in situations:
            rows = looked_at(situation, world, gateways)
            cells = []
            for each, row in zip(gateways, rows, strict=True):
                expected = situation.expected_of(each.name)
                if row != expected:
                    wrong.append(f"{each.name}: {situation.name}: expected {expected}, seen {row}")
                cells.append("yes" if row == situation.expected else row)
            seen[situation.name] = [situation.expected, *cells]

    look(RUNNING)
    users.sql("ALTER TABLE users RENAME TO elsewhere")
    look(NO_DATABASE)
    users.sql("ALTER TABLE elsewhere RENAME TO users")
    users.pause()
    look(HANGING)
    users.resume()
    users.kill()
    look(DEAD)
    users.start().wait_ready()
    look(RESTARTED)

    header = ["situation", "expected", *(each.name for each in gateways)]
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in seen.items())]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(f"\n{table}")
    assert not wrong, "\n".join(wrong)
    assert table in PAGE.read_text(encoding="utf-8"), f"{PAGE.name} has another table"
