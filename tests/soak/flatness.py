"""Whether what a process uses stays the same."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import psutil

MEBIBYTE = 1 << 20
LEAST_SAMPLES = 8

TOLERANCES = {"memory": 6.0, "connections": 24.0, "handles": 24.0, "threads": 4.0}
"""By how much the median of the last third may exceed that of the first. Memory is in MiB.

The pool between the services has up to 20 connections, and closes those that were idle for 30 s.
"""
MEMORY_TOLERANCE = 0.08
"""For memory at least this share of what it was."""


@dataclass(frozen=True)
class Sample:
    """What a process and its children use at a moment."""

    seconds: float
    memory: float
    """In MiB, without what it shares with other processes."""
    connections: int
    handles: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory:8.1f}{self.connections:7}{self.handles:8}{self.threads:8}"


@dataclass(frozen=True)
class Trend:
    """How one figure of a process has changed, from the first third of the samples to the last."""

    name: str
    before: float
    after: float
    by_slope: float
    """The change over all samples by the Theil-Sen slope, which single peaks do not affect."""

    @property
    def tolerance(self) -> float:
        return max(TOLERANCES[self.name], self.before * MEMORY_TOLERANCE if self.name == "memory" else 0)

    @property
    def grows(self) -> bool:
        return min(self.after - self.before, self.by_slope) > self.tolerance

    def __str__(self) -> str:
        change = (
            f"{self.before:.5g} to {self.after:.5g}, by the slope {self.by_slope:+.3g}, at most {self.tolerance:.3g}"
        )
        return f"{self.name} {change}{' <-- grows' if self.grows else ''}"


def sample(pid: int, seconds: float) -> Sample | None:
    """What the process uses now; None if it has ended."""
    try:
        process = psutil.Process(pid)
        processes = [process, *process.children(recursive=True)]
        return Sample(
            seconds,
            sum(each.memory_full_info().uss for each in processes) / MEBIBYTE,
            sum(len(each.net_connections("tcp")) for each in processes),
            sum(each.num_fds() for each in processes),
            sum(each.num_threads() for each in processes),
        )
    except psutil.Error:
        return None


def trends(samples: Sequence[Sample], since: float) -> list[Trend]:
    """The trends of a service; empty if there are too few samples.

    :param since: the seconds after which samples count
    """
    counted = [each for each in samples if each.seconds > since]
    return list(_trends(counted)) if len(counted) >= LEAST_SAMPLES else []


def _trends(samples: Sequence[Sample]) -> Iterator[Trend]:
    third = len(samples) // 3
    duration = samples[-1].seconds - samples[0].seconds
    for name in TOLERANCES:
        points = [(each.seconds, float(getattr(each, name))) for each in samples]
        slope = median((y - b) / (x - a) for (a, b), (x, y) in itertools.combinations(points, 2))
        values = [value for _, value in points]
        yield Trend(name, median(values[:third]), median(values[-third:]), slope * duration)
