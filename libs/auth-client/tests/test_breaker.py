"""The circuit breaker, with a clock that only these tests move."""

import asyncio
from contextlib import AbstractContextManager, suppress

import pytest

from auth_client.breaker import AttemptRefused, Breaker, State

LIMIT, OPEN_FOR = 3, 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(LIMIT, OPEN_FOR, clock)


def begin(breaker: Breaker) -> AbstractContextManager[None]:
    attempt = breaker.attempt()
    attempt.__enter__()
    return attempt


def end(attempt: AbstractContextManager[None], error: BaseException | None = None) -> None:
    with suppress(BaseException):
        attempt.__exit__(type(error) if error else None, error, None)


def succeed(breaker: Breaker) -> None:
    end(begin(breaker))


def fail(breaker: Breaker) -> None:
    end(begin(breaker), OSError())


def opened(breaker: Breaker) -> None:
    for _ in range(LIMIT):
        fail(breaker)
    assert breaker.state == "open"


def refused(breaker: Breaker) -> float:
    """Assert that no attempt is allowed; the seconds until the next one may be."""
    with pytest.raises(AttemptRefused) as error, breaker.attempt():
        raise AssertionError("the attempt was made")
    with pytest.raises(AttemptRefused):
        breaker.check()
    return error.value.retry_in


STATES: dict[str, tuple[str, State]] = {
    # One letter per event: s succeeds, f fails, c is cancelled, w waits until a probe is allowed.
    "no attempt": ("", "closed"),
    "successes": ("sss", "closed"),
    "one failure less than the limit": ("ff", "closed"),
    "as many failures as the limit": ("fff", "open"),
    "failures with a success between them": ("ffsff", "closed"),
    "the limit after a success": ("ffsfff", "open"),
    "failures with a cancellation between them": ("ffcf", "open"),
    "cancellations": ("cccccc", "closed"),
    "the wait is over": ("fffw", "half-open"),
    "the probe succeeds": ("fffws", "closed"),
    "the probe fails": ("fffwf", "open"),
    "the probe is cancelled": ("fffwc", "half-open"),
    "the next probe succeeds": ("fffwcs", "closed"),
    "the next probe fails": ("fffwcf", "open"),
    "the second probe succeeds": ("fffwfws", "closed"),
    "one failure less than the limit after closing": ("fffwsff", "closed"),
    "the limit after closing": ("fffwsfff", "open"),
}


@pytest.mark.parametrize(("events", "state"), STATES.values(), ids=STATES.keys())
def test_events_lead_to_states(breaker: Breaker, clock: Clock, events: str, state: State) -> None:
    for event in events:
        if event == "w":
            clock.now += OPEN_FOR
        else:
            end(begin(breaker), {"s": None, "f": OSError(), "c": asyncio.CancelledError()}[event])
    assert breaker.state == state


def test_an_open_breaker_refuses_attempts_and_says_for_how_long(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert refused(breaker) == OPEN_FOR
    clock.now += OPEN_FOR - 0.25
    assert refused(breaker) == 0.25
    # Refused attempts have not prolonged it.
    clock.now += 0.25
    succeed(breaker)
    assert breaker.state == "closed"


def test_a_half_open_breaker_allows_one_probe_at_a_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_FOR
    probe = begin(breaker)
    assert breaker.state == "half-open"
    for _ in range(3):
        assert refused(breaker) == OPEN_FOR
    end(probe)
    succeed(breaker)


def test_a_failed_probe_opens_it_for_the_full_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_FOR
    probe = begin(breaker)
    clock.now += 2
    end(probe, OSError())
    assert refused(breaker) == OPEN_FOR


def test_after_a_cancelled_probe_the_next_one_is_allowed(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_FOR
    for cancellation in (asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()):
        probe = begin(breaker)
        refused(breaker)
        end(probe, cancellation)
        assert breaker.state == "half-open"
    succeed(breaker)
    assert breaker.state == "closed"


def test_attempts_that_started_before_it_opened_are_ignored(breaker: Breaker, clock: Clock) -> None:
    late = [begin(breaker) for _ in range(7)]
    opened(breaker)
    clock.now += OPEN_FOR - 1
    # They don't prolong it.
    end(late.pop(), OSError())
    assert refused(breaker) == 1
    end(late.pop())
    assert refused(breaker) == 1
    clock.now += 1
    probe = begin(breaker)
    # They neither decide for the probe nor allow a second one.
    end(late.pop(), OSError())
    end(late.pop())
    end(late.pop(), asyncio.CancelledError())
    refused(breaker)
    end(probe)
    # They don't count after it closed either.
    for _ in range(LIMIT - 1):
        fail(breaker)
    end(late.pop(), OSError())
    breaker.check()
    end(late.pop())
    fail(breaker)
    assert breaker.state == "open"


def test_attempts_that_fail_at_the_same_time_open_it_once(breaker: Breaker, clock: Clock) -> None:
    attempts = [begin(breaker) for _ in range(LIMIT * 3)]
    for attempt in attempts:
        clock.now += 1
        end(attempt, OSError())
    assert refused(breaker) == OPEN_FOR - 2 * LIMIT
    clock.now += OPEN_FOR
    succeed(breaker)
    assert breaker.state == "closed"
