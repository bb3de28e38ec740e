"""The statistics of login_timing.py: equal distributions are indistinguishable, others are not."""

import random

import pytest

from bench.login_timing import (
    FAMILY_WISE_ERROR,
    POWER,
    compare,
    confidence_per_pair,
    detectable_delay,
    probability_of_longer,
)

REASONS = ("unknown name", "wrong password", "disabled")


def times(rng: random.Random, samples: int, delay: float = 0.0) -> list[float]:
    """Times as on a busy machine: around 50 ms, with a long tail."""
    return [0.05 + delay + rng.lognormvariate(-7, 1) for _ in range(samples)]


def test_equal_distributions_are_indistinguishable() -> None:
    rng = random.Random(1)
    for comparison in compare({reason: times(rng, 400) for reason in REASONS}, rng):
        assert not comparison.is_distinguishable
        assert comparison.longer.low < 0.5 < comparison.longer.high
        assert comparison.difference.low < 0 < comparison.difference.high


def test_a_slower_reason_is_distinguishable_from_each_other_one() -> None:
    rng = random.Random(2)
    found = compare({reason: times(rng, 400, delay=0.0005 if reason == "disabled" else 0) for reason in REASONS}, rng)
    assert {each.reasons for each in found if each.is_distinguishable} == {
        ("unknown name", "disabled"),
        ("wrong password", "disabled"),
    }
    for each in found:
        if each.is_distinguishable:
            assert each.difference.low < 0.0005 < each.difference.high


def test_times_without_overlap_have_probability_one() -> None:
    rng = random.Random(3)
    fast, slow = [rng.random() for _ in range(100)], [2 + rng.random() for _ in range(100)]
    assert probability_of_longer(fast, slow, 0.99).low == 1
    assert probability_of_longer(slow, fast, 0.99).high == 0


def test_the_probability_is_the_share_of_pairs_and_ties_count_half() -> None:
    assert probability_of_longer([1, 2, 3], [2, 2, 4], 0.99).value == pytest.approx((1 + 1 + 1 + 0.5 + 0.5 + 1 + 1) / 9)


def test_false_alarms_and_misses_are_as_rare_as_documented() -> None:
    rng = random.Random(4)
    confidence, runs = confidence_per_pair(len(REASONS)), 150
    delay = detectable_delay(times(rng, 5000)[:200], confidence)

    def share_detected(delay: float) -> float:
        probabilities = [
            probability_of_longer(times(rng, 200), times(rng, 200, delay), confidence) for _ in range(runs)
        ]
        return sum(not each.low <= 0.5 <= each.high for each in probabilities) / runs

    assert share_detected(0) <= 2 * FAMILY_WISE_ERROR
    assert share_detected(delay) == pytest.approx(POWER, abs=0.1)
