"""Metrics for Prometheus. The only module that imports prometheus_client.

A metric is declared where it is recorded, as an object of its module. Recording does nothing until `record` is called,
which a service does if METRICS_PORT is set. The process that the operator starts serves them: its own, or the sums of
its workers, which write them to files in a common folder.
"""

import itertools
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of buckets in seconds, those of OpenTelemetry for HTTP requests."""

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells prometheus_client, in the parent and in its workers, where the files are."""

_ENDED = "0"
"""Instead of a process id, in the names of the files of all workers that have ended."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - tempfile makes a folder of its own in it. Nothing there is written to a disk.

_registry: "CollectorRegistry | None" = None
_declared: "list[_Declared]" = []


class _Declared:
    """A metric. Its labels have few values, which no client can choose."""

    kind: str
    options: Mapping[str, Any] = {}

    def __init__(self, name: str, description: str, /, **labels: Sequence[str]) -> None:
        """
        :param labels: in the order in which they are recorded, with their values. If all of these are known, each
            combination is there from the start, as 0; else none is.
        """
        self.name = name
        self._description = description
        self.labels = labels
        self._bound: Any = None
        _declared.append(self)
        if _registry is not None:
            self.bind(_registry)

    def bind(self, registry: "CollectorRegistry") -> None:
        import prometheus_client

        make = getattr(prometheus_client, self.kind)
        metric = make(self.name, self._description, tuple(self.labels), registry=registry, **self.options)
        self._bound = cache(metric.labels) if self.labels else lambda: metric
        for values in itertools.product(*self.labels.values()):
            self._bound(*values)

    def show(self, *labels: str) -> None:
        """Serve this combination of labels from now on, as 0, before anything is recorded with it."""
        if self._bound is not None:
            self._bound(*labels)


class Counter(_Declared):
    """Its name ends with `_total`."""

    kind = "Counter"

    def add(self, amount: float, *labels: str) -> None:
        if self._bound is not None:
            self._bound(*labels).inc(amount)


class Gauge(_Declared):
    """A value of now, summed over the processes that run."""

    kind = "Gauge"
    options: Mapping[str, Any] = {"multiprocess_mode": "livesum"}

    def add(self, amount: float, *labels: str) -> None:
        if self._bound is not None:
            self._bound(*labels).inc(amount)

    def set(self, value: float, *labels: str) -> None:
        if self._bound is not None:
            self._bound(*labels).set(value)


class Histogram(_Declared):
    """Of durations in seconds."""

    kind = "Histogram"
    options: Mapping[str, Any] = {"buckets": DURATIONS}

    def observe(self, seconds: float, *labels: str) -> None:
        if self._bound is not None:
            self._bound(*labels).observe(seconds)


def record() -> "CollectorRegistry":
    """Record all metrics of this process from now on; returns those that were declared.

    To be called before the objects are made whose state is a metric, such as thread pools.
    """
    global _registry
    if _registry is None:
        from prometheus_client import CollectorRegistry, disable_created_metrics

        disable_created_metrics()  # Prometheus would store one more series for each.
        _registry = CollectorRegistry()
        for metric in _declared:
            metric.bind(_registry)
    return _registry


@contextmanager
def serving(
    host: str, port: int, service: str, version: str, last_backup: Callable[[], float | None], *, by_workers: bool
) -> Iterator[None]:
    """Serve the metrics of this process, or those of its worker processes, at this address; raises OSError.

    :param last_backup: when it was finished, in seconds since 1970; None if that is unknown
    :param by_workers: whether processes that start within this context record the metrics
    """
    folder = None
    if by_workers:
        parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        folder = Path(tempfile.mkdtemp(prefix=f"{service}-metrics-", dir=parent))
        os.environ[FOLDER] = str(folder)  # Read when prometheus_client is imported.
    else:
        record()
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry(support_collectors_without_names=True)
        registry.register(_Served(service, version, last_backup, folder))
        server, _ = start_http_server(port, host, registry)
        yield
        server.shutdown()
        server.server_close()
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


class _Served:
    """What a scrape gets: the recorded metrics, the version, the last backup, and the CPU and memory of each worker."""

    def __init__(
        self, service: str, version: str, last_backup: Callable[[], float | None], folder: Path | None
    ) -> None:
        """:param folder: the files of the workers; None if this process is the only one"""
        self._service = service
        self._version = version
        self._last_backup = last_backup
        self._folder = folder
        self._numbers: dict[int, int] = {}
        self._lock = Lock()

    def collect(self) -> "Iterable[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        build = GaugeMetricFamily("build_info", "Always 1; the version of the service.", labels=["service", "version"])
        build.add_metric([self._service, self._version], 1)
        backup = GaugeMetricFamily("last_backup_timestamp_seconds", "When the last backup was finished; 0 without one.")
        if (finished := self._last_backup()) is not None:
            backup.add_metric([], finished)
        with self._lock:  # Each scrape has a thread, and two Prometheus servers may scrape at the same time.
            return [build, backup, *self._recorded(), *self._processes()]

    def _recorded(self) -> "Iterable[Metric]":
        if self._folder is None:
            return record().collect()
        from prometheus_client.multiprocess import MultiProcessCollector

        self._merge_files_of_ended_workers(self._folder)
        return cast("Iterable[Metric]", MultiProcessCollector(None, str(self._folder)).collect())

    def _merge_files_of_ended_workers(self, folder: Path) -> None:
        """Add up what ended workers have counted, because a counter that falls looks like a restart of all of them.

        Otherwise, the files of each restarted worker would remain, and each scrape would read them.
        """
        from prometheus_client.mmap_dict import MmapedDict

        # Before the list of processes: a worker that starts in between must not count as ended.
        files = list(folder.glob("*.db"))
        running = {str(child.pid) for child in multiprocessing.active_children()}
        for file in files:
            kind, _, pid = file.stem.rpartition("_")
            if pid in running or pid == _ENDED:
                continue
            is_empty = file.stat().st_size == 0  # The worker was killed when it had just created the file.
            if not kind.startswith("gauge") and not is_empty:
                total = MmapedDict(str(folder / f"{kind}_{_ENDED}.db"))
                for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
                total.close()
            file.unlink()

    def _processes(self) -> "Iterable[Metric]":
        from prometheus_client import Metric, ProcessCollector

        families: dict[str, Metric] = {}
        for number, pid in self._workers().items():
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {"worker": str(number)}, sample.value)
        return families.values()

    def _workers(self) -> dict[int, int]:
        """The process ids by number. A worker that replaces an ended one gets its number: few values for a label."""
        if self._folder is None:
            return {0: os.getpid()}
        running = {child.pid: None for child in multiprocessing.active_children() if child.pid}
        self._numbers = {number: pid for number, pid in self._numbers.items() if pid in running}
        for pid in running.keys() - self._numbers.values():
            self._numbers[next(number for number in itertools.count() if number not in self._numbers)] = pid
        return self._numbers
