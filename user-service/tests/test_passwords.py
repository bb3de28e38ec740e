import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from passlib.hash import bcrypt, bcrypt_sha256

from testkit.applications import running
from testkit.throttling import attempt
from testkit.users import MakeSettings, sign_up
from user_service.main import create_app
from user_service.security.common_passwords import is_common, is_guessable
from user_service.security.passwords import Passwords, Verification

MATCH, OUTDATED_MATCH = Verification(matches=True, is_outdated=False), Verification(matches=True, is_outdated=True)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(cost=4, queue_timeout=5)
    yield passwords
    passwords.close()


async def test_a_hash_matches_only_its_password(passwords: Passwords) -> None:
    stored = await passwords.hash("correct")
    assert await passwords.verify("correct", stored) == MATCH
    assert not (await passwords.verify("Correct", stored)).matches
    assert not (await passwords.verify("", stored)).matches


async def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    assert await passwords.hash("same") != await passwords.hash("same")


async def test_a_hash_names_its_scheme_and_the_configured_cost(passwords: Passwords) -> None:
    assert (await passwords.hash("any")).startswith("$bcrypt-sha256$v=2,t=2b,r=4$")


@pytest.mark.parametrize("password", ["", "a password"])
async def test_no_password_matches_a_missing_hash(passwords: Passwords, password: str) -> None:
    assert not (await passwords.verify(password, None)).matches


async def test_a_hash_of_another_cost_is_valid_and_outdated(passwords: Passwords) -> None:
    costlier = Passwords(cost=5, queue_timeout=5)
    assert await costlier.verify("a password", await passwords.hash("a password")) == OUTDATED_MATCH
    assert not (await costlier.verify("another", await passwords.hash("a password"))).matches
    costlier.close()


@pytest.mark.parametrize("prefix", ["$2b$", "$2a$", "$2y$"])
async def test_a_plain_bcrypt_hash_is_valid_and_outdated(passwords: Passwords, prefix: str) -> None:
    stored = bcrypt.using(rounds=4).hash("x" * 72).replace("$2b$", prefix)
    assert await passwords.verify("x" * 72, stored) == OUTDATED_MATCH
    # bcrypt ignored the rest of longer passwords; rejecting them now would lock their owners out.
    assert await passwords.verify("x" * 72 + "y", stored) == OUTDATED_MATCH
    assert not (await passwords.verify("x" * 71, stored)).matches


@pytest.mark.parametrize(
    "stored", ["", "x", "$2b$04$short", "$bcrypt-sha256$v=2,t=2b,r=4$", "$argon2id$v=19$m=1$a$b", "\x00", "é" * 100]
)
async def test_no_password_matches_a_malformed_hash(passwords: Passwords, stored: str) -> None:
    assert not (await passwords.verify("a password", stored)).matches


@pytest.mark.parametrize("password", ["password", "PassWord", "12345678", "football1", "iloveyou"])
def test_common_passwords_are_recognized_in_any_case(password: str) -> None:
    assert is_common(password)


@pytest.mark.parametrize("password", ["correct horse battery staple", "xkqzvjwp"])
def test_uncommon_passwords_are_accepted(password: str) -> None:
    assert not is_common(password)


@pytest.mark.parametrize("password", ["correct horse battery staple", "xkqzvjwp", "a" * 24 + "xkqzvjwp"])
def test_passwords_that_are_hard_to_guess_are_accepted(password: str) -> None:
    assert not is_guessable(password, "ada")


def test_a_long_username_is_guessed_in_any_case() -> None:
    assert is_guessable("XKQZVJWPWMRTYXKQZVJWPBNHGTRF", "xkqzvjwpwmrtyxkqzvjwpbnhgtrf")
    assert not is_guessable("xkqzvjwpwmrtyxkqzvjwpbnhgtrf", "ada")


def test_a_long_password_is_judged_in_bounded_time() -> None:
    # As a whole, it takes zxcvbn many minutes.
    assert not is_guessable("{586(|1|7|<(|4|7+421!3%$9" * 10, "ada")


async def test_unknown_and_known_usernames_cost_the_same() -> None:
    """Measures CPU time, with a cost that makes hashing nearly all of it."""
    passwords = Passwords(cost=9, queue_timeout=5)
    stored = await passwords.hash("a password")

    async def cost(stored: str | None) -> float:
        started = time.process_time()
        await passwords.verify("another password", stored)
        return time.process_time() - started

    known, unknown = zip(*[(await cost(stored), await cost(None)) for _ in range(5)], strict=True)
    passwords.close()
    assert min(known) / 2 < min(unknown) < min(known) * 2


def rounds_of(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rounds of bcrypt that each hash computed from now on has."""
    rounds: list[int] = []
    verify = passwords._schemes.verify

    def counted(secret: bytes, stored: str) -> bool:
        # Raises for a malformed hash, without computing one.
        matches = bool(verify(secret, stored))
        rounds.append(2 ** int(re.findall(r"(?:r=|\$2b\$)(\d+)\$", stored)[0]))
        return matches

    monkeypatch.setattr(passwords._schemes, "verify", counted)
    return rounds


@pytest.mark.parametrize("other_cost", [4, 8])
@pytest.mark.parametrize("scheme", [bcrypt, bcrypt_sha256])
@pytest.mark.parametrize("password", ["a password", "wrong"])
async def test_hashes_of_all_costs_take_as_long_as_the_highest(
    monkeypatch: pytest.MonkeyPatch, other_cost: int, scheme: Any, password: str
) -> None:
    passwords = Passwords(cost=6, queue_timeout=5)
    passwords.expect(max(6, other_cost))
    rounds = rounds_of(passwords, monkeypatch)
    for stored in (scheme.using(rounds=other_cost).hash("a password"), await passwords.hash("a password"), None, "x"):
        rounds.clear()
        await passwords.verify(password, stored)
        assert sum(rounds) == 2 ** max(6, other_cost)
    passwords.close()


async def test_a_hash_of_a_higher_cost_sets_the_time_of_the_next_ones(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = bcrypt_sha256.using(rounds=6).hash("a password")
    await passwords.verify("wrong", stored)
    rounds = rounds_of(passwords, monkeypatch)
    await passwords.verify("wrong", None)
    assert sum(rounds) == 2**6


@pytest.mark.parametrize(("before", "after"), [(4, 6), (6, 4)])
async def test_a_change_of_the_cost_does_not_reveal_which_names_exist(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    async with running(create_app(make_settings(bcrypt_cost=before))) as client:
        await sign_up(client, "ada")
    app = create_app(make_settings(bcrypt_cost=after))
    passwords = app.state.services._passwords
    async with running(app) as client:
        async with asyncio.timeout(20):
            while passwords._highest_cost < 6:  # noqa: ASYNC110 - nothing else tells.
                await asyncio.sleep(0.01)
        rounds = rounds_of(passwords, monkeypatch)
        for username in ("nobody", "ada"):
            rounds.clear()
            assert await attempt(client, username) == 401
            assert sum(rounds) == 2**6


async def test_hashing_does_not_block_the_event_loop() -> None:
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
