import asyncio
import time
from collections.abc import Iterator

import pytest

from user_service.passwords import Passwords


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(cost=4)
    yield passwords
    passwords.close()


async def test_a_password_matches_its_hash_and_no_other(passwords: Passwords) -> None:
    stored = await passwords.hash("correct")
    assert await passwords.verify("correct", stored)
    assert not await passwords.verify("Correct", stored)
    assert not await passwords.verify("", stored)


async def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    assert await passwords.hash("same") != await passwords.hash("same")


async def test_a_hash_tells_its_scheme_and_the_cost_that_was_set(passwords: Passwords) -> None:
    assert (await passwords.hash("any")).startswith("$bcrypt-sha256$v=2,t=2b,r=4$")


@pytest.mark.parametrize("password", ["", "a password"])
async def test_nobodys_password_is_never_right(passwords: Passwords, password: str) -> None:
    assert not await passwords.verify(password, None)


async def test_an_unknown_name_costs_as_much_as_a_known_one() -> None:
    """In processor time, at a cost where hashing is nearly all of it."""
    passwords = Passwords(cost=9)
    stored = await passwords.hash("a password")

    async def cost(stored: str | None) -> float:
        started = time.process_time()
        await passwords.verify("another password", stored)
        return time.process_time() - started

    known, unknown = zip(*[(await cost(stored), await cost(None)) for _ in range(5)], strict=True)
    passwords.close()
    assert min(known) / 2 < min(unknown) < min(known) * 2


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    passwords = Passwords(cost=11)
    hashing = asyncio.gather(*(passwords.hash("a password") for _ in range(4)))
    longest, before = 0.0, time.perf_counter()
    while not hashing.done():
        await asyncio.sleep(0)
        longest, before = max(longest, time.perf_counter() - before), time.perf_counter()
    started = time.perf_counter()
    await passwords.hash("a password")
    one_hash = time.perf_counter() - started
    passwords.close()
    assert longest < max(one_hash, 0.1)
