"""A circuit breaker (Michael Nygard, "Release It!"): stops calling a service that fails several times in a row.

closed       every attempt is made; `failures` consecutive failures open the breaker
open         no attempt is made for `open_for` seconds
half-open    one attempt is made, the probe: its success closes the breaker, its failure opens it again
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from chassis import logs, metrics

State = Literal["closed", "open", "half-open"]

OPEN = metrics.Gauge("token_validation_breaker_open", "Processes whose circuit breaker is open or half-open.")


class AttemptRefused(Exception):
    """No attempt is allowed at the moment; after `retry_in` seconds the breaker may allow another probe."""

    def __init__(self, retry_in: float) -> None:
        super().__init__()
        self.retry_in = retry_in


class Breaker:
    """For the tasks of one event loop; not thread-safe."""

    def __init__(self, failures: int, open_for: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        :param failures: consecutive failures that open the breaker, in the order in which the attempts end
        :param open_for: seconds until a probe is allowed
        """
        self._limit = failures
        self._open_for = open_for
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        # Counts openings and closings. The result of an attempt counts only in the period in which it started.
        self._period = 0
        self._log = logs.get("auth_client.breaker")

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock() < self._opened_at + self._open_for else "half-open"

    def check(self) -> None:
        """Raise AttemptRefused if an attempt would not be allowed now."""
        if self._opened_at is None:
            return
        remaining = self._opened_at + self._open_for - self._clock()
        if remaining > 0:
            raise AttemptRefused(remaining)
        if self._probing:
            raise AttemptRefused(self._open_for)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Wrap one attempt, which fails by raising an Exception; raises AttemptRefused if none is allowed.

        A cancelled attempt counts neither as a failure nor as a success. If it was the probe, the next attempt is one.
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
            if self._opened_at is None:
                OPEN.add(1)
            self._opened_at = self._clock()
            self._period += 1
            self._log.warning("circuit breaker opened", failures=self._failures, seconds=self._open_for)

    def _succeeded(self) -> None:
        if self._opened_at is not None:
            self._opened_at = None
            OPEN.add(-1)
            self._period += 1
            self._log.info("circuit breaker closed", failures=self._failures)
        self._failures = 0
