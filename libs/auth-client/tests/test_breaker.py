"""The circuit breaker by itself, with a clock that only these tests move."""

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
    """How long it says that one has to wait."""
    with pytest.raises(AttemptRefused) as refusal, breaker.attempt():
        raise AssertionError("the attempt was made")
    with pytest.raises(AttemptRefused):
        breaker.check()
    return refusal.value.retry_in


STATES: dict[str, tuple[str, State]] = {
    # Of each letter: s succeeds, f fails, c is cancelled, w waits until a probe may be made.
    "nothing yet": ("", "closed"),
    "successes": ("sss", "closed"),
    "a failure short of the limit": ("ff", "closed"),
    "as many failures as the limit": ("fff", "open"),
    "failures with a success between them": ("ffsff", "closed"),
    "the limit after a success": ("ffsfff", "open"),
    "failures with a cancellation between them": ("ffcf", "open"),
    "cancellations": ("cccccc", "closed"),
    "the time is over": ("fffw", "half-open"),
    "the probe succeeds": ("fffws", "closed"),
    "the probe fails": ("fffwf", "open"),
    "the probe is cancelled": ("fffwc", "half-open"),
    "the next probe succeeds": ("fffwcs", "closed"),
    "the next probe fails": ("fffwcf", "open"),
    "the second probe succeeds": ("fffwfws", "closed"),
    "a failure after it was closed": ("fffwsff", "closed"),
    "the limit after it was closed": ("fffwsfff", "open"),
}


@pytest.mark.parametrize(("events", "state"), STATES.values(), ids=STATES.keys())
def test_the_table_of_states(breaker: Breaker, clock: Clock, events: str, state: State) -> None:
    for event in events:
        if event == "w":
            clock.now += OPEN_FOR
        else:
            end(begin(breaker), {"s": None, "f": OSError(), "c": asyncio.CancelledError()}[event])
    assert breaker.state == state


def test_while_it_is_open_nothing_is_attempted_and_the_wait_is_told(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert refused(breaker) == OPEN_FOR
    clock.now += OPEN_FOR - 0.25
    assert refused(breaker) == 0.25
    # Who was refused has not prolonged it.
    clock.now += 0.25
    succeed(breaker)
    assert breaker.state == "closed"


def test_one_probe_is_made_and_the_others_wait_for_its_outcome(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_FOR
    probe = begin(breaker)
    assert breaker.state == "half-open"
    for _ in range(3):
        assert refused(breaker) == OPEN_FOR
    end(probe)
    succeed(breaker)


def test_a_probe_that_fails_opens_it_for_a_whole_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_FOR
    probe = begin(breaker)
    clock.now += 2
    end(probe, OSError())
    assert refused(breaker) == OPEN_FOR


def test_a_probe_that_is_cancelled_makes_room_for_the_next(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_FOR
    for cancellation in (asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()):
        probe = begin(breaker)
        refused(breaker)
        end(probe, cancellation)
        assert breaker.state == "half-open"
    succeed(breaker)
    assert breaker.state == "closed"


def test_what_began_before_it_opened_says_nothing_any_more(breaker: Breaker, clock: Clock) -> None:
    late = [begin(breaker) for _ in range(7)]
    opened(breaker)
    clock.now += OPEN_FOR - 1
    # It is not opened for longer.
    end(late.pop(), OSError())
    assert refused(breaker) == 1
    end(late.pop())
    assert refused(breaker) == 1
    clock.now += 1
    probe = begin(breaker)
    # Neither does it decide for the probe, nor make room for a second one.
    end(late.pop(), OSError())
    end(late.pop())
    end(late.pop(), asyncio.CancelledError())
    refused(breaker)
    end(probe)
    # Nor is it counted once all is well again.
    for _ in range(LIMIT - 1):
        fail(breaker)
    end(late.pop(), OSError())
    breaker.check()
    end(late.pop())
    fail(breaker)
    assert breaker.state == "open"


def test_attempts_that_fail_together_open_it_once(breaker: Breaker, clock: Clock) -> None:
    attempts = [begin(breaker) for _ in range(LIMIT * 3)]
    for attempt in attempts:
        clock.now += 1
        end(attempt, OSError())
    assert refused(breaker) == OPEN_FOR - 2 * LIMIT
    clock.now += OPEN_FOR
    succeed(breaker)
    assert breaker.state == "closed"
