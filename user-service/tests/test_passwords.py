import asyncio
import time
from collections.abc import Iterator

import pytest
from passlib.hash import bcrypt

from user_service.security.common_passwords import is_common
from user_service.security.passwords import Passwords, Verdict

RIGHT, OUTDATED = Verdict(matches=True, is_outdated=False), Verdict(matches=True, is_outdated=True)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(cost=4, queue_timeout=5)
    yield passwords
    passwords.close()


async def test_a_password_matches_its_hash_and_no_other(passwords: Passwords) -> None:
    stored = await passwords.hash("correct")
    assert await passwords.verify("correct", stored) == RIGHT
    assert not (await passwords.verify("Correct", stored)).matches
    assert not (await passwords.verify("", stored)).matches


async def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    assert await passwords.hash("same") != await passwords.hash("same")


async def test_a_hash_tells_its_scheme_and_the_cost_that_was_set(passwords: Passwords) -> None:
    assert (await passwords.hash("any")).startswith("$bcrypt-sha256$v=2,t=2b,r=4$")


@pytest.mark.parametrize("password", ["", "a password"])
async def test_nobodys_password_is_never_right(passwords: Passwords, password: str) -> None:
    assert not (await passwords.verify(password, None)).matches


async def test_a_hash_of_another_cost_is_right_and_outdated(passwords: Passwords) -> None:
    dearer = Passwords(cost=5, queue_timeout=5)
    assert await dearer.verify("a password", await passwords.hash("a password")) == OUTDATED
    assert not (await dearer.verify("another", await passwords.hash("a password"))).matches
    dearer.close()


@pytest.mark.parametrize("prefix", ["$2b$", "$2a$", "$2y$"])
async def test_a_plain_bcrypt_hash_is_right_and_outdated(passwords: Passwords, prefix: str) -> None:
    stored = bcrypt.using(rounds=4).hash("x" * 72).replace("$2b$", prefix)
    assert await passwords.verify("x" * 72, stored) == OUTDATED
    # An earlier system cut what came after; to refuse it now would lock its owner out.
    assert await passwords.verify("x" * 72 + "y", stored) == OUTDATED
    assert not (await passwords.verify("x" * 71, stored)).matches


@pytest.mark.parametrize(
    "stored", ["", "x", "$2b$04$short", "$bcrypt-sha256$v=2,t=2b,r=4$", "$argon2id$v=19$m=1$a$b", "\x00", "é" * 100]
)
async def test_what_is_no_hash_is_never_right(passwords: Passwords, stored: str) -> None:
    assert not (await passwords.verify("a password", stored)).matches


@pytest.mark.parametrize("password", ["password", "PassWord", "12345678", "football1", "iloveyou"])
def test_a_common_password_is_known_in_any_case(password: str) -> None:
    assert is_common(password)


@pytest.mark.parametrize("password", ["correct horse battery staple", "xkqzvjwp"])
def test_another_password_is_not_common(password: str) -> None:
    assert not is_common(password)


async def test_an_unknown_name_costs_as_much_as_a_known_one() -> None:
    """In processor time, at a cost where hashing is nearly all of it."""
    passwords = Passwords(cost=9, queue_timeout=5)
    stored = await passwords.hash("a password")

    async def cost(stored: str | None) -> float:
        started = time.process_time()
        await passwords.verify("another password", stored)
        return time.process_time() - started

    known, unknown = zip(*[(await cost(stored), await cost(None)) for _ in range(5)], strict=True)
    passwords.close()
    assert min(known) / 2 < min(unknown) < min(known) * 2


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    passwords = Passwords(cost=11, queue_timeout=5)
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
