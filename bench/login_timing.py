"""Tests whether the response time of a failed login reveals the reason, with a real user service over HTTP.

    python3 dev.py bench login-timing                            two minutes; exits with 0 if it finds no difference
    python3 dev.py bench login-timing --cost 4 --samples 4000    the strictest test: a cheap hash hides least
    python3 dev.py bench login-timing --previous-cost 8          BCRYPT_COST has changed since the accounts were made
    python3 dev.py bench login-timing --break                    a service with a leak, which must be found: 1

The reasons are an unknown name, a wrong password, and a disabled account with its right and with a wrong password. Each
round measures every reason once, in random order, so other load on the machine affects all of them alike.

The measure for each pair of reasons is the probability that the second takes longer: the area under the ROC curve,
which is Mann-Whitney's U divided by the number of pairs. At 0.5 they are indistinguishable. A pair counts as
distinguishable if the interval around that probability excludes 0.5. The intervals hold for all pairs at once
(Bonferroni): without a leak, one run in a hundred reports one. A run may miss a leak, but hardly one as large as the
detectable delay that it prints.
"""

import argparse
import json
import math
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import combinations
from pathlib import Path
from statistics import NormalDist, fmean, median, quantiles, variance
from types import FrameType
from typing import Any, NoReturn

from chassis.database.url import normalise
from testkit.processes import Service

ROOT = Path(__file__).resolve().parents[1]
FAMILY_WISE_ERROR = 0.01
POWER = 0.9
WARM_UP = 10  # rounds
ACCOUNTS = 16  # Of each kind, so that no kind depends on one account's salt or place in the database.
RESAMPLES = 10_000
Credentials = tuple[str, str]
"""A username and a password."""

Times = Mapping[str, Sequence[float]]
"""The seconds that failed logins took, by reason."""


# The statistics


@dataclass(frozen=True)
class Estimate:
    """A value, and its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The times of two reasons, compared."""

    reasons: tuple[str, str]
    longer: Estimate
    """The probability that the second takes longer than the first; ties count half."""
    difference: Estimate
    """Between the medians, in seconds."""

    @property
    def is_distinguishable(self) -> bool:
        return not self.longer.low <= 0.5 <= self.longer.high


def probability_of_longer(first: Sequence[float], second: Sequence[float], confidence: float) -> Estimate:
    """The probability that one of `second` is larger than one of `first`: U / n^2, with DeLong's variance."""
    firsts, seconds = sorted(first), sorted(second)
    above = [1 - _share_below(each, seconds) for each in firsts]
    below = [_share_below(each, firsts) for each in seconds]
    probability = fmean(below)
    margin = _z(confidence) * math.sqrt(variance(above) / len(above) + variance(below) / len(below))
    return Estimate(probability, max(0.0, probability - margin), min(1.0, probability + margin))


def difference_of_medians(
    first: Sequence[float], second: Sequence[float], confidence: float, rng: random.Random
) -> Estimate:
    """The median of `second` minus that of `first`, with a bootstrap interval (percentiles)."""
    firsts, seconds = sorted(first), sorted(second)
    resampled = sorted(_resampled_median(seconds, rng) - _resampled_median(firsts, rng) for _ in range(RESAMPLES))
    outside = round(RESAMPLES * (1 - confidence) / 2)
    return Estimate(median(seconds) - median(firsts), resampled[outside], resampled[-1 - outside])


def compare(times: Times, rng: random.Random) -> list[Comparison]:
    """Compare each pair of reasons; the intervals all hold at once, except for FAMILY_WISE_ERROR."""
    confidence = confidence_per_pair(len(times))
    return [
        Comparison(
            (one, other),
            probability_of_longer(times[one], times[other], confidence),
            difference_of_medians(times[one], times[other], confidence, rng),
        )
        for one, other in combinations(times, 2)
    ]


def confidence_per_pair(reasons: int) -> float:
    """The confidence of each interval with which those of all pairs hold at once."""
    return 1 - FAMILY_WISE_ERROR / math.comb(reasons, 2)


def detectable_delay(times: Sequence[float], confidence: float) -> float:
    """The delay in seconds that is detected with probability POWER, if times are otherwise distributed like these."""
    # Without a difference, U / n^2 has the standard deviation 1 / sqrt(6 n), for large n.
    longer = 0.5 + (_z(confidence) + NormalDist().inv_cdf(POWER)) / math.sqrt(6 * len(times))
    ordered = sorted(times)
    low, high = 0.0, ordered[-1] - ordered[0]
    for _ in range(40):
        delay = (low + high) / 2
        if fmean(_share_below(each + delay, ordered) for each in ordered) < longer:
            low = delay
        else:
            high = delay
    return high


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _share_below(value: float, ordered: Sequence[float]) -> float:
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))


def _resampled_median(ordered: Sequence[float], rng: random.Random) -> float:
    # No resampling is needed: the rank of the median follows from the median of as many uniform numbers, which has a
    # beta distribution.
    half = (len(ordered) + 1) / 2
    return ordered[min(int(rng.betavariate(half, half) * len(ordered)), len(ordered) - 1)]


# The measurement


class LeakingService(Service):
    """The user service without a hash for unknown names; see leaking_user_service.py."""

    @property
    def module(self) -> str:
        return "bench.leaking_user_service"


def new_service(folder: Path, args: argparse.Namespace) -> Service:
    """The service for these arguments, not started."""
    settings = {"LOG_LEVEL": "WARNING", "BCRYPT_COST": str(args.previous_cost or args.cost)}
    if args.database_url:
        settings["DATABASE_URL"] = normalise(args.database_url)
    if not args.leaking:
        return Service("user-service", folder, **settings)
    service = LeakingService("user-service", folder, **settings)
    paths = (str(ROOT), service.environment.get("PYTHONPATH"))
    service.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return service


def failing_logins(service: Service, rng: random.Random) -> dict[str, Callable[[], Credentials]]:
    """Functions that make failing credentials, by reason; all credentials have the same length."""

    def word() -> str:
        return secrets.token_hex(8)  # Independent of the seed: two runs may use one database.

    active, disabled = [[(word(), word()) for _ in range(ACCOUNTS)] for _ in range(2)]
    with service.client() as client:
        for username, password in (*active, *disabled):
            client.post("/register", json={"username": username, "password": password}).raise_for_status()
    for username, _ in disabled:
        service.sql("UPDATE users SET is_active = :no WHERE username = :username", no=False, username=username)
    return {
        "unknown name": lambda: (word(), word()),
        "wrong password": lambda: (rng.choice(active)[0], word()),
        "disabled, right password": lambda: rng.choice(disabled),
        "disabled, wrong password": lambda: (rng.choice(disabled)[0], word()),
    }


def measure(port: int, logins: Mapping[str, Callable[[], Credentials]], samples: int, rng: random.Random) -> Times:
    """Measure this many logins for each reason, one after the other on one connection."""
    times: dict[str, list[float]] = {reason: [] for reason in logins}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.connect()
        connection.auto_open = 0  # A reconnection would be measured too, so make it an error.
        for number in range(-WARM_UP, samples):
            for reason in rng.sample(list(logins), len(logins)):
                seconds = time_of_failure(connection, *logins[reason]())
                if number >= 0:
                    times[reason].append(seconds)
    return times


def time_of_failure(connection: HTTPConnection, username: str, password: str) -> float:
    body = json.dumps({"username": username, "password": password})
    start = time.perf_counter()
    connection.request("POST", "/login", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    seconds = time.perf_counter() - start
    if answer.status != HTTPStatus.UNAUTHORIZED:
        raise HTTPException(f"a login that should fail got the status {answer.status}")
    return seconds


# The command


def print_report(times: Times, comparisons: Sequence[Comparison]) -> None:
    print(f"{'reason':<53}{'median':>12}{'10th pct.':>14}{'90th pct.':>14}   ms")
    for reason, seconds in times.items():
        tenths = quantiles(seconds, n=10)
        print(f"{reason:<53}{median(seconds) * 1e3:12.3f}{tenths[0] * 1e3:14.3f}{tenths[-1] * 1e3:14.3f}")
    print(f"\n{'second reason against first':<53}{'second takes longer':<25}difference of medians")
    for each in comparisons:
        longer, difference = each.longer, each.difference
        value, low, high = (f"{seconds * 1e6:+.0f}" for seconds in (difference.value, difference.low, difference.high))
        share = difference.value / median(times[each.reasons[0]])
        print(
            f"{each.reasons[1]} / {each.reasons[0]}".ljust(53)
            + f"{longer.value:.3f} [{longer.low:.3f}, {longer.high:.3f}]".ljust(25)
            + f"{value} us [{low}, {high}] ({share:+.2%})"
            + ("  DISTINGUISHABLE" if each.is_distinguishable else "")
        )
    confidence = confidence_per_pair(len(times))
    delays = [detectable_delay(seconds, confidence) for seconds in times.values()]
    middle = median([median(seconds) for seconds in times.values()])
    print(
        f"\nConfidence: {1 - FAMILY_WISE_ERROR:.0%} for all intervals of a column at once, {confidence:.3%} for each."
        f"\nSuch a run detects, with {POWER:.0%}, a delay of {max(delays) * 1e6:.0f} us ({max(delays) / middle:.2%})."
    )
    found = sum(each.is_distinguishable for each in comparisons)
    print(f"{found or 'None'} of {len(comparisons)} pairs are distinguishable.")


def arguments() -> argparse.Namespace:
    def samples(text: str) -> int:
        if int(text) < 50:  # The intervals are those of large samples.
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        description="Test whether the response time of a failed login reveals the reason.",
        epilog="Exit status: 0 if no pair of reasons is distinguishable, 1 if one is, 2 without a measurement.",
    )
    options: dict[str, dict[str, Any]] = {
        "--samples": {"type": samples, "default": 400, "help": "logins for each reason, 50 or more (%(default)s)"},
        "--cost": {
            "type": int,
            "default": 10,
            "help": "BCRYPT_COST of the service (%(default)s): production's 12 only adds noise, which hides "
            "differences; a lower cost shows them more clearly",
        },
        "--previous-cost": {
            "type": int,
            "help": "BCRYPT_COST when the accounts were created, if it has changed since",
        },
        "--seed": {"type": int, "default": 1, "help": "decides the order of the logins (%(default)s)"},
        "--database-url": {
            "help": "an empty database instead of a temporary SQLite file; the new accounts stay in it",
        },
        "--break": {
            "dest": "leaking",
            "action": "store_true",
            "help": "measure a service that computes no hash for an unknown name, which must be detected",
        },
    }
    for name, option in options.items():
        parser.add_argument(name, **option)
    return parser.parse_args()


def end(number: int, _: FrameType | None) -> NoReturn:
    # An exception, so that the service is stopped on the way out; the default would leave it running.
    sys.exit(128 + number)


def main() -> int:
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    rng = random.Random(args.seed)
    try:
        with tempfile.TemporaryDirectory() as folder, closing(new_service(Path(folder) / "service", args)) as service:
            service.start().wait_ready()
            logins = failing_logins(service, rng)
            if args.previous_cost:
                service.stop()
                service.environment["BCRYPT_COST"] = str(args.cost)
                service.start().wait_ready()
            times = measure(service.port, logins, args.samples, rng)
    except Exception as problem:  # A run without a measurement must not pass for a result.
        print(f"login_timing: no measurement: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    comparisons = compare(times, rng)
    print_report(times, comparisons)
    return int(any(each.is_distinguishable for each in comparisons))


if __name__ == "__main__":
    sys.exit(main())
