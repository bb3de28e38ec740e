"""The statistics of login_timing.py alone: what is alike is not told apart, and what is not is."""

import random

import pytest

from bench.login_timing import FAMILY_WISE_ERROR, POWER, chance_of_longer, compare, confidence_of_one, noticeable

REASONS = ("unknown name", "wrong password", "disabled")


def times(rng: random.Random, samples: int, delay: float = 0.0) -> list[float]:
    """As those of a busy machine: around 50 ms, with a long tail."""
    return [0.05 + delay + rng.lognormvariate(-7, 1) for _ in range(samples)]


def test_times_that_are_spread_alike_are_not_told_apart() -> None:
    rng = random.Random(1)
    for comparison in compare({reason: times(rng, 400) for reason in REASONS}, rng):
        assert not comparison.is_told_apart
        assert comparison.longer.low < 0.5 < comparison.longer.high
        assert comparison.difference.low < 0 < comparison.difference.high


def test_the_reason_that_takes_longer_is_told_apart_from_each_other_one() -> None:
    rng = random.Random(2)
    found = compare({reason: times(rng, 400, delay=0.0005 if reason == "disabled" else 0) for reason in REASONS}, rng)
    assert {each.reasons for each in found if each.is_told_apart} == {
        ("unknown name", "disabled"),
        ("wrong password", "disabled"),
    }
    for each in found:
        if each.is_told_apart:
            assert each.difference.low < 0.0005 < each.difference.high


def test_times_that_do_not_overlap_are_told_apart_without_any_doubt() -> None:
    rng = random.Random(3)
    fast, slow = [rng.random() for _ in range(100)], [2 + rng.random() for _ in range(100)]
    assert chance_of_longer(fast, slow, 0.99).low == 1
    assert chance_of_longer(slow, fast, 0.99).high == 0


def test_the_chance_is_the_share_of_pairs_and_ties_count_half() -> None:
    assert chance_of_longer([1, 2, 3], [2, 2, 4], 0.99).value == pytest.approx((1 + 1 + 1 + 0.5 + 0.5 + 1 + 1) / 9)


def test_false_alarms_and_misses_are_as_rare_as_is_said() -> None:
    rng = random.Random(4)
    confidence, runs = confidence_of_one(len(REASONS)), 150
    delay = noticeable(times(rng, 5000)[:200], confidence)

    def share_told_apart(delay: float) -> float:
        chances = [chance_of_longer(times(rng, 200), times(rng, 200, delay), confidence) for _ in range(runs)]
        return sum(not each.low <= 0.5 <= each.high for each in chances) / runs

    assert share_told_apart(0) <= 2 * FAMILY_WISE_ERROR
    assert share_told_apart(delay) == pytest.approx(POWER, abs=0.1)
