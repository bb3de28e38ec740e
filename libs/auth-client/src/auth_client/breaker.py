"""A circuit breaker (Michael Nygard, "Release It!"): a service that failed several times in a row is left alone.

closed       every attempt is made; `failures` of them that fail in a row open it
open         no attempt is made, for `open_for` seconds
half-open    one attempt is made, the probe: if it succeeds the breaker is closed, if it fails open once more
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from chassis import logs

State = Literal["closed", "open", "half-open"]


class AttemptRefused(Exception):
    """No attempt may be made at the moment; `retry_in` seconds later there may be another probe."""

    def __init__(self, retry_in: float) -> None:
        super().__init__()
        self.retry_in = retry_in


class Breaker:
    """For the tasks of one event loop; it is not safe between threads."""

    def __init__(self, failures: int, open_for: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        :param failures: in a row, of attempts that end one after the other
        :param open_for: seconds
        """
        self._limit = failures
        self._open_for = open_for
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        # Counts how often it was opened and closed: an attempt of an earlier time says nothing about the present one.
        self._period = 0
        self._log = logs.get("product_service.breaker")

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock() < self._opened_at + self._open_for else "half-open"

    def check(self) -> None:
        """Raise AttemptRefused where an attempt would not be made now."""
        if self._opened_at is None:
            return
        remaining = self._opened_at + self._open_for - self._clock()
        if remaining > 0:
            raise AttemptRefused(remaining)
        if self._probing:
            raise AttemptRefused(self._open_for)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one attempt, which fails with any Exception; raises AttemptRefused where none may be made.

        One that is cancelled has neither failed nor succeeded, and leaves a half-open breaker to the next.
        """
        self.check()
        period = self._period
        is_probe = self._opened_at is not None
        self._probing = is_probe
        try:
            yield
        except Exception:
            if period == self._period:
                self._failed()
            raise
        else:
            if period == self._period:
                self._succeeded()
        finally:
            if is_probe:
                self._probing = False

    def _failed(self) -> None:
        self._failures += 1
        if self._opened_at is not None or self._failures >= self._limit:
            self._opened_at = self._clock()
            self._period += 1
            self._log.warning("circuit breaker opened", failures=self._failures, seconds=self._open_for)

    def _succeeded(self) -> None:
        if self._opened_at is not None:
            self._opened_at = None
            self._period += 1
            self._log.info("circuit breaker closed", failures=self._failures)
        self._failures = 0
