"""Can a stopwatch tell why a login failed? Measures a real user-service over HTTP, and asks a statistical test.

    python3 dev.py bench login-timing                            two minutes; 0 where nothing can be told apart
    python3 dev.py bench login-timing --cost 4 --samples 4000    the hardest question: a cheap hash hides least
    python3 dev.py bench login-timing --break                    a service with a leak, which has to be found: 1

The reasons are an unknown name, a wrong password, and a disabled account with its right and with a wrong password. Each
round asks once for every reason, in random order, so that whatever else the machine does hits all of them alike.

For each two reasons the measure is the chance that the second of two answers took longer: the area under the ROC curve,
which is Mann-Whitney's U divided by the number of pairs. At 0.5 nobody can tell them apart. Two reasons count as told
apart where the interval around that chance leaves 0.5 out. The intervals hold for all pairs at once (Bonferroni): where
nothing leaks, one run in a hundred says that something does. A leak that a run did not find may still be there, but
hardly one as large as the delay that it says such a run notices.
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
ACCOUNTS = 16  # Of each sort, so that no single account's place in the database or salt stands for its sort.
RESAMPLES = 10_000
Credentials = tuple[str, str]
"""A name and a password."""

Times = Mapping[str, Sequence[float]]
"""Seconds that failed logins took, by the reason of the failure."""


# The statistics


@dataclass(frozen=True)
class Estimate:
    """A value, and the interval that holds the true one with the confidence asked for."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What the times of two reasons have to do with each other."""

    reasons: tuple[str, str]
    longer: Estimate
    """The chance that the second takes longer than the first, half of the ties included."""
    difference: Estimate
    """Of the medians, in seconds."""

    @property
    def is_told_apart(self) -> bool:
        return not self.longer.low <= 0.5 <= self.longer.high


def chance_of_longer(first: Sequence[float], second: Sequence[float], confidence: float) -> Estimate:
    """The chance that one of `second` is larger than one of `first`: U / n^2, with DeLong's variance."""
    firsts, seconds = sorted(first), sorted(second)
    above = [1 - _share_below(each, seconds) for each in firsts]
    below = [_share_below(each, firsts) for each in seconds]
    chance = fmean(below)
    margin = _z(confidence) * math.sqrt(variance(above) / len(above) + variance(below) / len(below))
    return Estimate(chance, max(0.0, chance - margin), min(1.0, chance + margin))


def difference_of_medians(
    first: Sequence[float], second: Sequence[float], confidence: float, rng: random.Random
) -> Estimate:
    """By how much the median of `second` is larger, with a bootstrap interval (percentiles)."""
    firsts, seconds = sorted(first), sorted(second)
    resampled = sorted(_resampled_median(seconds, rng) - _resampled_median(firsts, rng) for _ in range(RESAMPLES))
    outside = round(RESAMPLES * (1 - confidence) / 2)
    return Estimate(median(seconds) - median(firsts), resampled[outside], resampled[-1 - outside])


def compare(times: Times, rng: random.Random) -> list[Comparison]:
    """Each two reasons, with intervals that all hold at once but for FAMILY_WISE_ERROR."""
    confidence = confidence_of_one(len(times))
    return [
        Comparison(
            (one, other),
            chance_of_longer(times[one], times[other], confidence),
            difference_of_medians(times[one], times[other], confidence, rng),
        )
        for one, other in combinations(times, 2)
    ]


def confidence_of_one(reasons: int) -> float:
    """What each interval has to hold with, so that those of all pairs hold at once."""
    return 1 - FAMILY_WISE_ERROR / math.comb(reasons, 2)


def noticeable(times: Sequence[float], confidence: float) -> float:
    """The delay, in seconds, that is noticed with a chance of POWER where all else is spread as these times are."""
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
    # No resample is needed: its median has the rank that the median of as many uniform numbers points at, and that one
    # has a beta distribution.
    half = (len(ordered) + 1) / 2
    return ordered[min(int(rng.betavariate(half, half) * len(ordered)), len(ordered) - 1)]


# The measurement


class LeakingService(Service):
    """The user service that computes no hash for an unknown name; see leaking_user_service.py."""

    @property
    def module(self) -> str:
        return "bench.leaking_user_service"


def new_service(folder: Path, args: argparse.Namespace) -> Service:
    """The service that the arguments ask for, not started yet."""
    settings = {"LOG_LEVEL": "WARNING", "BCRYPT_COST": str(args.cost)}
    if args.database_url:
        settings["DATABASE_URL"] = normalise(args.database_url)
    if not args.leaking:
        return Service("user-service", folder, **settings)
    service = LeakingService("user-service", folder, **settings)
    paths = (str(ROOT), service.environment.get("PYTHONPATH"))
    service.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return service


def failing_logins(service: Service, rng: random.Random) -> dict[str, Callable[[], Credentials]]:
    """For each reason what makes credentials that fail for it; all of them are of the same length."""

    def word() -> str:
        return secrets.token_hex(8)  # Not by the seed: two runs may meet in one database.

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
    """Time so many logins for each reason, one after the other on one connection."""
    times: dict[str, list[float]] = {reason: [] for reason in logins}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.connect()
        connection.auto_open = 0  # A connection that is made anew would be measured too: it has to be an error.
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
        raise HTTPException(f"a login that has to fail was answered with {answer.status}")
    return seconds


# The command


def print_report(times: Times, comparisons: Sequence[Comparison]) -> None:
    print(f"{'reason':<53}{'median':>12}{'10 % below':>14}{'10 % above':>14}   ms")
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
            + ("  TOLD APART" if each.is_told_apart else "")
        )
    confidence = confidence_of_one(len(times))
    delays = [noticeable(seconds, confidence) for seconds in times.values()]
    middle = median([median(seconds) for seconds in times.values()])
    print(
        f"\nThe intervals of a column hold all at once with {1 - FAMILY_WISE_ERROR:.0%}, each with {confidence:.3%}."
        f"\nSuch a run notices, with {POWER:.0%}, a delay of {max(delays) * 1e6:.0f} us ({max(delays) / middle:.2%})."
    )
    found = sum(each.is_told_apart for each in comparisons)
    print(f"{found or 'None'} of {len(comparisons)} pairs can be told apart.")


def arguments() -> argparse.Namespace:
    def samples(text: str) -> int:
        if int(text) < 50:  # The intervals are those of large samples.
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        description="Show that the time of a failed login does not tell why it failed.",
        epilog="Ends with 0 if no two reasons can be told apart, with 1 if some can, with 2 if nothing was measured.",
    )
    options: dict[str, dict[str, Any]] = {
        "--samples": {"type": samples, "default": 400, "help": "logins for each reason, 50 or more (%(default)s)"},
        "--cost": {
            "type": int,
            "default": 10,
            "help": "BCRYPT_COST of the service (%(default)s): production's 12 only adds noise, which hides "
            "differences; a lower cost makes them easier to see",
        },
        "--seed": {"type": int, "default": 1, "help": "of the order of the logins (%(default)s)"},
        "--database-url": {
            "help": "an empty database in place of a temporary SQLite file; the accounts that are made stay in it",
        },
        "--break": {
            "dest": "leaking",
            "action": "store_true",
            "help": "measure a service that computes no hash for an unknown name, which has to be found",
        },
    }
    for name, option in options.items():
        parser.add_argument(name, **option)
    return parser.parse_args()


def end(number: int, _: FrameType | None) -> NoReturn:
    # An exception, so that the service is ended on the way out; the default would leave it behind.
    sys.exit(128 + number)


def main() -> int:
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    rng = random.Random(args.seed)  # noqa: S311 - it decides an order, and draws resamples.
    try:
        with tempfile.TemporaryDirectory() as folder, closing(new_service(Path(folder) / "service", args)) as service:
            service.start().wait_ready()
            times = measure(service.port, failing_logins(service, rng), args.samples, rng)
    except Exception as problem:  # Whatever it was: a run without a measurement must not pass for a finding.
        print(f"login_timing: nothing was measured: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    comparisons = compare(times, rng)
    print_report(times, comparisons)
    return int(any(each.is_told_apart for each in comparisons))


if __name__ == "__main__":
    sys.exit(main())
