"""The verdict of a soak. The soak itself runs only with its command."""

import json
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.soak import flatness
from tests.soak.flatness import Sample
from tests.soak.soak import errors, report
from tests.soak.traffic import differences

NOISE = random.Random(1)


def samples(**growth: float) -> list[Sample]:
    """Sixty noisy samples, ten seconds apart, with this growth over all of them."""
    return [
        Sample(
            seconds=10.0 * number,
            memory=80 + NOISE.uniform(-2, 2) + growth.get("memory", 0) * number / 60,
            connections=round(30 + NOISE.uniform(-15, 15) + growth.get("connections", 0) * number / 60),
            handles=round(60 + NOISE.uniform(-15, 15) + growth.get("handles", 0) * number / 60),
            threads=round(14 + NOISE.uniform(-1, 1) + growth.get("threads", 0) * number / 60),
        )
        for number in range(60)
    ]


def growing(found: list[Sample], since: float = 0) -> list[str]:
    return [trend.name for trend in flatness.trends(found, since) if trend.grows]


def test_noise_is_no_growth() -> None:
    assert not growing(samples())
    assert len(flatness.trends(samples(), 0)) == 4


@pytest.mark.parametrize(("name", "growth"), [("memory", 20), ("connections", 60), ("handles", 60), ("threads", 15)])
def test_a_leak_of_each_kind_is_found(name: str, growth: float) -> None:
    assert growing(samples(**{name: growth})) == [name]


def test_growth_before_the_first_round_of_faults_does_not_count() -> None:
    warm = [Sample(seconds=-1.0 * number, memory=1, connections=0, handles=8, threads=1) for number in range(1, 60)]
    assert growing([*warm, *samples()]) == []
    assert growing([*warm, *samples()], since=-100) != []


def test_a_peak_is_no_growth() -> None:
    found = samples()
    found[50:54] = [Sample(each.seconds, 400, 400, 400, 90) for each in found[50:54]]
    assert not growing(found)


def test_too_few_samples_have_no_trends() -> None:
    assert flatness.trends(samples()[:7], -1) == []


def test_lost_changed_and_resurrected_products_are_found() -> None:
    acknowledged = {1: ('"1"', 3), 2: ('"2"', 4), 3: ('"1"', 3)}
    assert differences(acknowledged, acknowledged) == []
    assert differences(acknowledged, {1: ('"1"', 3), 2: ('"1"', 3), 4: ('"1"', 3)}) == [
        "product 3 is lost",
        "product 4 was deleted, or never created",
        "product 2 is ('\"1\"', 3), not ('\"2\"', 4)",
    ]


def test_errors_and_tracebacks_are_found_in_a_log() -> None:
    lines = [json.dumps({"level": level, "message": level}) for level in ("info", "warning", "error", "critical")]
    assert errors("\n".join([*lines, "Traceback (most recent call last):"])) == [
        *lines[2:],
        "Traceback (most recent call last):",
    ]


@pytest.mark.parametrize(
    ("change", "status", "verdict"),
    [
        ({}, 0, "All is flat, nothing was lost, and nothing unexpected happened."),
        ({"samples": {"user-service": samples(memory=50)}}, 1, "FAILED: something grows; 0 problems."),
        ({"problems": ["product 3 is lost"]}, 1, "FAILED: 1 problems."),
        ({"warm": {}}, 2, "Too few samples."),
    ],
)
def test_the_status_tells_the_verdict(
    change: dict[str, Any], status: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Any = SimpleNamespace(
        counts=Counter({"200": 5}), happened=Counter(), shoppers=[], problems=[], warm={"user-service": 0.0}
    )
    run.samples = {"user-service": samples()}
    vars(run).update(change)
    assert report(run) == status
    assert capsys.readouterr().out.splitlines()[-1] == verdict
