"""Reads metrics, of this process or of a service."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from chassis import metrics

Increase = Callable[..., float]


class Samples:
    """The samples of one moment."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.all = [sample for family in families for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and, among others, these labels."""
        return sum(each.value for each in self.all if each.name == name and labels.items() <= each.labels.items())

    def values(self, name: str, label: str) -> set[str]:
        """The values of a label."""
        return {each.labels[label] for each in self.all if each.name == name and label in each.labels}


def scrape(port: int) -> Samples:
    """The metrics that a service serves at this port."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status()
    return Samples(text_string_to_metric_families(answer.text))


@contextmanager
def increases() -> Iterator[Increase]:
    """Yields a function that tells by how much a metric of this process has increased since the beginning."""
    before = Samples(metrics.record().collect())

    def increase(name: str, **labels: str) -> float:
        return Samples(metrics.record().collect()).sum(name, **labels) - before.sum(name, **labels)

    yield increase
